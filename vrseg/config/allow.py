"""`server.allow`: which addresses somebody may name who is not the author of the file.

An address is taken apart first, strictly, and each part is matched on its own. So nothing gets past by being written
in another way: what could be read in two ways is refused, and a `*` never reaches over the end of its part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SYNTHETIC = "synthetic"
USUAL_PORT = {
    "rtsp": 554,
    "rtsps": 322,
    "rtmp": 1935,
    "rtmps": 443,
    "srt": None,
    "http": 80,
    "https": 443,
    "mqtt": 1883,
    "mqtts": 8883,
}
"""Of the schemes that can be allowed; None where an address always says its port."""

# What RFC 3986 lets stand in an address, but for #, which no server gets to see.
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^@/?]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.*]+\]|[A-Za-z0-9._*-]+)(?::(?P<port>[0-9]{1,5}|\*))?(?P<rest>[/?].*)?"
)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
# Of a last label: names end in letters, so what ends like this is read as a number by somebody.
_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


class NotAnAddressError(ValueError):
    """The text is no address of the network, or one that could be read in two ways. Says which, as a sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the network in its one normal form, without user name and password. Patterns have the same form."""

    scheme: str
    host: str
    """In lower case, without a final dot; an IP address as Python writes it."""
    port: int | None
    """None, in a pattern, stands for any."""
    rest: str
    """Path and query; empty, in a pattern, stands for any."""


def is_allowed(uri: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the patterns covers the address.

    Raises:
        NotAnAddressError: `uri` is none, or a pattern is none.
    """
    if _is_synthetic(uri):
        return any(_is_synthetic(pattern) and fnmatchcase(uri.lower(), pattern.lower()) for pattern in patterns)
    address = read_address(uri)
    return any(not _is_synthetic(pattern) and _covers(read_pattern(pattern), address) for pattern in patterns)


def read_address(uri: str) -> Address:
    """Take an address apart.

    Raises:
        NotAnAddressError: it is none of the network, or could be read in two ways.
    """
    if "*" in uri.partition("://")[2].partition("/")[0]:
        raise NotAnAddressError("holds a * in its host")
    parts = _split(uri)
    port = int(parts["port"]) if parts["port"] else USUAL_PORT[parts["scheme"].lower()]
    if port is None or not 0 < port < 65536:
        raise NotAnAddressError("needs a port from 1 to 65535")
    return Address(parts["scheme"].lower(), _host(parts["host"]), port, _rest(parts["rest"] or "/"))


def read_pattern(pattern: str) -> Address:
    """Take a pattern apart: an address in which `*` may stand for a label of the host, for the port, or in the path.

    Without a port, the scheme's usual one is meant; without a path, any.

    Raises:
        NotAnAddressError: it is none.
    """
    parts = _split(pattern)
    if parts["user"] is not None:
        raise NotAnAddressError("holds a user name; any is allowed, so leave it out")
    usual = USUAL_PORT[parts["scheme"].lower()]
    port = None if parts["port"] == "*" else int(parts["port"]) if parts["port"] else usual
    host = parts["host"].lower().removesuffix(".")
    return Address(parts["scheme"].lower(), host if "*" in host else _host(host), port, _rest(parts["rest"] or ""))


def _is_synthetic(uri: str) -> bool:
    return uri.partition(":")[0].lower() == SYNTHETIC


def _split(uri: str) -> re.Match[str]:
    if not _CHARACTERS.fullmatch(uri):
        raise NotAnAddressError("holds characters that no address has")
    if uri.partition("://")[2].partition("/")[0].partition("?")[0].count("@") > 1:
        raise NotAnAddressError("holds more than one @ before its path")
    parts = _PARTS.fullmatch(uri)
    if parts is None or parts["scheme"].lower() not in USUAL_PORT:
        raise NotAnAddressError(f"is no address of the network; write one of {', '.join(USUAL_PORT)}, and ://")
    return parts


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return f"[{IPv6Address(text[1:-1]).compressed}]"
        except AddressValueError:
            raise NotAnAddressError("holds no IPv6 address between [ and ]") from None
    host = text.lower().removesuffix(".")
    if not all(host.split(".")):
        raise NotAnAddressError("holds an empty part in its host")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise NotAnAddressError("holds an IP address that is not written as four numbers") from None
    return host


def _rest(text: str) -> str:
    """Decode escapes that need none; refuse those that hide a step, and steps themselves."""
    text = f"/{text}" if text.startswith("?") else text
    if _LOOSE_PERCENT.search(text):
        raise NotAnAddressError("holds a % without two digits behind it")
    plain = _ESCAPE.sub(_decoded, text)
    path = plain.partition("?")[0]
    if any(step in (".", "..") for step in path.split("/")) or re.search(r"%(?:25|2F|5C|00)", path):
        raise NotAnAddressError("holds . or .. as a step of its path, or an escape that may become one")
    return plain


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _covers(pattern: Address, address: Address) -> bool:
    return (
        pattern.scheme == address.scheme
        and pattern.port in (None, address.port)
        and _covers_host(pattern.host, address.host)
        and (not pattern.rest or fnmatchcase(address.rest, _literal(pattern.rest)))
    )


def _covers_host(pattern: str, host: str) -> bool:
    """Match label by label; `*` as the first one stands for any number of them.

    What looks like an IP address covers IP addresses only: 10.0.0.* is not meant for 10.0.0.example.
    """
    if pattern in ("*", host):
        return True
    if pattern.startswith("["):
        return "*" in pattern and host.startswith("[") and fnmatchcase(host[1:-1], _literal(pattern[1:-1]))
    if host.startswith("["):
        return False
    wanted, found = pattern.split("."), host.split(".")
    numeric = len(wanted) == 4 and pattern != "*.*.*.*" and not pattern.strip("0123456789.*")
    if numeric or found[-1].isdigit():
        return numeric and found[-1].isdigit() and _cover_labels(wanted, found)
    if wanted[0] == "*":
        tail = wanted[1:]
        return len(found) > len(tail) and _cover_labels(tail, found[-len(tail) :])
    return len(wanted) == len(found) and _cover_labels(wanted, found)


def _cover_labels(wanted: list[str], found: list[str]) -> bool:
    return all(fnmatchcase(label, _literal(pattern)) for pattern, label in zip(wanted, found, strict=True))


def _literal(pattern: str) -> str:
    """Leave `*` its meaning, and take that of ? and [ away."""
    return re.sub(r"([?\[])", r"[\1]", pattern)

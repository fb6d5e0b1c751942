"""Addresses of sources and outputs: their kind, and how they are shown to people (never with credentials)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

Scheme: TypeAlias = Literal["file", "rtsp", "rtmp", "srt", "http", "v4l2", "synthetic"]

_SCHEMES: dict[str, Scheme] = {
    "file": "file",
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtmp": "rtmp",
    "rtmps": "rtmp",
    "srt": "srt",
    "http": "http",
    "https": "http",
    "v4l2": "v4l2",
    "synthetic": "synthetic",
}
LIVE: frozenset[Scheme] = frozenset({"rtsp", "rtmp", "srt", "v4l2"})
"""Kinds that cannot wait. HTTP is live only when what it serves has no end; see `source.http`."""

# The second form is what a password makes of an address that holds / ? or # as it is: no server is found by it, and the
# message that says so must not tell it.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s:@\[]+:(?!\d{1,5}(?:[/?#]|$))[^\s@]*@)")
# Also behind `_`, as in access_token, and in the paths of some cameras: user=admin_password=..._channel=1.
_SECRET_PARAMETER = re.compile(
    r"(?i)(?<![a-z0-9])(passphrase|password|passwd|pass|pwd|psw|token|accesstoken|key|apikey|authkey|secret|auth|sig|"
    r"signature|credential|streamid)=(?:[^&\s\"']|'(?=[a-z0-9]))+"
)
# What follows the application's name: whoever knows it may send in its owner's name.
_STREAM_KEY = re.compile(r"(?i)(\brtmps?://[^/\s]*/[^/\s]+/)[^\s\"']*[^\s\"':;,.]")


# What is hidden beside that, and what is shown instead. Of the process, as its environment is: texts with a secret in
# them come from libraries and other threads too. Looked up only where a text leaves the process, by `presentable`.
_hidden: dict[str, str] = {}
_any_hidden = re.compile(r"(?!)")


def scheme_of(uri: str) -> Scheme | None:
    """Tell what kind of address `uri` is; a plain path is a `file`; None for an unknown scheme."""
    if uri.startswith("/dev/video"):
        return "v4l2"
    head, separator, _ = uri.partition(":")
    if not separator or "/" in head or not head.isascii():
        return "file"
    if uri.startswith(f"{head}://") or head.lower() == "synthetic":
        return _SCHEMES.get(head.lower())
    return "file"


def local_path(uri: str) -> str:
    """Strip `file://` and `v4l2://` from an address of a local thing."""
    return uri.removeprefix("file://").removeprefix("v4l2://")


def is_playlist(uri: str) -> bool:
    """Tell whether a file is written as HLS: a playlist, and pieces beside it."""
    return scheme_of(uri) == "file" and local_path(uri).lower().endswith(".m3u8")


def hide(shown: Mapping[str, str]) -> None:
    """From now on, let `presentable` show other texts instead of these."""
    global _any_hidden  # noqa: PLW0603 -- of the process, see above
    _hidden.update(shown)
    if _hidden:
        _any_hidden = re.compile("|".join(map(re.escape, sorted(_hidden, key=len, reverse=True))))


def presentable(text: str) -> str:
    """Make what may leave the process: `redact`ed, and without what `hide` was told of."""
    return redact(_any_hidden.sub(lambda found: _hidden[found[0]], text))


def redact(text: str) -> str:
    """Hide user names, passwords, secret parameters and RTMP's stream keys of every address within `text`."""
    return _STREAM_KEY.sub(r"\1***", _SECRET_PARAMETER.sub(r"\1=***", _CREDENTIALS.sub("***@", text)))


def has_credentials(uri: str) -> bool:
    """Tell whether the address itself carries a user name or a password."""
    return "@" in urlsplit(uri).netloc

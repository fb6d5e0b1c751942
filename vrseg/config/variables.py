"""`${NAME}` in the configuration: the environment, or a systemd credential. What it stands for is a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from vrseg.address import redact
from vrseg.config.document import Data, KeyPath, Problem

Read: TypeAlias = Callable[[str], str | None]

_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_.-]*?)(?::-(?P<default>[^}]*))?\}|(?P<broken>\$\{)")
# Behind `://` and before the `@` of the same address: user name and password.
_BEFORE_CREDENTIALS = re.compile(r"://[^/?#]*$")
_AFTER_CREDENTIALS = re.compile(r"^[^/?#]*@")
_BEFORE_PARAMETER = re.compile(r"://[^\s]*\?[^\s]*$")

_HIDDEN = "***"
# What is shorter is a number, a name or a word, and would be torn out of others.
_SHORTEST_HIDDEN = 8


@dataclass(frozen=True, slots=True)
class Substituted:
    """The data with every `${NAME}` replaced."""

    data: Data
    secrets: Mapping[KeyPath, tuple[str, ...]]
    """What was put in, by place. Never to be shown."""
    shown: Mapping[str, str]
    """Texts that hold what was read, and those to show instead. A default stands in the file, and is no secret."""
    problems: tuple[Problem, ...]


def reader(environment: Mapping[str, str]) -> Read:
    """Make the function that looks a name up: first in the environment, then among systemd's credentials."""

    def read(name: str) -> str | None:
        if name in environment:
            return environment[name]
        folder = environment.get("CREDENTIALS_DIRECTORY")
        file = Path(folder, name) if folder else None
        return file.read_text(encoding="utf-8").removesuffix("\n") if file and file.is_file() else None

    return read


def substitute(data: Data, read: Read) -> Substituted:
    """Replace `${NAME}`, `${NAME:-default}` and `$$` in every text of `data`; keys are left alone."""
    walk = _Walk(read)
    return Substituted(walk.value(data, ()), walk.secrets, walk.shown, tuple(walk.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What is put in for one reference."""

    text: str
    shown: str
    used: str | None = None
    """The variable as it was read; None where there is none."""


class _Walk:
    def __init__(self, read: Read) -> None:
        self._read = read
        self.secrets: dict[KeyPath, tuple[str, ...]] = {}
        self.shown: dict[str, str] = {}
        self.problems: list[Problem] = []

    def value(self, data: Data, path: KeyPath) -> Data:
        if isinstance(data, dict):
            return {key: self.value(item, (*path, key)) for key, item in data.items()}
        if isinstance(data, list):
            return [self.value(item, (*path, index)) for index, item in enumerate(data)]
        return self._text(data, path) if isinstance(data, str) and "$" in data else data

    def _text(self, text: str, path: KeyPath) -> str:
        parts = [self._part(match, path) for match in _REFERENCE.finditer(text)]
        result = _filled(text, [part.text for part in parts])
        used = [part.used for part in parts if part.used is not None]
        if used:
            self.secrets[path] = (result, *used)
            shown = _filled(text, [part.shown for part in parts])
            self._hide(result, shown)
            self._hide(redact(result), redact(shown))  # as messages have it that were made for people to read
        return result

    def _part(self, match: re.Match[str], path: KeyPath) -> _Part:
        if match[0] == "$$":
            return _Part(text="$", shown="$")
        if match["broken"]:
            self._report(path, "${ without a name and }; write ${NAME}, or $$ for a dollar")
            return _Part(text="", shown="")
        read = self._lookup(match["name"], match["default"], path)
        is_default = match["default"] is not None and not read
        value = match["default"] if is_default else read
        text = _escape(value, match.string[: match.start()], match.string[match.end() :])
        if is_default:
            return _Part(text=text, shown=text, used=value)
        self._hide(value, _HIDDEN)
        self._hide(text, _HIDDEN)
        return _Part(text=text, shown=_HIDDEN, used=value)

    def _hide(self, text: str, shown: str) -> None:
        if len(text) >= _SHORTEST_HIDDEN and text != shown:
            self.shown.setdefault(text, shown)

    def _lookup(self, name: str, default: str | None, path: KeyPath) -> str:
        """Read a variable; empty where it is not there."""
        try:
            value = self._read(name)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self._report(path, f"${{{name}}}: the credential cannot be read: {reason}")
            return ""
        if value is None and default is None:
            self._report(
                path, f"${{{name}}} is not set; set it in the environment or with systemd's LoadCredential={name}:FILE"
            )
        return value or ""

    def _report(self, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(path, text))


def _filled(text: str, parts: list[str]) -> str:
    """Put the parts in for the references of a text, in order."""
    left = iter(parts)
    return _REFERENCE.sub(lambda _: next(left), text)


def _escape(value: str, before: str, after: str) -> str:
    """Percent-encode what would end the part of the address that `value` is put into: a password may hold @ or /.

    A value without such characters stays as it is, so one that is already encoded is not encoded again.
    """
    if _BEFORE_CREDENTIALS.search(before) and _AFTER_CREDENTIALS.search(after):
        return quote(value, safe=":") if re.search(r"[@/?#\s\"']", value) else value
    if _BEFORE_PARAMETER.search(before):
        return quote(value, safe="") if re.search(r"[&#\s\"']", value) else value
    return value

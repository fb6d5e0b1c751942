"""`--set streams.door.source.uri=...`: single values put over those of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.config.document import Data, Document, KeyPath, Problem, parse_value

if TYPE_CHECKING:
    from collections.abc import Sequence


def override(document: Document, settings: Sequence[str]) -> Document:
    """Put `settings` over the document, later ones over earlier ones. Mistakes join the document's problems."""
    for setting in settings:
        document = _override(document, setting)
    return document


def _override(document: Document, setting: str) -> Document:
    key, separator, text = setting.partition("=")
    if not separator or not key or "" in key.split("."):
        return _with_problem(
            document, "--set", "takes KEY=VALUE with dots in the key, such as server.listen=127.0.0.1:9090"
        )
    where = f"--set {key}"
    try:
        value = parse_value(text)
        path = _resolve(document.data, key.split("."))
        data = _replaced(document.data, path, value)
    except ValueError as error:
        return _with_problem(document, where, str(error))
    marks = {known: mark for known, mark in document.marks.items() if known[: len(path)] != path}
    marks[path] = where
    return Document(document.origin, data, marks, document.problems)


def _resolve(data: Data, keys: Sequence[str]) -> KeyPath:
    """Turn the keys that stand at a list's place into positions."""
    path: KeyPath = ()
    here = data
    for key in keys:
        part: str | int = int(key) if isinstance(here, list) and key.isdecimal() else key
        path = (*path, part)
        here = _item(here, part)
    return path


def _item(data: Data, part: str | int) -> Data:
    if isinstance(data, dict) and isinstance(part, str):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _replaced(data: Data, path: KeyPath, value: Data) -> Data:
    """Copy `data` with `value` at `path`; mappings that are missing on the way are made."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        if not isinstance(head, int) or head > len(data):
            raise ValueError(
                f"{head} is no position of a list of {len(data)}; count from 0, and use {len(data)} to add one"
            )
        return [*data[:head], _replaced(_item(data, head), rest, value), *data[head + 1 :]]
    if not isinstance(data, dict | None):
        raise ValueError(f"there is a single value in the place of what should hold {head}")  # noqa: TRY004 - user's input
    mapping = data or {}
    return mapping | {str(head): _replaced(mapping.get(str(head)), rest, value)}


def _with_problem(document: Document, where: str, text: str) -> Document:
    problem = Problem((), text, where)
    return Document(document.origin, document.data, document.marks, (*document.problems, problem))

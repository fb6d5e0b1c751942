"""YAML as plain data in which every value remembers its line. All text stays text: the schema decides what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""
Data: TypeAlias = dict[str, "Data"] | list["Data"] | str | None

MAX_CHARACTERS = 1_000_000
# A hundred streams with every key written out are 6,000 values; an alias bomb has millions.
MAX_VALUES = 100_000
# The schema is six levels deep.
MAX_DEPTH = 32

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp"))
_MERGE_TAG = "tag:yaml.org,2002:merge"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def dotted(path: KeyPath) -> str:
    """Write a path the way `--set` reads it: `streams.door.outputs.0.uri`."""
    return ".".join(str(part) for part in path)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    path: KeyPath
    text: str
    """What is wrong and how to mend it; never holds a secret."""
    where: str | None = None
    """File and line, where these are not those of the value at `path`."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file said, and what is wrong with how it said it."""

    origin: str
    """The file's name, as it was given."""
    data: Data
    marks: Mapping[KeyPath, str] = field(repr=False)
    """Where each value stands: `vrseg.yaml:12`."""
    problems: tuple[Problem, ...] = ()

    def where(self, path: KeyPath) -> str:
        """Tell where a value stands, or, if it is missing, what should hold it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return self.origin


def parse(text: str, origin: str) -> Document:
    """Read YAML. Mistakes end up in `problems`; what can still be read is in `data`."""
    if len(text) > MAX_CHARACTERS:
        return _unreadable(origin, origin, "is larger than 1 MB; that is no configuration of vrseg")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Document(origin, *_Reader(origin).read(node))
    except RecursionError:
        return _unreadable(origin, origin, "is nested too deeply")
    except _TooLargeError:
        return _unreadable(origin, origin, "is too large once its aliases are written out")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _unreadable(origin, f"{origin}:{mark.line + 1}" if mark else origin, _syntax(error))
    except yaml.YAMLError:
        return _unreadable(origin, origin, "is not text; YAML holds no control characters")


def parse_value(text: str) -> Data:
    """Read one value, as on the right of a `--set`.

    Raises:
        ValueError: it is no YAML.
    """
    if not text.strip():
        return None
    document = parse(text, "--set")
    if document.problems:
        raise ValueError("; ".join(problem.text for problem in document.problems))
    return document.data


def _unreadable(origin: str, where: str, text: str) -> Document:
    return Document(origin, None, {}, (Problem((), text, where),))


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """Say what the parser met. Its own words about aliases and tags quote the file, which may hold a secret."""
    problem = error.problem or ""
    if "undefined alias" in problem:
        return "text that begins with * is read as an alias; write it in quotes"
    if "duplicate anchor" in problem:
        return "the same &anchor is defined twice"
    if "\\t" in problem:
        return "a tab stands where spaces should; YAML is indented with spaces"
    if problem.startswith("found character"):
        return "text that begins with @, ` or % must be written in quotes"
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return f"is not YAML: {problem}"
    return "is not YAML: check indentation, colons and quotes"


class _TooLargeError(Exception):
    """More values than any configuration has."""


class _Reader:
    """Walks a tree of YAML nodes once."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._marks: dict[KeyPath, str] = {}
        self._problems: list[Problem] = []
        self._values = 0

    def read(self, node: yaml.Node | None) -> tuple[Data, dict[KeyPath, str], tuple[Problem, ...]]:
        data = self._value(node, ()) if node is not None else {}
        return data, self._marks, tuple(self._problems)

    def _value(self, node: yaml.Node, path: KeyPath) -> Data:
        self._count()
        if len(path) > MAX_DEPTH:
            raise RecursionError
        self._marks.setdefault(path, self._where(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise TypeError(f"a YAML node of kind {type(node).__name__}")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | None:
        if node.tag not in _PLAIN_TAGS:
            self._report(node, path, "a YAML tag (!…) is not used here; write text that begins with ! in quotes")
            return None
        text = str(node.value)
        return None if node.style is None and text in _NULLS else text

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Data]:
        result: dict[str, Data] = {}
        for key, (key_node, value_node) in self._entries(node, path).items():
            self._marks[*path, key] = self._where(key_node)
            result[key] = self._value(value_node, (*path, key))
        return result

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Collect the keys of a mapping. What `<<: *anchor` brings in gives way to the mapping's own keys."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            self._count()
            key = str(key_node.value)
            if key_node.tag == _MERGE_TAG:
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if isinstance(source, yaml.MappingNode):
                        merged = self._entries(source, path) | merged
                    else:
                        self._report(key_node, path, "<< takes a mapping or a list of mappings")
            elif not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "a key must be plain text")
            elif key in own:
                first = own[key][0].start_mark.line + 1
                self._report(key_node, (*path, key), f"written twice, first in line {first}; remove one")
            else:
                own[key] = (key_node, value_node)
        return merged | own

    def _count(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _TooLargeError

    def _where(self, node: yaml.Node) -> str:
        return f"{self._origin}:{node.start_mark.line + 1}"

    def _report(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self._problems.append(Problem(path, text, self._where(node)))

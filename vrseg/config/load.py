"""From a file to a `Config`, or to the list of all that is wrong with it. Only this folder reads YAML and variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vrseg.address import hide
from vrseg.config import mistakes, rules
from vrseg.config.document import MAX_CHARACTERS, Data, Document, KeyPath, Problem, dotted, parse
from vrseg.config.overrides import override
from vrseg.config.schema import Config, ModelDescription, Section, json_schema
from vrseg.config.show import redacted
from vrseg.config.variables import Substituted, reader, substitute
from vrseg.errors import ConfigError, Finding

__all__ = ["json_schema", "load", "load_description", "redacted"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

AnySection = TypeVar("AnySection", bound=Section)


def load(path: Path, *, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration at `path`, with `KEY=VALUE` overrides put over it.

    What variables stand for is hidden from then on wherever `address.presentable` is asked.

    Raises:
        ConfigError: one problem for each mistake in the file, the overrides and the variables, in the file's order.
    """
    document = override(_read(path), overrides)
    values = substitute(document.data, reader(environment))
    hide(values.shown)
    config, wrong_types = _validate(Config, values)
    problems = [*document.problems, *values.problems, *wrong_types]
    config = config or _what_is_right(values.data, [problem.path for problem in problems])
    if config is not None:
        problems += rules.problems_of(config, _names(values.data, "models"))
        if not _names(values.data, "streams"):
            problems.append(Problem(("streams",), "there is no stream; nothing would happen"))
    if problems or config is None:
        raise ConfigError(*_findings(document, values, problems))
    return config


def load_description(path: Path) -> ModelDescription:
    """Read the description of a model that lies beside its ONNX file. It holds no variables.

    Raises:
        ConfigError: one problem for each mistake.
    """
    document = _read(path)
    values = Substituted(document.data, {}, {}, ())
    description, wrong_types = _validate(ModelDescription, values)
    problems = [*document.problems, *wrong_types]
    if problems or description is None:
        raise ConfigError(*_findings(document, values, problems))
    return description


def _read(path: Path) -> Document:
    try:
        with path.open(encoding="utf-8") as file:
            document = parse(file.read(MAX_CHARACTERS + 1), str(path))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; name a YAML file") from None
    except OSError as error:
        hint = "; check the path" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: {error.strerror or error}{hint}") from error
    if document.data is None and document.problems:
        raise ConfigError(*_findings(document, Substituted(None, {}, {}, ()), document.problems))
    return document


def _validate(section: type[AnySection], values: Substituted) -> tuple[AnySection | None, list[Problem]]:
    if not isinstance(values.data, dict):
        return None, [Problem((), "is not a mapping; the top of the file is `key: value` lines")]
    try:
        return section.model_validate(values.data), []
    except ValidationError as error:
        return None, list(mistakes.problems_of(error, values.data, values.secrets, section.model_json_schema()))


def _what_is_right(data: Data, wrong: Iterable[KeyPath]) -> Config | None:
    """Leave out what is wrong, so that the rest can be checked in the same go; None when nothing is left."""
    for path in {_holder(data, path) for path in wrong} - {()}:
        data = _without(data, path)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        # A needed key is gone now: what needed it goes too. Each round leaves out more, so this ends.
        gone = [detail["loc"][:2] for detail in error.errors() if len(detail["loc"]) > 1]
        return _what_is_right(data, gone) if gone else None


def _without(data: Data, path: KeyPath) -> Data:
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        return [_without(item, rest) if index == head else item for index, item in enumerate(data)]
    if not isinstance(data, dict) or head not in data:
        return data
    if not rest:
        return {key: item for key, item in data.items() if key != head}
    return data | {str(head): _without(data[str(head)], rest)}


def _holder(data: Any, path: KeyPath) -> KeyPath:
    """Shorten `path` to a key that is there, and that is no element of a list: the others must keep their numbers."""
    here, depth = data, 0
    for part in path:
        steps = dict(enumerate(here)) if isinstance(here, list) else here
        if not isinstance(steps, dict) or part not in steps:
            break
        here = steps[part]
        depth += 1
    while depth and isinstance(path[depth - 1], int):
        depth -= 1
    return path[:depth]


def _names(data: Data, section: str) -> frozenset[str]:
    held: Any = data.get(section) if isinstance(data, dict) else None
    return frozenset(held) if isinstance(held, dict) else frozenset()


def _findings(document: Document, values: Substituted, problems: Sequence[Problem]) -> list[Finding]:
    """Say where the problems are, one per place, in the file's order."""
    by_place: dict[tuple[str, KeyPath], Problem] = {}
    for problem in problems:
        by_place.setdefault((problem.where or document.where(problem.path), problem.path), problem)
    ordered = sorted(by_place.items(), key=lambda item: _order(item[0][0]))
    return [_finding(where, problem, values) for (where, _), problem in ordered]


def _order(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (where, 0)


def _finding(where: str, problem: Problem, values: Substituted) -> Finding:
    text = problem.text
    for secrets in values.secrets.values():
        for secret in sorted(secrets, key=len, reverse=True):
            # Shorter ones are no secrets, and would tear words apart.
            text = text.replace(secret, "***") if len(secret) >= 4 else text
    return Finding(where=where, path=dotted(problem.path), text=text)

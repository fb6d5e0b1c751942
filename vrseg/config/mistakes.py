"""What pydantic found, as sentences for the person who wrote the file. A value that may be a secret is never quoted."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vrseg.config.document import Data, KeyPath, Problem, dotted
from vrseg.config.schema import DEVICE_PATTERN, LISTEN_PATTERN
from vrseg.config.schema_model import COLOR_PATTERN
from vrseg.config.schema_output import ENCODER_PATTERN
from vrseg.config.section import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_PATTERNS = {
    NAME_PATTERN: "a name is letters, digits, - and _, at most 64 of them",
    LISTEN_PATTERN: "write an address and a port, such as 127.0.0.1:9090 or [::1]:9090",
    DEVICE_PATTERN: "write auto, cpu, cuda or cuda:1",
    COLOR_PATTERN: 'write "#rrggbb" in quotes, such as "#00aaff"',
    ENCODER_PATTERN: "write auto, nvenc, or an FFmpeg encoder such as libx264",
}
_KINDS = {
    "int": "not a whole number",
    "float": "not a number",
    "bool": "neither true nor false",
    "string": "not a single text",
    "tuple": "not a list",
    "list": "not a list",
    "dict": "not a mapping of names",
    "model": "not a mapping of keys",
}
_OTHER_NAMES = {
    "h265": "hevc",
    "h.265": "hevc",
    "x265": "hevc",
    "avc": "h264",
    "half": "fp16",
    "segmentation": "segment",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def problems_of(
    error: ValidationError, data: Data, secrets: Mapping[KeyPath, tuple[str, ...]], shape: Mapping[str, Any]
) -> Iterator[Problem]:
    """Turn pydantic's errors about `data` into problems, one per place.

    `shape` is the JSON Schema of what was wanted; values whose path is in `secrets` are not quoted.
    """
    seen: set[KeyPath] = set()
    # The deepest first: where a value may be one of several things, the branch that came furthest knows best.
    details = error.errors(include_url=False)
    for detail in sorted(details, key=lambda detail: -len(detail["loc"])):
        path = _path(detail, data)
        if detail["loc"][-1] != "[key]" and any(known[: len(path)] == path for known in seen):
            continue
        seen.add(path)
        if any(secret[: len(path)] == path for secret in secrets) and detail["type"] not in _ABOUT_KEYS:
            yield Problem(path, "the value read for ${…} does not fit here; it is not shown")
        else:
            yield Problem(path, _sentence(detail, path, shape))


_ABOUT_KEYS = frozenset({"missing", "extra_forbidden"})


def _path(detail: ErrorDetails, data: Data) -> KeyPath:
    """Follow pydantic's location through the data, leaving out the names of types that it puts in."""
    path: KeyPath = ()
    here: Any = data
    for part in detail["loc"]:
        steps = dict(enumerate(here)) if isinstance(here, list) else here
        if isinstance(steps, dict) and part in steps:
            here = steps[part]
            path = (*path, part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _sentence(detail: ErrorDetails, path: KeyPath, shape: Mapping[str, Any]) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), _quoted(detail["input"])
    match kind:
        case "missing":
            text = "is needed and not there"
        case "extra_forbidden":
            text = _unknown_key(path, shape)
        case _ if detail["input"] is None:
            text = "is empty; give it a value, or remove the key for its usual one"
        case "value_error":
            text = str(context["error"])
        case "literal_error":
            text = _unknown_choice(detail["input"], str(context["expected"]))
        case "string_pattern_mismatch":
            text = f"{value} does not fit; {_PATTERNS[context['pattern']]}"
        case "too_long":
            text = f"holds too many values; write {context['max_length']}"
        case _ if kind in _LIMITS:
            key, words = _LIMITS[kind]
            text = f"{value} is out of range; write {words} {context[key]:g}"
        case _:
            text = f"{value} is {_KINDS.get(kind.partition('_')[0], 'not what belongs here')}"
    return text


def _quoted(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _unknown_choice(value: object, expected: str) -> str:
    choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
    return f"{_quoted(value)} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}"


def _unknown_key(path: KeyPath, shape: Mapping[str, Any]) -> str:
    key = str(path[-1])
    known = keys_at(path[:-1], shape)
    if near := did_you_mean(key, known):
        return f"unknown key{near}"
    for section in known:
        if key in keys_at((*path[:-1], section), shape):
            return f"unknown key here; it belongs into {dotted((*path[:-1], section))}"
    return f"unknown key; known here: {', '.join(known)}"


def did_you_mean(word: str, known: list[str]) -> str:
    """Suggest the known word that is nearest, or nothing."""
    other = _OTHER_NAMES.get(word.lower())
    near = [other] if other in known else get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def keys_at(path: KeyPath, shape: Mapping[str, Any]) -> list[str]:
    """List the keys that the schema knows in the section at `path`; none where there is no section."""
    return list(_section(path, shape).get("properties", {}))


def _section(path: KeyPath, shape: Mapping[str, Any]) -> Mapping[str, Any]:
    here = _resolved(shape, shape)
    for part in path:
        if isinstance(part, int):
            inner = here.get("items", {})
        else:
            named = here.get("patternProperties", {}).values()
            inner = here.get("properties", {}).get(part) or next(iter(named), {})
        here = _resolved(inner, shape)
    return here


def _resolved(part: Mapping[str, Any], shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references and take the branch that is a section where there are several."""
    if "$ref" in part:
        return _resolved(shape["$defs"][part["$ref"].rpartition("/")[2]], shape)
    for branch in part.get("anyOf", ()):
        if "$ref" in branch or "items" in branch:
            return _resolved(branch, shape)
    return part

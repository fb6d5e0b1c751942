"""Names of recordings: strftime fields, names that are free, and which files on disk a pattern has made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

# What strftime writes for each field; a field that is not here could match other people's files.
_FIELDS = {
    "Y": r"\d{4}",
    "m": r"\d{2}",
    "d": r"\d{2}",
    "H": r"\d{2}",
    "I": r"\d{2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "y": r"\d{2}",
    "j": r"\d{3}",
    "f": r"\d{6}",
    "s": r"\d+",
    "z": r"[+-]\d{4,6}",
    "F": r"\d{4}-\d{2}-\d{2}",
    "T": r"\d{2}:\d{2}:\d{2}",
    "%": "%",
}
_FIELD = re.compile(r"%(.)")


def has_fields(pattern: str) -> bool:
    """Tell whether the name changes with time."""
    return any(field != "%" for field in _FIELD.findall(pattern))


def check_fields(pattern: str) -> None:
    """Refuse fields that could not be recognised again.

    Raises:
        ConfigError: the pattern has an unknown field.
    """
    unknown = [f"%{field}" for field in _FIELD.findall(pattern) if field not in _FIELDS]
    if unknown or "%" in _FIELD.sub("", pattern):
        known = " ".join(f"%{field}" for field in _FIELDS)
        raise ConfigError(f"{pattern}: unknown time field {' '.join(unknown) or '%'}; use {known}")


def create_free(pattern: str, now: datetime) -> Path:
    """Create an empty file named by `pattern` at `now`; where one exists, `-1`, `-2` and so on is added.

    Folders are created. Nothing is ever replaced, not even when two processes choose at the same moment.

    Raises:
        ConfigError: the folder cannot be made or written to.
    """
    wanted = Path(now.strftime(pattern))
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        return next(path for path in _candidates(wanted) if _created(path))
    except FileExistsError as error:
        raise ConfigError(f"{wanted.parent}: this is a file, where a folder is needed: choose another path") from error
    except OSError as error:
        raise ConfigError(str(output_error(error, str(wanted.parent), live=False))) from error


def _created(path: Path) -> bool:
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True


def files_of(pattern: str) -> Iterator[Path]:
    """Find the files on disk whose names `pattern` can have made, and no others."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if "%" in part), len(parts) - 1)
    root, changing = Path(*parts[:fixed]), Path(*parts[fixed:])
    stem = _expression(changing.with_suffix("").as_posix())
    made = re.compile(rf"{stem}(-\d+)?{re.escape(changing.suffix)}")
    for path in root.rglob(f"*{changing.suffix}"):
        if path.is_file() and made.fullmatch(path.relative_to(root).as_posix()):
            yield path


def _expression(pattern: str) -> str:
    literals_and_fields = _FIELD.split(pattern)
    return "".join(_FIELDS[piece] if index % 2 else re.escape(piece) for index, piece in enumerate(literals_and_fields))


def _candidates(wanted: Path) -> Iterator[Path]:
    yield wanted
    number = 1
    while True:
        yield wanted.with_stem(f"{wanted.stem}-{number}")
        number += 1

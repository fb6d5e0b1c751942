"""Names of recordings: strftime fields, and names that are free."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

# Those that are the same for every language and system.
_FIELDS = "YmdHIMSyjfszFT%"
_FIELD = re.compile(r"%(.)")


def has_fields(pattern: str) -> bool:
    """Tell whether the name changes with time."""
    return any(field != "%" for field in _FIELD.findall(pattern))


def check_fields(pattern: str) -> None:
    """Refuse fields that not every system knows, or that depend on its language.

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


def fixed_folder(pattern: Path) -> Path:
    """Return the folder above everything in `pattern` that changes with time."""
    parts = pattern.parts
    fixed = next((index for index, part in enumerate(parts) if "%" in part), len(parts) - 1)
    return Path(*parts[: min(fixed, len(parts) - 1)])


def _candidates(wanted: Path) -> Iterator[Path]:
    yield wanted
    number = 1
    while True:
        yield wanted.with_stem(f"{wanted.stem}-{number}")
        number += 1

"""Where vrseg keeps what it makes for itself."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$VRSEG_CACHE`, else `vrseg` in the user's cache folder. It need not exist."""
    own = os.environ.get("VRSEG_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vrseg"


def state_folder() -> Path:
    """Return systemd's `$STATE_DIRECTORY`, else `vrseg` in the user's state folder. It need not exist."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "vrseg"

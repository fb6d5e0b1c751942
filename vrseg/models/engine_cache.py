"""Engines on disk: a plan and a JSON file about it, under one key. A plan is code, so the folder is the user's own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrseg.config.places import cache_folder
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OTHERS_MAY_WRITE = 0o022
_PLAN, _ABOUT, _REFUSED = ".plan", ".json", ".refused"


def engines_folder() -> Path:
    """Return where a user's engines are kept."""
    return cache_folder() / "engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedEngine:
    """An engine that is there."""

    key: str
    plan: Path
    about: dict[str, Any]
    """The fields of its request, and what was found out when it was built."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EngineCache:
    """The folder of engines. Several processes may use it at once."""

    folder: Path

    def find(self, key: str) -> CachedEngine | None:
        """Return an engine, unless it is missing or damaged; a damaged one is put aside.

        Raises:
            ConfigError: somebody else can write here.
        """
        if not self.folder.is_dir():
            return None
        self._check_owner(self.folder)
        plan = self.folder / f"{key}{_PLAN}"
        try:
            about = json.loads((self.folder / f"{key}{_ABOUT}").read_text(encoding="utf-8"))
            content = plan.read_bytes()
        except FileNotFoundError:
            return None
        except ValueError:
            about, content = {}, b""
        self._check_owner(plan)
        if not isinstance(about, dict) or about.get("plan_sha256") != hashlib.sha256(content).hexdigest():
            self.set_aside(key)
            return None
        return CachedEngine(key=key, plan=plan, about=about, size_bytes=len(content))

    def store(self, key: str, plan: bytes, about: dict[str, Any]) -> CachedEngine:
        """Write an engine so that others see all of it or nothing.

        Raises:
            ConfigError: the folder cannot be written, or others can write there.
        """
        self.prepare()
        about = about | {"plan_sha256": hashlib.sha256(plan).hexdigest()}
        path = self.folder / f"{key}{_PLAN}"
        # The file about the plan comes last: a plan without it does not count.
        self._write(path, plan)
        self._write(self.folder / f"{key}{_ABOUT}", json.dumps(about, indent=2, sort_keys=True).encode())
        return CachedEngine(key=key, plan=path, about=about, size_bytes=len(plan))

    def set_aside(self, key: str) -> Path | None:
        """Take an engine that does not load out of use, but keep its plan for who wants to know why."""
        (self.folder / f"{key}{_ABOUT}").unlink(missing_ok=True)
        aside = self.folder / f"{key}{_REFUSED}"
        try:
            return (self.folder / f"{key}{_PLAN}").replace(aside)
        except FileNotFoundError:
            return None

    def engines(self) -> list[CachedEngine]:
        """Return all that are there and whole."""
        keys = sorted(path.stem for path in self.folder.glob(f"*{_ABOUT}"))
        return [engine for key in keys if (engine := self.find(key)) is not None]

    def remove(self, key: str) -> None:
        """Delete an engine."""
        for suffix in (_ABOUT, _PLAN, _REFUSED):
            (self.folder / f"{key}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Wait for other builders, then keep them out: two would build the same, or disturb each other's timings."""
        self.prepare()
        with (self.folder / "builder.lock").open("w") as lock:
            # Goes with the process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read_timings(self, key: str) -> bytes:
        """Return what earlier builds have measured; call within `building`."""
        try:
            return self._timings(key).read_bytes()
        except FileNotFoundError:
            return b""

    def write_timings(self, key: str, content: bytes) -> None:
        """Keep what was measured; call within `building`."""
        self._write(self._timings(key), content)

    def prepare(self) -> None:
        """Make the folder, for the user alone.

        Raises:
            ConfigError: it cannot be made, or others can write there.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: {error.strerror}; set VRSEG_CACHE to a folder of your own") from error
        self._check_owner(self.folder)

    def _timings(self, key: str) -> Path:
        return self.folder / f"{key}.timings"

    def _check_owner(self, path: Path) -> None:
        status = path.stat()
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _OTHERS_MAY_WRITE:
            raise ConfigError(
                f"{path}: others can write here, and an engine is code; run: chmod go-w {path}, "
                "or set VRSEG_CACHE to a folder of your own"
            )

    def _write(self, path: Path, content: bytes) -> None:
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(beside, "wb", opener=_for_the_owner) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)

"""Which files on disk are a recorder's own: an index beside them, so that nothing else is ever deleted.

A name proves nothing: another program, or a person, may have put a file there. An extended attribute would be on the
file itself, but network shares, memory cards and many containers have none, and `cp -a` gives it to copies that
somebody wants to keep. So a hidden file of JSON lines beside the recordings says what was written: name, size and time
of change of each complete file, number of the inode of the one at work. A file that differs is left alone for ever.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import structlog

from vrseg.av_errors import describe
from vrseg.sink.naming import fixed_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_MTIME_STEP_S = 2.0
"""FAT counts in steps of two seconds; other systems round when a share is mounted anew."""
MOST_FILES = 100_000
"""Beyond, the oldest are forgotten, which means kept: an index must not grow for ever."""
_SPARE_LINES = 1000
"""Lines of the past that the index file may hold before it is written anew."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file of ours."""

    name: str
    """Relative to the index's folder."""
    inode: int
    size: int = -1
    """Bytes; -1 while it is being written."""
    mtime_s: float = 0.0
    ended_s: float = 0.0
    """When it was completed, by the clock that retention uses."""


class WrittenFiles:
    """The index of one pattern of names. Oldest first. Lines are appended; a torn one is passed over.

    Raises:
        OSError: from everything that changes the index: it cannot be written.
    """

    def __init__(self, pattern: Path) -> None:
        folder = fixed_folder(pattern)
        changing = pattern.relative_to(folder).as_posix()
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", changing).strip("-.")
        self.path = folder / f".{readable}-{zlib.crc32(changing.encode()):08x}.written"
        self._folder = folder
        self._files: dict[str, Written] = {}
        self._lines = 0

    def load(self) -> None:
        """Read what former runs have written; adopt what was at work when a run was killed."""
        self._files.clear()
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            _log.warning("index of recordings not read: older ones will be kept", path=str(self.path), error=str(error))
            lines = []
        for line in lines:
            self._apply(line)
        for file in list(self._files.values()):
            if file.size < 0:
                self._adopt(file)
        self._lines = len(lines)

    def __iter__(self) -> Iterator[Written]:
        return iter(list(self._files.values()))

    def __len__(self) -> int:
        return len(self._files)

    def begin(self, path: Path) -> Written:
        """Note a file that has just been created."""
        file = Written(name=path.relative_to(self._folder).as_posix(), inode=path.stat().st_ino)
        self._put(file)
        return file

    def complete(self, path: Path, ended_s: float) -> None:
        """Note that nothing more will be written to a file."""
        found = path.stat()
        name = path.relative_to(self._folder).as_posix()
        self._put(Written(name=name, inode=found.st_ino, size=found.st_size, mtime_s=found.st_mtime, ended_s=ended_s))

    def forget(self, file: Written) -> None:
        """Strike a file out: it is gone, or not ours any more."""
        if self._files.pop(file.name, None) is not None:
            self._append({"gone": file.name})

    def discard(self, path: Path) -> None:
        """Strike a file out that came to nothing."""
        if (file := self._files.get(path.relative_to(self._folder).as_posix())) is not None:
            self.forget(file)

    def shift(self, seconds: float, which: Callable[[Written], bool]) -> None:
        """Move the times of some files, when the clock they are measured by was set: of all these, or of none."""
        moved = {file.name: replace(file, ended_s=file.ended_s + seconds) for file in self if which(file)}
        files = self._files | moved
        self._write_anew(files)
        self._files = files

    def delete(self, file: Written) -> bool:
        """Delete a complete file if it is still the one that was written; tell whether it is out of the way."""
        path = self._folder / file.name
        try:
            if self._is_ours(file, path.lstat()):
                path.unlink()
                _log.info("old segment deleted", path=str(path))
            else:
                _log.warning("segment was changed by somebody else: it is kept", path=str(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("old segment not deleted", path=str(path), error=describe(error))
            return False
        self.forget(file)
        return True

    @staticmethod
    def _is_ours(file: Written, found: os.stat_result) -> bool:
        return (
            stat.S_ISREG(found.st_mode)
            and found.st_size == file.size
            and abs(found.st_mtime - file.mtime_s) <= _MTIME_STEP_S
        )

    def _adopt(self, file: Written) -> None:
        """A run was killed, or lost power, while it wrote this."""
        try:
            found = (self._folder / file.name).lstat()
        except OSError:
            found = None
        if found is None or found.st_ino != file.inode or not stat.S_ISREG(found.st_mode):
            del self._files[file.name]
            return
        self._files[file.name] = replace(file, size=found.st_size, mtime_s=found.st_mtime, ended_s=found.st_mtime)

    def _apply(self, line: str) -> None:
        try:
            known = json.loads(line)
            if "gone" in known:
                self._files.pop(known["gone"], None)
                return
            file = Written(
                name=str(known["name"]),
                inode=int(known["inode"]),
                size=int(known["size"]),
                mtime_s=float(known["mtime_s"]),
                ended_s=float(known["ended_s"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError):  # torn by a power cut, or not written by us
            return
        if file.name and not file.name.startswith("/") and ".." not in file.name.split("/"):
            self._files.pop(file.name, None)
            self._files[file.name] = file

    def _put(self, file: Written) -> None:
        self._files.pop(file.name, None)  # the last written comes last
        self._files[file.name] = file
        while len(self._files) > MOST_FILES:
            del self._files[next(iter(self._files))]
        self._append(asdict(file))

    def _append(self, line: dict[str, object]) -> None:
        if self._lines > 2 * len(self._files) + _SPARE_LINES:
            self._write_anew(self._files)
            return
        with self.path.open("a", encoding="utf-8") as index:
            # A line of its own, even behind one that was torn.
            index.write(f"\n{json.dumps(line)}")
        self._lines += 1

    def _write_anew(self, files: Mapping[str, Written]) -> None:
        fresh = self.path.with_name(f"{self.path.name}.new")
        with fresh.open("w", encoding="utf-8") as index:
            index.writelines(f"{json.dumps(asdict(file))}\n" for file in files.values())
            index.flush()
            os.fsync(index.fileno())
        fresh.replace(self.path)
        self._lines = len(files)

"""Events as JSON lines in a file or on standard output."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vrseg.errors import VrsegError
from vrseg.sink.line_file import LineFile
from vrseg.sink.results import line_of

if TYPE_CHECKING:
    from pathlib import Path

    import structlog

    from vrseg.sink.line_file import Rotation
    from vrseg.sink.outlet import Mailbox


class EventFile:
    """A `Delivery`: one line for each event, readable at once. While the file cannot be written, events are dropped."""

    def __init__(
        self, stream: str, path: Path | None, rotation: Rotation | None, log: structlog.stdlib.BoundLogger
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting = 0
        self._stream = stream
        self._path = path
        self._rotation = rotation
        self._log = log
        self._file: LineFile | None = None
        self._failed = False

    async def run(self, mailbox: Mailbox) -> None:
        try:
            while records := await mailbox.take():
                try:
                    self._write([line_of(record) for record in records])
                    self.counts["delivered"] += len(records)
                    self._failed = False
                except VrsegError as error:
                    self._close()  # and begin anew: the folder may have been replaced
                    self.counts["disk"] += len(records)
                    if not self._failed:
                        self._log.error("events dropped", stream=self._stream, reason="disk", detail=str(error))
                    self._failed = True
        finally:
            self._close()

    def forget(self) -> None:
        pass

    def _write(self, lines: list[str]) -> None:
        if self._file is None:
            file = LineFile(self._path, rotation=self._rotation)
            file.open()
            self._file = file
        for line in lines:
            self._file.write(line)
        self._file.commit()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

"""Errors, sorted by what the caller can do about them.

Every message is one line that says what went wrong, where, and how to mend it. The class decides the exit code, and
whether trying again may help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class VrsegError(Exception):
    """Root of every error that vrseg raises on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One mistake: what is wrong and how to mend it, and where."""

    text: str
    path: str = ""
    """Keys with dots between them, such as `streams.door.model`; empty when it is about no key."""
    where: str = ""
    """File and line, such as `vrseg.yaml:12`; empty when it is not in a file."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.text) if part)


class ConfigError(VrsegError):
    """Fix the file or the arguments. `problems` holds every mistake, one line each; `findings` holds their parts."""

    exit_code = 2

    def __init__(self, *problems: str | Finding) -> None:
        self.findings = tuple(Finding(text=one) if isinstance(one, str) else one for one in problems)
        self.problems = tuple(map(str, self.findings))
        super().__init__("\n".join(self.problems))


class TransientError(VrsegError):
    """Trying again may help: a camera went away, a socket timed out."""

    reason: ClassVar[str] = "lost"
    """Value of the `reason` label of `vrseg_stream_reconnects_total`."""


class SourceRefusedError(TransientError):
    """Nobody answered at the address, or it said no."""

    reason = "refused"


class SourceStalledError(TransientError):
    """The connection is open but no frame came for too long."""

    reason = "stalled"


class SourceEndedError(TransientError):
    """A live source, which should not end, ended."""

    reason = "ended"


class OutputLostError(TransientError):
    """A live output (an RTSP, RTMP or SRT receiver) went away."""

    reason = "output"


NO_MEMORY = "out of memory: raise the limit, or run fewer or smaller streams"
"""What is said where Python or a library says no more than that."""


class ExhaustedError(TransientError):
    """No memory, or no thread, is left for this stream; others go on, and later there may be room again."""

    reason = "resources"


class DeviceMemoryError(ExhaustedError):
    """A GPU, or the host's memory that it reads, has no room. Not a `DeviceError`: the device works."""


class MediaError(VrsegError):
    """This input or output cannot be used; others can."""


class StreamLostError(VrsegError):
    """A stream was given up after the configured number of attempts."""


class DeviceError(VrsegError):
    """Hardware, driver or its libraries: stop the process."""

    exit_code = 3


class ModelError(VrsegError):
    """The model does not load, or does not fit its description."""

    exit_code = 4

"""Errors, sorted by what the caller can do about them.

Every message is one line that says what went wrong, where, and how to mend it. The class decides the exit code, and
whether trying again may help.
"""

from __future__ import annotations

from typing import ClassVar


class VrsegError(Exception):
    """Root of every error that vrseg raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(VrsegError):
    """Fix the file or the arguments. `problems` holds every mistake, one line each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


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

"""What TensorRT says: its calls only fail, the reason goes to a logger."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

from vrseg.errors import DeviceError, ModelError

if TYPE_CHECKING:
    from vrseg.models.tensorrt_api import TensorRtRuntime

_ERROR = 1
_WARNING = 2
"""Severities, as the library orders them."""
_KEPT = 100
_OF_THE_DEVICE = ("cuda runtime", "cuda driver", "cuda error", "cudnn error", "unspecified launch failure")
"""What its messages say when CUDA failed beneath it, and the model is not at fault."""


class TensorRtLog:
    """Keeps the last warnings and errors of one library.

    The library calls it from threads of its own, at times while another waits for it: it takes no lock and does not
    write anywhere.
    """

    def __init__(self, trt: TensorRtRuntime) -> None:
        self._said: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self.handle = self._handle(trt)
        """What the library is given. Only the first that it sees in a process counts: see `log_of`."""

    def forget(self) -> None:
        """Drop what was said, before a call that may fail."""
        self._said.clear()

    def errors(self) -> list[str]:
        """Return what was said of errors since, without repetitions."""
        said = [message for severity, message in list(self._said) if severity <= _ERROR]
        return list(dict.fromkeys(said))

    def _handle(self, trt: TensorRtRuntime) -> Any:
        def log(_self: Any, severity: Any, message: str) -> None:
            if int(severity) <= _WARNING:
                self._said.append((int(severity), " ".join(message.split())))

        return type("Log", (trt.ILogger,), {"log": log})()


def log_of(trt: TensorRtRuntime) -> TensorRtLog:
    """Return the one log that this library has in this process; it ignores all that come after the first."""
    known: Any = trt
    return _log_of(known)


@cache
def _log_of(trt: Any) -> TensorRtLog:
    return TensorRtLog(trt)


def failure(what: str, log: TensorRtLog) -> ModelError | DeviceError:
    """Make an error of a failed call: DeviceError where CUDA failed beneath, else ModelError.

    Args:
        what: the model and what failed.
        log: cleared before the call.
    """
    errors = log.errors()
    reason = errors[-1] if errors else "it gave no reason"
    of_the_device = any(sign in error.lower() for error in errors for sign in _OF_THE_DEVICE)
    return DeviceError(f"{what}: {reason}") if of_the_device else ModelError(f"{what}: {reason}")

"""FFmpeg's errors as the tree of `errors`: what went wrong, where, and how to mend it, in one line."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import av.error

from vrseg.address import redact
from vrseg.errors import (
    MediaError,
    OutputLostError,
    SourceEndedError,
    SourceRefusedError,
    SourceStalledError,
    VrsegError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORBIDDEN = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
_TIMED_OUT = (av.error.TimeoutError, av.error.ExitError)

_HINTS: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space or write elsewhere",
    errno.EACCES: "no permission: check owner and mode",
    errno.EPERM: "no permission: check owner and mode",
    errno.EROFS: "the file system is read-only: write elsewhere",
    errno.ENOENT: "no such file or folder: check the path",
    errno.ENOTDIR: "a part of the path is no folder: check the path",
    errno.EISDIR: "this is a folder: name a file",
    errno.ECONNREFUSED: "nobody listens there: check host, port and that the server runs",
    errno.EHOSTUNREACH: "the host cannot be reached: check the address and the network",
    errno.ENETUNREACH: "the network cannot be reached: check the network",
    errno.EBUSY: "the device is in use by another program",
    errno.ENODEV: "no such device: plug it in or check its number",
}


def describe(error: Exception) -> str:
    """Say in half a sentence what FFmpeg or the system met, with the remedy when there is a usual one."""
    if isinstance(error, _FORBIDDEN):
        return "the server wants other credentials: check user name and password"
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the server has nothing under this path: check the path"
    if isinstance(error, _TIMED_OUT):
        return "no answer in time: check the address and the network"
    if isinstance(error, av.error.InvalidDataError):
        return "the data is not video that FFmpeg can read"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in _HINTS:
        return _HINTS[number]
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return redact(str(text))


def source_error(error: Exception, uri: str, *, live: bool) -> VrsegError:
    """Turn what FFmpeg raised while opening or reading `uri` into our own error.

    A live source is worth another try, whatever it said; a file is not.
    """
    if isinstance(error, av.error.EOFError) and not live:
        return MediaError(f"{redact(uri)}: holds no frames; the recording was broken off or never began")
    text = f"{redact(uri)}: {describe(error)}"
    if not live and isinstance(error, av.error.InvalidDataError):
        return MediaError(text)
    if not live:
        known = getattr(error, "errno", None) in _HINTS
        return MediaError(text if known else f"{text}; the file is damaged, or of a kind FFmpeg cannot read")
    if isinstance(error, _TIMED_OUT):
        return SourceStalledError(text)
    if isinstance(error, av.error.EOFError):
        return SourceEndedError(f"{redact(uri)}: the stream ended")
    return SourceRefusedError(text)


def output_error(error: Exception, uri: str, *, live: bool) -> VrsegError:
    """Turn what FFmpeg raised while opening or writing the output `uri` into our own error."""
    text = f"{redact(uri)}: {describe(error)}"
    return OutputLostError(text) if live else MediaError(text)

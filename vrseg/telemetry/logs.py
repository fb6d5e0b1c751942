"""Logs on stderr: text for people, JSON for machines; no secrets; what repeats is said once a second."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog

from vrseg.address import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

LogFormat: TypeAlias = Literal["text", "json"]

_IDENTITY = ("event", "stream", "stage", "reason")


class OncePerSecond:
    """A structlog processor: of equal warnings, one a second gets through, with the number of those held back."""

    def __init__(self, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._said_s: dict[tuple[Any, ...], float] = {}
        self._held: dict[tuple[Any, ...], int] = {}

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if level != "warning":
            return event
        identity = tuple(event.get(key) for key in _IDENTITY)
        now_s = self._clock()
        if now_s - self._said_s.get(identity, float("-inf")) < self._interval_s:
            self._held[identity] = self._held.get(identity, 0) + 1
            raise structlog.DropEvent
        self._forget(now_s)
        self._said_s[identity] = now_s
        if held := self._held.pop(identity, 0):
            event["times"] = held + 1
        return event

    def _forget(self, now_s: float) -> None:
        """Streams come and go: what was said long ago and is not counted need not be remembered."""
        for identity, said_s in list(self._said_s.items()):
            if now_s - said_s > 60 * self._interval_s and identity not in self._held:
                del self._said_s[identity]


def redact_values(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Hide credentials in every text of an event, also within lists and the like."""
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(item) for item in value]
    return redact(str(value))


def make_logger(log_format: LogFormat, level: str = "info") -> structlog.stdlib.BoundLogger:
    """Set up logging for the process, and return a logger. It writes to stderr; lines below `level` cost nothing."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            OncePerSecond(),
            structlog.processors.format_exc_info,
            redact_values,  # behind all that makes texts
            structlog.processors.TimeStamper(
                fmt="iso" if log_format == "json" else "%H:%M:%S", utc=log_format == "json"
            ),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger

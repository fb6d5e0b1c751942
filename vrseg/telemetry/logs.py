"""Logs on stderr: text for people, JSON for machines; no secrets; what repeats is said once a second."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog

from vrseg.address import presentable

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

LogFormat: TypeAlias = Literal["text", "json"]

_IDENTITY = ("event", "stream", "stage", "reason")


# In intervals: how long what was said is remembered, and how long the number of those held back, if there is one. It is
# told with the next equal warning; streams come and go, and for those that are gone there is none.
_REMEMBERED = 60
_REMEMBERED_UNTOLD = 3600


class OncePerSecond:
    """A structlog processor: of equal warnings, one a second gets through, with the number of those held back.

    Any thread may say something.
    """

    def __init__(self, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._said_s: dict[tuple[Any, ...], float] = {}
        self._held: dict[tuple[Any, ...], int] = {}
        self._lock = threading.Lock()

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if level != "warning":
            return event
        identity = tuple(event.get(key) for key in _IDENTITY)
        with self._lock:
            held = self._say(identity, self._clock())
        if held is None:
            raise structlog.DropEvent
        if held:
            event["times"] = held + 1
        return event

    def _say(self, identity: tuple[Any, ...], now_s: float) -> int | None:
        """Return how many were held back before this one, or None when this one is held back too."""
        if now_s - self._said_s.get(identity, float("-inf")) < self._interval_s:
            self._held[identity] = self._held.get(identity, 0) + 1
            return None
        self._forget(now_s)
        self._said_s[identity] = now_s
        return self._held.pop(identity, 0)

    def _forget(self, now_s: float) -> None:
        for identity, said_s in list(self._said_s.items()):
            patience = _REMEMBERED_UNTOLD if identity in self._held else _REMEMBERED
            if now_s - said_s > patience * self._interval_s:
                del self._said_s[identity]
                self._held.pop(identity, None)


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
    return presentable(str(value))


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

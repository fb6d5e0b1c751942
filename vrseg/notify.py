"""The service manager is told how the daemon is: loading, ready, reloading, alive, stopping, and how fast.

The protocol is sd_notify(3)'s: each message is one datagram of KEY=VALUE lines, so no library is needed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from vrseg.config.systemd import NotifySettings, notify_settings
from vrseg.telemetry.liveness import Flow, Pulse, complaint, feel, process_complaints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import structlog

    from vrseg.config.schema import Config
    from vrseg.telemetry.recorder import Recorder, StreamRecord

Phase: TypeAlias = Literal["loading", "at work", "reloading", "stopping"]

BEAT_S = 1.0
STATUS_INTERVAL_S = 5.0
# While models load, the manager is asked every beat for this much more time; a process that hangs asks no more.
EXTENSION_S = 30.0
# A model that loads, or an engine that is built, for longer than this hangs.
LOADING_LIMIT_S = 1800.0
# Beyond `drain_timeout`: cancelled stages close files and connections.
STOP_MARGIN_S = 15.0
STREAMS_NAMED = 3
_AT_REST = ("ended", "draining")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at to know how the daemon is."""

    recorder: Recorder
    config: Callable[[], Config]
    """The configuration that is in force now."""
    not_ready: Callable[[], list[str]]
    """Reasons, empty when ready."""
    stop: asyncio.Event
    """Set when the daemon is to end."""
    ill: Callable[[], Awaitable[str]]
    """Tells why the GPU is of no use any more, empty when it is well, as `/healthz` does; may never return."""


@asynccontextmanager
async def service_manager(
    watched: Watched, log: structlog.stdlib.BoundLogger, settings: NotifySettings | None = None
) -> AsyncIterator[Notifier]:
    """Tell the service manager how the daemon is, inside the block.

        watched = Watched(recorder=running.recorder, config=lambda: running.plan.config,
                          not_ready=running.not_ready, stop=running.stop, ill=health.ill)
        async with service_manager(watched, log) as manager:
            ...                  # models load: the manager waits
            manager.ready()      # all models are loaded, streams start
            manager.reloading()  # a reload begins; `ready()` ends it, also one that was refused

    The rest happens by itself: the status line, more time while models load, signs of life to the watchdog, and
    the word that the daemon is stopping, when `watched.stop` is set or the block ends. `settings` are those of the
    environment when left out; where nobody listens ($NOTIFY_SOCKET is not set) nothing is done at all.

    Raises:
        ConfigError: the environment is not as a service manager makes it.
    """
    settings = settings or notify_settings()
    notifier = Notifier(watched, log, settings)
    if settings is None:
        yield notifier
        return
    work = (_beat(notifier), _announce_stop(notifier, watched.stop), _ask_device(notifier, watched.ill))
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield notifier
    finally:
        for task in tasks:
            task.cancel()
        try:
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        finally:
            notifier.stopping()
            notifier.close()


async def _beat(notifier: Notifier) -> None:
    while True:
        notifier.beat()
        await asyncio.sleep(notifier.beat_s)


async def _announce_stop(notifier: Notifier, stop: asyncio.Event) -> None:
    await stop.wait()
    notifier.stopping()


async def _ask_device(notifier: Notifier, ill: Callable[[], Awaitable[str]]) -> None:
    while True:
        if not await ill():
            notifier.device_answered()
        await asyncio.sleep(notifier.beat_s)


class Notifier:
    """Sends the datagrams; all calls come from the event loop and return at once."""

    def __init__(
        self,
        watched: Watched,
        log: structlog.stdlib.BoundLogger,
        settings: NotifySettings | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now_s = clock()
        self.phase: Phase = "loading"
        self._watched = watched
        self._log = log
        self._settings = settings
        self._clock = clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if settings else None
        self._unsent: deque[str] = deque()
        """Changes of phase that did not get through yet; they must not be lost."""
        watchdog_s = settings.watchdog_s if settings else 0.0
        self.beat_s = min(BEAT_S, watchdog_s / 4) if watchdog_s else BEAT_S
        self._watchdog_s = watchdog_s
        self._beaten_s = now_s - self.beat_s
        self._phase_began_s = now_s
        self._told_watchdog_s = now_s - watchdog_s
        self._told_status_s = now_s
        self._status_due = True
        self._answered_s = now_s
        self._heard = True
        self._pulses: Mapping[str, Pulse] = {}
        self._delivered: Mapping[str, int] = {}
        self._complaints: list[str] = []
        if self._socket is not None:
            self._socket.setblocking(False)

    def ready(self) -> None:
        """Models are loaded; or a reload is over."""
        self._enter("at work", "READY=1")

    def reloading(self) -> None:
        """A reload begins."""
        self._enter("reloading", f"RELOADING=1\nMONOTONIC_USEC={int(self._clock() * 1e6)}")

    def stopping(self) -> None:
        """The daemon drains, within `drain_timeout`; only the first call counts."""
        if self.phase != "stopping":
            time_us = round((self._watched.config().drain_timeout + STOP_MARGIN_S) * 1e6)
            self._enter("stopping", f"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={time_us}")

    def device_answered(self) -> None:
        """The GPU is well, or there is none."""
        self._answered_s = self._clock()

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()

    def beat(self) -> None:
        """Look at everything, and tell what is due. Call every `beat_s`."""
        now_s = self._clock()
        lag_s = max(0.0, now_s - self._beaten_s - self.beat_s)
        self._beaten_s = now_s
        self._send_unsent()
        if self.phase in {"loading", "reloading"} and now_s - self._phase_began_s < LOADING_LIMIT_S:
            self._send(f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}")
        self._judge(now_s, lag_s)
        if self._status_due or now_s - self._told_status_s >= STATUS_INTERVAL_S:
            self._send(f"STATUS={self._status(now_s - self._told_status_s)}")
            self._told_status_s, self._status_due = now_s, False
        if self._watchdog_s and not self._complaints and now_s - self._told_watchdog_s >= self._watchdog_s / 2:
            self._told_watchdog_s = now_s if self._send("WATCHDOG=1") else self._told_watchdog_s

    def _enter(self, phase: Phase, message: str) -> None:
        if self._socket is None or self.phase == "stopping":  # a reload may still end after that
            return
        self.phase = phase
        self._phase_began_s = self._clock()
        self._status_due = True
        self._unsent.append(message)
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()

    def _send(self, message: str) -> bool:
        assert self._socket is not None  # noqa: S101 -- who has no socket does not beat
        assert self._settings is not None  # noqa: S101 -- as above
        try:
            # not a connected socket: the manager makes a new one when it is updated
            self._socket.sendto(message.encode(), self._settings.address)
        except OSError as error:
            if self._heard:
                self._log.warning("the service manager cannot be told", detail=error.strerror)
            self._heard = False
        else:
            self._heard = True
        return self._heard

    def _judge(self, now_s: float, lag_s: float) -> None:
        streams = self._watched.config().streams
        self._pulses = {
            name: feel(self._pulses.get(name), _flow(record, streams[name].source.stall_timeout), now_s)
            for name, record in self._watched.recorder.streams.items()
            if name in streams
        }
        found = process_complaints(lag_s=lag_s, device_silent_s=now_s - self._answered_s)
        found += [f"stream {name}: {said}" for name, pulse in self._pulses.items() if (said := complaint(pulse, now_s))]
        if found and not self._complaints:
            self._log.error("not well", watchdog="not told", reasons=found)
        self._complaints = found

    def _status(self, passed_s: float) -> str:
        records = self._watched.recorder.streams
        delivered = {name: record.ledger.delivered for name, record in records.items()}
        new = sum(max(0, count - self._delivered.get(name, 0)) for name, count in delivered.items())
        self._delivered = delivered
        if self.phase in {"loading", "stopping"}:
            return ", ".join(self._watched.not_ready()) or self.phase
        states = {name: record.state for name, record in records.items()}
        verdict = self._watched.recorder.verdict()
        return status_line(states, new / max(passed_s, self.beat_s), verdict.evidence, self._complaints)


def _flow(record: StreamRecord, stall_timeout_s: float) -> Flow:
    ledger = record.ledger
    return Flow(
        running=record.state == "running",
        decoded=ledger.entered,
        returned=ledger.returned,
        under_way=ledger.under_way,
        stall_timeout_s=stall_timeout_s,
    )


def status_line(states: Mapping[str, str], delivered_per_s: float, bottleneck: str, complaints: list[str]) -> str:
    """Say in one line how the daemon is: streams up, those that are not, frames/s, and what limits or is wrong."""
    up = sum(state == "running" for state in states.values())
    away = [f"{name} {state}" for name, state in states.items() if state not in {"running", *_AT_REST}]
    if len(away) > STREAMS_NAMED:
        away[STREAMS_NAMED:] = [f"{len(away) - STREAMS_NAMED} more"]
    streams = f"{up} of {len(states)} streams up" + (f" ({', '.join(away)})" if away else "")
    return " ".join(f"{streams}, {delivered_per_s:.1f} frames/s; {'; '.join(complaints) or bottleneck}".split())

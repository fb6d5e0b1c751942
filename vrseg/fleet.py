"""Streams that come and go while the daemon runs."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vrseg.errors import ConfigError, Finding, VrsegError
from vrseg.lives import keep_stream
from vrseg.plan import outgrown, with_streams, without_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vrseg.config.schema import Stream
    from vrseg.pipeline.ledger import Ledger
    from vrseg.running import Running

Origin: TypeAlias = Literal["file", "http"]
Change: TypeAlias = Literal["remove", "restart", "pause"]

_STOP = "the stop"
_NOT_LOADED_FOR = (
    "on this device a model draws and tells for the streams that it was loaded with; "
    "write this one into the file and reload, or leave out what it shows and tells"
)


class NoSuchStreamError(VrsegError):
    """No stream has this name."""


class BusyError(VrsegError):
    """Something else is being done to the stream, or the name is taken: ask again later, or for something else."""


@dataclass(slots=True, kw_only=True)
class Member:
    """One stream of the fleet."""

    name: str
    origin: Origin
    ledger: Ledger
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Of its present life."""
    task: asyncio.Task[None] | None = None
    error: VrsegError | None = None
    """What it died of, once it is beyond help."""
    paused: bool = False
    halted: bool = False
    """Its present life is being ended for a change, and not because it is over."""
    change: Change | None = None
    """What is being done to it now."""

    @property
    def alive(self) -> bool:
        """It runs, or tries to."""
        return self.task is not None and not self.task.done()


class Fleet:
    """All streams of a daemon. Every change waits until what it takes apart has drained."""

    def __init__(self, running: Running) -> None:
        self.members: dict[str, Member] = {}
        """By name; those of the plan are here from the beginning, and live from `run` on."""
        self.closed_for = "the start"
        """Why no stream may be changed now, such as a reload; empty most of the time."""
        self._running = running
        self._over = False
        """No stream will live any more."""
        self._group = asyncio.TaskGroup()
        self._changed = asyncio.Event()
        for name in running.plan.config.streams:
            self._enrol(name, "file")

    def member(self, name: str) -> Member:
        """Return a stream.

        Raises:
            NoSuchStreamError: there is none of this name.
        """
        if name not in self.members:
            raise NoSuchStreamError(f"no stream is named {name!r}")
        return self.members[name]

    def start(self, name: str, origin: Origin, *, paused: bool = False) -> None:
        """Let a stream of the plan at work run, or wait for `resume`; it is new here."""
        member = self._enrol(name, origin)
        member.paused = paused
        if paused:
            self._running.recorder.stream_state(name, "paused")
        else:
            self._live(member)

    @contextmanager
    def closed(self, reason: str) -> Iterator[None]:
        """Within the block, nobody else may change a stream."""
        self.closed_for = reason
        try:
            yield
        finally:
            self.closed_for = _STOP if self._over else ""
            self._changed.set()

    def admit(self, name: str, section: Stream) -> None:
        """Add a stream that came over HTTP.

        Raises:
            BusyError: the name is taken, or streams cannot be changed now.
            ConfigError: the stream cannot work.
        """
        self._check_open()
        if name in self.members:
            raise BusyError(f"a stream is named {name!r} already; remove it first, or choose another name")
        plan = with_streams(self._running.plan, {name: section})
        if outgrown(self._running.plan, plan):
            raise ConfigError(Finding(path="stream.model", text=_NOT_LOADED_FOR))
        self._running.plan = plan
        self.start(name, "http")

    def order(self, name: str, change: Change, timeout_s: float) -> None:
        """Begin to take a stream down: for good, to start it anew, or until `resume`. Who has not drained in time ends.

        Raises:
            NoSuchStreamError: there is none of this name.
            BusyError: something is being done to it already, or to all of them.
        """
        member = self._free(name)
        member.change = change
        self._group.create_task(self._carry_out(member, change, timeout_s))

    def resume(self, name: str) -> None:
        """Let a stream live again that was paused, has ended or has failed; one that is alive is left alone.

        Raises:
            NoSuchStreamError, BusyError: as `order`.
        """
        member = self._free(name)
        member.paused = False
        if not member.alive:
            self._live(member)

    async def _carry_out(self, member: Member, change: Change, timeout_s: float) -> None:
        await self.halt([member], timeout_s)
        member.change = None
        if change == "remove":
            self._running.plan = without_stream(self._running.plan, member.name)
            self.forget(member)
        elif change == "pause":
            member.paused = True
            self._running.recorder.stream_state(member.name, "paused")
        else:
            member.paused = False
            self._live(member)
        self._changed.set()

    def forget(self, member: Member, *, for_good: bool = True) -> None:
        """Leave no trace of a stream that has stopped, but what its next life needs if it is not `for_good`."""
        del self.members[member.name]
        self._running.recorder.remove_stream(member.name)
        if for_good:
            self._running.views.remove(member.name)
            self._running.watches.remove(member.name)

    async def halt(self, members: Iterable[Member], timeout_s: float) -> None:
        """Let streams drain; what has not after `timeout_s` is cancelled."""
        tasks = {member.task: member for member in members if member.task is not None}
        for member in tasks.values():
            member.halted = True
            member.stop.set()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            self._running.log.warning("not waiting any longer", stream=tasks[task].name, timeout_s=timeout_s)
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def settled(self) -> None:
        """Wait until nothing is being done to any stream."""
        while any(member.change for member in self.members.values()):
            await self._change()

    async def run(self) -> list[VrsegError]:
        """Run the streams of the plan until all have come to their own end, or `stop` is set; return what some died of.

        Raises:
            DeviceError: in a group; see `keep_stream`.
        """
        async with self._group:
            spreading = self._group.create_task(self._spread_stop())
            for member in self.members.values():
                self._live(member)
            self.closed_for = ""
            try:
                while not self._all_ended():
                    await self._change()
            finally:
                self._over, self.closed_for = True, _STOP
            spreading.cancel()
        return [member.error for member in self.members.values() if member.error is not None]

    def _all_ended(self) -> bool:
        members = self.members.values()
        if any(member.alive for member in members):
            return False
        if self._running.stop.is_set():
            return True
        # Who took away or paused the last one wants to go on with another; who named files in a file is done.
        at_rest = not self.closed_for and not any(member.change or member.paused for member in members)
        return at_rest and any(member.origin == "file" for member in members)

    async def _spread_stop(self) -> None:
        await self._running.stop.wait()
        for member in self.members.values():
            member.stop.set()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _free(self, name: str) -> Member:
        member = self.member(name)
        self._check_open()
        if member.change:
            raise BusyError(f"stream {name}: {member.change} is under way; ask again when it is done")
        return member

    def _check_open(self) -> None:
        if self.closed_for:
            raise BusyError(f"{self.closed_for} is under way; ask again when it is done")

    def _enrol(self, name: str, origin: Origin) -> Member:
        self.members[name] = Member(name=name, origin=origin, ledger=self._running.watch_stream(name))
        return self.members[name]

    def _live(self, member: Member) -> None:
        if self._running.stop.is_set():
            return
        member.stop = asyncio.Event()
        member.halted = False
        member.error = None
        self._running.recorder.stream_state(member.name, "starting")
        member.task = self._group.create_task(self._keep(member))

    async def _keep(self, member: Member) -> None:
        recorder = self._running.recorder
        try:
            member.error = await keep_stream(self._running, member.name, member.ledger, member.stop)
            if member.error is None:
                if not member.halted:
                    recorder.stream_state(member.name, "ended")
            else:
                recorder.stream_state(member.name, "failed", str(member.error))
        finally:
            # Those who wait look at the task, which is done only after this.
            asyncio.get_running_loop().call_soon(self._changed.set)

"""A new configuration for a daemon at work: read whole, compared, and brought into force without a hiccup."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from vrseg.difference import Difference, difference, joined, rewritten
from vrseg.errors import ConfigError, VrsegError
from vrseg.pipeline.worker import Worker
from vrseg.running import engines_of, load_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vrseg.backend.backend import Backend
    from vrseg.fleet import Fleet
    from vrseg.pipeline.model import ModelRunner
    from vrseg.plan import Plan
    from vrseg.running import Models, Running

    ReadPlan: TypeAlias = Callable[[Backend], Plan]
    """Reads the file anew, for a device that is at work. May take a while; raises VrsegError."""

Outcome: TypeAlias = "Difference | VrsegError"

WATCH_INTERVAL_S = 1.0


class Reloads:
    """Turns wishes into reloads, one at a time. All wishes that come during one are a single one after it."""

    def __init__(self, running: Running, fleet: Fleet, read_plan: ReadPlan) -> None:
        self._running = running
        self._fleet = fleet
        self._read_plan = read_plan
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[Outcome]] = []
        self.on_begin: Callable[[], None] = _nothing
        """Called before each reload."""
        self.on_end: Callable[[], None] = _nothing
        """Called after each, also one that was refused."""

    def ask(self) -> asyncio.Future[Outcome]:
        """Ask for a reload that begins from now on; the future tells what came of it."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._asked.set()
        return answer

    async def run(self, models: Models) -> None:
        """Serve wishes, for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            self.on_begin()
            outcome = await self._reload(models)
            self.on_end()
            for answer in waiting:
                if not answer.done():
                    answer.set_result(outcome)

    async def _reload(self, models: Models) -> Outcome:
        running = self._running
        with self._fleet.closed("a reload"):
            await self._fleet.settled()
            outcome: Outcome
            try:
                plan = await self._read()
                outcome = await self._apply(models, plan)
            except VrsegError as error:
                outcome = error
        running.metrics.reload_successful.set(float(isinstance(outcome, Difference)))
        if isinstance(outcome, Difference):
            running.log.info("configuration reloaded", **told(outcome))
        else:
            for problem in str(outcome).splitlines():
                running.log.error("configuration refused, nothing changed", problem=problem)
        return outcome

    async def _read(self) -> Plan:
        """Read the file on a thread: networks are looked at, and frames must not wait for that."""
        running = self._running
        async with Worker("reload") as worker:
            plan = await worker.call(self._read_soundly, running.plan.backend)
            guests = [name for name, member in self._fleet.members.items() if member.origin == "http"]
            return await worker.call(joined, running.plan, guests, plan)

    def _read_soundly(self, backend: Backend) -> Plan:
        """Read the file; whatever happens then is no reason to end what runs."""
        try:
            return self._read_plan(backend)
        except VrsegError:
            raise
        except Exception as error:
            self._running.log.exception("the configuration could not be read")
            # No more than its name: what it says may hold anything that stands in the file.
            name = type(error).__name__
            raise ConfigError(f"the configuration could not be read ({name}); see the log") from error

    async def _apply(self, models: Models, plan: Plan) -> Difference:
        """Load what is new beside what is there; only when all of it is warm, touch what runs."""
        running, fleet = self._running, self._fleet
        old = running.plan
        what = difference(old.config, plan.config, rewritten=rewritten(old, plan))
        loaded = await load_models(models, plan, (*what.models.added, *what.models.changed))
        leaving = [fleet.members[name] for name in (*what.streams.removed, *what.streams.changed)]
        await fleet.halt(leaving, plan.config.drain_timeout)
        origins = {member.name: member.origin for member in leaving}
        paused = {member.name for member in leaving if member.paused}
        for member in leaving:
            fleet.forget(member, for_good=member.name in what.streams.removed)
        self._swap(models, plan, what, loaded)
        for name in (*what.streams.changed, *what.streams.added):
            fleet.start(name, origins.get(name, "file"), paused=name in paused)
        return what

    def _swap(self, models: Models, plan: Plan, what: Difference, loaded: dict[str, ModelRunner]) -> None:
        running = self._running
        for name in (*what.models.removed, *what.models.changed):
            models.unload(running.models.pop(name))
        for name in what.models.removed:
            running.recorder.remove_model(name)
        running.models.update(loaded)
        running.recorder.engines = engines_of(plan)
        running.plan = plan
        for name in what.streams.removed:
            running.watches.remove(name)


def _nothing() -> None:
    pass


def told(what: Difference) -> dict[str, str]:
    """Name what a reload did, for a line of the log; what it left alone is not worth a word."""
    parts = {
        f"{kind}_{verb}": ", ".join(names)
        for kind, change in (("streams", what.streams), ("models", what.models))
        for verb, names in (("added", change.added), ("removed", change.removed), ("changed", change.changed))
        if names
    }
    return parts or {"detail": "nothing differs"}


async def watch_file(path: Path, on_change: Callable[[], object], enabled: Callable[[], bool]) -> None:
    """Call `on_change` when the file has become another one and then stood still, so that none is read half written.

    It is looked at once a second, on a thread of its own: that also works over networks and for files behind links.
    """
    async with Worker("watch") as worker:
        known = last = await worker.call(_stamp, path)
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            before, last = last, await worker.call(_stamp, path)
            if not enabled():
                known = last
            elif last == before and last not in (known, None):
                known = last
                on_change()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Time of the last change, size and number of a file; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

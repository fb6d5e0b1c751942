"""What may happen to a site: when, drawn from a seed; and how. Every fault is undone after a while."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from soak_samples import RELOADED
from soak_site import Site, SurpriseError
from soak_streams import MUCH, UNTOUCHED, file_outputs, guest, role_of
from soak_viewers import play, watch_and_vanish, watch_slowly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from soak_camera import Camera

MEAN_PAUSE_S = 4.0
"""Between one fault and the next, for 16 streams."""
SHORTEST_S, LONGEST_S = 0.5, 10.0
"""How long a fault lasts, but for the time that vrseg takes."""
SETTLE_TIMEOUT_S = 30.0

_BAD_FILES = (
    "streams: [",
    "streams: {door: {source: {uri: 'synthetic:160x90@5'}, colour: red}}",
    "streams: {door: {source: {uri: 'synthetic:160x90@5'}, model: nobody}}",
    "drain_timeout: soon",
    "",
)
# Also answers that cannot be read, or lack what they should hold.
_UNEXPECTED = (SurpriseError, aiohttp.ClientError, OSError, ValueError, LookupError)
_QUEUE_SIZES = (2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that will happen."""

    at_s: float
    kind: str
    target: str
    lasts_s: float
    number: int
    """Drawn by lot, for a choice that the kind may have."""


def targets(streams: Sequence[str], cameras: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what each kind of fault may be aimed at; never the untouched stream."""
    touched = tuple(name for name in streams if name != UNTOUCHED)
    shown = tuple(name for name in touched if role_of(name) in {"recording", "hls", *cameras})
    kinds = {
        **dict.fromkeys(("restart", "pause", "remove", "reload by SIGHUP", "slow viewer", "vanishing viewer"), touched),
        **dict.fromkeys(("camera killed", "camera frozen"), tuple(cameras)),
        **dict.fromkeys(("add and remove over HTTP", "bad configuration", "disk nearly full"), ("",)),
        "player": shown,
    }
    return {kind: aims for kind, aims in kinds.items() if aims}


def schedule(seed: int, duration_s: float, mean_pause_s: float, aims: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    """Yield faults in the order of time, all of which are over by `duration_s`. Every kind gets its turn."""
    lot = random.Random(seed)  # noqa: S311 - it has to be the same each time
    longest_s = min(LONGEST_S, duration_s / 4)
    at_s = 0.0
    deck: list[str] = []
    while (at_s := at_s + lot.expovariate(1 / mean_pause_s)) < duration_s - longest_s:
        if not deck:
            deck = lot.sample(sorted(aims), len(aims))
        kind = deck.pop()
        yield Fault(
            at_s=at_s,
            kind=kind,
            target=lot.choice(aims[kind]),
            lasts_s=lot.uniform(min(SHORTEST_S, longest_s), longest_s),
            number=lot.randrange(1000),
        )


class Faults:
    """Lets faults happen, several at once, but one at a time to each stream and camera."""

    def __init__(self, site: Site, cameras: Mapping[str, Camera]) -> None:
        self.done: Counter[str] = Counter()
        self.surprises: list[str] = []
        self._site = site
        self._cameras = cameras
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._happen: Mapping[str, Callable[[Fault], Awaitable[None]]] = {
            "restart": self._restart,
            "pause": self._pause,
            "remove": self._remove,
            "reload by SIGHUP": self._hang_up,
            "slow viewer": self._slow_viewer,
            "vanishing viewer": self._vanishing_viewer,
            "player": self._player,
            "camera killed": self._kill_camera,
            "camera frozen": self._freeze_camera,
            "add and remove over HTTP": self._add_guest,
            "bad configuration": self._bad_configuration,
            "disk nearly full": self._fill_disk,
        }

    async def run(self, faults: Sequence[Fault]) -> None:
        """Let all of them happen at their time; return when all are undone."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, fault.at_s - self._site.time_s))
                if not self._site.alive:
                    break
                group.create_task(self._one(fault))

    async def settle(self) -> None:
        """Wait until every stream of the file runs, and no other is there."""
        wanted = set(self._site.document["streams"])

        async def settled() -> bool:
            states = await self._site.states()
            return set(states) == wanted and set(states.values()) == {"running"}

        try:
            await self._site.reload()
            await self._site.until(settled, "all streams run again", SETTLE_TIMEOUT_S)
        except _UNEXPECTED as error:
            self._surprised("the end", error)

    async def _one(self, fault: Fault) -> None:
        try:
            async with self._turns[fault.target or fault.kind]:
                await self._happen[fault.kind](fault)
        except _UNEXPECTED as error:
            self._surprised(f"{fault.kind} {fault.target}".strip(), error)
        self.done[fault.kind] += 1

    def _surprised(self, by: str, error: Exception) -> None:
        self.surprises.append(f"{self._site.time_s:.0f} s, {by}: {type(error).__name__} {error}")

    async def _restart(self, fault: Fault) -> None:
        await self._site.order("POST", f"/api/v1/streams/{fault.target}/restart", 202)

    async def _pause(self, fault: Fault) -> None:
        path = f"/api/v1/streams/{fault.target}"
        await self._site.order("POST", f"{path}/pause", 202)
        await asyncio.sleep(fault.lasts_s)
        await self._site.order("POST", f"{path}/resume", 200)

    async def _remove(self, fault: Fault) -> None:
        path = f"/api/v1/streams/{fault.target}"
        await self._site.order("DELETE", path, 202)
        await asyncio.sleep(fault.lasts_s)
        await self._site.reload()
        await self._site.order("GET", path, 200)

    async def _add_guest(self, fault: Fault) -> None:
        name = f"guest{fault.number}"
        await self._site.order("POST", "/api/v1/streams", 201, body={"id": name, "stream": guest()})
        await asyncio.sleep(fault.lasts_s)
        await self._site.order("DELETE", f"/api/v1/streams/{name}", 202)

        async def gone() -> bool:
            return (await self._site.ask("GET", f"/api/v1/streams/{name}"))[0] == 404

        await self._site.until(gone, f"{name} is gone")

    async def _hang_up(self, fault: Fault) -> None:
        stream = self._site.document["streams"][fault.target]
        before = stream.get("queue", {}).get("size")
        others = [size for size in _QUEUE_SIZES if size != before]
        size = others[fault.number % len(others)]

        async def taken_over() -> bool:
            status, answer = await self._site.ask("GET", f"/api/v1/streams/{fault.target}")
            return status == 200 and answer["configuration"]["queue"]["size"] == size

        async with self._site.writing:
            stream["queue"] = {"size": size}
            self._site.write()
            self._site.hang_up()
            await self._site.until(taken_over, f"SIGHUP gives {fault.target} a queue of {size}")

    async def _bad_configuration(self, fault: Fault) -> None:
        bad = _BAD_FILES[fault.number % len(_BAD_FILES)]
        async with self._site.writing:
            self._site.write(bad)
            await self._site.order("POST", "/api/v1/reload", 422)
            await self._check_told(0)
            await asyncio.sleep(fault.lasts_s)
            self._site.write()
            await self._site.order("POST", "/api/v1/reload", 200)
            await self._check_told(1)

    async def _check_told(self, successful: int) -> None:
        _, text = await self._site.ask("GET", "/metrics")
        if f"{RELOADED} {successful}.0\n" not in text:
            raise SurpriseError(f"{RELOADED} is not {successful} after a reload")

    async def _fill_disk(self, fault: Fault) -> None:
        outputs = list(file_outputs(self._site.document))
        before = [output["min_free"] for output in outputs]
        for output in outputs:
            output["min_free"] = MUCH
        await self._site.reload()
        await asyncio.sleep(fault.lasts_s)
        for output, min_free in zip(outputs, before, strict=True):
            output["min_free"] = min_free
        await self._site.reload()

    async def _kill_camera(self, fault: Fault) -> None:
        camera = self._cameras[fault.target]
        await asyncio.to_thread(camera.kill)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(camera.start)

    async def _freeze_camera(self, fault: Fault) -> None:
        camera = self._cameras[fault.target]
        camera.freeze()
        await asyncio.sleep(fault.lasts_s)
        camera.thaw()

    async def _slow_viewer(self, fault: Fault) -> None:
        await watch_slowly(*self._site.host_and_port, _moving(fault), fault.lasts_s)

    async def _vanishing_viewer(self, fault: Fault) -> None:
        await watch_and_vanish(*self._site.host_and_port, _moving(fault), fault.lasts_s)

    async def _player(self, fault: Fault) -> None:
        async def get(path: str) -> tuple[int, Any]:
            return await self._site.ask("GET", path)

        await play(get, f"/live/{fault.target}/", fault.lasts_s)


def _moving(fault: Fault) -> str:
    return f"/preview/{fault.target}.mjpg?side={'input' if fault.number % 2 else 'output'}"

"""A large trace is written aside: the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from aiohttp.test_utils import make_mocked_request
from plugins.fleets import running_of

from vrseg.fleet import Fleet
from vrseg.server.control import Control
from vrseg.telemetry.trace import MOST_SPANS, Trace

if TYPE_CHECKING:
    import pytest
    from aiohttp import web


def test_the_loop_turns_while_a_trace_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written_s: list[float] = []
    text = Trace.text

    def noted(self: Trace) -> str:
        written_s.append(time.monotonic())
        found = text(self)
        written_s.append(time.monotonic())
        return found

    monkeypatch.setattr(Trace, "text", noted)
    turned_s: list[float] = []

    async def turn() -> None:
        while True:
            turned_s.append(time.monotonic())
            await asyncio.sleep(0.005)

    async def main() -> web.Response:
        running = running_of()
        control = Control(running, Fleet(running), None)
        asking = asyncio.create_task(control.trace(make_mocked_request("POST", "/api/v1/trace?seconds=0.1")))
        turning = asyncio.create_task(turn())
        await asyncio.sleep(0.05)
        for _ in range(MOST_SPANS):
            running.recorder.stage_done("decode", 0.0, 0.001, thread="door.decode")
        answer = await asking
        turning.cancel()
        return answer

    answer = asyncio.run(main())
    assert answer.content_type == "application/json"
    assert answer.text is not None
    spans = [one for one in json.loads(answer.text)["traceEvents"] if one["ph"] == "X"]
    assert len(spans) == MOST_SPANS
    began_s, ended_s = written_s
    assert sum(began_s < one < ended_s for one in turned_s) > 10

"""A file that cannot be read, for whatever reason, changes nothing, and what is said of it tells no secret."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from plugins.fleets import running_of

from vrseg.errors import ConfigError
from vrseg.fleet import Fleet
from vrseg.reload import Reloads
from vrseg.running import Models
from vrseg.telemetry.logs import make_logger

if TYPE_CHECKING:
    import pytest

    from vrseg.backend.backend import Backend
    from vrseg.plan import Plan


def test_a_mistake_of_ours_is_told_by_its_name_and_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_backend: Backend) -> Plan:
        raise KeyError("rtsp://cam:hunter2@10.0.0.5/main")

    async def main() -> object:
        running = running_of()
        running.log = make_logger("json")
        reloads = Reloads(running, Fleet(running), fails)
        answer = reloads.ask()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            serving = group.create_task(reloads.run(Models(running, group)))
            outcome = await answer
            serving.cancel()
        return outcome

    outcome = asyncio.run(main())
    assert isinstance(outcome, ConfigError)
    assert "KeyError" in str(outcome)
    assert "10.0.0.5" not in str(outcome)
    said = capsys.readouterr().err
    assert "rtsp://***@10.0.0.5/main" in said, "the traceback is in the log"
    assert "hunter2" not in said

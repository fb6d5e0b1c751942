from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import pytest
import structlog

from vrseg.telemetry.logs import OncePerSecond, make_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_no_line_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger("json").warning("cannot open rtsp://cam:hunter2@10.0.0.5/main", uri="srt://h:1?passphrase=hunter2")
    line = json.loads(capsys.readouterr().err)
    assert "hunter2" not in str(line)
    assert line["event"] == "cannot open rtsp://***@10.0.0.5/main"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_traceback_shows_a_password(capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"]) -> None:
    def fail() -> None:
        raise RuntimeError("no answer from rtsp://cam:hunter2@10.0.0.5/main")

    log = make_logger(log_format)
    try:
        fail()
    except RuntimeError:
        log.exception("a mistake of ours")
    said = capsys.readouterr().err
    assert "no answer from rtsp://***@10.0.0.5/main" in said
    assert "hunter2" not in said


def test_no_value_within_a_value_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    address = "rtsp://cam:hunter2@10.0.0.5/main"
    make_logger("json").error("not well", reasons=[address], error=OSError(address), by_name={"door": (address,)})
    said = capsys.readouterr().err
    assert said.count("rtsp://***@10.0.0.5/main") == 3
    assert "hunter2" not in said


def test_text_logs_are_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger("text").info("stream running", stream="door")
    said = capsys.readouterr()
    assert "stream running" in said.err
    assert "door" in said.err
    assert not said.out


def test_a_level_keeps_quiet_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger("text", "warning").info("of no interest")
    assert not capsys.readouterr().err


def test_equal_warnings_are_said_once_a_second_with_their_number() -> None:
    now_s = 0.0
    once = OncePerSecond(clock=lambda: now_s)

    def say(stream: str) -> bool:
        try:
            event = once(None, "warning", {"event": "frames dropped", "stream": stream})
        except structlog.DropEvent:
            return False
        said.append((stream, event.get("times", 1)))
        return True

    said: list[tuple[str, int]] = []
    assert [say("a") for _ in range(5)] == [True, False, False, False, False]
    assert say("b"), "another stream is another matter"
    now_s = 1.0
    assert say("a")
    assert said == [("a", 1), ("b", 1), ("a", 5)]


def test_information_is_never_held_back() -> None:
    once = OncePerSecond()
    for _ in range(3):
        assert once(None, "info", {"event": "stream running"})


@pytest.fixture
def often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
def test_threads_that_warn_at_the_same_moment_do_not_disturb_each_other() -> None:
    now_s = 0.0
    once = OncePerSecond(clock=lambda: now_s)
    for number in range(5000):
        once(None, "warning", {"event": "frames dropped", "stream": f"guest{number}"})
    now_s = 1000.0  # all of that is to be forgotten
    together = threading.Barrier(4)

    def warn(thread: int) -> None:
        together.wait()
        once(None, "warning", {"event": "frames dropped", "stream": str(thread)})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(warn, range(4)))


def test_the_number_of_those_held_back_is_told_within_the_hour_and_then_forgotten() -> None:
    now_s = 0.0
    once = OncePerSecond(clock=lambda: now_s)

    def times_after(seconds: float) -> int:
        nonlocal now_s
        event = {"event": "frames dropped", "stream": "door"}
        once(None, "warning", dict(event))
        with pytest.raises(structlog.DropEvent):
            once(None, "warning", dict(event))
        now_s += seconds
        times: int = once(None, "warning", dict(event)).get("times", 1)
        return times

    assert times_after(3000.0) == 2
    now_s += 10_000.0
    assert times_after(4000.0) == 1, "streams come and go, and their names must not stay for ever"

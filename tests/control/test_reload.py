"""A daemon that becomes another one while it runs."""

from __future__ import annotations

import copy
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from plugins.daemon import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

FRAMES = 1000


def camera(rate: int = 15) -> dict[str, Any]:
    return {"source": {"uri": f"synthetic:64x48@{rate}?figures=0"}}


def config(**streams: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"person": {"path": "demo"}}, "streams": streams}


def states(daemon: Daemon) -> dict[str, str]:
    return {stream["name"]: stream["state"] for stream in daemon.status()["streams"]}


def reloads(daemon: Daemon) -> list[dict[str, Any]]:
    return [event for event in daemon.events if event["event"].startswith("configuration re")]


def successful(daemon: Daemon) -> float:
    ((_, value),) = daemon.samples()["vrseg_config_last_reload_successful"]
    return value


def all_run(daemon: Daemon, *names: str) -> bool:
    return states(daemon) == dict.fromkeys(names, "running")


def test_only_what_differs_is_touched_and_no_frame_of_the_others_is_lost(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    results = tmp_path / "kept.jsonl"
    kept = {
        "source": {"uri": f"synthetic:64x48@30?figures=0&pace=none&frames={FRAMES}"},
        "model": "person",
        "results": [{"uri": str(results)}],
    }
    before = config(kept=kept, still=camera(), changed=camera(), removed=camera())
    daemon = start_daemon(before)
    daemon.wait_for(lambda: daemon.delivered("kept") > 20, 30, "frames flow")
    daemon.wait_for(lambda: daemon.stream("changed")["state"] == "running", 5, "the cameras run")
    after = config(kept=kept, still=camera(), changed=camera(20), added=camera())
    write_config(daemon.file, after)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: reloads(daemon), 10, "the reload")
    assert daemon.delivered("kept") < FRAMES, "the stream ended too soon to say anything"
    (event,) = reloads(daemon)
    assert (event["streams_added"], event["streams_removed"], event["streams_changed"]) == (
        "added",
        "removed",
        "changed",
    )
    daemon.wait_for(lambda: states(daemon).get("added") == "running", 5, "the new stream runs")
    assert "removed" not in states(daemon)
    assert not [
        labels for found in daemon.samples().values() for labels, _ in found if labels.get("stream") == "removed"
    ]
    daemon.wait_for(lambda: states(daemon)["kept"] == "ended", 60, "the kept stream has come to its end")
    indices = [json.loads(line)["frame"] for line in results.read_text().splitlines()]
    assert indices == list(range(FRAMES))
    assert daemon.stream("kept")["frames"]["dropped"] == {}
    drained = {one["stream"] for one in daemon.events if one["event"] == "stream draining"}
    assert drained == {"removed", "changed"}
    assert successful(daemon) == 1


def test_a_bad_file_changes_nothing_and_says_everything(start_daemon: StartDaemon) -> None:
    good = config(a=camera(), b=camera())
    daemon = start_daemon(good)
    daemon.wait_for(lambda: all_run(daemon, "a", "b"), 30, "both run")
    bad = copy.deepcopy(good)
    bad["streams"]["a"]["source"]["uri"] = "gopher://x"
    bad["streams"]["b"]["viwe"] = "none"
    write_config(daemon.file, bad)
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert status == 422
    assert {one["path"] for one in answer["problems"]} == {"streams.a.source.uri", "streams.b.viwe"}
    lines = daemon.file.read_text().splitlines()
    for one in answer["problems"]:
        assert one["path"].rpartition(".")[2] in lines[one["line"] - 1]
        assert one["message"]
    assert successful(daemon) == 0
    assert all_run(daemon, "a", "b")
    assert len([event for event in daemon.events if event["event"].startswith("configuration refused")]) == 2
    for text in ("streams: [", "", "\x00"):
        daemon.file.write_text(text)
        assert daemon.ask("POST", "/api/v1/reload")[0] == 422
    daemon.file.unlink()
    assert daemon.ask("POST", "/api/v1/reload")[0] == 422
    write_config(daemon.file, good)
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert (status, answer["streams"]["kept"]) == (200, ["a", "b"])
    assert successful(daemon) == 1
    assert not [event for event in daemon.events if event["event"] == "stream draining"]


def test_a_file_that_trips_its_reader_ends_nothing(start_daemon: StartDaemon) -> None:
    good = config(a=camera())
    daemon = start_daemon(good)
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    write_config(daemon.file, good | {"models": {"person": {"path": "~nobody-has-this-name/person.onnx"}}})
    assert daemon.ask("POST", "/api/v1/reload")[0] == 422
    broker = camera() | {"model": "person", "results": [{"uri": "mqtt://[::1/gate"}]}
    write_config(daemon.file, config(a=broker))
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert (status, answer["problems"][0]["path"]) == (422, "streams.a.results.0.uri")
    assert all_run(daemon, "a")


def test_a_model_that_does_not_load_changes_nothing(start_daemon: StartDaemon, tmp_path: Path) -> None:
    seen = camera() | {"model": "person"}
    daemon = start_daemon(config(a=seen))
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    write_config(daemon.file, config(a=seen) | {"models": {"person": {"path": "broken.onnx"}}})
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert status == 422
    assert "broken.onnx" in str(answer)
    before = daemon.delivered("a")
    daemon.wait_for(lambda: daemon.delivered("a") > before + 5, 5, "frames still flow")
    assert not [event for event in daemon.events if event["event"] == "stream draining"]


def test_a_changed_model_is_loaded_before_its_streams_leave_the_old_one(start_daemon: StartDaemon) -> None:
    seen = camera() | {"model": "person"}
    daemon = start_daemon(config(seen=seen, unseen=camera()))
    daemon.wait_for(lambda: all_run(daemon, "seen", "unseen"), 30, "both run")
    threads = daemon.resources()[1]
    new = config(seen=seen, unseen=camera()) | {"models": {"person": {"path": "demo", "batch": {"max_size": 2}}}}
    write_config(daemon.file, new)
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert status == 200
    assert (answer["models"]["changed"], answer["streams"]["changed"]) == (["person"], ["seen"])
    told = [event["event"] for event in daemon.events]
    assert told.index("stream draining") > len(told) - 1 - told[::-1].index("model loading")
    daemon.wait_for(lambda: daemon.delivered("seen") > 10, 10, "frames flow through the new one")
    assert daemon.get("/readyz")[0] == 200
    daemon.wait_for(lambda: daemon.resources()[1] <= threads, 10, "the old one's threads are gone")


def test_what_needs_a_restart_is_refused_and_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(config(a=camera()))
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    write_config(daemon.file, config(a=camera(20)) | {"device": "cpu", "server": {"listen": "127.0.0.1:1"}})
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert status == 409
    assert {one["path"] for one in answer["problems"]} == {"device", "server.listen"}
    assert all("restart" in one["message"] for one in answer["problems"])
    assert json.loads(daemon.get("/api/v1/config")[1])["streams"]["a"]["source"]["uri"].startswith("synthetic:64x48@15")
    assert successful(daemon) == 0


def test_many_wishes_during_a_reload_are_one_more(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(config(a=camera()))
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    # A changed model takes a while to load: time for the others to come.
    write_config(daemon.file, config(a=camera()) | {"models": {"person": {"path": "demo", "batch": {"max_size": 2}}}})
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: [e["event"] for e in daemon.events].count("model loading") == 2, 5, "it has begun")
    for _ in range(20):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: len(reloads(daemon)) >= 2, 10, "the second")
    time.sleep(0.5)
    assert 2 <= len(reloads(daemon)) <= 3


def test_a_watched_file_is_read_when_it_is_whole(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(config(a=camera()) | {"watch": True})
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    write_config(daemon.file, config(a=camera(), b=camera()) | {"watch": True})
    daemon.wait_for(lambda: states(daemon).get("b") == "running", 10, "the new stream runs")
    replacement = daemon.file.with_suffix(".new")
    write_config(replacement, config(a=camera()))
    replacement.replace(daemon.file)
    daemon.wait_for(lambda: "b" not in states(daemon), 10, "a file that was put in its place counts too")
    write_config(daemon.file, config(a=camera(), c=camera()))
    time.sleep(3)
    assert "c" not in states(daemon), "it is not watched any more"


def test_secrets_of_a_refused_file_are_not_told(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(config(a=camera()), environment={"PASSWORD": "hunter2-secret"})
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    write_config(daemon.file, config(a={"source": {"uri": "gopher://u:${PASSWORD}@x", "transport": "${PASSWORD}"}}))
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert status == 422
    assert "hunter2" not in json.dumps(answer) + daemon.log.read_text()


def test_a_signal_to_stop_during_a_reload_ends_it(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(config(a=camera()))
    daemon.wait_for(lambda: all_run(daemon, "a"), 30, "it runs")
    write_config(daemon.file, config(a=camera(20)) | {"models": {"person": {"path": "demo", "batch": {"max_size": 2}}}})
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: [e["event"] for e in daemon.events].count("model loading") == 2, 5, "it has begun")
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()

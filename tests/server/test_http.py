"""The HTTP port and the metrics of the contract, on a running daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plugins.daemon import Daemon, RunVrseg, StartDaemon

CONFIG: dict[str, Any] = {
    "models": {"person": {"path": "demo"}},
    "streams": {
        "scene": {
            "source": {"uri": "synthetic:320x180@30"},
            "model": "person",
            "outputs": [{"uri": "scene.mkv"}],
        }
    },
}

METRICS = {
    "vrseg_build_info": {"version", "device"},
    "vrseg_config_last_reload_successful": set(),
    "vrseg_stream_state": {"stream", "state"},
    "vrseg_stream_info": {"stream", "codec", "width", "height"},
    "vrseg_stream_last_frame_timestamp_seconds": {"stream"},
    "vrseg_frames_total": {"stream", "stage"},
    "vrseg_frames_unaccounted": {"stream"},
    "vrseg_stage_duration_seconds_bucket": {"stage", "le"},
    "vrseg_stage_wait_seconds_bucket": {"stage", "le"},
    "vrseg_frame_latency_seconds_bucket": {"stream", "le"},
    "vrseg_queue_depth": {"queue"},
    "vrseg_queue_capacity": {"queue"},
    "vrseg_queue_blocked_seconds_total": {"queue"},
    "vrseg_batch_size_bucket": {"model", "le"},
    "vrseg_inference_total": {"model", "engine", "result"},
    "vrseg_stage_busy_ratio": {"stage"},
    "vrseg_bottleneck": {"stage", "kind"},
}


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    running = start_daemon(CONFIG)
    running.wait_for(lambda: running.delivered("scene") > 30, 30, "frames flow")
    return running


def test_the_metrics_of_the_contract_are_there_with_their_labels(daemon: Daemon) -> None:
    samples = daemon.samples()
    for name, labels in METRICS.items():
        assert name in samples, name
        for found, value in samples[name]:
            assert set(found) == labels, name
            assert value >= 0
    states = {labels["state"]: value for labels, value in samples["vrseg_stream_state"]}
    assert sum(states.values()) == states["running"] == 1
    assert all(value == 0 for _, value in samples["vrseg_frames_unaccounted"])
    assert not [name for name in samples if name.endswith("_created")]
    assert sum(value for _, value in samples["vrseg_bottleneck"]) == 1


def test_metric_and_status_name_the_same_bottleneck(daemon: Daemon) -> None:
    def named() -> dict[str, str]:  # the evidence has figures in it, which are others a moment later
        verdict = daemon.status()["bottleneck"]
        return {"stage": verdict["stage"], "kind": verdict["kind"]}

    def they_agree() -> bool:
        before = named()
        ((labels, _),) = daemon.samples()["vrseg_bottleneck"]
        if named() != before:  # it changed in between, and nobody can say which of the two was scraped
            return False
        assert labels == before
        return True

    daemon.wait_for(lambda: named()["kind"] != "unknown", 15, "a verdict")
    daemon.wait_for(they_agree, 15, "a verdict that stands still for as long as two requests")


def test_health_readiness_version_and_the_page(daemon: Daemon) -> None:
    assert daemon.get("/healthz")[0] == 200
    assert daemon.get("/readyz") == (200, '{"ready": true, "reasons": []}')
    assert json.loads(daemon.get("/version")[1])["device"] == "cpu"
    status, page = daemon.get("/")
    assert status == 200
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page, "the page fetches nothing from elsewhere"
    assert daemon.get("/nowhere")[0] == 404


def test_the_status_speaks_of_stages_streams_and_queues(daemon: Daemon) -> None:
    status = daemon.status()
    assert [stage["stage"] for stage in status["stages"]] == [
        "source", "decode", "preprocess", "infer", "postprocess", "render", "encode", "sink",
    ]  # fmt: skip
    stream = daemon.stream("scene")
    assert (stream["state"], stream["codec"], stream["width"], stream["height"]) == ("running", "rawvideo", 320, 180)
    assert {queue["queue"] for queue in status["queues"]} >= {"scene.decoded", "scene.finished", "person.prepared"}


def test_a_token_is_wanted_where_one_is_set(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(CONFIG | {"server": {"listen": "127.0.0.1:0", "token": "${PORT_TOKEN}"}},
                          environment={"PORT_TOKEN": "s3cret-token"})  # fmt: skip
    assert daemon.get("/metrics")[0] == 401
    assert daemon.get("/metrics", {"Authorization": "Bearer wrong"})[0] == 401
    assert daemon.get("/metrics", {"Authorization": "Bearer s3cret-token"})[0] == 200
    assert daemon.get("/healthz")[0] == 200
    answer = daemon.get("/api/v1/config", {"Authorization": "Bearer s3cret-token"})[1]
    assert "s3cret" not in answer
    daemon.stop()
    assert "s3cret" not in daemon.log.read_text()


def test_a_port_in_use_is_named(daemon: Daemon, vrseg: RunVrseg, tmp_path: Any) -> None:
    port = daemon.address.rstrip("/").rpartition(":")[2]
    config = tmp_path / "second.yaml"
    config.write_text(json.dumps(CONFIG | {"server": {"listen": f"127.0.0.1:{port}"}}))
    said = vrseg("run", config, "--log-format", "json")
    assert said.returncode == 2
    assert f"127.0.0.1:{port}" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_port_opens_to_others_only_with_a_token(vrseg: RunVrseg) -> None:
    said = vrseg("demo", "--listen", "0.0.0.0:0", "--seconds", "1")
    assert said.returncode == 2
    assert "token" in said.stderr
    assert "Traceback" not in said.stderr
    for listen in ("9090", "127.0.0.1:99999"):
        said = vrseg("demo", "--listen", listen, "--seconds", "1")
        assert said.returncode == 2
        assert "Traceback" not in said.stderr

"""Streams that are added, paused, restarted and removed over HTTP, and who may do so."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from vrseg.server.answers import Status, Streams

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

HOST = {"source": {"uri": "synthetic:64x48@15"}}
GUEST: dict[str, Any] = {"id": "guest", "stream": {"source": {"uri": "synthetic:64x48@20"}}}
SERVER = {"listen": "127.0.0.1:0", "allow": ["synthetic:*", "rtsp://10.0.0.*"]}


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    running = start_daemon({"models": {"person": {"path": "demo"}}, "streams": {"host": HOST}, "server": SERVER})
    running.wait_for(lambda: state(running, "host") == "running", 30, "it runs")
    return running


def state(daemon: Daemon, name: str) -> str:
    found: dict[str, str] = {stream["name"]: stream["state"] for stream in daemon.status()["streams"]}
    return found.get(name, "gone")


def test_the_life_of_a_stream_over_http(daemon: Daemon) -> None:
    status, made = daemon.ask("POST", "/api/v1/streams", GUEST | {"stream": GUEST["stream"] | {"model": "person"}})
    assert (status, made["name"], made["origin"]) == (201, "guest", "http")
    assert daemon.ask("POST", "/api/v1/streams", GUEST)[0] == 409
    daemon.wait_for(lambda: daemon.delivered("guest") > 3, 10, "frames flow")
    assert json.loads(daemon.get("/api/v1/config")[1])["streams"]["guest"]["model"] == "person"
    shown = json.loads(daemon.get("/api/v1/streams/guest")[1])
    assert shown["configuration"]["source"]["uri"] == "synthetic:64x48@20"

    assert daemon.ask("POST", "/api/v1/streams/guest/pause?timeout=2s")[0] == 202
    daemon.wait_for(lambda: state(daemon, "guest") == "paused", 5, "it is paused")
    assert daemon.ask("POST", "/api/v1/streams/guest/resume")[0] == 200
    before = daemon.delivered("guest")
    daemon.wait_for(lambda: daemon.delivered("guest") > before, 5, "it goes on")
    assert daemon.ask("POST", "/api/v1/streams/guest/restart")[0] == 202
    before = daemon.delivered("guest")
    daemon.wait_for(lambda: daemon.delivered("guest") > before + 3, 5, "it goes on again")

    assert daemon.ask("POST", "/api/v1/reload")[1]["streams"]["kept"] == ["host", "guest"], "a reload keeps it"
    assert daemon.ask("DELETE", "/api/v1/streams/guest?timeout=5s")[0] == 202
    daemon.wait_for(lambda: daemon.get("/api/v1/streams/guest")[0] == 404, 6, "it is gone")
    assert "guest" not in daemon.get("/metrics")[1]
    assert daemon.ask("DELETE", "/api/v1/streams/guest")[0] == 404


def test_answers_are_what_the_document_says(daemon: Daemon) -> None:
    Status.model_validate_json(daemon.get("/api/v1/status")[1])
    Streams.model_validate_json(daemon.get("/api/v1/streams")[1])


def test_a_guest_whose_name_the_file_takes_is_in_its_way(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/api/v1/streams", GUEST)[0] == 201
    daemon.file.write_text(json.dumps({"streams": {"host": HOST, "guest": HOST}, "server": SERVER}))
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert (status, [one["path"] for one in answer["problems"]]) == (409, ["streams.guest"])
    daemon.ask("DELETE", "/api/v1/streams/guest")
    daemon.wait_for(lambda: state(daemon, "guest") == "gone", 6, "it is gone")
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert (status, answer["streams"]["added"]) == (200, ["guest"])


def test_a_model_that_a_guest_uses_stays(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/api/v1/streams", GUEST | {"stream": GUEST["stream"] | {"model": "person"}})[0] == 201
    daemon.file.write_text(json.dumps({"streams": {"host": HOST}, "server": SERVER}))
    status, answer = daemon.ask("POST", "/api/v1/reload")
    assert (status, [one["path"] for one in answer["problems"]]) == (409, ["models.person"])


FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"source": {"uri": "/etc/passwd"}}, "stream.source.uri"),
    ({"source": {"uri": "rtsp://10.0.0.5@evil.example/"}}, "stream.source.uri"),
    ({"source": {"uri": "rtsp://evil.example/"}}, "stream.source.uri"),
    ({"source": {"uri": "rtsp://${HOME}/"}}, "stream.source.uri"),
    (HOST | {"outputs": [{"uri": "/tmp/x.mp4"}]}, "stream.outputs.0.uri"),  # noqa: S108 -- never written
    (HOST | {"outputs": [{"uri": "x.m3u8"}]}, "stream.outputs.0.uri"),
    (HOST | {"outputs": [{"uri": "rtsp://10.0.1.5/x"}]}, "stream.outputs.0.uri"),
    (HOST | {"model": "person", "results": [{"uri": "x.jsonl"}]}, "stream.results.0.uri"),
    (HOST | {"model": "person", "results": [{"uri": "-"}]}, "stream.results.0.uri"),
    (HOST | {"model": "person", "results": [{"uri": "http://10.0.0.5/"}]}, "stream.results.0.uri"),
]


def test_a_trace_shows_what_threads_and_frames_do(daemon: Daemon) -> None:
    status, answer = daemon.ask("POST", "/api/v1/trace?seconds=1")
    assert status == 200
    names = {one["args"]["name"] for one in answer["traceEvents"] if one["name"] == "thread_name"}
    assert names >= {"host.source", "host.decode", "host"}
    spans = [one for one in answer["traceEvents"] if one["ph"] == "X"]
    assert {one["name"] for one in spans} >= {"source", "decode", "frame"}
    assert all(one["dur"] >= 0 and one["ts"] + one["dur"] <= 1.5e6 for one in spans)
    assert 5 <= sum(one["name"] == "frame" for one in spans) <= 25
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(daemon.ask, "POST", "/api/v1/trace?seconds=2") for _ in range(2)]
        assert sorted(one.result()[0] for one in both) == [200, 409], "one at a time"
    for seconds in ("0", "-1", "31", "nan", "inf", "x", ""):
        assert daemon.ask("POST", f"/api/v1/trace?seconds={seconds}")[0] == 422


def test_only_listed_addresses_may_be_named(daemon: Daemon) -> None:
    for stream, path in FORBIDDEN:
        status, answer = daemon.ask("POST", "/api/v1/streams", {"id": "x", "stream": stream})
        assert (status, [one["path"] for one in answer["problems"]]) == (403, [path]), stream
        assert "server.allow" in answer["error"]
    assert state(daemon, "x") == "gone"


def test_nothing_may_be_added_where_nothing_is_listed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"streams": {"host": HOST}})
    status, answer = daemon.ask("POST", "/api/v1/streams", GUEST)
    assert status == 403
    assert "server.allow" in answer["error"]


def test_mistakes_are_all_told_with_their_place(daemon: Daemon) -> None:
    stream = {"source": {"uri": "synthetic:64x48", "transprt": "udp"}, "model": 5, "queue": {"size": 0}}
    status, answer = daemon.ask("POST", "/api/v1/streams", {"id": "a b", "stream": stream})
    assert status == 422
    assert {one["path"] for one in answer["problems"]} >= {"id", "stream.source.transprt", "stream.queue.size"}
    status, answer = daemon.ask("POST", "/api/v1/streams", GUEST | {"stream": HOST | {"model": "nobody"}})
    assert (status, [one["path"] for one in answer["problems"]]) == (422, ["stream.model"])
    bodies: list[Any] = [[], 5, {"id": "x"}, {"id": "x", "stream": {}}]
    for body in bodies:
        assert daemon.ask("POST", "/api/v1/streams", body)[0] == 422
    assert daemon.ask("POST", "/api/v1/streams/host/restart?timeout=soon")[0] == 422
    assert daemon.ask("POST", "/api/v1/streams/host/restart?timeout=9h")[0] == 422


def send(daemon: Daemon, request: bytes, timeout_s: float = 5.0) -> str:
    """Send bytes as they are; return the first line of the answer."""
    host, port = re.findall(r"//([\d.]+):(\d+)", daemon.address)[0]
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().decode()


def test_a_page_elsewhere_can_change_nothing(daemon: Daemon) -> None:
    port = daemon.address.rstrip("/").rpartition(":")[2]
    head = f"POST /api/v1/streams/host/restart HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n"
    json_type = "Content-Type: application/json\r\n"
    for lines, status in (
        ("", "415"),
        ("Content-Type: text/plain\r\n", "415"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "415"),
        (f"{json_type}Origin: https://evil.example\r\n", "403"),
        (f"{json_type}Origin: null\r\n", "403"),
        (f"{json_type}Origin: http://[\r\n", "403"),
        (f"{json_type}Sec-Fetch-Site: cross-site\r\n", "403"),
        (f"{json_type}Origin: https://evil.example\r\nX-Forwarded-Host: cameras.example\r\n", "403"),
        (f"{json_type}Origin: https://cameras.example\r\nX-Forwarded-Host: cameras.example\r\n", "202"),
        (f"{json_type}Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n", "202"),
    ):
        daemon.wait_for(lambda: daemon.stream("host")["state"] == "running", 10, "no restart is under way")
        assert send(daemon, f"{head}{lines}\r\n".encode()).split()[1] == status, lines
    # With a name of its own that stands for 127.0.0.1, it cannot even read.
    for host, status in (("evil.example", "421"), ("localhost:1", "200"), ("[::1]:9", "200"), ("127.0.0.1", "200")):
        assert send(daemon, f"GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).split()[1] == status
    preflight = f"OPTIONS /api/v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\n\r\n"  # noqa: F541
    assert send(daemon, preflight.encode()).split()[1] == "405"


def test_large_slow_and_wrong_bodies_are_refused(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/api/v1/streams", {"id": "x" * 70_000, "stream": HOST})[0] == 413
    assert daemon.ask("POST", "/api/v1/streams", GUEST, {"Content-Type": "text/plain"})[0] == 415
    head = b"POST /api/v1/streams HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert "422" in send(daemon, head + b"Content-Length: 4\r\n\r\n{{{{")
    assert "422" in send(daemon, head + b"Content-Length: 40000\r\n\r\n" + b"[" * 40_000)
    assert "422" in send(daemon, head + b"Content-Length: 2\r\n\r\n\xff\xfe")
    began_s = time.monotonic()
    assert "408" in send(daemon, head + b"Content-Length: 400\r\n\r\n{", timeout_s=15)
    assert 9 < time.monotonic() - began_s < 14


def test_who_asks_too_often_is_told_to_wait(daemon: Daemon) -> None:
    answers: list[int] = []
    while 429 not in answers and len(answers) < 300:  # on a slow machine some are earned back between two
        answers.append(daemon.ask("POST", "/api/v1/streams/nobody/resume")[0])
    assert answers[0] == 404
    assert answers[-1] == 429
    assert daemon.get("/healthz")[0] == 200, "probes are not counted"
    time.sleep(0.5)
    assert daemon.ask("POST", "/api/v1/streams/nobody/resume")[0] == 404


def test_the_port_speaks_tls(start_daemon: StartDaemon, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    server = SERVER | {"certificate": "cert.pem", "key": "key.pem", "token": "s3cret"}
    daemon = start_daemon({"streams": {"host": HOST}, "server": server})
    assert daemon.address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    request = urllib.request.Request(f"{daemon.address}api/v1/streams", headers={"Authorization": "Bearer s3cret"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310 -- https
        assert answer.status == 200


def test_a_certificate_that_cannot_be_used_is_named(start_daemon: StartDaemon, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    for certificate in ("cert.pem", "nowhere.pem"):
        server = SERVER | {"certificate": certificate}
        daemon = start_daemon({"streams": {"host": HOST}, "server": server}, wait=False)
        assert daemon.process.wait(20) == 2
        said = daemon.log.read_text()
        assert "server.certificate" in said
        assert "Traceback" not in said

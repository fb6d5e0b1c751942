from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from vrseg.sink.outlet import Outlet
from vrseg.sink.spool import Letter
from vrseg.sink.webhook import BATCH_BYTES, BATCH_EVENTS, SIGNATURE_HEADER, Webhook, fitting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Receiver:
    """A real HTTP server on a thread of its own. `answers` are used up in order; then it says 200."""

    def __init__(self) -> None:
        self.answers: list[web.Response | float] = []
        """A response, or how many seconds to say nothing."""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, body in self.requests for event in json.loads(body)["events"]]

    @property
    def uri(self) -> str:
        return f"http://user:hush@127.0.0.1:{self.port}/hook?site=1"

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())

    def end(self) -> None:
        self.stop()
        self._run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(({**request.headers, "path": request.path_qs}, await request.read()))
        answer = self.answers.pop(0) if self.answers else web.Response()
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return web.Response()
        return answer


async def _cancel_all() -> None:
    """Handlers that still say nothing are let go."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    server.start()
    yield server
    server.end()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are real, but shorter."""
    from vrseg.backoff import Backoff

    monkeypatch.setattr("vrseg.sink.webhook.PATIENCE", Backoff(initial_s=0.02, max_s=0.1))
    monkeypatch.setattr("vrseg.sink.webhook.GRACE_S", 0.5)


@contextmanager
def hook(uri: str, spool: Path | None = None, *, secret: str | None = None, limit: int = 100_000) -> Iterator[Outlet]:
    log = structlog.stdlib.get_logger()
    webhook = Webhook("door", uri, spool=spool, spool_bytes=limit, secret=secret, log=log)
    outlet = Outlet(webhook, log, name="hook", kind="webhook")
    outlet.start()
    try:
        yield outlet
    finally:
        outlet.close()
        assert outlet.join(5.0)


def event(number: int) -> dict[str, Any]:
    return {"event_id": f"e{number}", "kind": "enter", "number": number}


def numbers(receiver: Receiver) -> list[int]:
    return [one["number"] for one in receiver.events]


def wait_for(claim: Callable[[], object], timeout_s: float = 8.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline_s, "it did not come to be"
        time.sleep(0.005)


def test_events_are_posted_signed_and_authorised(receiver: Receiver) -> None:
    with hook(receiver.uri, secret="s3cret") as outlet:
        outlet.put(event(1))
        wait_for(lambda: outlet.delivered == 1)
    headers, body = receiver.requests[0]
    assert headers["path"] == "/hook?site=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")
    stamp, code = (part.partition("=")[2] for part in headers[SIGNATURE_HEADER].split(","))
    assert abs(int(stamp) - time.time()) < 5
    assert hmac.new(b"s3cret", stamp.encode() + b"." + body, hashlib.sha256).hexdigest() == code
    assert json.loads(body) == {"events": [event(1)]}


@pytest.mark.parametrize("status", [500, 503, 429, 408, 302])
def test_what_may_pass_is_tried_again_and_nothing_is_lost_or_out_of_order(receiver: Receiver, status: int) -> None:
    receiver.answers = [web.Response(status=status, headers={"Location": "/elsewhere"}) for _ in range(3)]
    with hook(receiver.uri) as outlet:
        outlet.put(event(1))
        wait_for(lambda: len(receiver.requests) > 1)
        outlet.put(event(2))
        wait_for(lambda: outlet.delivered == 2)
    assert numbers(receiver) == [1, 1, 1, 1, 2]
    assert {headers["path"] for headers, _ in receiver.requests} == {"/hook?site=1"}, "no redirect is followed"
    assert outlet.dropped == {}


def test_what_is_refused_is_dropped_counted_and_told_without_a_secret(receiver: Receiver) -> None:
    receiver.answers = [web.Response(status=400)]
    with capture_logs() as logs, hook(receiver.uri, secret="s3cret") as outlet:
        outlet.put(event(1))
        wait_for(lambda: outlet.dropped)
        outlet.put(event(2))
        wait_for(lambda: outlet.delivered == 1)
    assert numbers(receiver) == [1, 2]
    assert outlet.dropped == {"refused": 1}
    assert [entry["detail"] for entry in logs] == ["the receiver says 400"]
    assert "hush" not in str(logs)
    assert "s3cret" not in str(logs)


class Babbler:
    """Something at the address that does not speak HTTP."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._babble, daemon=True).start()

    def _babble(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.recv(65536)
                connection.sendall(b"what is this?\r\n\r\n")
                connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("address", ["http://u:hush@127.0.0.1:{port}/services/hush?hush", "http://[hush/hush"])
def test_of_an_address_only_host_and_port_are_told(address: str) -> None:
    babbler = Babbler()
    with capture_logs() as logs, hook(address.format(port=babbler.port)) as outlet:
        outlet.put(event(1))
        wait_for(lambda: logs)
    babbler.close()
    assert logs[0]["detail"]
    assert "hush" not in str(logs)
    if "{port}" in address:
        assert logs[0]["receiver"] == f"http://127.0.0.1:{babbler.port}"


def test_a_receiver_says_when_to_come_back(receiver: Receiver) -> None:
    receiver.answers = [web.Response(status=429, headers={"Retry-After": "1"})]
    with hook(receiver.uri) as outlet:
        started_s = time.monotonic()
        outlet.put(event(1))
        wait_for(lambda: outlet.delivered == 1)
    assert time.monotonic() - started_s >= 1.0


@pytest.mark.parametrize("said", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "soon", "9" * 400, "Mon, 01 Jan 0001 00:00"])
def test_a_receiver_that_says_nonsense_of_when_to_come_back_gets_its_events(
    receiver: Receiver, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrseg.sink.webhook._LONGEST_RETRY_AFTER_S", 0.1)
    receiver.answers = [web.Response(status=503, headers={"Retry-After": said})]
    with capture_logs() as logs, hook(receiver.uri) as outlet:
        outlet.put(event(1))
        wait_for(lambda: outlet.delivered == 1)
    assert [entry["event"] for entry in logs] == ["webhook fails", "webhook works again"]


def test_a_receiver_that_hangs_makes_nobody_wait(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.sink.webhook.TIMEOUT_S", 0.3)
    receiver.answers = [5.0, 5.0]
    with hook(receiver.uri) as outlet:
        slowest_s = 0.0
        for number in range(300):
            started_s = time.perf_counter()
            outlet.put(event(number))
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
        assert slowest_s < 0.2
        wait_for(lambda: outlet.delivered == 300)
    assert sorted(set(numbers(receiver))) == list(range(300))


def test_events_wait_on_disk_while_the_receiver_is_down_over_a_restart_and_come_in_order(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.stop()
    with capture_logs() as logs, hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        for number in range(150):
            outlet.put(event(number))
        wait_for(lambda: outlet.waiting == 150)
    assert [entry["event"] for entry in logs] == ["webhook fails", "events stay in the spool"], "once, not at each try"
    with hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        wait_for(lambda: outlet.waiting == 150)
    receiver.start()
    with hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        outlet.put(event(150))
        wait_for(lambda: outlet.delivered == 151)
        assert outlet.waiting == 0
    assert numbers(receiver) == list(range(151))
    assert len(receiver.requests[0][1]) < 100 * BATCH_EVENTS


def test_a_webhook_of_a_stream_that_is_gone_leaves_no_file(receiver: Receiver, tmp_path: Path) -> None:
    with hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        outlet.put(event(0))
        wait_for(lambda: outlet.delivered == 1)
        outlet.close(forget=True)
    assert not list(tmp_path.iterdir())


def test_what_the_spool_could_not_hold_is_told_of_before_what_came_after(receiver: Receiver) -> None:
    receiver.answers = [1.0]
    with hook(receiver.uri, limit=1000) as outlet:
        outlet.put(event(0))
        wait_for(lambda: receiver.requests)  # it is on its way, and will arrive
        for number in range(1, 100):
            outlet.put(event(number))
        wait_for(lambda: outlet.waiting + sum(outlet.dropped.values()) == 100)
        wait_for(lambda: outlet.waiting == 0)
    first, told, *rest = receiver.events
    assert first["number"] == 0, "what is on its way is not dropped, though it is the oldest"
    assert (told["kind"], told["count"], told["stream"]) == ("dropped", 99 - len(rest), "door")
    assert [one["number"] for one in rest] == list(range(100 - len(rest), 100))
    assert outlet.dropped == {"spool_full": told["count"]}
    assert outlet.delivered == 1 + len(rest), "who is told of dropped ones is not another event"


def test_what_the_spool_could_not_hold_is_told_of_first_after_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    receiver.stop()
    with hook(receiver.uri, tmp_path / "spool.sqlite", limit=1000) as outlet:
        for number in range(100):
            outlet.put(event(number))
        wait_for(lambda: outlet.waiting + sum(outlet.dropped.values()) == 100)
    receiver.start()
    with hook(receiver.uri, tmp_path / "spool.sqlite", limit=1000) as outlet:
        wait_for(lambda: outlet.delivered and outlet.waiting == 0)
    told, *rest = receiver.events
    assert (told["kind"], told["count"], told["stream"]) == ("dropped", 100 - len(rest), "door")
    came = [one["number"] for one in rest]
    assert came == sorted(set(came))
    assert came[-1] == 99


def test_a_spool_that_cannot_be_made_is_told_and_events_are_delivered_all_the_same(
    receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs, hook(receiver.uri, tmp_path / "file" / "spool.sqlite") as outlet:
        outlet.put(event(1))
        wait_for(lambda: outlet.delivered == 1)
    assert logs[0]["event"] == "no spool on disk"


def test_batches_are_bounded_in_bytes_but_hold_one_event_at_least() -> None:
    letters = [Letter(number=number, body=b"x" * (BATCH_BYTES // 2)) for number in range(3)]
    assert len(fitting(letters)) == 2
    assert len(fitting([Letter(number=0, body=b"x" * (BATCH_BYTES + 1)), *letters])) == 1
    assert fitting([]) == []


def test_a_spool_that_cannot_be_written_any_more_is_told_once_and_delivers_what_it_has_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.stop()
    with hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        for number in range(3):
            outlet.put(event(number))
        wait_for(lambda: outlet.waiting == 3)
    base = sqlite3.connect(tmp_path / "spool.sqlite")
    base.execute("CREATE TRIGGER full BEFORE DELETE ON letters BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    base.close()
    receiver.start()
    with capture_logs() as logs, hook(receiver.uri, tmp_path / "spool.sqlite") as outlet:
        wait_for(lambda: outlet.delivered == 3)
        outlet.put(event(3))
        wait_for(lambda: outlet.delivered == 4)
    assert numbers(receiver) == [0, 1, 2, 3]
    assert {entry["event"] for entry in logs} == {"the spool fails", "events stay in the spool"}

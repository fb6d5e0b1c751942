"""`vrseg run` as a process: started, asked, told to change, looked at from outside, and ended."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import yaml
from soak_samples import Metrics, Sample, read_metrics
from soak_verdict import Ending

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from soak_streams import Document

LOG_NAME = "vrseg.log"
START_TIMEOUT_S = 60.0
# A drain may take its whole timeout, several times over in a row.
CHANGE_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 5.0
_POLL_S = 0.1
# What a browser would not send unasked: without it nothing is changed.
_HEADERS = {"X-Requested-With": "soak"}
# What is sent to a process that does not end, after how long.
_PATIENCE_S = 20.0


class SurpriseError(Exception):
    """Vrseg did something else than it should."""


class Site:
    """A daemon at work, its configuration, and its log."""

    def __init__(self, folder: Path, document: Document) -> None:
        self.document = document
        """What the file holds, or will hold at the next reload."""
        self.writing = asyncio.Lock()
        """Held while the file is not what `document` is."""
        self._folder = folder
        self._file = folder / "vrseg.yaml"
        self._log = folder / LOG_NAME
        self._address = ""
        self._process: psutil.Popen | None = None
        self._began_s = 0.0
        self._http = aiohttp.ClientSession(headers=_HEADERS, timeout=aiohttp.ClientTimeout(total=CHANGE_TIMEOUT_S))

    @property
    def alive(self) -> bool:
        """The process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def time_s(self) -> float:
        """Since it was ready."""
        return time.monotonic() - self._began_s

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self._address.removeprefix("http://").rstrip("/").rpartition(":")
        return host, int(port)

    async def start(self) -> None:
        """Return when it is ready.

        Raises:
            SurpriseError: it is not.
        """
        self.write()
        with self._log.open("wb") as sink:
            command = [sys.executable, "-m", "vrseg", "run", str(self._file), "--log-format", "json"]
            self._process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        await self.until(self._is_ready, "is ready", START_TIMEOUT_S)
        self._began_s = time.monotonic()

    async def close(self) -> None:
        """Let nothing be left behind."""
        if self._process is not None and self.alive:
            self._process.kill()
            self._process.wait()
        await self._http.close()

    def write(self, text: str | None = None) -> None:
        """Put the document, or any other text, in the place of the file, at one stroke."""
        new = self._file.with_suffix(".new")
        new.write_text(yaml.safe_dump(self.document) if text is None else text, encoding="utf-8")
        new.replace(self._file)

    def hang_up(self) -> None:
        """Send SIGHUP: it reads the file anew."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def ask(self, method: str, path: str, body: Document | None = None) -> tuple[int, Any]:
        """Send one request; return status and answer."""
        async with self._http.request(method, self._address + path, json=body) as answer:
            text = (await answer.read()).decode(errors="replace")  # some of it is video
            return answer.status, json.loads(text) if answer.content_type.endswith("json") else text

    def log_lines(self) -> list[str]:
        """Return what it logged so far."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    async def order(self, method: str, path: str, *expected: int, body: Document | None = None) -> Any:
        """Send a request that changes something, again and again while vrseg is busy with another change.

        Raises:
            SurpriseError: the answer has none of the expected statuses.
        """
        deadline_s = time.monotonic() + CHANGE_TIMEOUT_S
        while True:
            status, answer = await self.ask(method, path, body)
            if status in expected:
                return answer
            if status != 409 or time.monotonic() > deadline_s:
                raise SurpriseError(f"{method} {path}: {status} {json.dumps(answer)[:300]}")
            await asyncio.sleep(_POLL_S)

    async def reload(self) -> None:
        """Write the document and let it be read.

        Raises:
            SurpriseError: it was refused.
        """
        async with self.writing:
            self.write()
            await self.order("POST", "/api/v1/reload", 200)

    async def until(self, claim: Callable[[], Any], what: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Wait until an awaitable claim is true.

        Raises:
            SurpriseError: that took too long.
        """
        deadline_s = time.monotonic() + timeout_s
        while not await claim():
            if not self.alive or time.monotonic() > deadline_s:
                raise SurpriseError(f"{what}: not within {timeout_s:.0f} s")
            await asyncio.sleep(_POLL_S)

    async def states(self) -> dict[str, str]:
        """Return the state of each stream."""
        _, answer = await self.ask("GET", "/api/v1/streams")
        return {stream["name"]: stream["state"] for stream in answer["streams"]}

    async def sample(self) -> Sample:
        """Look at the process, its port and its files.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        assert self._process is not None
        health, _ = await self._quickly("/healthz")
        status, text = await self._quickly("/metrics")
        metrics: Metrics | None = read_metrics(text) if status == 200 else None
        process = self._process
        with process.oneshot():
            used = process.cpu_times()
            return Sample(
                time_s=self.time_s,
                rss_bytes=process.memory_info().rss,
                threads=process.num_threads(),
                descriptors=process.num_fds(),
                children=len(process.children(recursive=True)),
                written_bytes=_bytes_in(self._folder / "streams"),
                cpu_s=used.user + used.system,
                health=health,
                metrics=metrics,
            )

    async def _quickly(self, path: str) -> tuple[int, str]:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                status, answer = await self.ask("GET", path)
                return status, answer if isinstance(answer, str) else ""
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def end(self, drain_timeout_s: float) -> Ending:
        """Send SIGTERM and wait; kill what does not end."""
        assert self._process is not None
        process, early = self._process, not self.alive
        began_s = time.monotonic()
        code: int | None
        try:
            process.terminate()
            code = await asyncio.to_thread(process.wait, drain_timeout_s + _PATIENCE_S)
        except psutil.NoSuchProcess:
            code = process.wait()
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            process.kill()
            code = None
        took_s = time.monotonic() - began_s
        return Ending(code=code, took_s=took_s, drain_timeout_s=drain_timeout_s, early=early)

    async def _is_ready(self) -> bool:
        if not self._address:
            self._address = _address_in(self.log_lines())
        return bool(self._address) and (await self._quickly("/readyz"))[0] == 200


def _address_in(lines: list[str]) -> str:
    for line in lines:
        if line.startswith("{") and (event := json.loads(line))["event"] == "listening":
            return str(event["page"]).rstrip("/")
    return ""


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # deleted at this moment, as it should be
            continue
    return total

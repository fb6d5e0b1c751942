"""`vrseg run` as a process of its own: started, asked over HTTP, signalled, and looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import psutil
import pytest
import yaml
from plugins.passwords import assert_untold, passwords_in
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

START_TIMEOUT_S = 30.0


class Daemon:
    """A running `vrseg run`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, file: Path, passwords: set[str]) -> None:
        self.process = process
        self.passwords = passwords
        """Of the configuration; no log may hold them."""
        self.log = log
        self.file = file
        """The configuration."""
        self.address = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        request = urllib.request.Request(self.address.rstrip("/") + path, headers=headers or {})  # noqa: S310 -- http
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 -- as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send a request that changes something, as JSON; return status and answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 -- http
            self.address.rstrip("/") + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json"} | (headers or {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- as above
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def status(self) -> dict[str, Any]:
        while (said := self.get("/api/v1/status"))[0] == 429:
            time.sleep(0.2)
        answer: dict[str, Any] = json.loads(said[1])
        return answer

    def stream(self, name: str) -> dict[str, Any]:
        return next(stream for stream in self.status()["streams"] if stream["name"] == name)

    def delivered(self, name: str) -> int:
        return int(self.stream(name)["frames"]["delivered"])

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """All samples of /metrics, by name."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def wait_for(self, claim: Callable[[], object], timeout_s: float, what: str) -> float:
        """Return how many seconds it took until the claim was true."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < timeout_s:
            if claim():
                return time.monotonic() - started_s
            assert self.process.poll() is None, f"vrseg ended: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}\n{self.log.read_text()[-3000:]}")

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def resources(self) -> tuple[int, int, int]:
        """Resident bytes, threads, open descriptors."""
        process = psutil.Process(self.process.pid)
        return process.memory_info().rss, process.num_threads(), process.num_fds()


class StartDaemon(Protocol):
    def __call__(
        self,
        config: dict[str, Any],
        *,
        environment: dict[str, str] | None = None,
        wait: bool = True,
        prefix: Sequence[str] = (),
    ) -> Daemon: ...


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start `vrseg run` with a configuration; it is killed at the end of the test."""
    with daemons_in(tmp_path) as start:
        yield start


@contextmanager
def daemons_in(folder: Path) -> Iterator[StartDaemon]:
    """Start daemons whose configurations and logs are in a folder; they are killed at the end of the block.

    `prefix` is a command that runs another in its place, such as `prlimit`.
    """
    daemons: list[Daemon] = []

    def start(
        config: dict[str, Any],
        *,
        environment: dict[str, str] | None = None,
        wait: bool = True,
        prefix: Sequence[str] = (),
    ) -> Daemon:
        path = folder / f"vrseg{len(daemons)}.yaml"
        write_config(path, config)
        log = path.with_suffix(".log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "vrseg", "run", str(path), "--log-format", "json"],
                stdout=sink,
                stderr=sink,
                env=os.environ | (environment or {}),
            )
        passwords = passwords_in(config, os.environ | (environment or {}))
        daemon = Daemon(process, log, path, passwords)
        daemons.append(daemon)
        if wait:
            daemon.wait_for(lambda: _listening(daemon), START_TIMEOUT_S, "the port is open")
        return daemon

    yield start
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()
    for daemon in daemons:
        assert_untold(daemon.passwords, daemon.log.read_text(encoding="utf-8", errors="replace"))


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write a configuration whose port is a free one, unless it says otherwise."""
    path.write_text(yaml.safe_dump({"server": {"listen": "127.0.0.1:0"}} | config), encoding="utf-8")


def _listening(daemon: Daemon) -> bool:
    for event in daemon.events:
        if event["event"] == "listening":
            daemon.address = event["page"]
            return True
    return False


class RunVrseg(Protocol):
    def __call__(
        self, *arguments: str | Path, timeout_s: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def vrseg(tmp_path: Path) -> RunVrseg:
    """Run one command of `vrseg` in an empty folder and return what it said."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(*arguments: str | Path, timeout_s: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vrseg", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **({"cwd": folder} | options),
        )
        assert_untold(passwords_in(arguments, options.get("env") or os.environ), done.stdout + done.stderr)
        return done

    return run

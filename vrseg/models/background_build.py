"""A build in a process of its own, as the process that waits for it sees it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrseg.errors import ModelError
from vrseg.models.build_request import key_of

if TYPE_CHECKING:
    from vrseg.models.build_request import BuildRequest
    from vrseg.models.engine_cache import CachedEngine, EngineCache

_GRACE_S = 3.0
"""After that a build which should end is killed. It leaves nothing half done: files come whole or not at all."""
_CHUNK_BYTES = 65536


class BackgroundBuild:
    """Builds an engine while the caller does something else. For one thread; nothing here waits but `close`."""

    def __init__(self, request: BuildRequest, cache: EngineCache) -> None:
        self._request = request
        self._cache = cache
        self._process: subprocess.Popen[bytes] | None = None
        self._partial = b""
        self._plan: Path | None = None
        self.fraction = 0.0
        """How far it has come, 0 to 1."""
        self.waiting = False
        """True while another process builds, and this one waits for its turn."""

    def cached(self) -> CachedEngine | None:
        """Return the engine if it is there already.

        Raises:
            ConfigError: others can write in the cache.
            ModelError: the model cannot be read.
        """
        return self._cache.find(key_of(self._request.fields()))

    def set_aside(self) -> None:
        """Take the engine out of use: it did not load."""
        self._cache.set_aside(key_of(self._request.fields()))

    def start(self) -> None:
        """Begin.

        Raises:
            ModelError: the process does not start.
        """
        self._plan, self._partial, self.fraction = None, b"", 0.0
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vrseg.models.build_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C at the terminal is for this process, which then ends that one.
                start_new_session=True,
            )
            self._ask(self._process)
        except OSError as error:
            self.close()
            raise ModelError(f"{self._request.spec.path}: the build does not start: {error}") from error

    def poll(self) -> Path | None:
        """Take in what the process said; return the plan once it is built.

        Raises:
            ModelError: the build failed.
        """
        if self._process is None:
            return self._plan
        ended = self._process.poll() is not None
        self._read(self._process)
        if not ended:
            return None
        code = self._process.returncode
        self.close()
        if self._plan is None:
            raise ModelError(f"{self._request.spec.path}: the process that built its engine ended with {code}")
        return self._plan

    def close(self) -> None:
        """End the build if it still runs. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # what it never read
                process.stdin.close()
        try:
            # One that waits for another build hears nothing else.
            process.wait(0 if self.waiting else _GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _ask(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None and process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
            with suppress(BrokenPipeError):  # it has died already: `poll` says so
                pickle.dump((self._request, self._cache.folder), process.stdin)
                process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        while process.stdout is not None:
            try:
                chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                return
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        self.fraction = max(self.fraction, said.get("fraction", 0.0))
        self.waiting = said.get("waiting", self.waiting)
        if "plan" in said:
            self._plan = Path(said["plan"])
        if "error" in said:
            self.close()
            raise ModelError(said["error"])

"""The process that builds one engine: request on stdin, lines of JSON on stdout. `python -m vrseg.models.build_child`.

A process of its own gives the builder's memory back, and a crash of the builder ends nothing else. It stops when its
stdin ends: with the process that wanted the engine.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from vrseg.errors import VrsegError
from vrseg.models.batching import free_batch
from vrseg.models.build import Graph, build_plan
from vrseg.models.build_request import key_of, timing_key
from vrseg.models.engine_cache import EngineCache
from vrseg.models.tensorrt_library import load_tensorrt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TextIO

    from vrseg.models.build_request import BuildRequest

_NICENESS = 10
_STEP = 0.005
"""Smaller progress is not worth a line."""


def main() -> int:
    """Build what stdin asks for."""
    # Libraries print as they like: the lines go to a pipe that only this module knows.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.nice(_NICENESS)
    request, folder = pickle.load(sys.stdin.buffer)  # noqa: S301 -- from the process that started this one
    unwanted = threading.Event()
    threading.Thread(target=_watch_stdin, args=(unwanted,), daemon=True).start()
    try:
        _tell(
            lines, plan=str(build(request, EngineCache(folder), lambda **said: _tell(lines, **said), unwanted.is_set))
        )
    except VrsegError as error:
        _tell(lines, error=str(error))
        return error.exit_code
    return 0


def build(request: BuildRequest, cache: EngineCache, tell: Callable[..., None], cancelled: Callable[[], bool]) -> Path:
    """Build an engine into the cache, unless another process has done so meanwhile; return the plan.

    Args:
        request: what to build.
        cache: where to.
        tell: is given `waiting` while another process builds, and `fraction` as it goes on.
        cancelled: is asked now and then.

    Raises:
        VrsegError: as `build_plan`, and the cache's.
    """
    fields = request.fields()
    key = key_of(fields)
    tell(waiting=True)
    with cache.building():
        tell(waiting=False)
        if found := cache.find(key):
            return found.plan
        started_s = time.monotonic()
        trt = load_tensorrt(request.library)
        if request.card.index is not None:
            _use_device(request.card.index)
        timings = timing_key(request)
        built = build_plan(
            trt,
            graph_of(request),
            compute_capability=request.card.compute_capability,
            workspace_bytes=request.workspace_bytes,
            timing_cache=cache.read_timings(timings),
            report=_Throttled(tell),
            cancelled=cancelled,
        )
        if built.timing_cache:
            cache.write_timings(timings, built.timing_cache)
        found_out: dict[str, Any] = {
            "model_path": str(request.spec.path),
            "gpu": request.card.name,
            "batch": [built.batch.least, built.batch.most],
            "build_s": round(time.monotonic() - started_s, 2),
        }
        return cache.store(key, built.plan, fields | found_out).plan


def graph_of(request: BuildRequest) -> Graph:
    """Return the model, with its batch freed where the file fixes it and that does not change its answers."""
    spec = request.spec
    return Graph(
        title=spec.path.name,
        onnx=free_batch(spec) or spec.path.read_bytes(),
        path=str(spec.path),
        frame_shape=spec.input.shape,
        batch=request.batch,
    )


class _Throttled:
    """Passes on what is worth a line."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._told = 0.0

    def __call__(self, fraction: float) -> None:
        if fraction >= self._told + _STEP or fraction == 1:
            self._told = fraction
            self._tell(fraction=round(fraction, 4))


def _tell(lines: TextIO, **said: Any) -> None:
    lines.write(json.dumps(said) + "\n")


def _watch_stdin(unwanted: threading.Event) -> None:
    # Not through the buffered stream: its lock could not be had when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    unwanted.set()


def _use_device(index: int) -> None:
    """TensorRT builds for the device that is current on the thread."""
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    cupy.cuda.Device(index).use()


if __name__ == "__main__":
    sys.exit(main())

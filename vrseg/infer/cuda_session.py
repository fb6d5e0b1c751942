"""Sessions of ONNX Runtime on an NVIDIA GPU: opened on a stream of ours, and what their errors mean."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from vrseg.errors import DeviceError, ModelError
from vrseg.gpu.guard import failing_as_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import cupy

    from vrseg.gpu.device import Gpu

PROVIDER = "CUDAExecutionProvider"

USUAL: dict[str, str] = {}
"""Layout and fusion as ONNX Runtime's own defaults have them."""
CHANNELS_LAST = {"prefer_nhwc": "1", "fuse_conv_bias": "1"}
"""Convolutions on tensor cores without transposing, with bias and activation in the same kernel."""

_FATAL_ONLY = 4
_PROVIDER_LIBRARY = "onnxruntime_providers_cuda"
_NO_LIBRARIES = (
    "ONNX Runtime's CUDA provider does not load: CUDA's or cuDNN's libraries are missing or of another version; "
    "run: pip install 'onnxruntime-gpu[cuda,cudnn]'"
)
_LONGEST_REASON = 400
# What ONNX Runtime's arena, the CUDA runtime and cuDNN say when memory is short.
_SHORT_OF_MEMORY = ("failed to allocate memory", "out of memory", "alloc_failed", "cudaerrormemoryallocation")


class BatchTooLargeError(ModelError):
    """The GPU's memory does not hold the network at this batch size; a smaller one may fit."""


def open_session(
    source: bytes | str, gpu: Gpu, stream: cupy.cuda.Stream, *, variant: Mapping[str, str], fixed: Mapping[str, int]
) -> Any:
    """Load a network so that all its GPU work goes to `stream`.

    Args:
        source: the ONNX, or its path.
        gpu: current on this thread.
        stream: outlives the session.
        variant: `USUAL` or `CHANNELS_LAST`.
        fixed: sizes of named dimensions. With them known the shapes are constants, and nothing of the network is left
            to be computed on the CPU.

    Returns:
        `onnxruntime.InferenceSession`

    Raises:
        DeviceError: this ONNX Runtime has no CUDA provider, or it does not load.
        Exception: what ONNX Runtime raises for a network that it cannot use; see `failing_as_model`.
    """
    if PROVIDER not in ort.get_available_providers():
        raise DeviceError(
            "the installed ONNX Runtime is the CPU's (onnxruntime and onnxruntime-gpu share one folder, the last one "
            "installed wins); run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    # Its default logger warns of a plugin that nobody asked for, at each session, on a terminal that may show a bar.
    ort.set_default_logger_severity(_FATAL_ONLY)
    if hasattr(ort, "preload_dlls"):
        # It tells what it misses on stdout, which belongs to data.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()
    try:
        session = ort.InferenceSession(
            source,
            _session_options(fixed),
            providers=[(PROVIDER, provider_options(gpu.index, stream.ptr, variant))],
            enable_fallback=0,
        )
    except Exception as error:
        if _PROVIDER_LIBRARY in str(error):
            raise DeviceError(f"{_NO_LIBRARIES} ({_first_line(error)})") from error
        raise
    if PROVIDER not in session.get_providers():
        raise DeviceError(_NO_LIBRARIES)
    return session


def provider_options(device_index: int, stream_address: int, variant: Mapping[str, str]) -> dict[str, str]:
    """Return the CUDA provider's options; all values are text."""
    return {
        "device_id": str(device_index),
        "user_compute_stream": str(stream_address),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        **variant,
    }


def run_options() -> Any:
    """Return options with which a run only enqueues: neither before nor after does it wait for the GPU."""
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.log_severity_level = _FATAL_ONLY
    return options


@contextlib.contextmanager
def failing_as_model(path: object, what: str, stream: cupy.cuda.Stream) -> Iterator[None]:
    """Sort errors of ONNX Runtime, which have no class in common, by what can be done about them.

    Not for use while the stream is being captured.

    Raises:
        BatchTooLargeError: memory was short.
        DeviceError: the GPU itself is in error, and stays so.
        ModelError: anything else.
    """
    try:
        yield
    except (ModelError, DeviceError):
        raise
    except Exception as error:
        if is_short_of_memory(error):
            raise BatchTooLargeError(f"{path}: not enough GPU memory; write a smaller batch.max_size") from error
        with failing_as_device(f"{path}: the GPU failed"):
            stream.synchronize()
        raise ModelError(f"{path}: ONNX Runtime {what}: {_first_line(error)}") from error


def is_short_of_memory(error: BaseException) -> bool:
    """Tell a failed allocation of GPU memory, CuPy's or ONNX Runtime's, from other errors."""
    text = f"{type(error).__name__} {error}".lower().replace("outofmemory", "out of memory")
    return any(words in text for words in _SHORT_OF_MEMORY)


def _session_options(fixed: Mapping[str, int]) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Nothing but shapes is left to the CPU: threads of its own would only be idle.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Errors come as exceptions, and a failed trial is no news.
    options.log_severity_level = _FATAL_ONLY
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def _first_line(error: BaseException) -> str:
    """Return what matters of an error; after that ONNX Runtime goes on with its source files."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    return first if len(first) <= _LONGEST_REASON else f"{first[:_LONGEST_REASON]}..."

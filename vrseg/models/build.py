"""ONNX to a TensorRT plan: strongly typed, so that the file alone decides in what precision each tensor is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from vrseg.errors import DeviceError, ModelError, VrsegError
from vrseg.models.build_progress import BuildProgress
from vrseg.models.tensorrt_library import is_rtx
from vrseg.models.tensorrt_log import TensorRtLog, failure, log_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.models.tensorrt_api import (
        Builder,
        BuilderConfig,
        Network,
        Parser,
        RtxBuilderConfig,
        TensorRt,
        TensorRtRtx,
        TimingCache,
    )

WORKSPACE_BYTES = 4 << 30
"""What one layer may use for itself. More is hardly ever asked for, and a running pipeline needs the rest."""


class BuildCancelledError(VrsegError):
    """The build was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """Frames in a call. The engine is fastest at `usual`."""

    least: int
    usual: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network to be built, and the sizes that it leaves open."""

    title: str
    """What messages call it."""
    onnx: bytes = field(repr=False)
    path: str
    """Where it came from: weights in files of their own lie beside it."""
    frame_shape: tuple[int, ...] | None
    """Of one frame's tensor, without the batch; None when the graph says it."""
    batch: BatchSizes
    """Used where the graph leaves the first dimension open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A finished build."""

    plan: bytes = field(repr=False)
    batch: BatchSizes
    """What the engine takes; all three equal where the graph fixes it."""
    timing_cache: bytes = field(default=b"", repr=False)
    """Measured on the way, for the next build; empty with TensorRT-RTX, which measures nothing."""


def build_plan(
    trt: TensorRt,
    graph: Graph,
    *,
    compute_capability: tuple[int, int],
    workspace_bytes: int = WORKSPACE_BYTES,
    timing_cache: bytes = b"",
    report: Callable[[float], None] = lambda _fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Built:
    """Build an engine; takes from a second to many minutes. The full TensorRT builds for the current device.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        graph: what to build.
        compute_capability: of the card. TensorRT-RTX builds for it without having it.
        workspace_bytes: most that one layer may use for itself.
        timing_cache: `Built.timing_cache` of an earlier build with this version on this GPU.
        report: is told the fraction that is done, ever growing, 1 at the end; from any thread.
        cancelled: is asked now and then; from any thread.

    Raises:
        BuildCancelledError: `cancelled` said so.
        DeviceError: the library does not build for this card, or CUDA failed.
        ModelError: the parser or the builder refused the graph; with all that the parser said.
    """
    log = log_of(trt)
    log.forget()
    builder = _builder(trt, log)
    # 10.x types networks by flags unless it is told to follow the file; 11 always follows it, and ignores this.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    if network is None or config is None:
        raise failure(f"{graph.title}: {trt.__name__} cannot begin to build", log)
    parser = trt.OnnxParser(network, log.handle)
    if not parser.parse(graph.onnx, graph.path):
        raise _parser_failure(graph.title, parser, log)
    batch = _set_sizes(builder, network, config, graph)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    # Work on streams of its own would have to be waited for, and complicates CUDA graphs.
    config.max_aux_streams = 0
    cache: TimingCache | None = None
    if is_rtx(trt):
        _aim(cast("TensorRtRtx", trt), cast("RtxBuilderConfig", config), compute_capability)
    else:
        cache = _use_timing_cache(config, timing_cache)
    # What was said so far may be of a missing driver, and TensorRT-RTX builds without one.
    log.forget()
    progress = BuildProgress(report, cancelled)
    config.progress_monitor = progress.monitor(trt)
    plan = builder.build_serialized_network(network, config)
    if cancelled():
        raise BuildCancelledError(f"{graph.title}: the build was cancelled")
    if plan is None:
        raise failure(f"{graph.title}: {trt.__name__} cannot build it", log)
    progress.finish()
    return Built(plan=bytes(plan), batch=batch, timing_cache=_serialized(cache))


def _builder(trt: TensorRt, log: TensorRtLog) -> Builder:
    try:
        return trt.Builder(log.handle)
    except TypeError as error:  # what pybind11 makes of a factory that returned a null pointer
        reason = (log.errors() or [str(error)])[-1]
        raise DeviceError(f"{trt.__name__} {trt.__version__} does not work: {reason}; run `vrseg doctor`") from error


def _parser_failure(title: str, parser: Parser, log: TensorRtLog) -> ModelError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    said = [
        f"node {one.node()} '{one.node_name()}' ({one.node_operator()}): {' '.join(one.desc().split())}"
        if one.node_operator()
        else " ".join(one.desc().split())
        for one in errors
    ]
    return ModelError(f"{title}: TensorRT cannot read it: {'; '.join(said or log.errors() or ['no reason given'])}")


def _set_sizes(builder: Builder, network: Network, config: BuilderConfig, graph: Graph) -> BatchSizes:
    """Give a range to each input that leaves sizes open; returns what the engine will take."""
    profile = builder.create_optimization_profile()
    sizes, ranged = graph.batch, False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if profile is None or tensor is None:
            raise ModelError(f"{graph.title}: TensorRT gives no profile")
        declared = tuple(tensor.shape)
        if -1 not in declared:
            sizes = BatchSizes(least=declared[0], usual=declared[0], most=declared[0])
            continue
        frame = graph.frame_shape or declared[1:]
        if declared[0] != -1 or -1 in frame or len(frame) != len(declared) - 1:
            raise ModelError(
                f"{graph.title}: input '{tensor.name}' {declared} leaves more open than the batch; "
                "export it with a fixed picture size"
            )
        batch = graph.batch
        profile.set_shape(tensor.name, *((one, *frame) for one in (batch.least, batch.usual, batch.most)))
        ranged = True
    if ranged and (not profile or config.add_optimization_profile(profile) < 0):
        # It gives no reason for this one.
        raise ModelError(f"{graph.title}: TensorRT refuses batches of {graph.batch.least} to {graph.batch.most} frames")
    return graph.batch if ranged else sizes


def _aim(trt: TensorRtRtx, config: RtxBuilderConfig, compute_capability: tuple[int, int]) -> None:
    major, minor = compute_capability
    target = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
    if target is None:
        raise DeviceError(
            f"TensorRT-RTX does not run on compute capability {major}.{minor}; "
            "run: pip install 'vrseg[tensorrt]', for the full TensorRT"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(target, 0):
        raise DeviceError(f"TensorRT-RTX refuses to build for compute capability {major}.{minor}; update it")


def _use_timing_cache(config: BuilderConfig, content: bytes) -> TimingCache | None:
    """Returns the cache, which is to be kept as long as the build. One that does not fit is begun anew."""
    cache = config.create_timing_cache(content)
    return cache if cache is not None and config.set_timing_cache(cache, False) else None


def _serialized(cache: TimingCache | None) -> bytes:
    content = cache.serialize() if cache is not None else None
    return bytes(content) if content is not None else b""

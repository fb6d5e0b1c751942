"""The part of TensorRT's Python interface that vrseg uses, which `tensorrt` 10.8 to 11 and `tensorrt_rtx` share.

A module of either fits `TensorRt`; `tensorrt_lean`, which cannot build, fits `TensorRtRuntime`. Null pointers come as
None and failed calls as False, as the libraries give them. Handles of the libraries' own types are Any where they are
taken: no protocol can stand in for a C++ object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class HostMemory(Protocol):
    """Bytes that the library owns; `bytes` copies them."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class NetworkTensor(Protocol):
    """An input or output of a network. -1 in its shape is a size that the profile gives."""

    name: str

    @property
    def shape(self) -> Any: ...


class Network(Protocol):
    """A parsed graph."""

    @property
    def num_inputs(self) -> int: ...
    def get_input(self, index: int, /) -> NetworkTensor | None: ...


class ParserError(Protocol):
    """One thing that the parser did not like."""

    def desc(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class Parser(Protocol):
    """Reads ONNX into a network, which must outlive it; keep it until the build is done, for the weights are its."""

    @property
    def num_errors(self) -> int: ...
    def get_error(self, index: int, /) -> ParserError: ...
    def parse(self, model: bytes, path: str | None, /) -> bool: ...


class Profile(Protocol):
    """Sizes that an engine is made for. False when one of them was refused."""

    def __bool__(self) -> bool: ...
    def set_shape(self, name: str, least: Sequence[int], usual: Sequence[int], most: Sequence[int], /) -> None: ...


class TimingCache(Protocol):
    """What earlier builds measured."""

    def serialize(self) -> HostMemory | None: ...


class BuilderConfig(Protocol):
    """How to build."""

    progress_monitor: Any
    max_aux_streams: int

    def add_optimization_profile(self, profile: Any, /) -> int: ...
    def set_memory_pool_limit(self, pool: Any, size_bytes: int, /) -> None: ...
    def create_timing_cache(self, content: bytes, /) -> TimingCache | None: ...
    def set_timing_cache(self, cache: Any, ignore_mismatch: bool, /) -> bool: ...


class RtxBuilderConfig(BuilderConfig, Protocol):
    """What `tensorrt_rtx` adds: it builds for cards that are not here."""

    num_compute_capabilities: int

    def set_compute_capability(self, capability: Any, index: int, /) -> bool: ...


class Builder(Protocol):
    """Makes plans. For one thread."""

    def create_network(self, flags: int, /) -> Network | None: ...
    def create_builder_config(self) -> BuilderConfig | None: ...
    def create_optimization_profile(self) -> Profile | None: ...
    def build_serialized_network(self, network: Any, config: Any, /) -> HostMemory | None: ...


class ExecutionContext(Protocol):
    """One batch size of an engine, with the addresses it reads and writes. For one stream and thread."""

    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool: ...
    def get_tensor_shape(self, name: str, /) -> Iterable[int]: ...
    def set_tensor_address(self, name: str, address: int, /) -> bool: ...
    def set_device_memory(self, address: int, size_bytes: int, /) -> None: ...
    def execute_async_v3(self, stream: int, /) -> bool: ...


class Engine(Protocol):
    """A loaded plan."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_name(self, index: int, /) -> str: ...
    def get_tensor_mode(self, name: str, /) -> Any: ...
    def get_tensor_location(self, name: str, /) -> Any: ...
    def get_tensor_dtype(self, name: str, /) -> Any: ...
    def get_tensor_shape(self, name: str, /) -> Iterable[int]: ...
    def get_tensor_profile_shape(self, name: str, profile: int, /) -> Sequence[Iterable[int]]: ...
    def create_execution_context(self, strategy: Any, /) -> ExecutionContext | None: ...


class RuntimeConfig(Protocol):
    """How contexts of `tensorrt_rtx` are made."""

    dynamic_shapes_kernel_specialization_strategy: Any

    def set_execution_context_allocation_strategy(self, strategy: Any, /) -> None: ...


class RtxEngine(Engine, Protocol):
    """What `tensorrt_rtx` adds: it compiles kernels when a context is made."""

    def create_runtime_config(self) -> RuntimeConfig | None: ...


class Runtime(Protocol):
    """Loads plans."""

    def deserialize_cuda_engine(self, plan: bytes, /) -> Engine | None: ...


class IoModes(Protocol):
    """`TensorIOMode`."""

    @property
    def INPUT(self) -> Any: ...  # noqa: N802 -- the library's name


class Locations(Protocol):
    """`TensorLocation`."""

    @property
    def DEVICE(self) -> Any: ...  # noqa: N802 -- the library's name


class AllocationStrategies(Protocol):
    """`ExecutionContextAllocationStrategy`."""

    @property
    def USER_MANAGED(self) -> Any: ...  # noqa: N802 -- the library's name


class CreationFlags(Protocol):
    """`NetworkDefinitionCreationFlag`."""

    @property
    def STRONGLY_TYPED(self) -> Any: ...  # noqa: N802 -- the library's name


class MemoryPools(Protocol):
    """`MemoryPoolType`."""

    @property
    def WORKSPACE(self) -> Any: ...  # noqa: N802 -- the library's name


class SpecializationStrategies(Protocol):
    """`DynamicShapesKernelSpecializationStrategy` of `tensorrt_rtx`."""

    @property
    def EAGER(self) -> Any: ...  # noqa: N802 -- the library's name


class TensorRtRuntime(Protocol):
    """What loading and running takes."""

    __name__: str
    __version__: str

    @property
    def ILogger(self) -> type[Any]: ...  # noqa: N802 -- the library's name
    @property
    def Runtime(self) -> Callable[[Any], Runtime]: ...  # noqa: N802 -- the library's name
    @property
    def TensorIOMode(self) -> IoModes: ...  # noqa: N802 -- the library's name
    @property
    def TensorLocation(self) -> Locations: ...  # noqa: N802 -- the library's name
    @property
    def ExecutionContextAllocationStrategy(self) -> AllocationStrategies: ...  # noqa: N802 -- the library's name
    @property
    def nptype(self) -> Callable[[Any], Any]: ...


class TensorRt(TensorRtRuntime, Protocol):
    """What building takes as well."""

    @property
    def IProgressMonitor(self) -> type[Any]: ...  # noqa: N802 -- the library's name
    @property
    def Builder(self) -> Callable[[Any], Builder]: ...  # noqa: N802 -- the library's name
    @property
    def OnnxParser(self) -> Callable[[Any, Any], Parser]: ...  # noqa: N802 -- the library's name
    @property
    def NetworkDefinitionCreationFlag(self) -> CreationFlags: ...  # noqa: N802 -- the library's name
    @property
    def MemoryPoolType(self) -> MemoryPools: ...  # noqa: N802 -- the library's name


class TensorRtRtx(TensorRt, Protocol):
    """`tensorrt_rtx`."""

    @property
    def ComputeCapability(self) -> type[Any]: ...  # noqa: N802 -- the library's name
    @property
    def DynamicShapesKernelSpecializationStrategy(self) -> SpecializationStrategies: ...  # noqa: N802 -- as above

"""PyNvVideoCodec where there is no GPU: what `vrseg.decode` uses of it, on FFmpeg, over the CuPy of `gpu_on_cpu`.

Strict where the real one is: a decoder's pictures are overwritten by its next call and gone with it, all are of one
size, and the first unit must describe the pictures. What is used of it beyond this is missing, and fails.
"""

# ruff: noqa: N802 -- the library's own names

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import av
import av.error
import numpy as np
import pytest
from plugins.gpu_on_cpu import Stream

from vrseg.decode import capabilities
from vrseg.gpu.device import Gpu, open_gpu

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import U8
    from vrseg.gpu.surface import Surface

STICKY_ERROR = 700
"""cudaErrorIllegalAddress."""
_DECODERS = {"H264": "h264", "HEVC": "hevc", "VP9": "vp9", "AV1": "libdav1d"}
_TIMESTAMP, _DISCONTINUITY, _END_OF_PICTURE = 2, 4, 8


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class PyNvVCException(Exception):  # noqa: N818 -- as above
    pass


class PyNvVCExceptionUnsupported(Exception):  # noqa: N818 -- as above
    pass


class PacketData:
    __slots__ = ("bsl", "bsl_data", "decode_flag", "pts")

    def __init__(self) -> None:
        self.bsl = self.bsl_data = self.decode_flag = self.pts = 0


class DecodedFrame:
    def __init__(self, picture: av.VideoFrame) -> None:
        self._rows = rows_in(picture)
        self.format = 3 if self._rows.dtype == np.uint8 else 5
        self.shape = self._rows.shape

    def GetPtrToPlane(self, index: int) -> int:
        assert index == 0
        return int(self._rows.ctypes.data)

    def spoil(self) -> None:
        self._rows[...] = 0xAB


class PyNvDecoder:
    def __init__(self, codec: str, *, at_once: bool) -> None:
        self._context: Any = av.CodecContext.create(_DECODERS[codec], "r")
        self._context.thread_count = 1
        self._at_once = at_once
        self._given: list[DecodedFrame] = []
        self._shape: tuple[int, ...] | None = None
        self._at_end = False

    def Decode(self, packet: PacketData) -> list[DecodedFrame]:
        self._spoil()
        try:
            pictures = self._drain() if packet.bsl == 0 else self._decode(packet)
        except av.error.FFmpegError as error:
            raise PyNvVCException(f"Decode : {error}\nError code : 1") from error
        self._given = [DecodedFrame(picture) for picture in pictures]
        for frame in self._given:
            self._shape = self._shape or frame.shape
            if frame.shape != self._shape:
                raise PyNvVCException("Error code : 801")
        return self._given

    def _drain(self) -> list[av.VideoFrame]:
        self._at_end = True
        pictures: list[av.VideoFrame] = self._context.decode(None)
        self._context.flush_buffers()
        return pictures

    def _decode(self, packet: PacketData) -> list[av.VideoFrame]:
        assert packet.decode_flag & _TIMESTAMP
        assert bool(packet.decode_flag & _END_OF_PICTURE) == self._at_once
        assert bool(packet.decode_flag & _DISCONTINUITY) == self._at_end, "after an end comes something new"
        self._at_end = False
        unit: Any = av.Packet(ctypes.string_at(packet.bsl_data, packet.bsl))
        unit.pts = packet.pts
        pictures: list[av.VideoFrame] = self._context.decode(unit)
        return pictures

    def _spoil(self) -> None:
        for frame in self._given:
            frame.spoil()

    def __del__(self) -> None:
        self._spoil()


class NvdecOnCpu(ModuleType):
    """The module."""

    PacketData = PacketData
    PyNvVCException = PyNvVCException
    PyNvVCExceptionUnsupported = PyNvVCExceptionUnsupported
    Pixel_Format = SimpleNamespace(NV12=3, P016=5)
    VideoPacketFlag = SimpleNamespace(TIMESTAMP=_TIMESTAMP, DISCONTINUITY=_DISCONTINUITY, ENDOFPICTURE=_END_OF_PICTURE)
    DisplayDecodeLatencyType = SimpleNamespace(NATIVE="native", LOW="low")
    cudaVideoCodec = SimpleNamespace(**{name: name for name in _DECODERS})  # noqa: N815 -- as above
    cudaVideoChromaFormat = SimpleNamespace(**{"420": "420"})  # noqa: N815 -- as above
    lacks: ClassVar[frozenset[tuple[str, int]]] = frozenset({("AV1", 8), ("H264", 10)})

    def __init__(self) -> None:
        super().__init__("PyNvVideoCodec")
        self.sessions = 0
        self.questions = 0

    def CreateDecoder(
        self, *, gpuid: int, codec: str, cudacontext: int, cudastream: int, usedevicememory: bool, latency: str
    ) -> PyNvDecoder:
        assert (gpuid, cudacontext, cudastream, usedevicememory) == (0, 0, Stream.ptr, True)
        assert latency in {"native", "low"}
        self.sessions += 1
        return PyNvDecoder(codec, at_once=latency == "low")

    def GetDecoderCaps(self, *, gpuid: int, codec: str, chromaformat: str, bitdepth: int) -> dict[str, int]:
        assert (gpuid, chromaformat) == (0, "420")
        self.questions += 1
        return {
            "supported": int((codec, bitdepth) not in self.lacks),
            "num_decoder_engines": 7,
            "width_min": 48,
            "height_min": 16,
            "width_max": 4096,
            "height_max": 4096,
            "mb_num_max": 65536,
        }


class CudaState:
    """What the pretended context is in."""

    def __init__(self) -> None:
        self.status = 0
        self.free_bytes = 8 << 30


@pytest.fixture
def cuda_state(request: pytest.FixtureRequest) -> CudaState:
    """Give the pretended CuPy what decoders use beyond it."""
    request.getfixturevalue("gpu_on_cpu")
    state = CudaState()
    cuda = sys.modules["cupy"].cuda
    runtime = cuda.runtime
    copy = runtime.memcpyAsync

    def copy_anywhere(target: int, source: int, size: int, kind: int, stream: int) -> None:
        if kind == runtime.memcpyDeviceToDevice:
            assert stream == Stream.ptr
            ctypes.memmove(target, source, size)
        else:
            copy(target, source, size, kind, stream)

    runtime.memcpyDeviceToDevice = 3
    runtime.memcpyAsync = copy_anywhere
    runtime.streamQuery = lambda _stream: state.status
    runtime.memGetInfo = lambda: (state.free_bytes, 16 << 30)
    runtime.CUDARuntimeError = CUDARuntimeError
    return state


@pytest.fixture
def nvdec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NvdecOnCpu:
    """Put the pretence in the place of PyNvVideoCodec for one test."""
    request.getfixturevalue("cuda_state")
    module = NvdecOnCpu()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", module)
    monkeypatch.setattr(capabilities, "_answers", {})
    return module


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def decoding_gpu(request: pytest.FixtureRequest) -> Gpu:
    """Run a test with the pretence, and where there is a GPU also there."""
    if request.param == "real":
        return open_gpu()
    request.getfixturevalue("nvdec")
    pretended: Gpu = request.getfixturevalue("gpu_on_cpu")
    return pretended


def samples_of(surface: Surface) -> U8:
    """Download a surface: the bytes of luma, and below them those of interleaved chroma."""
    import cupy

    surface.ready.synchronize()
    samples = np.empty(surface.size_bytes, np.uint8)
    runtime = cupy.cuda.runtime
    runtime.memcpy(samples.ctypes.data, surface.luma_address, surface.size_bytes, runtime.memcpyDeviceToHost)
    return samples


def samples_in(picture: av.VideoFrame) -> U8:
    """Return what `samples_of` would of the surface that holds this picture."""
    return rows_in(picture).view(np.uint8).reshape(-1)


def rows_in(picture: av.VideoFrame) -> npt.NDArray[Any]:
    """Return a 4:2:0 picture as NVDEC writes it: (height * 3 / 2, width), uint8 or, for 10 bits, uint16."""
    deep = "10" in picture.format.name
    packed = picture.reformat(format="p010le" if deep else "nv12")
    row_bytes = packed.width * (2 if deep else 1)
    planes = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, :row_bytes]
        for plane in packed.planes
    ]
    return np.concatenate(planes).view(np.uint16 if deep else np.uint8)

"""PyNvVideoCodec's encoder without NVENC: takes what the real one takes and nothing else; x264 or x265 encode.

Names, parameters and fields are those of version 2.2.4; a test holds them against its signatures. The real one does not
report unknown options: this one does.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.frame import PictureType
from plugins.late_gpu import Stream, void

from vrseg.encode.nvenc_sessions import sessions_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.codeccontext import VideoCodecContext

    from vrseg.gpu.device import Gpu

_DELAY_FRAMES = 3  # of this binding, with no B-frame and no look-ahead
_CODECS = {"h264": "libx264", "hevc": "libx265"}
_NUMBERS = frozenset(
    {"gop", "idrperiod", "bf", "bitrate", "maxbitrate", "vbvbufsize", "cq", "repeatspspps", "use_ivf_container"}
)
_WORDS = {
    "codec": {"h264", "hevc", "av1"},
    "preset": {"P1", "P2", "P3", "P4", "P5", "P6", "P7"},
    "tuning_info": {"high_quality", "low_latency", "ultra_low_latency", "lossless", "uhq"},
    "rc": {"constqp", "vbr", "cbr"},
}


class PyNvVCException(Exception):  # noqa: N818 -- its name
    pass


class PyNvVCExceptionUnsupported(Exception):  # noqa: N818 -- its name
    pass


class NV_ENC_PIC_FLAGS:  # noqa: N801 -- its name
    FORCEIDR = 2


class NV_ENC_PIC_PARAMS:  # noqa: N801 -- its name
    __slots__ = ("encodePicFlags", "inputTimeStamp")

    def __init__(self) -> None:
        self.encodePicFlags = 0
        self.inputTimeStamp = 0


class structEncodeReconfigureParams:  # noqa: N801 -- its name
    __slots__ = ("averageBitrate", "maxBitRate", "vbvBufferSize")

    def __init__(self, options: dict[str, Any]) -> None:
        self.averageBitrate = int(options.get("bitrate", 0))
        self.maxBitRate = int(options.get("maxbitrate", 0))
        self.vbvBufferSize = int(options.get("vbvbufsize", 0))


class Machine:
    """What the GPU and its driver are like, and what was done to them."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.most_sessions: int | None = None
        self.refusal: Exception | None = None
        """Answer to every try."""
        self.failure: Exception | None = None
        """Answer to every picture."""
        self.sessions = 0
        self.tries = 0
        self.asked: list[dict[str, Any]] = []
        """Size and options of every encoder that was made."""
        self.bitrates: list[structEncodeReconfigureParams] = []
        self.most_b_frames = 4


def refused(function: str, code: int) -> PyNvVCException:
    return PyNvVCException(f"PyNvEncoder constructor failed: {function} Error code : {code} Error Type : NVENC error")


OPENING = "m_nvenc.nvEncOpenEncodeSessionEx(&encodeSessionExParams, &hEncoder)"


class PyNvEncoder:
    def __init__(self, machine: Machine, width: int, height: int, stream: int, options: dict[str, Any]) -> None:
        self._machine = machine
        self._shape = height, width
        self._stream = Stream.by_address[stream] if stream else None
        self._options = options
        self._b_frames = int(options.get("bf", 0))
        self._context = _software(width, height, options)
        self._pictures: deque[tuple[np.ndarray[Any, Any], int, int]] = deque()
        self._ended = False
        machine.sessions += 1

    def __del__(self) -> None:
        self._machine.sessions -= 1

    def GetNumBFrames(self) -> int:  # noqa: N802 -- its name
        return self._b_frames

    def GetSequenceParams(self) -> bytes:  # noqa: N802 -- its name
        context = _software(self._shape[1], self._shape[0], self._options, headers_apart=True)
        return context.extradata or b""

    def Encode(self, frame: Any, picParams: NV_ENC_PIC_PARAMS) -> list[dict[str, Any]]:  # noqa: N802, N803 -- its names
        assert isinstance(picParams, NV_ENC_PIC_PARAMS)
        assert picParams.inputTimeStamp >= 0, "unsigned"
        assert not self._ended, "EndEncode was called"
        if self._machine.failure is not None:
            raise self._machine.failure
        self._pictures.append((self._copy_of(frame), picParams.inputTimeStamp, picParams.encodePicFlags))
        return self._encoded(leave=_DELAY_FRAMES)

    def EndEncode(self) -> list[dict[str, Any]]:  # noqa: N802 -- its name
        self._ended = True
        return [*self._encoded(leave=0), *self._answers_of(None)]

    def GetEncodeReconfigureParams(self) -> structEncodeReconfigureParams:  # noqa: N802 -- its name
        return structEncodeReconfigureParams(self._options)

    def Reconfigure(self, params: structEncodeReconfigureParams, /) -> bool:  # noqa: N802 -- its name
        self._machine.bitrates.append(params)
        return params.averageBitrate > 0

    def _copy_of(self, frame: Any) -> np.ndarray[Any, Any]:
        """Copy both planes when the encoder's stream comes to it."""
        height, width = self._shape
        luma, chroma = (plane.__cuda_array_interface__ for plane in frame.cuda())
        for plane, shape, strides in (
            (luma, (height, width, 1), (width, 1, 1)),
            (chroma, (height // 2, width // 2, 2), (width, 2, 1)),
        ):
            assert set(plane) == {"version", "typestr", "shape", "strides", "data"}
            assert (plane["typestr"], plane["shape"], plane["strides"]) == ("|u1", shape, strides)
        assert chroma["data"][0] == luma["data"][0] + width * height, "chroma comes right behind luma"
        assert self._stream is not None
        copy = np.empty((height * 3 // 2, width), np.uint8)
        self._stream.put(lambda: void(ctypes.memmove(copy.ctypes.data, luma["data"][0], copy.size)))
        return copy

    def _encoded(self, *, leave: int) -> list[dict[str, Any]]:
        answers = []
        while len(self._pictures) > leave:
            assert self._stream is not None
            self._stream.synchronize()
            planes, timestamp, flags = self._pictures.popleft()
            picture = av.VideoFrame.from_ndarray(planes, format="nv12").reformat(format="yuv420p")
            picture.pts, picture.time_base = timestamp, Fraction(1, 30)
            picture.pict_type = PictureType.I if flags & NV_ENC_PIC_FLAGS.FORCEIDR else PictureType.NONE
            answers += self._answers_of(picture)
        return answers

    def _answers_of(self, picture: av.VideoFrame | None) -> list[dict[str, Any]]:
        return [
            {"data": bytes(packet), "timestamp": packet.pts, "picture_type": 3 if packet.is_keyframe else 0}
            for packet in self._context.encode(picture)
        ]


def _software(width: int, height: int, options: dict[str, Any], *, headers_apart: bool = False) -> VideoCodecContext:
    name = _CODECS[options["codec"]]
    context = cast("VideoCodecContext", av.CodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.gop_size = int(options.get("gop", 1 << 20))
    context.max_b_frames = int(options.get("bf", 0))
    own = {"preset": "ultrafast", "forced-idr": "1"}
    if name == "libx264":
        own |= {"x264-params": "rc-lookahead=0:sync-lookahead=0:scenecut=0:b-adapt=0:threads=1"}
    else:
        own |= {
            "x265-params": f"log-level=none:repeat-headers={int(not headers_apart)}:b-adapt=0:rc-lookahead=3:info=0"
        }
    context.options = own
    if headers_apart:
        context.flags |= Flags.global_header
    context.open()
    return context


def _check(options: dict[str, Any]) -> None:
    for key, value in options.items():
        if key in _NUMBERS:
            assert int(value) >= 0, (key, value)
        elif key == "fps":
            assert float(value) > 0
        else:
            assert value in _WORDS[key], (key, value)


def module_of(machine: Machine) -> ModuleType:
    """Make the module `PyNvVideoCodec` of a machine."""

    def CreateEncoder(  # noqa: N802 -- its name
        width: int,
        height: int,
        fmt: str,
        usecpuinputbuffer: bool,
        *,
        cudacontext: int = 0,
        cudastream: int = 0,
        **options: Any,
    ) -> PyNvEncoder:
        machine.tries += 1
        assert (fmt, usecpuinputbuffer) == ("NV12", False)
        assert cudacontext, "the first GPU's context is not always the right one"
        _check(options)
        if machine.refusal is not None:
            raise machine.refusal
        if machine.most_sessions is not None and machine.sessions >= machine.most_sessions:
            raise refused(OPENING, 21)
        if options["codec"] not in _CODECS:
            raise PyNvVCExceptionUnsupported("Codec not supported on this GPU")
        machine.asked.append({"width": width, "height": height, **options})
        return PyNvEncoder(machine, width, height, cudastream, options)

    def GetEncoderCaps(gpuid: int = 0, codec: str = "h264") -> dict[str, int]:  # noqa: N802 -- its name
        assert (gpuid, codec in _CODECS) == (0, True)
        return {"num_max_bframes": machine.most_b_frames}

    module = ModuleType("PyNvVideoCodec")
    for member in (
        CreateEncoder,
        GetEncoderCaps,
        NV_ENC_PIC_FLAGS,
        NV_ENC_PIC_PARAMS,
        PyNvEncoder,
        PyNvVCException,
        PyNvVCExceptionUnsupported,
        structEncodeReconfigureParams,
    ):
        setattr(module, member.__name__, member)
    return module


@pytest.fixture
def nvenc(late_gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Put the fake in the place of PyNvVideoCodec for one test."""
    machine = Machine(late_gpu)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", module_of(machine))
    sessions_of.cache_clear()
    yield machine
    sessions_of.cache_clear()

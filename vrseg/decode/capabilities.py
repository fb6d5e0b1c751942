"""What the decoders of a GPU can decode."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.decode.bitstream import CODECS

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

    from vrseg.gpu.device import Gpu

NVDEC_CODECS: dict[str, str] = {"h264": "H264", "hevc": "HEVC", "vp9": "VP9", "av1": "AV1"}
"""Names of `PyNvVideoCodec.cudaVideoCodec`, by FFmpeg's name of the codec."""
_BIT_DEPTHS: dict[str, int] = {
    "yuv420p": 8,
    "yuvj420p": 8,
    "nv12": 8,
    "yuv420p10le": 10,
    "p010le": 10,
    "yuv420p12le": 12,
    "p012le": 12,
}
"""Of the 4:2:0 pixel formats, the only ones that a surface holds."""

_lock = threading.Lock()
_answers: dict[tuple[int, str, int], Capabilities | str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What NVDEC says of one codec and bit depth, 4:2:0."""

    supported: bool
    engines: int
    """Hardware decoders that work side by side."""
    min_width: int
    min_height: int
    max_width: int
    max_height: int
    max_macroblocks: int
    """Of 16 x 16 pixels, in one picture."""

    def refusal(self, width: int, height: int) -> str | None:
        """Return why pictures of this size cannot be decoded, or None when they can."""
        if not self.supported:
            return "the GPU has no decoder for it"
        if width % 2 or height % 2:
            return "NVDEC knows no odd sizes"
        if not (self.min_width <= width <= self.max_width and self.min_height <= height <= self.max_height):
            return f"NVDEC takes {self.min_width}x{self.min_height} to {self.max_width}x{self.max_height}"
        if (width + 15) // 16 * ((height + 15) // 16) > self.max_macroblocks:
            return f"NVDEC takes {self.max_macroblocks} macroblocks at most"
        return None


def codec_name(context: VideoCodecContext) -> str:
    """Return FFmpeg's name of the codec itself: decoders may be called otherwise."""
    return context.codec.canonical_name


def hardware_refusal(gpu: Gpu, context: VideoCodecContext) -> str | None:
    """Return why NVDEC cannot decode a stream, in half a sentence; None when it can."""
    found = _capabilities_for(gpu, context)
    return found if isinstance(found, str) else found.refusal(context.width, context.height)


def hardware_engines(gpu: Gpu, context: VideoCodecContext) -> int:
    """Return how many pictures of such a stream the GPU decodes at once; 1 when it does not say."""
    found = _capabilities_for(gpu, context)
    return 1 if isinstance(found, str) else max(1, found.engines)


def _capabilities_for(gpu: Gpu, context: VideoCodecContext) -> Capabilities | str:
    codec, pixel_format = codec_name(context), context.pix_fmt or "an unknown pixel format"
    if codec not in CODECS:
        return f"NVDEC is not used for {codec}"
    if pixel_format not in _BIT_DEPTHS:
        return f"surfaces do not hold {pixel_format}"
    return capabilities(gpu, codec, _BIT_DEPTHS[pixel_format])


def capabilities(gpu: Gpu, codec: str, bit_depth: int) -> Capabilities | str:
    """Ask the driver once per process; return why not when there is no answer."""
    with _lock:
        key = (gpu.index, codec, bit_depth)
        if key not in _answers:
            _answers[key] = _ask(gpu, codec, bit_depth)
        return _answers[key]


def _ask(gpu: Gpu, codec: str, bit_depth: int) -> Capabilities | str:
    try:
        import PyNvVideoCodec as nvc  # noqa: N813, PLC0415 -- a GPU library; its own documentation calls it nvc
    except (ImportError, RuntimeError) as error:
        return f"PyNvVideoCodec does not load ({str(error).splitlines()[0]})"
    try:
        told = nvc.GetDecoderCaps(
            gpuid=gpu.index,
            codec=getattr(nvc.cudaVideoCodec, NVDEC_CODECS[codec]),
            chromaformat=getattr(nvc.cudaVideoChromaFormat, "420"),
            bitdepth=bit_depth,
        )
    except (nvc.PyNvVCException, nvc.PyNvVCExceptionUnsupported) as error:
        return f"NVDEC does not answer ({str(error).splitlines()[0]})"
    finally:
        gpu.use()  # the question makes a CUDA context of its own and leaves with it
    return Capabilities(
        supported=bool(told["supported"]),
        engines=told["num_decoder_engines"],
        min_width=told["width_min"],
        min_height=told["height_min"],
        max_width=told["width_max"],
        max_height=told["height_max"],
        max_macroblocks=told["mb_num_max"],
    )

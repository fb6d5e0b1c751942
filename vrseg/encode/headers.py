"""Parameter sets of a stream: taken out of its packets, with the colours written into them.

NVENC puts them in front of key frames, and its binding can neither say full range nor BT.2020 in them. Containers want
them once, in the header. FFmpeg's bitstream filters do both without touching the pictures.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
from av.bitstream import BitStreamFilterContext

if TYPE_CHECKING:
    from vrseg.encode.settings import CodecName

_COLOURED = {
    "h264": "h264_metadata=matrix_coefficients={matrix}:video_full_range_flag={full}",
    "hevc": "hevc_metadata=matrix_coefficients={matrix}:video_full_range_flag={full}",
    "av1": "av1_metadata=matrix_coefficients={matrix}:color_range={full}",
}
# Types of NAL units: SPS and PPS in H.264; VPS, SPS and PPS in HEVC. AV1 keeps its sequence header in key frames.
_BARE = {"h264": "filter_units=remove_types=7-8", "hevc": "filter_units=remove_types=32-34"}


class Headers:
    """The parameter sets of one stream, of H.264 or HEVC as Annex B, of AV1 as OBUs."""

    def __init__(self, codec: CodecName, parameter_sets: bytes, *, matrix_code: int, full_range: bool) -> None:
        """Write the colours into `parameter_sets`.

        Args:
            codec: of the stream.
            parameter_sets: as the encoder made them.
            matrix_code: MatrixCoefficients of ITU-T H.273.
            full_range: samples use all of 0 to 255.

        Raises:
            av.error.FFmpegError: they are no parameter sets.
        """
        self._codec = codec
        self._coloured = _COLOURED[codec].format(matrix=matrix_code, full=int(full_range))
        self.extradata = _filtered(codec, self._coloured, parameter_sets)

    def key_frame(self, data: bytes) -> bytes:
        """Return the packet of a key frame as containers want it."""
        return _filtered(self._codec, _BARE.get(self._codec, self._coloured), data)


def _filtered(codec: CodecName, bitstream_filter: str, data: bytes) -> bytes:
    """Run one packet through a filter of its own: it remembers parameter sets, and these are none of a later packet."""
    with av.open(io.BytesIO(), "w", format="nut") as nowhere:
        stream = nowhere.add_mux_stream(codec, width=2, height=2)  # the filter asks for the codec only
        packet: av.Packet[Any] = av.Packet(data)
        return b"".join(bytes(part) for part in BitStreamFilterContext(bitstream_filter, stream).filter(packet))

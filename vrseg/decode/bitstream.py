"""What must be known of compressed units to hand them to a hardware decoder: where one can begin, and what changes it.

After ITU-T H.264 (7.3.1, table 7-1), H.265 (7.3.1, table 7-1), the VP9 bitstream specification (6.2) and AV1 (5.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

Codec: TypeAlias = Literal["h264", "hevc", "vp9", "av1"]
Unit: TypeAlias = bytes | bytearray
CODECS: frozenset[str] = frozenset({"h264", "hevc", "vp9", "av1"})

_START_CODE = b"\0\0\1"
_LONG_START_CODE = b"\0" + _START_CODE
_H264_IDR, _H264_SPS, _H264_SLICES = 5, 7, range(1, 6)
_HEVC_IDR, _HEVC_SPS, _HEVC_SLICES = (19, 20), 33, range(32)
# BLA and CRA: pictures at which decoding can begin, but whose leading pictures (RASL) need what came before.
_HEVC_OPEN_ENTRIES, _HEVC_RASL = range(16, 22), (8, 9)
_OBU_SEQUENCE_HEADER = 1
_VP9_SYNC_CODE = 0x498342


@dataclass(frozen=True, slots=True)
class Syntax:
    """How units of one stream are written."""

    codec: Codec
    length_size: int = 0
    """Bytes of the length before each NAL unit; 0: start codes (Annex B), or a codec without NAL units."""

    def begins_anew(self, unit: Unit, *, key: bool) -> bool:
        """Tell whether neither this unit nor any after it, in decoding or display order, needs one before it.

        `key` is what the container says. For H.264 and HEVC only IDR pictures are such places.
        """
        if self.codec == "h264":
            return self._first_slice_type(unit) == _H264_IDR
        if self.codec == "hevc":
            return self._first_slice_type(unit) in _HEVC_IDR
        return key

    def is_open_entry(self, unit: Unit) -> bool:
        """Tell whether decoding can begin here, at the price of the leading pictures that follow (HEVC only)."""
        kind = self._first_slice_type(unit) if self.codec == "hevc" else None
        return kind in _HEVC_OPEN_ENTRIES and kind not in _HEVC_IDR

    def is_lost_leader(self, unit: Unit) -> bool:
        """Tell whether this picture cannot be decoded when decoding began at the last entry (HEVC's RASL)."""
        return self.codec == "hevc" and self._first_slice_type(unit) in _HEVC_RASL

    def sequence(self, unit: Unit) -> bytes:
        """Return what the unit says of size and format; empty when it says nothing.

        Two units with unequal answers need two decoders.
        """
        if self.codec == "vp9":
            return _vp9_sequence(unit)
        if self.codec == "av1":
            return b"".join(obu for kind, obu in _obus(unit) if kind == _OBU_SEQUENCE_HEADER)
        wanted = _H264_SPS if self.codec == "h264" else _HEVC_SPS
        return b"".join(
            unit[start:end].rstrip(b"\0") for kind, start, end in self._units_up_to_slice(unit) if kind == wanted
        )

    def _first_slice_type(self, unit: Unit) -> int | None:
        slices = _H264_SLICES if self.codec == "h264" else _HEVC_SLICES
        return next((kind for kind, _, _ in self._units_up_to_slice(unit) if kind in slices), None)

    def _units_up_to_slice(self, unit: Unit) -> Iterator[tuple[int, int, int]]:
        """Yield (type, start, end) of NAL units before the first slice, and of that one: what matters comes before it.

        Where a slice ends is not looked for, since it is most of the unit: it is said to end where the unit does.
        """
        h264 = self.codec == "h264"
        slices = _H264_SLICES if h264 else _HEVC_SLICES
        for start in _nal_starts(unit, self.length_size):
            kind = unit[start] & 31 if h264 else unit[start] >> 1 & 63
            if kind in slices:
                yield kind, start, len(unit)
                return
            yield kind, start, _nal_end(unit, start, self.length_size)


def syntax_of(codec: Codec, extradata: bytes) -> Syntax:
    """Read from a container's codec configuration how its units are written."""
    if codec in ("vp9", "av1") or not extradata or extradata.startswith((_START_CODE, _LONG_START_CODE)):
        return Syntax(codec)
    at = 4 if codec == "h264" else 21  # lengthSizeMinusOne of avcC and hvcC, ISO/IEC 14496-15
    return Syntax(codec, (extradata[at] & 3) + 1 if len(extradata) > at else 4)


class DamagedUnitError(Exception):
    """A unit cannot be decoded. The next one may, unless the decoder is `spent`."""

    def __init__(self, reason: str, *, spent: bool = False) -> None:
        super().__init__(reason)
        self.spent = spent


class ByteStream:
    """Brings the packets of one stream to the form that hardware parses: a byte stream with its headers in it.

    FFmpeg has filters for this, but they want the demuxer's stream, which is gone once a short file has been read.
    """

    def __init__(self, codec: Codec, extradata: bytes) -> None:
        self.syntax = Syntax(codec)
        self._codec = codec
        self._source = syntax_of(codec, extradata)
        # Of containers, and of sources that tell them outside of the stream: RTSP in its session description, for one.
        self._headers = _headers_in(codec, extradata)

    def renew(self, packet: av.Packet[Any]) -> None:
        """Take over new parameters, if the packet brings some. Not at entries only: FLV has them on any packet."""
        if packet.has_sidedata("new_extradata"):
            extradata = bytes(packet.get_sidedata("new_extradata"))
            self._source, self._headers = syntax_of(self._codec, extradata), _headers_in(self._codec, extradata)

    def convert(self, packet: av.Packet[Any], *, entry: bool) -> bytearray:
        """Return the packet's units; at an entry, a packet that brings no sequence header gets the container's.

        Raises:
            DamagedUnitError: it is empty, or its parts do not add up.
        """
        unit = bytearray(packet)
        if not unit:
            raise DamagedUnitError("it is empty")
        if self._source.length_size:
            unit = _with_start_codes(unit, self._source.length_size)
        if entry and self._headers and not self.syntax.sequence(unit):
            unit[:0] = self._headers
        return unit


def _headers_in(codec: Codec, extradata: bytes) -> bytes:
    """Return the sequence headers of a container's codec configuration, as a byte stream."""
    if codec == "av1":
        return extradata[4:] if extradata[:1] == b"\x81" else b""  # av1C: marker and version, then settings, then OBUs
    if codec == "vp9":
        return b""
    if not syntax_of(codec, extradata).length_size:
        return extradata
    sets = _avcc_sets(extradata) if codec == "h264" else _hvcc_sets(extradata)
    return b"".join(_LONG_START_CODE + one for one in sets)


def _avcc_sets(record: bytes) -> Iterator[bytes]:
    """Yield SPS and PPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3)."""
    at = 5
    for count_mask in (31, 255):
        count = int.from_bytes(record[at : at + 1], "big") & count_mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : at + 2 + size]
            at += 2 + size


def _hvcc_sets(record: bytes) -> Iterator[bytes]:
    """Yield VPS, SPS and PPS of an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3)."""
    at = 23
    for _ in range(int.from_bytes(record[22:23], "big")):
        count = int.from_bytes(record[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, len(record))):
            size = int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : at + 2 + size]
            at += 2 + size


def _with_start_codes(unit: bytearray, length_size: int) -> bytearray:
    """Turn NAL units with lengths before them into a byte stream.

    Raises:
        DamagedUnitError: the lengths do not add up.
    """
    units: list[slice] = []
    at, end = 0, len(unit)
    while at + length_size < end:
        start = at + length_size
        at = start + int.from_bytes(unit[at:start], "big")
        units.append(slice(start, at))
    if at != end or all(one.start == one.stop for one in units):
        raise DamagedUnitError("the lengths of its parts do not add up")
    if length_size == len(_LONG_START_CODE) and all(one.start < one.stop for one in units):
        for one in units:  # the usual case: each is as long as what it takes the place of
            unit[one.start - length_size : one.start] = _LONG_START_CODE
        return unit
    return bytearray().join(_LONG_START_CODE + unit[one] for one in units if one.start < one.stop)


def _nal_starts(unit: Unit, length_size: int) -> Iterator[int]:
    """Yield where each NAL unit begins that is not empty; ends quietly where lengths do not add up."""
    if length_size:
        at = 0
        while at + length_size < len(unit):
            start = at + length_size
            at = _nal_end(unit, start, length_size)
            if start < at <= len(unit):
                yield start
        return
    at = unit.find(_START_CODE)
    while at >= 0:
        start = at + len(_START_CODE)
        if start < len(unit) and not unit.startswith(_START_CODE, start):
            yield start
        at = unit.find(_START_CODE, start)


def _nal_end(unit: Unit, start: int, length_size: int) -> int:
    """Return where the NAL unit ends that begins at `start`, by the length before it or the start code behind."""
    if length_size:
        return start + int.from_bytes(unit[start - length_size : start], "big")
    at = unit.find(_START_CODE, start)
    return at if at >= 0 else len(unit)


def _obus(unit: Unit) -> Iterator[tuple[int, Unit]]:
    """Yield (type, payload) of the OBUs of a temporal unit."""
    at = 0
    while at < len(unit):
        header = unit[at]
        at += 2 if header & 4 else 1
        size = len(unit) - at
        if header & 2:
            size, at = _leb128(unit, at)
        yield header >> 3 & 15, unit[at : at + size]
        at += size


def _leb128(unit: Unit, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends (AV1, 4.10.5)."""
    value = 0
    for index, byte in enumerate(unit[at : at + 8]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    return value, len(unit)


def _vp9_sequence(unit: Unit) -> bytes:
    """Return profile, bit depth, colour and size of a key frame."""
    bits = int.from_bytes(unit[:16].ljust(16, b"\0"), "big")
    at = 128

    def read(count: int) -> int:
        nonlocal at
        at -= count
        return bits >> at & (1 << count) - 1

    read(2)
    profile = read(1) | read(1) << 1
    if profile == 3:
        read(1)
    shown_again, not_key = read(1), read(1)
    read(2)
    if shown_again or not_key or read(24) != _VP9_SYNC_CODE:
        return b""
    deep = read(1) if profile >= 2 else 0
    space = read(3)
    if space != 7:
        read(1)
        if profile in (1, 3):
            read(3)
    elif profile in (1, 3):
        read(1)
    return bytes((profile, deep)) + read(32).to_bytes(4, "big")

"""H.264 packets as fragmented MP4 in memory, after ISO/IEC 14496-12 (boxes) and 14496-15 (avcC).

FFmpeg's muxer cannot be told through PyAV to end a fragment at a given packet, and would copy what nobody asks for.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from vrseg.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

    from vrseg.frame import EncodedFormat, EncodedPacket

TICKS_PER_S = 90_000

_TRACK_ID = 1
_SPS, _PPS = 7, 8
_PROFILES_WITH_CHROMA = frozenset({100, 110, 122, 144})
_KEY_SAMPLE, _OTHER_SAMPLE = 0x0200_0000, 0x0101_0000
"""sample_depends_on 2 (on nothing); or 1, with sample_is_non_sync_sample."""
_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""a, b, c, d of the matrix that turns clockwise."""


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """Yield the NAL units between start codes."""
    for unit in annex_b.split(b"\0\0\1")[1:]:
        if stripped := unit.rstrip(b"\0"):  # a unit never ends in zeros: those belong to the next start code
            yield stripped


def parameter_sets(annex_b: bytes) -> tuple[bytes, bytes]:
    """Return the first SPS and PPS.

    Raises:
        MediaError: one of them is missing.
    """
    units = list(nal_units(annex_b))
    sps = next((unit for unit in units if unit[0] & 31 == _SPS and len(unit) > 3), None)
    pps = next((unit for unit in units if unit[0] & 31 == _PPS), None)
    if sps is None or pps is None:
        raise MediaError("the encoder gave no H.264 parameter sets: the live page cannot show this output")
    return sps, pps


def codec_string(sps: bytes) -> str:
    """Name the codec as browsers want it (RFC 6381): `avc1.64001f`."""
    return f"avc1.{sps[1:4].hex()}"


def init_segment(video: EncodedFormat, sps: bytes, pps: bytes) -> bytes:
    """Return what a player must read before the first fragment: `ftyp` and `moov`."""
    a, b, c, d = (value << 16 for value in _TURNS[video.rotation_deg])
    upright = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    mvhd = _full("mvhd", 0, 0, struct.pack(">4IiH10x", 0, 0, TICKS_PER_S, 0, 1 << 16, 0), straight, bytes(24), _u32(2))
    tkhd = _full(
        "tkhd", 0, 3, struct.pack(">5I8x4H", 0, 0, _TRACK_ID, 0, 0, 0, 0, 0, 0), upright,
        struct.pack(">2I", video.width << 16, video.height << 16),
    )  # fmt: skip
    mdia = _box(
        "mdia",
        _full("mdhd", 0, 0, struct.pack(">4I2H", 0, 0, TICKS_PER_S, 0, 0x55C4, 0)),  # language: undetermined
        _full("hdlr", 0, 0, struct.pack(">4x4s12x", b"vide"), b"vrseg\0"),
        _box(
            "minf",
            _full("vmhd", 0, 1, bytes(8)),
            _box("dinf", _full("dref", 0, 0, _u32(1), _full("url ", 0, 1))),
            _box(
                "stbl",
                _full("stsd", 0, 0, _u32(1), _sample_entry(video, sps, pps)),
                *(_full(kind, 0, 0, _u32(0)) for kind in ("stts", "stsc", "stco")),
                _full("stsz", 0, 0, _u32(0), _u32(0)),
            ),
        ),
    )
    mvex = _box("mvex", _full("trex", 0, 0, struct.pack(">5I", _TRACK_ID, 1, 0, 0, 0)))
    ftyp = _box("ftyp", b"iso6", _u32(0), b"iso6mp41")
    return ftyp + _box("moov", mvhd, _box("trak", tkhd, mdia), mvex)


def fragment(sequence: int, packets: Sequence[EncodedPacket], end_dts: int, shift_s: Fraction) -> bytes:
    """Return `moof` and `mdat` of packets that follow each other.

    Args:
        sequence: of the fragment, rising.
        packets: at least one.
        end_dts: at which the last packet's time is over.
        shift_s: is added to their times, in seconds.
    """
    samples = [b"".join(_length_prefixed(packet.data)) for packet in packets]
    decode_at = [_ticks(packet.dts, packet, shift_s) for packet in packets]
    decode_at.append(_ticks(end_dts, packets[-1], shift_s))
    rows = b"".join(
        struct.pack(
            ">3Ii",
            end - start,
            len(sample),
            _KEY_SAMPLE if packet.key else _OTHER_SAMPLE,
            _ticks(packet.pts, packet, shift_s) - start,
        )
        for packet, sample, (start, end) in zip(packets, samples, pairwise(decode_at), strict=True)
    )

    def moof(data_offset: int) -> bytes:
        return _box(
            "moof",
            _full("mfhd", 0, 0, _u32(sequence)),
            _box(
                "traf",
                _full("tfhd", 0, 0x020000, _u32(_TRACK_ID)),  # offsets count from this moof
                _full("tfdt", 1, 0, struct.pack(">Q", decode_at[0])),
                # with data offset, and for each sample duration, size, flags and composition offset
                _full("trun", 1, 0x000F01, struct.pack(">Ii", len(packets), data_offset), rows),
            ),
        )

    size = len(moof(0))
    return moof(size + 8) + _box("mdat", *samples)


def _sample_entry(video: EncodedFormat, sps: bytes, pps: bytes) -> bytes:
    avcc = struct.pack(">B3sBBH", 1, sps[1:4], 0xFF, 0xE1, len(sps)) + sps + struct.pack(">BH", 1, len(pps)) + pps
    if sps[1] in _PROFILES_WITH_CHROMA:
        avcc += bytes([0xFC | 1, 0xF8, 0xF8, 0])  # 4:2:0, 8 bits, no extensions
    head = struct.pack(">6xH16x2H2I4xH32xHh", 1, video.width, video.height, 72 << 16, 72 << 16, 1, 24, -1)
    return _box("avc1", head, _box("avcC", avcc))


def _length_prefixed(annex_b: bytes) -> Iterator[bytes]:
    for unit in nal_units(annex_b):
        if unit[0] & 31 not in {_SPS, _PPS}:  # those are in the sample entry
            yield _u32(len(unit))
            yield unit


def _ticks(value: int, packet: EncodedPacket, shift_s: Fraction) -> int:
    return round((value * packet.format.time_base + shift_s) * TICKS_PER_S)


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)


def _box(kind: str, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind.encode()) + b"".join(parts)


def _full(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, _u32(version << 24 | flags), *parts)

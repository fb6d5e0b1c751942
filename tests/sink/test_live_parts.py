"""Parts of the live video: cut where they should be, and read by FFmpeg as what they were."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.encoded import TICKS, encoded, every, frames_at, with_b_frames

from vrseg.encode.settings import EncodeSettings
from vrseg.sink.fmp4 import fragment, nal_units
from vrseg.sink.live import LiveSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import EncodedPacket
    from vrseg.sink.live import LivePart

LIVE = EncodeSettings(live=True, gop_s=1.0)


def parts_of(packets: Iterable[EncodedPacket], *, flush: bool = True) -> list[LivePart]:
    parts: list[LivePart] = []
    sink = LiveSink(parts.append)
    sink.open()
    for packet in packets:
        assert list(sink.process(packet)) == []
    if flush:
        list(sink.flush())
    sink.close()
    return parts


def muxed(parts: list[LivePart], shift_s: Fraction = Fraction(0)) -> bytes:
    fragments = (fragment(n, part.packets, part.end_dts, shift_s) for n, part in enumerate(parts))
    return parts[0].track.init + b"".join(fragments)


def read(data: bytes) -> list[tuple[float, bytes]]:
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        return [(float(frame.time or 0), bytes(frame.planes[0])) for frame in container.decode(video=0)]


@pytest.mark.parametrize("settings", [LIVE, with_b_frames("h264")], ids=["live", "with B-frames"])
def test_ffmpeg_reads_the_pictures_at_their_times(settings: EncodeSettings) -> None:
    packets = encoded(frames_at(every(45, start=7 * TICKS)), settings)
    shift_s = Fraction(5)
    found = read(muxed(parts_of(packets), shift_s))
    assert [time_s for time_s, _ in found] == pytest.approx([5 + (7 + n) / 30 for n in range(45)], abs=2e-5)
    decoder = av.CodecContext.create("h264", "r")
    raw = packets[0].format.extradata + b"".join(packet.data for packet in packets)
    pictures = [
        bytes(one.planes[0]) for unit in (*decoder.parse(raw), *decoder.parse(None)) for one in decoder.decode(unit)
    ]
    pictures += [bytes(one.planes[0]) for one in decoder.decode(None)]
    assert [picture for _, picture in found] == pictures


def test_parts_are_a_quarter_of_a_second_and_begin_anew_at_key_frames() -> None:
    parts = parts_of(encoded(frames_at(every(75)), LIVE))
    assert [part.independent for part in parts] == [True, False, False, False] * 2 + [True, False]
    assert [len(part.packets) for part in parts] == [8, 8, 8, 6] * 2 + [8, 7]
    assert all(part.start_s + part.duration_s == after.start_s for part, after in pairwise(parts))
    assert parts[0].track is parts[-1].track
    assert parts[0].track.codec.startswith("avc1.")


def test_nothing_is_handed_out_before_a_key_frame() -> None:
    packets = encoded(frames_at(every(40)), LIVE)
    parts = parts_of(packets[3:])
    assert parts[0].packets[0].pts == 30 * TICKS


def test_a_hole_in_the_stream_stays_a_hole() -> None:
    times = [*every(10), *every(10, start=3 * 30 * TICKS)]
    parts = parts_of(encoded(frames_at(times), LIVE))
    assert max(part.duration_s for part in parts) <= Fraction(9, 30)
    found = read(muxed(parts))
    assert [time_s for time_s, _ in found] == pytest.approx([time / (30 * TICKS) for time in times], abs=2e-5)


def test_a_turned_picture_is_shown_upright() -> None:
    packets = encoded(frames_at(every(3), rotation_deg=90), LIVE)
    with av.open(io.BytesIO(muxed(parts_of(packets))), "r", format="mp4") as container:
        assert next(container.decode(video=0)).rotation == -90


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_units_are_what_lies_between_start_codes(payloads: list[bytes]) -> None:
    units = [b"\x41" + payload.replace(b"\0", b"\x02") for payload in payloads]
    assert list(nal_units(b"".join(b"\0\0\0\1" + unit for unit in units))) == units
    assert list(nal_units(b"".join(b"\0\0\1" + unit + b"\0\0" for unit in units))) == units

"""What is read of compressed units, against FFmpeg's own filters and against units written by hand."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
import pytest
from av.bitstream import BitStreamFilterContext

from vrseg.decode.bitstream import ByteStream, DamagedUnitError, Syntax, syntax_of

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip

    from vrseg.decode.bitstream import Codec

START = b"\0\0\0\1"


def units_in(data: bytes) -> list[bytes]:
    """Split a byte stream into NAL units."""
    return [part.strip(b"\0") for part in data.split(b"\0\0\1") if part.strip(b"\0")]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_byte_stream_holds_what_that_of_ffmpeg_holds(
    codec: Codec, suffix: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", codec=codec, gop=10, b_frames=2)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        oracle = BitStreamFilterContext(f"{codec}_mp4toannexb", video)
        ours = ByteStream(codec, video.codec_context.extradata or b"")
        packets = [packet for packet in container.demux(video) if packet.size]
        for packet in packets:
            unit = ours.convert(packet, entry=packet.is_keyframe)
            (wanted,) = oracle.filter(packet)
            # HEVC's filter also repeats parameter sets that the packet brings itself.
            assert sorted(set(units_in(bytes(unit)))) == sorted(set(units_in(bytes(wanted))))
    assert len(packets) == 30


def test_converting_leaves_the_packet_as_it_is(make_clip: MakeClip, tmp_path: Path) -> None:
    with av.open(str(make_clip(tmp_path / "clip.mp4"))) as container:
        packet = next(container.demux(video=0))
        before = bytes(packet)
        stream = ByteStream("h264", packet.stream.codec_context.extradata or b"")
        assert stream.convert(packet, entry=True) == stream.convert(packet, entry=True)
        assert bytes(packet) == before


def test_headers_told_outside_of_the_stream_are_put_in_at_entries_only() -> None:
    headers = START + b"\x67sps" + START + b"\x68pps"
    stream = ByteStream("h264", headers)
    idr: Any = av.Packet(START + b"\x65idr")
    complete: Any = av.Packet(headers + START + b"\x65idr")
    assert stream.convert(idr, entry=True) == headers + bytes(idr)
    assert stream.convert(idr, entry=False) == bytes(idr)
    assert stream.convert(complete, entry=True) == bytes(complete)


def test_new_headers_that_come_before_an_entry_are_those_of_the_entry(make_clip: MakeClip, tmp_path: Path) -> None:
    """FLV, and so RTMP, has them on whatever packet comes next."""
    small, large = (
        flv_tags(make_clip(tmp_path / f"{width}.flv", width=width, height=64, gop=2).read_bytes()) for width in (64, 96)
    )
    (head, first), (new_head, _) = small[:2], large[:2]
    # Headers, key frame, the other film's headers, a picture of the first, the other's key frame.
    film = FLV + b"".join((head, first, new_head, small[2], large[3]))
    sequences = []
    with av.open(io.BytesIO(film), "r", format="flv") as container:
        video = container.streams.video[0]
        stream = ByteStream("h264", video.codec_context.extradata or b"")
        packets = [packet for packet in container.demux(video) if packet.size]
        for packet in packets:
            stream.renew(packet)
            unit = stream.convert(packet, entry=packet.is_keyframe)
            sequences.append(stream.syntax.sequence(unit))
    assert [packet.is_keyframe for packet in packets] == [True, False, True]
    assert [packet.has_sidedata("new_extradata") for packet in packets] == [False, True, False]
    assert sequences[0] != sequences[2] != b""
    assert sequences[2] in new_head


FLV = b"FLV\1\1\0\0\0\x09\0\0\0\0"


def flv_tags(film: bytes) -> list[bytes]:
    """Return the tags of video, the headers' first, each with its length behind it."""
    tags, at = [], len(FLV)
    while at < len(film):
        end = at + 11 + int.from_bytes(film[at + 1 : at + 4], "big") + 4
        if film[at] == 9:
            tags.append(film[at:end])
        at = end
    return tags


@pytest.mark.parametrize(("length_size", "lengths"), [(4, (3, 0, 2)), (2, (3, 2)), (2, (0, 5)), (1, (1, 4)), (4, (5,))])
def test_lengths_of_any_size_become_start_codes_and_what_is_empty_goes(
    length_size: int, lengths: tuple[int, ...]
) -> None:
    units = [bytes(range(101, 101 + length)) for length in lengths]
    packet: Any = av.Packet(b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units))
    record = b"\1\x64\0\x1f" + bytes([0xFC | length_size - 1]) + b"\xe0\0"
    unit = ByteStream("h264", record).convert(packet, entry=False)
    assert unit == b"".join(START + one for one in units if one)


def test_a_packet_without_a_byte_is_damage_for_a_decoder_would_take_it_for_the_end() -> None:
    empty: Any = av.Packet(b"")
    with pytest.raises(DamagedUnitError, match="empty"):
        ByteStream("h264", b"").convert(empty, entry=False)


@pytest.mark.parametrize("damaged", [b"\0\0\0\x09\x65", b"\xff\xff\xff\xff\x65abc", b"\0\0\0", b"\0\0\0\1\x65\0"])
def test_lengths_that_do_not_add_up_are_damage(damaged: bytes) -> None:
    packet: Any = av.Packet(damaged)
    with pytest.raises(DamagedUnitError, match="do not add up"):
        ByteStream("h264", b"\1\x64\0\x1f\xff\xe0\0").convert(packet, entry=False)


@pytest.mark.parametrize(
    ("codec", "unit", "anew"),
    [
        ("h264", START + b"\x67sps" + START + b"\x65idr", True),
        ("h264", START + b"\x06recovery point" + START + b"\x41slice", False),
        ("h264", START + b"\x41slice" + START + b"\x65idr", False),
        ("h264", b"", False),
        ("hevc", START + b"\x26\x01idr_w_radl", True),
        ("hevc", START + b"\x28\x01idr_n_lp", True),
        ("hevc", START + b"\x2a\x01cra", False),
        ("hevc", START + b"\x24\x01bla", False),
        ("vp9", b"whatever", True),
        ("av1", b"whatever", True),
    ],
)
def test_only_closed_entries_begin_anew(codec: Codec, unit: bytes, anew: bool) -> None:
    assert Syntax(codec).begins_anew(unit, key=True) is anew


def test_the_same_holds_for_units_with_lengths() -> None:
    unit = b"\0\x04\x67sps" + b"\0\x04\x65idr"
    assert Syntax("h264", 2).begins_anew(unit, key=False)
    assert Syntax("h264", 2).sequence(unit) == b"\x67sps"


def test_leading_pictures_of_an_open_entry_are_known() -> None:
    syntax = Syntax("hevc")
    assert syntax.is_open_entry(START + b"\x2a\x01cra")
    assert not syntax.is_open_entry(START + b"\x26\x01idr")
    assert syntax.is_lost_leader(START + b"\x10\x01rasl_n")
    assert syntax.is_lost_leader(START + b"\x12\x01rasl_r")
    assert not syntax.is_lost_leader(START + b"\x0c\x01radl_n")
    assert not Syntax("h264").is_open_entry(START + b"\x65idr")


def test_lengths_have_the_size_that_the_container_says() -> None:
    assert syntax_of("h264", b"\1\x64\0\x1f\xfd\xe1").length_size == 2
    assert syntax_of("hevc", b"\1" + bytes(20) + b"\xff").length_size == 4
    assert syntax_of("h264", START + b"\x67sps").length_size == 0
    assert syntax_of("hevc", b"").length_size == 0
    assert syntax_of("av1", b"\x81\0\0\0").length_size == 0
    assert syntax_of("h264", b"\1").length_size == 4


@pytest.mark.parametrize("record", [b"\1\x64\0\x1f\xff\xe1\xff\xff\x67", b"\1\x64\0\x1f\xff\xff", b"\1"])
def test_a_damaged_configuration_record_is_read_as_far_as_it_goes(record: bytes) -> None:
    packet: Any = av.Packet(b"\0\0\0\4\x65idr")
    assert ByteStream("h264", record).convert(packet, entry=True).endswith(START + b"\x65idr")


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".ts"), ("hevc", ".ts"), ("libvpx-vp9", ".webm"), ("av1", ".mkv")]
)
def test_a_sequence_changes_with_the_size_and_with_nothing_else(
    codec: str, suffix: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    sequences = []
    for width in (160, 320):
        path = make_clip(tmp_path / f"{width}{suffix}", codec=codec, width=width, gop=10)
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            name: Any = video.codec_context.codec.canonical_name
            keys = [bytes(packet) for packet in container.demux(video) if packet.is_keyframe and packet.size]
        found = {Syntax(name).sequence(key) for key in keys}
        assert len(keys) > 1
        assert len(found) == 1
        sequences.append(found.pop())
    assert all(sequences)
    assert sequences[0] != sequences[1]


def test_an_inter_frame_has_no_sequence() -> None:
    assert Syntax("vp9").sequence(b"\x86\0\x40\x92\x88") == b""
    assert Syntax("vp9").sequence(b"") == b""
    assert Syntax("av1").sequence(b"\x12\0") == b""
    assert Syntax("h264").sequence(START + b"\x41slice") == b""

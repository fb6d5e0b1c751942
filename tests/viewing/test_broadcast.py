"""The ring of encoded video and its playlist."""

from __future__ import annotations

import asyncio
import io
import re
from typing import TYPE_CHECKING

import av
from plugins.encoded import TICKS, encoded, every, frames_at

import vrseg.viewing.broadcast as module
from vrseg.encode.settings import EncodeSettings
from vrseg.sink.live import LiveSink
from vrseg.viewing.broadcast import SEGMENTS_KEPT, Broadcast

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from vrseg.frame import EncodedPacket


def packets(count: int, *, gop_s: float = 1.0, start: int = 0) -> list[EncodedPacket]:
    return encoded(frames_at(every(count, start=start)), EncodeSettings(live=True, gop_s=gop_s))


def feed(broadcast: Broadcast, life: Sequence[EncodedPacket]) -> None:
    sink = LiveSink(broadcast.add)
    for packet in life:
        list(sink.process(packet))
    list(sink.flush())
    sink.close()


def values(playlist: str, tag: str) -> list[str]:
    return re.findall(rf"^#EXT-X-{tag}:(.*)$", playlist, re.MULTILINE)


def video_of(broadcast: Broadcast, track_number: int) -> list[float]:
    """Read what a player would append; return the times of the pictures."""
    track = broadcast.track(track_number)
    assert track is not None
    pieces = [piece.data for one in broadcast.segments if one.track is track for piece in one.pieces]
    with av.open(io.BytesIO(track.init + b"".join(pieces)), "r", format="mp4") as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def test_the_playlist_lists_the_last_segments_and_the_part_to_come() -> None:
    broadcast = Broadcast()
    feed(broadcast, packets(30 * 7))
    playlist = broadcast.playlist()
    assert values(playlist, "MEDIA-SEQUENCE") == ["3"]
    assert re.findall(r"^\d+\.m4s$", playlist, re.MULTILINE) == ["3.m4s", "4.m4s", "5.m4s"]
    assert values(playlist, "TARGETDURATION") == ["1"]
    assert values(playlist, "PRELOAD-HINT") == ['TYPE=PART,URI="6.4.m4s"']
    assert len(values(playlist, "PART")) == 16
    assert len([part for part in values(playlist, "PART") if "INDEPENDENT=YES" in part]) == SEGMENTS_KEPT + 1
    target_s = float(values(playlist, "PART-INF")[0].split("=")[1])
    durations_s = [float(re.findall(r"DURATION=([\d.]+)", part)[0]) for part in values(playlist, "PART")]
    assert max(durations_s) <= target_s
    hold_back_s = float(values(playlist, "SERVER-CONTROL")[0].rpartition("=")[2])
    assert hold_back_s >= 3 * target_s
    assert len(video_of(broadcast, 1)) == 120


def test_a_new_encoder_is_a_discontinuity_on_the_same_clock() -> None:
    broadcast = Broadcast()
    feed(broadcast, packets(45))
    feed(broadcast, packets(45, start=1000 * TICKS))
    playlist = broadcast.playlist()
    assert playlist.count("#EXT-X-DISCONTINUITY\n") == 1
    assert values(playlist, "MAP") == ['URI="init-1.mp4"', 'URI="init-2.mp4"']
    first, second = video_of(broadcast, 1), video_of(broadcast, 2)
    assert first == sorted(first)
    assert first[-1] < second[0] < first[-1] + 5, "neither back in time nor by the other encoder's clock"
    feed(broadcast, packets(30 * 6))
    assert values(broadcast.playlist(), "DISCONTINUITY-SEQUENCE") == ["2"]
    assert broadcast.track(1) is None


def test_memory_is_bounded_where_key_frames_are_rare_and_pictures_large(monkeypatch: pytest.MonkeyPatch) -> None:
    life = packets(300, gop_s=600.0)
    size = sum(len(packet.data) for packet in life)
    monkeypatch.setattr(module, "MOST_BYTES", size // 2)
    broadcast = Broadcast()
    feed(broadcast, life)
    assert sum(segment.size_bytes for segment in broadcast.segments) <= size // 2
    assert broadcast.segments[0].number > 0


def test_who_waits_for_a_part_gets_it_when_it_comes_and_not_for_ever() -> None:
    async def scenario() -> None:
        broadcast = Broadcast()
        assert not await broadcast.wait_for(0, 0, 0.02)
        waiting = asyncio.create_task(broadcast.wait_for(0, 1, 5))
        await asyncio.sleep(0)
        feed(broadcast, packets(9))
        assert await waiting
        assert broadcast.has(0, 1)
        assert not broadcast.has(0, 2)
        assert not broadcast.has(0, None)
        feed(broadcast, packets(31))
        assert broadcast.has(0, None)

    asyncio.run(scenario())

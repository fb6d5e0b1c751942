from __future__ import annotations

import errno
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from plugins.encoded import decoded_count, encoded, every, feed, frames_at, times_in
from plugins.limits import files_no_larger_than
from plugins.media_servers import unused_port, wait_until_listening

from vrseg.backoff import Backoff
from vrseg.config.schema import Output
from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError, MediaError
from vrseg.sink.disk import DiskGuard, free_bytes
from vrseg.sink.factory import make_video_sink
from vrseg.sink.hls import HlsSink
from vrseg.sink.lasting import LastingSink
from vrseg.sink.push import PushSink
from vrseg.sink.recording import RecordingSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from plugins.media_servers import StartFfmpeg, StartRtspServer

    from vrseg.frame import EncodedPacket

pytestmark = pytest.mark.alone

QUICK = Backoff(initial_s=0.05, max_s=0.2, jitter=0.2)
GB = 1_000_000_000


@pytest.fixture(scope="module")
def packets() -> list[EncodedPacket]:
    """Twenty seconds with a key frame each half second."""
    return encoded(frames_at(every(600)), EncodeSettings(gop_s=0.5, live=True))


def push(uri: str) -> LastingSink:
    return LastingSink(lambda: PushSink(uri), name="0", kind="rtmp", backoff=QUICK)


def feed_until(
    sink: LastingSink, packets: Iterator[EncodedPacket], claim: Callable[[], object], *, pace_s: float = 0.01
) -> float:
    """Feed until the claim is true; return the longest that a packet took."""
    longest_s, deadline_s = 0.0, time.monotonic() + 20
    while not claim():
        assert time.monotonic() < deadline_s, sink.state
        started_s = time.monotonic()
        sink.process(next(packets))
        longest_s = max(longest_s, time.monotonic() - started_s)
        time.sleep(pace_s)
    return longest_s


def test_a_push_comes_back_with_its_receiver_at_a_key_frame(
    tmp_path: Path, ffmpeg: StartFfmpeg, packets: list[EncodedPacket]
) -> None:
    port = unused_port()
    uri = f"rtmp://127.0.0.1:{port}/live/door"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-f", "null", "-")
    wait_until_listening(port)
    sink, flow = push(uri), iter(packets)
    sink.open()
    assert sink.state.state == "starting"
    feed_until(sink, flow, lambda: sink.state.state == "up")
    assert not sink.dropped
    receiver.kill()
    longest_s = feed_until(sink, flow, lambda: sink.state.state == "reconnecting")
    assert sink.state.reason == "lost"
    assert "next try in" in sink.state.detail
    lost_s = sink.state.since_s
    longest_s = max(longest_s, feed_until(sink, flow, lambda: sink.dropped["reconnecting"] > 20))
    assert sink.state.since_s == lost_s, "since it was lost, not since the last try"
    received = tmp_path / "received.flv"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-c", "copy", str(received))
    wait_until_listening(port)
    longest_s = max(longest_s, feed_until(sink, flow, lambda: sink.state.state == "up"))
    asked = sink.take_key_wish()
    dropped = sink.dropped.total()
    feed(sink, list(flow)[:60], pace_s=0.01)
    assert sink.dropped.total() - dropped < 15, "at most until the next key frame"
    sink.flush()
    sink.close()
    receiver.wait(10)
    assert decoded_count(received) >= 45
    assert isinstance(asked, bool)
    assert longest_s < 0.5, "nothing else waits for it"


def test_a_key_frame_is_wished_for_once_with_each_new_try(packets: list[EncodedPacket]) -> None:
    sink = push(f"rtmp://127.0.0.1:{unused_port()}/live/door")
    sink.open()
    assert not sink.take_key_wish(), "a stream begins with one"
    flow = iter(packets)
    feed_until(sink, flow, lambda: sink.state.state == "reconnecting")
    feed_until(sink, flow, sink.take_key_wish, pace_s=0.02)
    assert not sink.take_key_wish()
    sink.close()


def test_a_receiver_that_freezes_makes_nobody_wait_and_is_fed_again_when_it_thaws(rtsp_server: StartRtspServer) -> None:
    large = encoded(frames_at(every(700), width=640, height=480), EncodeSettings(gop_s=0.5, live=True, quality=1))
    server = rtsp_server(path="/door", record=True)
    sink, flow = push(server.url), iter(large)
    sink.open()
    feed_until(sink, flow, lambda: sink.state.state == "up")
    server.pause()
    longest_s = feed_until(sink, flow, lambda: sink.dropped["slow"] > 5, pace_s=0.002)
    assert longest_s < 0.3
    assert sink.state.state == "up"
    server.resume()
    taken = 0
    while taken < 20:
        before = sink.dropped.total()
        feed(sink, [next(flow)], pace_s=0.02)
        taken = taken + 1 if sink.dropped.total() == before else 0
    sink.close()


class Disk:
    """What `statvfs` says."""

    def __init__(self) -> None:
        self.free: int | None = 10 * GB
        self.asked = 0
        self.now_s = 0.0

    def ask(self, _folder: Path) -> int | None:
        self.asked += 1
        return self.free

    def guard(self, folder: Path) -> DiskGuard:
        return DiskGuard(folder, GB, ask=self.ask, clock=lambda: self.now_s)


def recorder(folder: Path, disk: Disk, *, waits: bool = True) -> LastingSink:
    guard = disk.guard(folder)
    return LastingSink(
        lambda: RecordingSink(folder / "door.mp4", codec="h264"),
        name="1",
        kind="file",
        hindrance=guard.hindrance,
        waits=waits,
    )


def test_a_recording_ends_before_the_disk_is_full_and_goes_on_in_another_file(
    tmp_path: Path, packets: list[EncodedPacket]
) -> None:
    disk = Disk()
    sink = recorder(tmp_path, disk)
    sink.open()
    for index, packet in enumerate(packets[:180]):
        disk.now_s = index / 30
        disk.free = GB - 1 if 50 <= index < 100 else 10 * GB
        sink.process(packet)
        if index == 70:
            assert (sink.state.state, sink.state.reason) == ("paused", "disk")
            assert "1000 MB free, less than min_free, 1.0 GB: free some space" in sink.state.detail
            assert decoded_count(tmp_path / "door.mp4") == 60, "whole, at once"
    assert sink.state.state == "up"
    assert disk.asked <= 8, "once a second"
    sink.flush()
    sink.close()
    assert decoded_count(tmp_path / "door.mp4") == 60
    again = times_in(tmp_path / "door-1.mp4")
    assert decoded_count(tmp_path / "door-1.mp4") == 60
    assert float(again[0]) == 4.0, "a key frame, with its own time"
    assert sink.dropped == {"disk": 60}


def test_room_that_comes_and_goes_at_the_limit_does_not_make_many_files(
    tmp_path: Path, packets: list[EncodedPacket]
) -> None:
    disk = Disk()
    sink = recorder(tmp_path, disk)
    sink.open()
    for index, packet in enumerate(packets[:300]):
        disk.now_s = index / 30
        disk.free = GB + (1000 if int(disk.now_s) % 2 else -1000)
        sink.process(packet)
    sink.close()
    assert len(list(tmp_path.iterdir())) <= 1


def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    disk = Disk()
    disk.free = 0
    sink = recorder(tmp_path / "not" / "there" / "yet", disk)
    sink.open()
    sink.process(packets[0])
    before = sink.state
    disk.free, disk.now_s = None, 5.0  # a file system that does not say
    sink.process(packets[0])
    assert (before.state, sink.state.state) == ("paused", "up")
    sink.close()


@pytest.fixture
def disk_of_factory(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What sinks that the factory makes see as their disk; retention looks at once, and trusts the clock."""
    disk = Disk()
    guard = partial(DiskGuard, ask=disk.ask, clock=time.monotonic)
    monkeypatch.setattr("vrseg.sink.factory.DiskGuard", guard)
    monkeypatch.setattr("vrseg.sink.disk._LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("vrseg.sink.retention._LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("vrseg.sink.retention.SETTLING_S", 0.0)
    return disk


def test_while_a_recording_waits_for_room_its_segments_grow_old_and_make_some(
    tmp_path: Path, packets: list[EncodedPacket], disk_of_factory: Disk
) -> None:
    output = Output(uri=str(tmp_path / "%H%M%S.mp4"), segment="1s", keep="1s", min_free=GB)
    sink, flow = make_video_sink(output, tmp_path), iter(packets)
    sink.open()
    feed(sink, [next(flow) for _ in range(90)])
    written = list(tmp_path.glob("*.mp4"))
    assert len(written) == 3
    disk_of_factory.free = 0
    sink.process(next(flow))
    assert list(tmp_path.glob("*.mp4")), "not old enough yet"
    time.sleep(1.1)
    sink.process(next(flow))
    assert not list(tmp_path.glob("*.mp4"))
    disk_of_factory.free = 10 * GB
    feed(sink, flow)
    assert list(tmp_path.glob("*.mp4")), "it goes on"
    sink.close()


@pytest.mark.parametrize("key", ["keep", "keep_size"])
def test_keeping_less_makes_room_on_a_disk_that_is_full_at_the_start(
    tmp_path: Path, packets: list[EncodedPacket], disk_of_factory: Disk, key: str
) -> None:
    output = Output(uri=str(tmp_path / "%H%M%S.mp4"), segment="1s", keep="7d", min_free=GB)
    sink = make_video_sink(output, tmp_path)
    sink.open()
    feed(sink, packets[:90])
    sink.flush()
    sink.close()
    time.sleep(0.1)
    disk_of_factory.free = 0
    less = make_video_sink(output.model_copy(update={"keep": None, key: 0.05}), tmp_path)
    less.open()
    less.close()
    assert not list(tmp_path.glob("*.mp4"))


def test_where_nothing_may_be_lost_a_full_disk_is_an_error(tmp_path: Path) -> None:
    disk = Disk()
    disk.free = 0
    with pytest.raises(MediaError, match="less than min_free"):
        recorder(tmp_path, disk, waits=False).open()


def test_free_space_is_asked_of_the_first_folder_that_exists(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == free_bytes(tmp_path)


def test_a_path_that_the_system_cannot_look_at_says_nothing_of_its_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / ("a" * 300)) is None, "a share that went away fails like this, too"


def test_a_write_that_fails_pauses_the_recording_and_a_later_one_goes_on(
    tmp_path: Path, packets: list[EncodedPacket]
) -> None:
    sink = LastingSink(lambda: RecordingSink(tmp_path / "door.mkv", codec="h264"), name="0", kind="file", backoff=QUICK)
    sink.open()
    flow = iter(packets)
    feed_until(sink, flow, (tmp_path / "door.mkv").exists, pace_s=0)
    with files_no_larger_than(100_000):
        feed_until(sink, flow, lambda: sink.state.state == "paused", pace_s=0)
        assert sink.state.reason == "unwritable"
        assert "door.mkv" in sink.state.detail
    feed_until(sink, flow, lambda: sink.state.state == "up", pace_s=0.01)
    feed(sink, list(flow)[:30])
    sink.flush()
    sink.close()
    assert decoded_count(tmp_path / "door.mkv") > 60, "what was written plays"
    assert decoded_count(tmp_path / "door-1.mkv") >= 30


def test_hls_survives_a_folder_that_goes_away_for_a_while(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    playlist = tmp_path / "live" / "index.m3u8"
    sink = LastingSink(
        lambda: HlsSink(playlist, codec="h264", piece_s=0.5, keep_s=60), name="0", kind="hls", backoff=QUICK
    )
    sink.open()
    flow = iter(packets)
    feed_until(sink, flow, playlist.exists, pace_s=0)
    playlist.parent.rename(tmp_path / "away")
    playlist.parent.touch()
    feed_until(sink, flow, lambda: sink.state.state == "paused", pace_s=0)
    feed_until(sink, flow, lambda: sink.dropped["unwritable"] > 20, pace_s=0.01)
    assert "live: this is a file, where a folder is needed" in sink.state.detail
    playlist.parent.unlink()
    (tmp_path / "away").rename(playlist.parent)
    feed_until(sink, flow, lambda: sink.state.state == "up", pace_s=0.01)
    feed(sink, list(flow)[:60])
    sink.flush()
    sink.close()
    assert decoded_count(playlist) >= 45
    assert "#EXT-X-DISCONTINUITY" in playlist.read_text()


def test_what_can_never_work_is_said_at_once_and_what_may_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = make_video_sink(Output(uri="file/door.mp4"), tmp_path)
    with pytest.raises(ConfigError, match="where a folder is needed"):
        sink.open()
    sink.close()

    class Full:
        up = False

        def open(self) -> None:
            raise ConfigError("no room") from OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, _name: str) -> Any:
            return lambda *_: ()

    waiting = LastingSink(Full, name="0", kind="file")
    waiting.open()
    assert (waiting.state.state, waiting.state.reason) == ("paused", "disk")
    waiting.close()


def test_an_output_that_is_away_at_the_end_makes_no_error_of_it(packets: list[EncodedPacket]) -> None:
    sink = push(f"rtsp://u:hunter2@127.0.0.1:{unused_port()}/door")
    sink.open()
    feed_until(sink, iter(packets), lambda: sink.state.state == "reconnecting")
    sink.process(packets[0])
    sink.flush()
    sink.close()
    sink.close()
    assert "nobody listens" in sink.state.detail
    assert "hunter2" not in sink.state.detail

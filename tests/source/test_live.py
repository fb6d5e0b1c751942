"""Live sources against real servers: RTSP by gst-rtsp-server, RTMP and SRT by FFmpeg, HTTP and HLS by Python."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from plugins.media_servers import wait_until_listening

from vrseg.config.schema import SourceSection
from vrseg.decode.cpu import PyavDecoder
from vrseg.errors import ConfigError, SourceEndedError, SourceRefusedError, SourceStalledError
from vrseg.source.open import make_source

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip
    from plugins.media_servers import ServeFolder, StartFfmpeg, StartRtspServer

    from vrseg.frame import Frame
    from vrseg.stage import Source

pytestmark = pytest.mark.alone


def section(uri: str, **settings: Any) -> SourceSection:
    return SourceSection.model_validate({"uri": uri, "open_timeout": "5s", "stall_timeout": "2s", **settings})


def frames_of(source: Source, count: int) -> list[Frame]:
    """Open the source, and decode until there are `count` frames or it ends."""
    decoder = PyavDecoder("test", threads=0, live=source.live)
    try:
        source.open()
        decoder.open()
        frames: list[Frame] = []
        while len(frames) < count and (batch := source.read()):
            for packet in batch:
                frames += decoder.process(packet)
        return frames
    finally:
        source.close()
        decoder.close()


def read_to_the_end(source: Source, arrivals_s: list[float] | None = None) -> None:
    while batch := source.read():
        if arrivals_s is not None:
            arrivals_s += [packet.arrived_s for packet in batch]


def open_patiently(make: SourceSection, *, tries: int = 50) -> Source:
    """Open a source whose server may need a moment more."""
    for _ in range(tries):
        source = make_source(make)
        try:
            source.open()
        except SourceRefusedError:
            source.close()
            time.sleep(0.1)
        else:
            return source
    raise AssertionError(f"{make.uri} never answered")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_gives_frames_within_three_seconds(transport: str, rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(size="320x240", fps=30)
    started_s = time.monotonic()
    frames = frames_of(make_source(section(server.url, transport=transport)), 10)
    assert time.monotonic() - started_s < 3
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(later.pts > earlier.pts for earlier, later in itertools.pairwise(frames))
    assert (frames[0].width, frames[0].height) == (320, 240)


@pytest.mark.parametrize("codec", ["hevc", "mjpeg"])
def test_rtsp_carries_other_codecs(codec: str, rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(codec=codec)
    source = make_source(section(server.url))
    assert len(frames_of(source, 5)) >= 5


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_silent_camera_is_noticed_within_its_stall_timeout(transport: str, rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(stall_after=1.5)
    source = make_source(section(server.url, transport=transport, stall_timeout="1.5s"))
    source.open()
    arrivals_s: list[float] = []
    with pytest.raises(SourceStalledError, match=r"no picture for 1\.5 s"):
        read_to_the_end(source, arrivals_s)
    source.close()
    assert 1.4 < time.monotonic() - arrivals_s[-1] < 2.5


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_server_is_noticed_and_closing_does_not_hang(transport: str, rtsp_server: StartRtspServer) -> None:
    server = rtsp_server()
    source = make_source(section(server.url, transport=transport, stall_timeout="1s"))
    source.open()
    source.read()
    server.pause()
    started_s = time.monotonic()
    with pytest.raises(SourceStalledError):
        read_to_the_end(source)
    source.close()
    assert time.monotonic() - started_s < 2


def test_a_server_that_accepts_but_never_answers_is_refused_in_time(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server()
    server.pause()
    source = make_source(section(server.url, open_timeout="1s"))
    started_s = time.monotonic()
    with pytest.raises(SourceRefusedError, match="no answer within 1 s"):
        source.open()
    source.close()
    assert time.monotonic() - started_s < 2


def test_a_live_stream_that_ends_is_lost(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(frames=30)
    source = make_source(section(server.url))
    source.open()
    with pytest.raises(SourceEndedError, match="the stream ended"):
        read_to_the_end(source)
    source.close()


def test_a_killed_server_is_lost_and_a_new_source_finds_it_again(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server()
    source = make_source(section(server.url))
    source.open()
    server.kill()
    with pytest.raises((SourceEndedError, SourceRefusedError)):
        read_to_the_end(source)
    source.close()
    with pytest.raises(SourceRefusedError, match="nobody listens there"):
        make_source(section(server.url)).open()
    server.start()
    assert len(frames_of(make_source(section(server.url)), 5)) >= 5


def test_passwords_open_the_door_and_never_show(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(user="anna", password="geheim")
    right = server.url.replace("rtsp://", "rtsp://anna:geheim@")
    assert len(frames_of(make_source(section(right)), 3)) >= 3
    wrong = server.url.replace("rtsp://", "rtsp://anna:hunter2@")
    source = make_source(section(wrong))
    with pytest.raises(SourceRefusedError, match="check user name and password") as caught:
        source.open()
    assert "hunter2" not in str(caught.value)
    assert "anna" not in str(caught.value)


def test_a_wrong_path_says_so(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server()
    with pytest.raises(SourceRefusedError, match="nothing under this path"):
        make_source(section(f"{server.url}/nothing")).open()


def test_opening_and_closing_leaves_nothing_behind(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(size="160x120", fps=60, gop=5)
    process = psutil.Process()

    def footprint() -> tuple[int, int, int]:
        gc.collect()
        return process.num_fds(), threading.active_count() + process.num_threads(), process.memory_info().rss

    for _ in range(5):
        frames_of(make_source(section(server.url)), 2)
    fds, threads, rss = footprint()
    for _ in range(20):
        frames_of(make_source(section(server.url)), 2)
    fds_after, threads_after, rss_after = footprint()
    assert fds_after <= fds
    assert threads_after <= threads
    assert rss_after - rss < 8_000_000


def test_rtmp_gives_frames_and_notices_silence(
    ffmpeg: StartFfmpeg, free_port: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=90, fps=30)
    url = f"rtmp://127.0.0.1:{free_port}/live/door"
    server = ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "flv", "-listen", "1", url)
    wait_until_listening(free_port)
    source = make_source(section(url, stall_timeout="1s"))
    assert source.open().codec == "h264"
    assert source.read()
    server.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()
    with pytest.raises(SourceStalledError):
        read_to_the_end(source)
    assert time.monotonic() - started_s < 2
    source.close()


def test_srt_gives_frames_and_says_when_it_ends(
    ffmpeg: StartFfmpeg, free_port: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=120, fps=30)
    url = f"srt://127.0.0.1:{free_port}"
    ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts", f"{url}?mode=listener")
    source = open_patiently(section(url, stall_timeout="3s"))
    arrivals_s: list[float] = []
    with pytest.raises(SourceEndedError):
        read_to_the_end(source, arrivals_s)
    source.close()
    assert len(arrivals_s) > 100


def test_a_silent_srt_sender_is_noticed(
    ffmpeg: StartFfmpeg, free_port: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=300, fps=30)
    url = f"srt://127.0.0.1:{free_port}"
    server = ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts", f"{url}?mode=listener")
    source = open_patiently(section(url, stall_timeout="1s"))
    server.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()
    with pytest.raises(SourceStalledError):
        read_to_the_end(source)
    source.close()
    assert time.monotonic() - started_s < 3


def playlist_of(film: Path) -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n"
    return f"{head}#EXTINF:2,\nfile://{film}\n#EXT-X-ENDLIST\n"


def test_a_sender_of_srt_cannot_have_files_of_this_machine_opened(
    ffmpeg: StartFfmpeg, free_port: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    private = make_clip(tmp_path / "private.ts", frames=60, fps=30)
    sent = tmp_path / "sent"
    sent.write_text(playlist_of(private))
    url = f"srt://127.0.0.1:{free_port}"
    raw = ["-f", "data", "-i", str(sent), "-map", "0:d", "-c", "copy", "-f", "data", "-linger", "1"]
    sender = ffmpeg(*raw, f"{url}?mode=caller")
    source = make_source(section(f"{url}?mode=listener"))
    with pytest.raises(SourceRefusedError):
        source.open()
    source.close()
    assert sender.wait(5) == 0, "nobody took the playlist"


@pytest.mark.parametrize("name", ["cam.m3u8", "cam"])
def test_a_playlist_from_elsewhere_cannot_have_files_of_this_machine_opened(
    name: str, http_server: ServeFolder, make_clip: MakeClip, tmp_path: Path
) -> None:
    private = make_clip(tmp_path / "private.ts", frames=60, fps=30)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / name).write_text(playlist_of(private))
    source = make_source(section(f"{http_server(folder)}/{name}"))
    with pytest.raises(SourceRefusedError):
        source.open()
    source.close()


def test_srt_without_anybody_there_leaves_no_process(free_port: int) -> None:
    source = make_source(section(f"srt://127.0.0.1:{free_port}?passphrase=geheimgeheim", open_timeout="1s"))
    started_s = time.monotonic()
    with pytest.raises(SourceRefusedError) as caught:
        source.open()
    source.close()
    assert time.monotonic() - started_s < 3
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [child for child in psutil.Process().children() if child.name() == "ffmpeg"]


def test_srt_without_the_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="install it"):
        make_source(section("srt://127.0.0.1:9")).open()


def test_a_file_over_http_is_read_to_its_end(http_server: ServeFolder, make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", frames=40)
    source = make_source(section(f"{http_server(tmp_path)}/clip.mp4"))
    source.open()
    assert not source.live
    packets = 0
    while batch := source.read():
        packets += len(batch)
    source.close()
    assert packets == 40


@pytest.mark.parametrize("ended", [True, False], ids=["recorded", "live"])
def test_hls_is_live_while_its_list_has_no_end(
    ended: bool, ffmpeg: StartFfmpeg, http_server: ServeFolder, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=120, fps=30, gop=30)
    listing = tmp_path / "list.m3u8"
    ffmpeg("-i", str(clip), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", str(listing)).wait(10)
    if not ended:
        listing.write_text(listing.read_text().replace("#EXT-X-ENDLIST\n", ""))
    source = make_source(section(f"{http_server(tmp_path)}/list.m3u8", stall_timeout="1.5s"))
    source.open()
    assert source.live is not ended
    if ended:
        read_to_the_end(source)
    else:
        with pytest.raises((SourceStalledError, SourceEndedError)):
            read_to_the_end(source)
    source.close()


def test_http_without_the_file_or_the_server_says_so(http_server: ServeFolder, free_port: int, tmp_path: Path) -> None:
    with pytest.raises(SourceRefusedError, match="nothing under this path"):
        make_source(section(f"{http_server(tmp_path)}/none.mp4")).open()
    with pytest.raises(SourceRefusedError, match="nobody listens there"):
        make_source(section(f"http://127.0.0.1:{free_port}/clip.mp4")).open()


def test_a_camera_that_is_not_there_is_worth_another_try() -> None:
    source = make_source(section("/dev/video99"))
    assert source.live
    with pytest.raises(SourceRefusedError, match="/dev/video99"):
        source.open()
    source.close()
    with pytest.raises(ConfigError, match="unknown parameter zoom"):
        make_source(section("v4l2:///dev/video99?zoom=2")).open()

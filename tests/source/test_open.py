"""From addresses to sources, and what `probe` tells about them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from vrseg.config.schema import SourceSection
from vrseg.errors import ConfigError, MediaError, SourceRefusedError
from vrseg.source.camera import CameraSource
from vrseg.source.file import FileSource
from vrseg.source.images import ImagesSource
from vrseg.source.live import NetworkSource
from vrseg.source.open import make_source
from vrseg.source.probe import probe
from vrseg.source.srt import SrtSource
from vrseg.source.synthetic import SyntheticSource

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip
    from plugins.media_servers import StartRtspServer


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("clip.mp4", FileSource),
        ("file:///srv/clip.mp4", FileSource),
        ("/srv/*.jpg", ImagesSource),
        (".", ImagesSource),
        ("rtsp://camera/main", NetworkSource),
        ("rtsps://camera/main", NetworkSource),
        ("rtmp://host/app/key", NetworkSource),
        ("https://host/live.m3u8", NetworkSource),
        ("srt://host:9000", SrtSource),
        ("/dev/video0", CameraSource),
        ("v4l2:///dev/video0", CameraSource),
        ("synthetic:320x240@30", SyntheticSource),
    ],
)
def test_each_kind_of_address_has_its_source(uri: str, kind: type) -> None:
    source = make_source(SourceSection(uri=uri))
    assert type(source) is kind
    source.close()


def test_an_unknown_kind_names_the_known_ones_and_no_password() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of address; use .*rtsp://") as caught:
        make_source(SourceSection(uri="gopher://anna:geheim@host/film"))
    assert "geheim" not in str(caught.value)


def test_loop_and_realtime_are_for_files() -> None:
    with pytest.raises(ConfigError, match="loop is for video files"):
        make_source(SourceSection(uri="rtsp://camera/main", loop=True))
    with pytest.raises(ConfigError, match="realtime is for video files"):
        make_source(SourceSection(uri=".", realtime=True))
    assert make_source(SourceSection(uri="clip.mp4", realtime=True)).live


def test_probe_tells_all_about_a_file(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", width=320, height=180, frames=50, fps=25, audio=True, rotation=90)
    report = probe(str(path))
    (video,) = report.video
    (audio,) = report.audio
    assert report.container.startswith("mov,mp4")
    assert not report.live
    assert report.duration_s == pytest.approx(2.0, abs=0.1)
    assert report.size_bytes == path.stat().st_size
    assert (video.codec, video.width, video.height, video.frame_rate, video.frame_count) == ("h264", 320, 180, 25.0, 50)
    assert (video.pixel_format, video.rotation_deg, video.cover) == ("yuv420p", 90, False)
    assert report.selected == video.index
    assert (audio.codec, audio.sample_rate_hz, audio.channels) == ("aac", 48000, 2)
    assert json.loads(json.dumps(asdict(report)))["video"][0]["codec"] == "h264"


def test_probe_tells_about_images_and_drawn_scenes(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (video,) = probe(str(tmp_path)).video
    assert (video.codec, video.width, video.height, video.frame_count) == ("png", 40, 30, 2)
    (video,) = probe("synthetic:320x240@30").video
    assert (video.width, video.height) == (320, 240)


def test_probe_tells_about_a_live_stream_without_its_password(rtsp_server: StartRtspServer) -> None:
    server = rtsp_server(size="320x240", user="anna", password="geheim")
    report = probe(server.url.replace("rtsp://", "rtsp://anna:geheim@"))
    assert report.live
    assert "geheim" not in json.dumps(asdict(report))
    assert (report.container, report.video[0].codec, report.video[0].width) == ("rtsp", "h264", 320)


def test_probe_refuses_what_there_is_not(tmp_path: Path, free_port: int) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("These are notes.\n" * 100)
    with pytest.raises(MediaError, match="this is text"):
        probe(str(text))
    with pytest.raises(ConfigError, match="no such file"):
        probe(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceRefusedError, match="nobody listens there"):
        probe(f"rtsp://127.0.0.1:{free_port}/live")

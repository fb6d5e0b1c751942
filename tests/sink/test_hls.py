from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from plugins.encoded import TICKS, decoded_count, encoded, every, feed, frames_at, times_in, write_all

from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError, MediaError
from vrseg.sink.hls import HlsSink

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.media_servers import ServeFolder

    from vrseg.frame import EncodedPacket

RATE = 30


@pytest.fixture(scope="module")
def packets() -> list[EncodedPacket]:
    """Ten seconds with a key frame each second."""
    return encoded(frames_at(every(300)), EncodeSettings(gop_s=1.0, live=True))


def sink(playlist: Path, **options: float) -> HlsSink:
    return HlsSink(playlist, codec="h264", **({"piece_s": 1.0, "keep_s": 4.0} | options))


def pieces(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.m4s"))


def sequence(playlist: Path) -> int:
    lines = playlist.read_text().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE"))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_what_was_written_plays_after_the_end(tmp_path: Path, codec: str) -> None:
    settings = EncodeSettings(codec=codec, gop_s=1.0, live=True)  # type: ignore[arg-type]  # tests' parameters
    playlist = tmp_path / "live" / "index.m3u8"
    write_all(HlsSink(playlist, codec=codec, piece_s=1.0, keep_s=60.0), encoded(frames_at(every(90)), settings))
    assert playlist.read_text().endswith("#EXT-X-ENDLIST\n")
    assert decoded_count(playlist) == 90
    assert [float(seconds) for seconds in times_in(playlist)] == [index * TICKS / 15360 for index in range(90)]


def test_it_plays_while_it_grows(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    playlist = tmp_path / "index.m3u8"
    growing = sink(playlist, keep_s=60.0)
    growing.open()
    feed(growing, packets[:200])
    text = playlist.read_text()
    assert "#EXT-X-ENDLIST" not in text
    assert text.count("#EXTINF") == 6
    player = [
        "ffmpeg",
        "-v",
        "error",
        "-live_start_index",
        "0",
        "-i",
        str(playlist),
        "-frames:v",
        "170",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(player, capture_output=True, text=True, timeout=20, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    growing.close()


def test_a_player_follows_it_over_http_to_its_end(
    tmp_path: Path, http_server: ServeFolder, packets: list[EncodedPacket]
) -> None:
    growing = sink(tmp_path / "index.m3u8", keep_s=60.0)
    growing.open()
    feed(growing, packets[:100])
    address = f"{http_server(tmp_path)}/index.m3u8"
    received = tmp_path / "received.mkv"
    command = ["ffmpeg", "-v", "error", "-live_start_index", "0", "-i", address, "-c", "copy", str(received)]
    with subprocess.Popen(command) as player:
        time.sleep(1.0)
        feed(growing, packets[100:], pace_s=0.005)
        growing.flush()
        assert player.wait(20) == 0
    assert decoded_count(received) == 300


def test_old_pieces_leave_the_playlist_and_then_the_disk(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    playlist = tmp_path / "index.m3u8"
    write_all(sink(playlist, keep_s=3.0), packets)
    assert playlist.read_text().count("#EXTINF") == 3
    assert len(pieces(tmp_path)) <= 3 + 4
    assert decoded_count(playlist) == 90


def test_a_later_run_goes_on_in_the_same_playlist_and_clears_away_the_former_pieces(
    tmp_path: Path, packets: list[EncodedPacket]
) -> None:
    playlist = tmp_path / "index.m3u8"
    write_all(sink(playlist, keep_s=1.5), packets[:150])
    first = pieces(tmp_path)
    last_number = sequence(playlist) + playlist.read_text().count("#EXTINF") - 1
    strangers = [tmp_path / "index-00000000-7.m4s", tmp_path / "index-7.m4s", tmp_path / "index-init.mp4"]
    for path in strangers:
        path.touch()
    later = sink(playlist, keep_s=1.5)
    later.open()
    feed(later, packets[:60])
    assert set(first) <= set(pieces(tmp_path)), "players may still be loading them"
    assert sequence(playlist) > last_number
    assert "#EXT-X-DISCONTINUITY" in playlist.read_text()
    time.sleep(1.6)
    feed(later, packets[60:])
    later.flush()
    later.close()
    assert not set(first) & set(pieces(tmp_path))
    assert all(path.exists() for path in strangers)
    assert decoded_count(playlist) == 90
    assert len(list(tmp_path.glob("*-init.mp4"))) == 2, "ours, and the stranger's"


def test_a_playlist_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    playlist = tmp_path / "index.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:2,\nfilm.ts\n")
    other = sink(playlist)
    with pytest.raises(ConfigError, match="was made by somebody else: remove it, or choose"):
        other.open()
    other.close()
    assert "film.ts" in playlist.read_text()


def test_a_folder_that_goes_away_is_an_error_and_closing_is_safe(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    folder = tmp_path / "live"
    lost = sink(folder / "index.m3u8")
    lost.open()
    feed(lost, packets[:100])
    folder.rename(tmp_path / "away")
    folder.touch()
    with pytest.raises(MediaError, match=r"live/index\.m3u8: a part of the path is no folder"):
        feed(lost, packets[100:])
    lost.close()
    lost.close()


def test_folders_with_signs_of_their_own(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    folder = tmp_path / "live [door] : 1"
    write_all(sink(folder / "a*b.m3u8", keep_s=60.0), packets)
    assert decoded_count(folder / "a*b.m3u8") == 300

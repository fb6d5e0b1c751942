from __future__ import annotations

import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugins.encoded import decoded_count, encoded, every, feed, frames_at
from plugins.limits import no_more_files
from plugins.media_servers import unused_port, wait_until_listening

from vrseg.encode.settings import EncodeSettings
from vrseg.errors import OutputLostError
from vrseg.sink.push import PushSink

if TYPE_CHECKING:
    from plugins.media_servers import StartFfmpeg, StartRtspServer

    from vrseg.frame import EncodedPacket

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def packets() -> list[EncodedPacket]:
    """Three seconds with a key frame each half second."""
    return encoded(frames_at(every(90)), EncodeSettings(gop_s=0.5, live=True))


def push(uri: str, packets: list[EncodedPacket], *, pace_s: float = 0.01) -> None:
    sink = PushSink(uri)
    sink.open()
    try:
        feed(sink, packets, pace_s=pace_s)
        sink.flush()
    finally:
        sink.close()


def test_rtmp_carries_every_frame(tmp_path: Path, ffmpeg: StartFfmpeg, packets: list[EncodedPacket]) -> None:
    port = unused_port()
    received = tmp_path / "received.flv"
    uri = f"rtmp://127.0.0.1:{port}/live/door"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-c", "copy", str(received))
    wait_until_listening(port)
    push(uri, packets)
    receiver.wait(10)
    assert decoded_count(received) == 90


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_srt_carries_frames(tmp_path: Path, ffmpeg: StartFfmpeg, codec: str) -> None:
    settings = EncodeSettings(codec=codec, gop_s=0.5, live=True)  # type: ignore[arg-type]  # tests' parameters
    port = unused_port()
    received = tmp_path / "received.ts"
    receiver = ffmpeg("-i", f"srt://127.0.0.1:{port}?mode=listener", "-c", "copy", str(received))
    time.sleep(1.0)  # SRT is UDP: whether somebody listens cannot be asked
    push(f"srt://127.0.0.1:{port}", encoded(frames_at(every(90)), settings))
    receiver.wait(10)
    assert decoded_count(received) >= 60, "all but what came before the receiver knew the stream"


def test_rtsp_carries_frames(tmp_path: Path, rtsp_server: StartRtspServer, packets: list[EncodedPacket]) -> None:
    received = tmp_path / "received.ts"
    server = rtsp_server(path="/door", record=True, record_to=str(received))
    push(server.url, packets, pace_s=0.03)
    server.stop()
    assert decoded_count(received) >= 60


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_an_address_where_nobody_listens_is_lost_within_seconds(scheme: str, packets: list[EncodedPacket]) -> None:
    uri = f"{scheme}://admin:hunter2@127.0.0.1:{unused_port()}/door"
    with pytest.raises(OutputLostError, match="nobody listens there: check host, port") as caught:
        push(uri, packets * 3, pace_s=0.03)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_receiver_that_dies_is_noticed(ffmpeg: StartFfmpeg, packets: list[EncodedPacket]) -> None:
    port = unused_port()
    uri = f"rtmp://127.0.0.1:{port}/live/door"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-f", "null", "-")
    wait_until_listening(port)
    sink = PushSink(uri)
    sink.open()
    feed(sink, packets[:30], pace_s=0.01)
    receiver.kill()
    with pytest.raises(OutputLostError):
        feed(sink, packets[30:], pace_s=0.05)
    sink.close()
    sink.close()


def test_the_address_is_not_seen_in_the_list_of_processes() -> None:
    sink = PushSink("rtsp://admin:hunter2@127.0.0.1:9/door")
    sink.open()
    assert sink._relay is not None
    shown = Path(f"/proc/{sink._relay.pid}/cmdline").read_text()
    sink.close()
    assert "hunter2" not in shown


def test_no_process_stays_behind(packets: list[EncodedPacket]) -> None:
    sink = PushSink(f"rtsp://127.0.0.1:{unused_port()}/door")
    sink.open()
    assert sink._relay is not None
    pid = sink._relay.pid
    sink.process(packets[0])
    sink.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("scheme", ["rtsp", "srt"])
def test_a_process_that_cannot_be_started_is_a_loss_like_others(scheme: str) -> None:
    sink = PushSink(f"{scheme}://admin:hunter2@127.0.0.1:9/door")
    with no_more_files(), pytest.raises(OutputLostError, match=r"(?i)no process.*too many open files") as caught:
        sink.open()
    sink.close()
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def babbling_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the relay, something that complains without end, until its input ends."""
    code = (
        "import os, select\n"
        "while not select.select([0], [], [], 0)[0] or os.read(0, 1 << 20):\n"
        "    os.write(2, b'bad\\n' * 999)\n"
        "os.write(2, b'worn out\\n')\n"
        "os._exit(1)"
    )
    monkeypatch.setattr("vrseg.sink.push._OWN_RELAY", [sys.executable, "-c", code])


@pytest.mark.usefixtures("babbling_relay")
def test_what_a_relay_complains_of_takes_no_room_and_its_last_word_is_told(packets: list[EncodedPacket]) -> None:
    sink = PushSink("rtsp://127.0.0.1:9/door")
    sink.open()
    for _ in range(50):
        sink.ready()
        time.sleep(0.01)
    found = [path.stat() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [one for one in found if stat.S_ISREG(one.st_mode) and not one.st_nlink and one.st_size > 1_000_000]
    sink.process(packets[0])
    with pytest.raises(OutputLostError, match=r"door: worn out$"):
        sink.flush()
    sink.close()

"""NVENC as far as it can be tested without one: the real one never ran in this project."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest
from plugins import fake_nvenc
from plugins.coding import packets_from
from plugins.encoded import CLOCK, TICKS, decoded_count, every, frames_at, times_in, write_all
from plugins.fake_nvenc import OPENING, PyNvVCException, refused
from plugins.late_gpu import Painter, nv12_of

from vrseg.encode.choose import make_cuda_encoder, name_cuda_encoder
from vrseg.encode.clock import EncoderClock
from vrseg.encode.cuda import NvencEncoder
from vrseg.encode.nvenc_options import nvenc_options
from vrseg.encode.nvenc_sessions import NvencSessions, NvencUnavailableError, reason_of, sessions_of
from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError, DeviceError, MediaError
from vrseg.gpu.device import open_gpu
from vrseg.sink.file import FileSink

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from plugins.fake_nvenc import Machine

    from vrseg.frame import EncodedPacket

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def decoded(packets: list[EncodedPacket]) -> list[av.VideoFrame]:
    """Decode packets as a player does that got the header once."""
    codec = cast("VideoCodecContext", av.CodecContext.create(packets[0].format.codec, "r"))
    codec.extradata = packets[0].format.extradata
    pictures: list[av.VideoFrame] = []
    for packet in packets:
        data: av.Packet[Any] = av.Packet(packet.data)
        data.pts, data.dts, data.time_base = packet.pts, packet.dts, packet.format.time_base
        pictures += codec.decode(data)
    return pictures + codec.decode(None)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_frame_comes_out_once_with_its_own_time_and_a_decode_time_before_it(nvenc: Machine, codec: Any) -> None:
    times = [-1024, *every(30), 20000, 20001, 40000]
    packets = packets_from(NvencEncoder(EncodeSettings(codec=codec), nvenc.gpu), Painter(nvenc.gpu).frames(times))
    assert sorted(packet.pts for packet in packets) == times
    decode_times = [packet.dts for packet in packets]
    assert decode_times == sorted(set(decode_times))
    assert all(packet.dts <= packet.pts for packet in packets)
    assert [packet.pts for packet in packets] != times, "B-frames"
    assert {packet.duration for packet in packets} == {TICKS}
    assert [picture.pts for picture in decoded(packets)] == times


def test_a_live_encoder_keeps_the_order_and_makes_no_b_frames(nvenc: Machine) -> None:
    settings = EncodeSettings(live=True, bitrate=500_000)
    packets = packets_from(NvencEncoder(settings, nvenc.gpu), Painter(nvenc.gpu).frames(every(12)))
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets] == every(12)


@pytest.mark.parametrize("at_once", [False, True])
def test_the_picture_is_read_when_it_is_complete_and_its_memory_lent_out_again_after(
    nvenc: Machine, at_once: bool
) -> None:
    painter = Painter(nvenc.gpu, at_once=at_once)
    frames = list(frames_at(every(12)))
    packets = packets_from(NvencEncoder(EncodeSettings(live=True), nvenc.gpu), painter.frames(every(12)))
    for shown, frame in zip(decoded(packets), frames, strict=True):
        assert np.abs(nv12_of(shown).astype(int) - nv12_of(frame.picture)).mean() < 3
    assert [pool.made for pool in painter.pools.values()] == [1], "each was free for the next"


def test_key_frames_come_by_the_clock(nvenc: Machine) -> None:
    times = [index * 5 * TICKS for index in range(24)]  # 6 frames per second, though each claims to last 1/30 s
    packets = packets_from(NvencEncoder(EncodeSettings(gop_s=1.0), nvenc.gpu), Painter(nvenc.gpu).frames(times))
    assert [packet.pts * CLOCK for packet in packets if packet.key] == [0, 1, 2, 3]


@pytest.mark.parametrize(("codec", "set_types"), [("h264", {7, 8}), ("hevc", {32, 33, 34})])
def test_parameter_sets_are_in_the_header_and_nowhere_else(nvenc: Machine, codec: Any, set_types: set[int]) -> None:
    packets = packets_from(
        NvencEncoder(EncodeSettings(codec=codec, gop_s=0.2), nvenc.gpu), Painter(nvenc.gpu).frames(every(20))
    )
    assert sum(packet.key for packet in packets) >= 3
    assert nal_types(packets[0].format.extradata, codec) >= set_types
    for packet in packets:
        assert not nal_types(packet.data, codec) & set_types


def nal_types(data: bytes, codec: str) -> set[int]:
    units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return {unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63 for unit in units}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(
    ("matrix", "full_range", "tags"), [("bt601", True, (2, 6)), ("bt709", False, (1, 1)), ("bt2020", True, (2, 9))]
)
def test_colours_reach_the_player(
    nvenc: Machine, codec: Any, matrix: Any, full_range: bool, tags: tuple[int, int]
) -> None:
    frames = [
        replace(frame, picture=replace(frame.picture, matrix=matrix, full_range=full_range))
        for frame in Painter(nvenc.gpu).frames(every(3))
    ]
    picture = decoded(packets_from(NvencEncoder(EncodeSettings(codec=codec), nvenc.gpu), frames))[0]
    assert (picture.color_range, picture.colorspace) == tags


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_containers_take_the_packets(nvenc: Machine, tmp_path: Path, codec: Any, ending: str) -> None:
    packets = packets_from(
        NvencEncoder(EncodeSettings(codec=codec, gop_s=0.5), nvenc.gpu), Painter(nvenc.gpu).frames(every(40))
    )
    path = tmp_path / f"a{ending}"
    write_all(FileSink(path, codec=codec), packets)
    assert decoded_count(path) == 40
    times = times_in(path)
    assert np.allclose(np.diff([float(time) for time in times]), 1 / 30, atol=0.002)


def test_what_is_asked_for_is_what_the_encoder_is_told(nvenc: Machine) -> None:
    settings = EncodeSettings(codec="hevc", preset="p6", bitrate=4_000_000, gop_s=2.0)
    packets_from(NvencEncoder(settings, nvenc.gpu), Painter(nvenc.gpu).frames(every(3)))
    trial, real = nvenc.asked
    assert trial == {"width": 320, "height": 240, "codec": "hevc"}
    assert real == {
        "width": 160,
        "height": 120,
        "codec": "hevc",
        "preset": "P6",
        "tuning_info": "high_quality",
        "fps": "30.00",
        "gop": 60,
        "idrperiod": 60,
        "bf": 2,
        "rc": "vbr",
        "bitrate": 4_000_000,
    }


def test_live_quality_and_b_frames_are_as_the_gpu_allows() -> None:
    (first,) = frames_at([0])

    def options(settings: EncodeSettings, most_b_frames: int = 4) -> dict[str, Any]:
        return nvenc_options(settings, EncoderClock(settings, first), most_b_frames=most_b_frames)

    live = options(EncodeSettings(live=True, bitrate=1_000_000))
    assert (live["bf"], live["tuning_info"], live["rc"]) == (0, "ultra_low_latency", "cbr")
    assert live["vbvbufsize"] == live["maxbitrate"] == 1_000_000
    assert options(EncodeSettings(), most_b_frames=0)["bf"] == 0
    assert options(EncodeSettings(quality=63))["cq"] == 51
    assert options(EncodeSettings(codec="av1"))["use_ivf_container"] == 0


def test_a_preset_of_another_encoder_is_a_configuration_error(nvenc: Machine) -> None:
    with pytest.raises(ConfigError, match=r"no preset veryfast: choose P1 \(fast\) to P7"):
        packets_from(
            NvencEncoder(EncodeSettings(encoder="nvenc", preset="veryfast"), nvenc.gpu), Painter(nvenc.gpu).frames([0])
        )
    assert sessions_of(0).open == 0


def test_another_size_in_the_middle_is_refused_in_one_line(nvenc: Machine) -> None:
    painter = Painter(nvenc.gpu)
    frames = [*painter.frames([0]), *painter.frames([512], width=80)]
    with pytest.raises(MediaError, match=r"door changed from 160x120 to 80x120 \(nv12\): NVENC does not scale"):
        packets_from(NvencEncoder(EncodeSettings(), nvenc.gpu), frames)
    assert sessions_of(0).open == nvenc.sessions == 0


def test_the_bitrate_changes_while_it_runs(nvenc: Machine) -> None:
    encoder = NvencEncoder(EncodeSettings(live=True, bitrate=1_000_000), nvenc.gpu)
    encoder.set_bitrate(5)  # nothing is open
    encoder.open()
    (frame,) = Painter(nvenc.gpu).frames([0])
    list(encoder.process(frame))
    encoder.set_bitrate(250_000)
    (change,) = nvenc.bitrates
    assert (change.averageBitrate, change.maxBitRate, change.vbvBufferSize) == (250_000, 250_000, 250_000)
    with pytest.raises(MediaError, match="refuses 0 bit/s"):
        encoder.set_bitrate(0)
    encoder.close()


def test_closing_is_safe_at_any_time_and_ends_the_session(nvenc: Machine) -> None:
    encoder = NvencEncoder(EncodeSettings(), nvenc.gpu)
    encoder.close()
    encoder.open()
    assert list(encoder.flush()) == []
    (frame,) = Painter(nvenc.gpu).frames([0])
    list(encoder.process(frame))
    assert sessions_of(0).open == 1
    encoder.close()
    encoder.close()
    gc.collect()
    assert sessions_of(0).open == nvenc.sessions == 0


def test_an_encoder_that_fails_on_the_way_is_a_media_error(nvenc: Machine) -> None:
    nvenc.failure = PyNvVCException("m_nvenc.nvEncEncodePicture(m_hEncoder, &picParams)\n Error code : 20")
    with pytest.raises(MediaError, match=r"in the middle of the stream: m_nvenc.nvEncEncodePicture\(.*code : 20"):
        packets_from(NvencEncoder(EncodeSettings(), nvenc.gpu), Painter(nvenc.gpu).frames([0]))


@pytest.mark.parametrize(
    ("message", "free_bytes", "reason"),
    [
        (f"{OPENING} Error code : 2", 8000 * MIB, "absent"),
        ("GetEncoderCaps Error code : 2", None, "absent"),
        (f"{OPENING} Error code : 21", 8000 * MIB, "limit"),
        (f"{OPENING} Error code : 10", 8000 * MIB, "limit"),
        (f"{OPENING} Error code : 10", 20 * MIB, "memory"),
        ("m_nvenc.nvEncCreateBitstreamBuffer(m_hEncoder, &b) Error code : 10", 8000 * MIB, "memory"),
        ("cuMemAllocPitch returned Error code : 2", 20 * MIB, "memory"),
        ("m_nvenc.nvEncInitializeEncoder(m_hEncoder, &p) Error code : 12", 8000 * MIB, "unsupported"),
        ("Codec not supported on this GPU", 8000 * MIB, "unsupported"),
        ("cuCtxPushCurrent Error code : 201", 8000 * MIB, "failed"),
        ("something else", None, "failed"),
    ],
)
def test_refusals_are_told_apart(message: str, free_bytes: int | None, reason: str) -> None:
    assert reason_of(message, free_bytes=free_bytes) == reason


def test_the_limit_is_found_by_running_into_it_and_forgotten_when_a_session_ends(nvenc: Machine) -> None:
    nvenc.most_sessions = 2
    sessions = NvencSessions(0)
    held = [sessions.start(320, 240, {"codec": "h264"}) for _ in range(2)]
    with pytest.raises(NvencUnavailableError, match="no encode session is free"):
        sessions.start(320, 240, {"codec": "h264"})
    tries = nvenc.tries
    with pytest.raises(NvencUnavailableError, match="all 2 encode sessions are in use") as refusal:
        sessions.start(320, 240, {"codec": "h264"})
    assert (refusal.value.reason, nvenc.tries) == ("limit", tries), "known: not tried"
    held.pop()
    sessions.ended()
    held.append(sessions.start(320, 240, {"codec": "h264"}))
    assert sessions.open == 2


def test_a_gpu_is_asked_once_whether_it_can(nvenc: Machine) -> None:
    nvenc.refusal = refused(OPENING, 2)
    for _ in range(3):
        with pytest.raises(NvencUnavailableError, match="NVENC of cuda:0: this GPU has no video encoder") as refusal:
            sessions_of(0).ability("h264")
        assert refusal.value.reason == "absent"
    assert nvenc.tries == 1


def test_a_session_that_was_not_free_is_asked_for_again(nvenc: Machine) -> None:
    nvenc.refusal = refused(OPENING, 21)
    with pytest.raises(NvencUnavailableError):
        sessions_of(0).ability("h264")
    nvenc.refusal = None
    assert sessions_of(0).ability("h264").most_b_frames == 4


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"refusal": refused(OPENING, 2)}, "absent"),
        ({"most_sessions": 0}, "limit"),
        ({"settings": EncodeSettings(preset="ultrafast")}, "preset"),
        ({"settings": EncodeSettings(codec="av1")}, "unsupported"),
        ({"library": None}, "library"),
    ],
)
def test_auto_falls_back_to_software_and_says_so(
    nvenc: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    about: dict[str, Any],
    reason: str,
) -> None:
    if "library" in about:
        monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    nvenc.refusal, nvenc.most_sessions = about.get("refusal"), about.get("most_sessions")
    reasons: list[str] = []
    settings = about.get("settings", EncodeSettings(preset="P4"))
    packets = packets_from(make_cuda_encoder(settings, nvenc.gpu, reasons.append), Painter(nvenc.gpu).frames(every(3)))
    assert len(packets) == 3
    assert reasons == [reason]
    said = capsys.readouterr()
    assert (said.out + said.err).count("this output is encoded in software") == 1
    assert nvenc.asked == [] or reason == "preset"


def test_a_limit_met_at_the_first_frame_falls_back_without_losing_it(nvenc: Machine) -> None:
    sessions_of(0).ability("h264")
    nvenc.most_sessions = 0
    reasons: list[str] = []
    packets = packets_from(
        make_cuda_encoder(EncodeSettings(), nvenc.gpu, reasons.append), Painter(nvenc.gpu).frames(every(5))
    )
    assert sorted(packet.pts for packet in packets) == every(5)
    assert reasons == ["limit"]


def test_pictures_of_more_than_8_bits_are_encoded_in_software(nvenc: Machine) -> None:
    (frame,) = Painter(nvenc.gpu).frames([0])
    deep = Painter(nvenc.gpu).surface(np.zeros((180, 320), np.uint8))
    surface = replace(deep, width=160, height=120, format="p016")
    reasons: list[str] = []
    packets = packets_from(
        make_cuda_encoder(EncodeSettings(), nvenc.gpu, reasons.append), [replace(frame, picture=surface)]
    )
    assert (len(packets), reasons) == (1, ["unsupported"])


def test_nvenc_is_taken_where_it_is_and_named_in_the_plan(nvenc: Machine) -> None:
    reasons: list[str] = []
    encoder = make_cuda_encoder(EncodeSettings(), nvenc.gpu, reasons.append)
    assert len(packets_from(encoder, Painter(nvenc.gpu).frames(every(3)))) == 3
    assert (len(nvenc.asked), reasons) == (2, [])
    assert name_cuda_encoder(EncodeSettings(), nvenc.gpu) == "nvenc"
    assert name_cuda_encoder(EncodeSettings(preset="ultrafast"), nvenc.gpu) == "libx264"


def test_nvenc_by_name_fails_where_it_is_not(nvenc: Machine) -> None:
    nvenc.refusal = refused(OPENING, 2)
    reasons: list[str] = []
    with pytest.raises(DeviceError, match="this GPU has no video encoder"):
        packets_from(make_cuda_encoder(EncodeSettings(encoder="nvenc"), nvenc.gpu, reasons.append), [])
    assert reasons == []
    with pytest.raises(DeviceError, match="this GPU has no video encoder"):
        name_cuda_encoder(EncodeSettings(encoder="nvenc"), nvenc.gpu)


def test_the_name_of_a_software_encoder_asks_nvenc_nothing(nvenc: Machine) -> None:
    reasons: list[str] = []
    settings = EncodeSettings(encoder="libx264")
    assert (
        len(packets_from(make_cuda_encoder(settings, nvenc.gpu, reasons.append), Painter(nvenc.gpu).frames(every(2))))
        == 2
    )
    assert (nvenc.tries, reasons) == (0, [])
    assert name_cuda_encoder(settings, nvenc.gpu) == "libx264"


def stub_of(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "stubs" / "nvc2_2"


@pytest.mark.material
def test_the_fake_has_nothing_that_the_real_one_lacks(nvenc: Machine, shared_dir: Path) -> None:
    text = (stub_of(shared_dir) / "PyNvVideoCodec" / "__init__.pyi").read_text(encoding="utf-8")
    members = {getattr(node, "name", ""): node for node in ast.parse(text).body}
    module = fake_nvenc.module_of(nvenc)
    for name, member in vars(module).items():
        if name.startswith("__"):
            continue
        real = members[name]
        if isinstance(real, ast.FunctionDef):
            parameters = {argument.arg for argument in (*real.args.args, *real.args.kwonlyargs)}
            own = member.__code__.co_varnames[: member.__code__.co_argcount + member.__code__.co_kwonlyargcount]
            assert set(own) <= parameters, name
        else:
            assert public(member) <= fields_of(cast("ast.ClassDef", real)), name


def public(one: type) -> set[str]:
    return {name for name in vars(one) if not name.startswith("_")}


def fields_of(one: ast.ClassDef) -> set[str]:
    annotated = {
        node.target.id for node in one.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return annotated | {node.name for node in one.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.material
def test_the_code_agrees_with_the_signatures_of_the_real_one(shared_dir: Path, tmp_path: Path) -> None:
    files = [str(ROOT / "vrseg" / "encode" / name) for name in ("cuda.py", "nvenc_sessions.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--follow-imports=silent", *files],
        env={**os.environ, "MYPYPATH": str(stub_of(shared_dir))},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.gpu
def test_a_real_gpu_has_nvenc_or_says_why_not() -> None:
    gpu = open_gpu()
    gpu.use()
    try:
        ability = sessions_of(gpu.index).ability("h264")
    except NvencUnavailableError as error:
        assert error.reason == "absent", str(error)  # noqa: PT017 -- both answers are right, on their own cards
    else:
        assert ability.most_b_frames >= 0
    assert sessions_of(gpu.index).open == 0

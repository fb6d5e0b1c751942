"""FFmpeg within PyAV, the system's `ffmpeg` program, and cameras."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vrseg.doctor.finding import Finding, State, apt, pip
from vrseg.encode.scheduling import no_real_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.video.codeccontext import VideoCodecContext

_DECODERS = ("h264", "hevc", "av1", "vp9", "mjpeg")
# Hardware encoders refuse smaller pictures.
_TRIAL_SIZE = (320, 240)
_TRIAL_RATE = Fraction(30)
_ENCODERS = {
    "h264": ("libx264", "libopenh264", "h264_nvenc"),
    "hevc": ("libx265", "hevc_nvenc"),
    "av1": ("libsvtav1", "libaom-av1", "av1_nvenc"),
}
_NEEDED_CODEC = "h264"
_NETWORKS = ("rtsp", "rtmp", "https")
_TIMEOUT_S = 5
_REPAIR = pip("--force-reinstall", "av")


def look_at_video() -> list[Finding]:
    """Report what can be read and written, by opening it."""
    try:
        import av  # noqa: PLC0415 - it is what is being looked at: it may be broken
    except ImportError as error:
        broken = Finding("PyAV", "missing", f"does not load: {error}", _REPAIR)
        return [broken, _program(), _cameras()]
    pyav = Finding("PyAV", "ok", f"{av.__version__} with FFmpeg {av.ffmpeg_version_info}")
    encoders = [_encoder(codec, names) for codec, names in _ENCODERS.items()]
    return [pyav, _decoders(), *encoders, _network(), _srt(), _program(), _cameras()]


def _decoders() -> Finding:
    import av  # noqa: PLC0415 - see look_at_video

    missing = [name for name in _DECODERS if name not in av.codecs_available]
    if missing:
        return Finding("decoders", "missing", f"this FFmpeg cannot read {', '.join(missing)}", _REPAIR)
    return Finding("decoders", "ok", ", ".join(_DECODERS))


def _encoder(codec: str, names: Sequence[str]) -> Finding:
    working = [name for name in names if _opens(name)]
    if working:
        return Finding(f"{codec} encoder", "ok", ", ".join(working))
    state: State = "missing" if codec == _NEEDED_CODEC else "optional"
    return Finding(f"{codec} encoder", state, f"none of {', '.join(names)} opens", _REPAIR)


def _opens(name: str) -> bool:
    """Try: an encoder is listed also on machines that lack its hardware."""
    import av  # noqa: PLC0415 - see look_at_video

    # SVT-AV1 reads its log level from here only.
    os.environ.setdefault("SVT_LOG", "1")
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(name, "w"))
        context.width, context.height, context.pix_fmt = *_TRIAL_SIZE, "yuv420p"
        context.time_base, context.framerate = 1 / _TRIAL_RATE, _TRIAL_RATE
        context.options = {"x265-params": "log-level=none"} if name == "libx265" else {}
        with no_real_time():
            context.open()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _network() -> Finding:
    missing = [scheme for scheme in _NETWORKS if not _speaks(scheme)]
    if missing:
        return Finding("network", "missing", f"this FFmpeg does not speak {', '.join(missing)}", _REPAIR)
    return Finding("network", "ok", ", ".join(_NETWORKS))


def _speaks(scheme: str) -> bool:
    """Knock at a port of this machine where nobody listens: an unknown protocol fails before that."""
    import av  # noqa: PLC0415 - see look_at_video

    try:
        av.open(f"{scheme}://127.0.0.1:9/", timeout=_TIMEOUT_S).close()
    except (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError):
        return False
    except av.error.FFmpegError:
        return True
    return True


def _srt() -> Finding:
    if _speaks("srt"):
        return Finding("SRT", "ok", "within PyAV")
    program = shutil.which("ffmpeg")
    if program and " srt" in _output_of([program, "-hide_banner", "-protocols"]):
        return Finding("SRT", "ok", f"through {program}")
    return Finding("SRT", "optional", "no FFmpeg here speaks srt://", apt("ffmpeg"))


def _program() -> Finding:
    """The program is needed for SRT where PyAV lacks it; it also plays and converts what vrseg wrote."""
    program = shutil.which("ffmpeg")
    if program is None:
        return Finding("ffmpeg program", "optional", "not there; only srt:// asks for it", apt("ffmpeg"))
    words = _output_of([program, "-version"]).split()
    return Finding("ffmpeg program", "ok", f"{words[2] if len(words) > 2 else 'version unknown'}, {program}")


def _output_of(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _cameras() -> Finding:
    cameras = sorted(Path("/dev").glob("video*"))
    if not cameras:
        return Finding("cameras", "optional", "no /dev/video* here; network cameras need none")
    closed = [camera for camera in cameras if not os.access(camera, os.R_OK | os.W_OK)]
    if closed:
        remedy = f"{'' if os.geteuid() == 0 else 'sudo '}usermod --append --groups video {getpass.getuser()}"
        return Finding("cameras", "optional", f"no permission to read {', '.join(map(str, closed))}", remedy)
    return Finding("cameras", "ok", ", ".join(map(str, cameras)))

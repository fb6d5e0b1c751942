"""What an encoder is asked for, and the options of each FFmpeg encoder that mean it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from fractions import Fraction

CodecName: TypeAlias = Literal["h264", "hevc", "av1"]

ENCODERS: dict[CodecName, tuple[str, ...]] = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1"),
}
"""Software encoders that `auto` takes, the first that this FFmpeg has."""

# CPU time and size per frame of a busy 1280x720 clip, one core, PyAV 18.1, at each encoder's usual CRF:
# libx264    faster 9.4 ms 9.0 kB; veryfast 5.5 ms 8.3 kB; superfast 4.0 ms 12.8 kB; ultrafast 2.2 ms 22.1 kB.
#   live     veryfast 4.5 ms 12.2 kB; superfast 3.2 ms 15.4 kB; ultrafast 2.2 ms 22.1 kB.
# libx265    ultrafast 16 ms 6.1 kB; live superfast 30 ms 10.1 kB.
# libsvtav1  8 20 ms 14.1 kB; 9 13 ms 14.8 kB; 10 12 ms 15.0 kB; live 10 10 ms 16.2 kB.
_PRESETS = {"libx264": "veryfast", "libx265": "superfast", "libsvtav1": "9", "libaom-av1": "8"}
_LIVE_PRESETS = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "10", "libaom-av1": "9"}

_LOW_DELAY: dict[str, dict[str, str]] = {
    "libx264": {"tune": "zerolatency"},
    "libx265": {"tune": "zerolatency"},
    # SVT-AV1 4.1 may wait for itself for ever when each frame must leave at once, most of all on busy cores: in 4 of
    # 1,500 clips of 90 frames, with `lp=1` in 3 of 900, with `rtc=1` in 1 of 3,300, with both in none of 2,400.
    "libsvtav1": {"svtav1-params": "pred-struct=1:rtc=1:lp=1"},
    "libaom-av1": {"usage": "realtime", "lag-in-frames": "0"},
}

_MAX_THREADS = 8
"""More slices or frames in parallel cost memory and bytes, and other streams want the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """How the pictures of one output are compressed."""

    codec: CodecName = "h264"
    encoder: str = "auto"
    """`auto`, `nvenc`, or the name of an FFmpeg encoder."""
    bitrate: int | None = None
    """Bits per second; constant quality when None."""
    quality: int | None = None
    """CRF; the encoder's usual value when None. With `bitrate` it has no meaning and is not used."""
    preset: str | None = None
    """The encoder's own preset; a measured choice when None."""
    gop_s: float = 2.0
    """Seconds between key frames."""
    live: bool = False
    """Each frame leaves as soon as it came: no B-frames, no look-ahead."""
    threads: int = 0
    """0 chooses for the machine."""
    frame_rate: Fraction | None = None
    """Frames per second, a hint for the rate control; from the frames' durations when None."""


def thread_count(settings: EncodeSettings) -> int:
    """Give the number of threads to encode with."""
    return settings.threads or min(len(os.sched_getaffinity(0)), _MAX_THREADS)


def encoder_options(encoder: str, settings: EncodeSettings) -> dict[str, str]:
    """Spell `settings` as the private options of the FFmpeg encoder `encoder`."""
    options = _rate_control(settings)
    preset = settings.preset or (_LIVE_PRESETS if settings.live else _PRESETS).get(encoder)
    if preset is not None:
        options["cpu-used" if encoder == "libaom-av1" else "preset"] = preset
    if encoder in {"libx264", "libx265"}:
        options["forced-idr"] = "1"  # without it a demanded key frame is none that a player can start at
    if encoder == "libx265":
        options["x265-params"] = "log-level=error"
    if settings.live:
        options |= _LOW_DELAY.get(encoder, {})
    return options


def _rate_control(settings: EncodeSettings) -> dict[str, str]:
    if settings.bitrate is None:
        return {} if settings.quality is None else {"crf": str(settings.quality)}
    if not settings.live:
        return {}
    # A live receiver's buffer is about a second: no second may be larger than its share.
    return {"maxrate": str(settings.bitrate), "bufsize": str(settings.bitrate)}

"""What an encoder is asked for, in the words of PyNvVideoCodec, which reports no word that it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from vrseg.encode.clock import EncoderClock
    from vrseg.encode.settings import EncodeSettings

Options: TypeAlias = dict[str, str | int]

PRESETS = ("P1", "P2", "P3", "P4", "P5", "P6", "P7")
"""Fast to small. What else is passed as a preset is undefined behaviour."""

_PRESET, _LIVE_PRESET = "P4", "P3"
"""NVIDIA's own middle, and one step to the quick side where frames may not wait."""

_MOST_B_FRAMES = 2
"""More cost delay and save next to nothing."""

_QUALITY = {"h264": 23, "hevc": 28, "av1": 35}
"""Near to what the software encoders take for their usual quality; NVENC's own usual is a fixed quantiser."""
_WORST_QUALITY = {"h264": 51, "hevc": 51, "av1": 63}


def is_nvenc_preset(preset: str) -> bool:
    """Tell whether a preset is one of NVENC's; lower case will do."""
    return preset.upper() in PRESETS


def nvenc_options(settings: EncodeSettings, clock: EncoderClock, *, most_b_frames: int) -> Options:
    """Spell `settings` as options of `PyNvVideoCodec.CreateEncoder`.

    Args:
        settings: what is asked for.
        clock: of the stream.
        most_b_frames: that the GPU can do for the codec.

    Raises:
        ConfigError: the preset is none of NVENC's.
    """
    preset = settings.preset or (_LIVE_PRESET if settings.live else _PRESET)
    if not is_nvenc_preset(preset):
        raise ConfigError(f"encoder nvenc has no preset {preset}: choose {PRESETS[0]} (fast) to {PRESETS[-1]} (small)")
    return {
        "codec": settings.codec,
        "preset": preset.upper(),
        "tuning_info": "ultra_low_latency" if settings.live else "high_quality",
        "fps": f"{float(clock.rate):.2f}",  # for the rate control; times are our own
        "gop": clock.gop_frames,
        "idrperiod": clock.gop_frames,
        "bf": 0 if settings.live else min(_MOST_B_FRAMES, most_b_frames),
        **_rate_control(settings),
        **({"repeatspspps": 1, "use_ivf_container": 0} if settings.codec == "av1" else {}),
    }


def _rate_control(settings: EncodeSettings) -> Options:
    bits = settings.bitrate
    if bits is None:
        usual = _QUALITY[settings.codec]
        quality = usual if settings.quality is None else min(settings.quality, _WORST_QUALITY[settings.codec])
        return {"rc": "vbr", "cq": quality, "bitrate": 0}
    if not settings.live:
        return {"rc": "vbr", "bitrate": bits}
    # A live receiver's buffer is about a second: no second may be larger than its share.
    return {"rc": "cbr", "bitrate": bits, "maxbitrate": bits, "vbvbufsize": bits}

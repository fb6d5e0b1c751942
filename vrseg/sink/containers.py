"""The file formats that vrseg writes, by the ending of the name, and the muxer options that make them robust."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerKind:
    """A container format of FFmpeg."""

    name: str
    """FFmpeg's muxer."""
    codecs: frozenset[str]
    """Of `h264`, `hevc` and `av1`, those it can hold."""
    codec_tags: Mapping[str, str] = field(default_factory=dict)
    """Tags that differ from FFmpeg's choice, by codec."""
    options: Mapping[str, str] = field(default_factory=dict)
    fine_clock: bool = False
    """True where the container can count time in the video's own time base."""

    def muxer_options(self, time_base: Fraction) -> dict[str, str]:
        """Give the options of FFmpeg's muxer for a video that counts time in `time_base`."""
        options = dict(self.options)
        if self.fine_clock:
            ticks_per_s = str(time_base.denominator)
            # Both: packets count in the track's unit, the start of the track in the movie's.
            options |= {"video_track_timescale": ticks_per_s, "movie_timescale": ticks_per_s}
        return options


# Out of the buffer and onto the disk at once, so that a killed process loses nothing that was complete.
_AT_ONCE = {"flush_packets": "1"}

# Fragments while writing, so that a killed process leaves a playable file; one ordinary index at a clean end. The
# header waits for the first fragment: only then are the delays known that keep pts exact with B-frames and odd starts.
_FRAGMENTED = {"movflags": "+hybrid_fragmented+delay_moov", "use_editlist": "1", **_AT_ONCE}

# Apple's players want parameter sets of HEVC in the header, which this tag promises and our encoders keep.
_APPLE_HEVC = {"hevc": "hvc1"}

_MP4 = ContainerKind(
    name="mp4",
    codecs=frozenset({"h264", "hevc", "av1"}),
    codec_tags=_APPLE_HEVC,
    options=_FRAGMENTED,
    fine_clock=True,
)
# Without the option, sound that starts before zero (AAC does) would push the video's times back; Matroska has a field
# for that start and needs no push.
_CLUSTERS = {"cluster_time_limit": "1000", "avoid_negative_ts": "disabled", **_AT_ONCE}

CONTAINERS: dict[str, ContainerKind] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": ContainerKind(
        name="mov",
        codecs=frozenset({"h264", "hevc"}),
        codec_tags=_APPLE_HEVC,
        options=_FRAGMENTED,
        fine_clock=True,
    ),
    ".mkv": ContainerKind(name="matroska", codecs=frozenset({"h264", "hevc", "av1"}), options=_CLUSTERS),
    ".webm": ContainerKind(name="webm", codecs=frozenset({"av1"}), options=_CLUSTERS),
    ".ts": ContainerKind(name="mpegts", codecs=frozenset({"h264", "hevc"}), options=_AT_ONCE),
}
"""By ending. Matroska counts milliseconds and MPEG-TS 1/90000 s; the others keep the video's own clock."""


def container_of(path: Path, codec: str) -> ContainerKind:
    """Tell which container `path` asks for.

    Raises:
        ConfigError: the ending is unknown, or the container cannot hold `codec`.
    """
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: unknown ending {path.suffix or '(none)'!r}; use one of {' '.join(CONTAINERS)}")
    if codec not in kind.codecs:
        fitting = " ".join(ending for ending, other in CONTAINERS.items() if codec in other.codecs)
        raise ConfigError(f"{path}: {path.suffix} files cannot hold {codec}; use one of {fitting}, or another codec")
    return kind

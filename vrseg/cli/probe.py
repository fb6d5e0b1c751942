"""`vrseg probe`: what an address holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from vrseg.cli.rows import print_rows
from vrseg.source.probe import probe as look

if TYPE_CHECKING:
    from vrseg.source.probe import AudioReport, ProbeReport, VideoReport


def probe(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A file, a folder of images, or an address.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an answer.")] = 10.0,
) -> None:
    """Open a source, and print what it holds."""
    report = look(uri, timeout_s=timeout_s)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _print(report, Console(highlight=False))


def _print(report: ProbeReport, console: Console) -> None:
    console.print(Text(report.uri, "bold"), soft_wrap=True)
    rows = [("container", _listed(report.container, *_amounts(report)))]
    for video in report.video:
        unread = "" if video.index == report.selected else " (not read)"
        rows.append((f"video {video.index}{unread}", _listed(*_video(video))))
    rows += [(f"audio {audio.index}", _listed(*_audio(audio))) for audio in report.audio]
    rows += [("other", kind) for kind in report.other]
    print_rows(console, [(Text(f"  {label}", "dim"), value) for label, value in rows])


def _listed(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _amounts(report: ProbeReport) -> tuple[str | None, ...]:
    return (
        "live" if report.live else None,
        None if report.duration_s is None else f"{report.duration_s:.2f} s",
        None if report.size_bytes is None else f"{report.size_bytes / 1e6:.1f} MB",
        _bit_rate(report.bit_rate_bps),
    )


def _video(video: VideoReport) -> tuple[str | None, ...]:
    color = " ".join(
        name for name in (video.color_matrix, video.color_transfer, video.color_primaries, video.color_range) if name
    )
    return (
        f"{video.codec} {video.profile}" if video.profile else video.codec,
        f"{video.width}x{video.height}",
        None if video.frame_rate is None else f"{video.frame_rate:.6g} fps",
        None if video.frame_count is None else f"{video.frame_count} frames",
        _bit_rate(video.bit_rate_bps),
        video.pixel_format,
        color,
        f"turned by {video.rotation_deg} degrees" if video.rotation_deg else None,
        "a cover picture" if video.cover else None,
    )


def _audio(audio: AudioReport) -> tuple[str | None, ...]:
    return (
        audio.codec,
        None if audio.sample_rate_hz is None else f"{audio.sample_rate_hz} Hz",
        None if audio.channels is None else f"{audio.channels} channel{'s' * (audio.channels != 1)}",
        _bit_rate(audio.bit_rate_bps),
        audio.language,
    )


def _bit_rate(bits_per_s: int | None) -> str | None:
    return None if bits_per_s is None else f"{bits_per_s / 1000:.0f} kbit/s"

"""FFmpeg containers as sources see them: opened with a deadline, one video stream chosen, all others discarded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import av
import av.error
from av.stream import Discard, Disposition

from vrseg.errors import MediaError
from vrseg.frame import Packet, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg draws any text file as a terminal film; nobody who names a text file means that.
_NOT_VIDEO_FORMATS = frozenset({"tty"})

# FFmpeg says 90000 and the like when it took the clock for the frame rate.
_HIGHEST_RATE = 1000


class BinaryReader(Protocol):
    """What FFmpeg needs of a file-like object that cannot seek."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


def open_container(
    address: str | BinaryReader,
    *,
    shown: str,
    format_name: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout_s: tuple[float, float] | None = None,
) -> InputContainer:
    """Open what FFmpeg reads at `address`; errors name it as `shown`.

    `timeout_s` bounds (opening, one read); 0 waits for ever.

    Raises:
        av.error.FFmpegError: what FFmpeg said.
        MediaError: FFmpeg reads it, but it is no video.
    """
    open_s, read_s = timeout_s or (0.0, 0.0)
    container = av.open(
        address,
        mode="r",
        format=format_name,
        options=dict(options or {}),
        timeout=(open_s or None, read_s or None),
        metadata_errors="replace",
    )
    if container.format.name in _NOT_VIDEO_FORMATS:
        container.close()
        raise MediaError(f"{shown}: this is text, not video; name a video")
    return container


def choose_video(container: InputContainer, shown: str) -> VideoStream:
    """Return the stream to read: FFmpeg's best video that is not a cover picture; discard all others.

    Raises:
        MediaError: there is none, or FFmpeg cannot decode it.
    """
    video = best_video(container)
    if video is None:
        what = "audio only" if container.streams.audio else "no video"
        raise MediaError(f"{shown}: holds {what}; vrseg needs a video stream")
    # Typed as never None, but PyAV leaves it out when FFmpeg has no decoder for the stream.
    context: Any = video.codec_context
    if context is None:
        raise MediaError(f"{shown}: FFmpeg has no decoder for its video; convert it, for example to H.264")
    for stream in container.streams:
        if stream is not video:
            stream.discard = Discard.all
    return video


def best_video(container: InputContainer) -> VideoStream | None:
    """Return FFmpeg's best video that is not a cover picture."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return next((film for film in films if film is best), films[0] if films else None)


def describe(container: InputContainer, video: VideoStream) -> SourceInfo:
    """Say what the container says about its video. `rotation_deg` stays 0: only decoded frames carry it."""
    context = video.codec_context
    duration_s = None
    if video.duration and video.time_base:
        duration_s = float(video.duration * video.time_base)
    elif container.duration and container.duration > 0:
        duration_s = container.duration / av.time_base
    rates = (video.average_rate, video.guessed_rate)
    return SourceInfo(
        codec=context.name,
        width=context.width,
        height=context.height,
        frame_rate=next((rate for rate in rates if rate and rate <= _HIGHEST_RATE), None),
        frame_count=video.frames or None,
        duration_s=duration_s if duration_s and duration_s > 0 else None,
        time_base=video.time_base,
    )


def demuxed(container: InputContainer, *streams: VideoStream) -> Iterator[av.Packet[Any]]:
    """Yield the packets of `streams`, or of all, without FFmpeg's empty ones at the end."""
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            # PyAV trips at the end of a container in which streams appeared after it was opened: damage, mostly.
            return
        if packet is None:
            return
        if packet.size:
            yield packet


def packets_of(container: InputContainer, video: VideoStream) -> Iterator[Packet]:
    """Yield the packets of `video` with their time of arrival."""
    for packet in demuxed(container, video):
        yield Packet(payload=packet, arrived_s=time.monotonic())

"""Encoded packets into one container, whatever it is written to."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

import av
import structlog
from av.error import ArgumentError, FFmpegError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from vrseg.frame import EncodedPacket
    from vrseg.sink.containers import ContainerKind

_log = structlog.get_logger(__name__)


class Companions(Protocol):
    """What goes into a file beside the video; see `carry.CarriedStreams`."""

    def attach(self, container: OutputContainer, video: VideoStream) -> None:
        """Add streams, chapters and metadata, before the first packet is written."""

    def packets_until(self, time_s: float) -> Iterable[av.Packet[Any]]:
        """Hand out packets, each bound to its stream, that are due before `time_s`."""


class Muxer:
    """One open container.

    Not thread-safe. Every method may raise `av.error.FFmpegError`, which is an `OSError` where the system refused.
    """

    def __init__(
        self,
        container: OutputContainer,
        first: EncodedPacket,
        companions: Companions | None = None,
        *,
        codec_tag: str | None = None,
    ) -> None:
        self._container = container
        self._format = first.format
        self._companions = companions
        self._video = _add_video(container, first, codec_tag)
        if companions is not None:
            companions.attach(container, self._video)

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of video, and what goes beside it up to its time."""
        if self._companions is not None:
            self._write_companions(float(packet.dts * self._format.time_base))
        self._container.mux_one(_as_av(packet, self._video))

    def finish(self) -> None:
        """Write what is left and the trailer."""
        if self._companions is not None:
            self._write_companions(float("inf"))
        self._container.close()

    def abandon(self) -> None:
        """Let go of what is open. The trailer may fail for the same reason as the packet before it: that is known."""
        with suppress(FFmpegError, OSError):
            self._container.close()

    def _write_companions(self, time_s: float) -> None:
        for packet in cast("Companions", self._companions).packets_until(time_s):
            try:
                self._container.mux_one(packet)
            except ArgumentError:
                # Damaged input has packets that go back in time. The pictures are worth more than a crackle.
                _log.warning("damaged packet of sound or subtitles left out", stream=packet.stream_index)


def open_file(path: Path, kind: ContainerKind, first: EncodedPacket, companions: Companions | None = None) -> Muxer:
    """Open a container on disk for a video that begins with `first`; an existing file is replaced."""
    options = kind.muxer_options(first.format.time_base)
    # The prefix keeps a colon in a name from being read as a protocol.
    container = av.open(f"file:{path}", "w", format=kind.name, options=options)
    return Muxer(container, first, companions, codec_tag=kind.codec_tags.get(first.format.codec))


def _add_video(container: OutputContainer, first: EncodedPacket, codec_tag: str | None) -> VideoStream:
    """Add the video stream with the parameter sets, colours and orientation of an encoder that lives elsewhere."""
    stream = container.add_stream_from_template(_described(first), opaque=True)
    stream.time_base = first.format.time_base
    stream.codec_context.framerate = first.format.frame_rate
    if codec_tag is not None:
        stream.codec_context.codec_tag = codec_tag
    if first.format.rotation_deg:
        stream.set_display_rotation(-first.format.rotation_deg)  # FFmpeg counts counter-clockwise
    return stream


def _described(first: EncodedPacket) -> VideoStream:
    """Make an input stream that knows everything about the video.

    PyAV can describe a stream it has not encoded itself only after a demuxer has seen it: so one packet goes through
    a NUT file in memory, which takes a millisecond or two, once per file.
    """
    packet_format = first.format
    memory = io.BytesIO()
    with av.open(memory, "w", format="nut") as writer:
        stream = writer.add_mux_stream(
            packet_format.codec,
            width=packet_format.width,
            height=packet_format.height,
            time_base=packet_format.time_base,
        )
        packet = _as_av(first, stream, data=_with_parameter_sets(first))
        packet.pts = packet.dts = 0
        writer.mux_one(packet)
    memory.seek(0)
    return av.open(memory, "r", format="nut").streams.video[0]


def _with_parameter_sets(first: EncodedPacket) -> bytes:
    # Key frames of AV1 repeat their sequence header anyway.
    return first.data if first.format.codec == "av1" else first.format.extradata + first.data


def _as_av(source: EncodedPacket, stream: Any, data: bytes | None = None) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(source.data if data is None else data)
    packet.stream = stream
    packet.time_base = source.format.time_base
    packet.pts, packet.dts, packet.duration = source.pts, source.dts, source.duration
    packet.is_keyframe = source.key
    return packet

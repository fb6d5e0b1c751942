"""What a processed file keeps of its input beside the video: sound, subtitles, data, chapters and metadata."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
import structlog
from av.error import FFmpegError

from vrseg.av_errors import source_error
from vrseg.source.container import best_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# These describe the old file, not its content; the muxer writes its own.
_OF_THE_FILE = frozenset(
    {
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
        "duration",
        "rotate",
        "bps",
        "number_of_frames",
        "number_of_bytes",
        "vendor_id",
    }
)

_log = structlog.get_logger(__name__)


class CarriedStreams:
    """Reads the input a second time and hands its packets to a muxer, in time with the video.

    Only the first video stream is replaced by the encoded one. Streams that the container cannot hold are left out with
    a warning in the log.

    Raises:
        MediaError: from `open`, the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._input: InputContainer | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())
        self._waiting: av.Packet[Any] | None = None
        self._outputs: dict[int, Stream] = {}

    def open(self) -> None:
        try:
            self._input = av.open(f"file:{self._path}", "r", metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            raise source_error(error, str(self._path), live=False) from error

    def close(self) -> None:
        self._packets, self._waiting, self._outputs = iter(()), None, {}
        if self._input is not None:
            self._input.close()
            self._input = None

    def attach(self, container: OutputContainer, video: VideoStream) -> None:
        """Add streams, chapters and metadata to `container`, before its first packet."""
        if self._input is None:
            return
        container.metadata.update(_of_the_content(self._input.metadata))
        container.set_chapters(self._input.chapters())
        replaced = best_video(self._input)
        if replaced is not None:
            video.metadata.update(_of_the_content(replaced.metadata))
            video.disposition = replaced.disposition
        for stream in self._input.streams:
            if stream is replaced or _is_written_anew(stream):
                continue
            if not _fits(container, stream):
                kind = f"{stream.type} stream {stream.index} ({_codec_name(stream)})"
                _log.warning(f"{kind} left out: {container.format.name} cannot hold it", input=str(self._path))
                continue
            copy = _copy_of(stream, container)
            copy.disposition = stream.disposition
            self._outputs[stream.index] = copy
        carried = [stream for stream in self._input.streams if stream.index in self._outputs]
        self._packets = self._input.demux(carried) if carried else iter(())

    def packets_until(self, time_s: float) -> Iterator[av.Packet[Any]]:
        """Hand out packets that are due before `time_s`, each bound to its output stream."""
        while (packet := self._next()) is not None:
            if packet.dts is not None and float(packet.dts * packet.time_base) >= time_s:
                self._waiting = packet
                return
            packet.stream = self._outputs[packet.stream_index]
            yield packet

    def _next(self) -> av.Packet[Any] | None:
        packet, self._waiting = self._waiting, None
        while packet is None or packet.size == 0:  # an empty packet marks the end of a stream, and is none
            try:
                packet = next(self._packets, None)
            except FFmpegError as error:
                _log.warning("the rest of sound and subtitles is damaged and left out", input=str(self._path))
                _log.debug("demuxer gave up", error=str(error))
                return None
            if packet is None:
                return None
        return packet


def _of_the_content(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower().partition("-")[0] not in _OF_THE_FILE and not key.startswith("_")
    }


def _is_written_anew(stream: Stream) -> bool:
    """Tell whether this is a track of chapter titles or time code, which muxers make themselves from the metadata."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (_codec_name(stream) == "bin_data" and bool(stream.container.chapters()))


def _codec_name(stream: Stream) -> str:
    # A stream whose codec FFmpeg does not know has no such attribute, whatever PyAV's types say.
    return getattr(stream, "name", None) or "unknown codec"


def _copy_of(stream: Stream, container: OutputContainer) -> Stream:
    copy = container.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(_of_the_content(stream.metadata))
    copy.time_base = stream.time_base
    return copy


def _fits(container: OutputContainer, stream: Stream) -> bool:
    """Try the stream alone in a file in memory: muxers tell what they cannot hold only when they write a header."""
    trial = av.open(io.BytesIO(), "w", format=container.format.name)
    try:
        _copy_of(stream, trial)
        trial.start_encoding()
    except (FFmpegError, ValueError):
        return False
    finally:
        trial.close()
    return True

"""A file's packets, and decoders and encoders run from open to close as the pipeline runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from vrseg.frame import EncodedPacket, Frame, Packet
    from vrseg.stage import Decode, Encode


def packets_of(path: Path) -> list[Packet]:
    source = FileSource(str(path))
    source.open()
    packets: list[Packet] = []
    while batch := source.read():
        packets += batch
    source.close()
    return packets


def frames_from(decoder: Decode, packets: Iterable[Packet]) -> list[Frame]:
    decoder.open()
    try:
        frames = [frame for packet in packets for frame in decoder.process(packet)]
        return frames + list(decoder.flush())
    finally:
        decoder.close()


def frames_together(decoder: Any, packets: Sequence[Packet], handful: int) -> list[Frame]:
    """Decode with a decoder that is `Together`, so many packets at once."""
    frames: list[Frame] = []
    decoder.open()
    try:
        for start in range(0, len(packets), handful):
            decoder.process_together(packets[start : start + handful], frames)
        return frames + list(decoder.flush())
    finally:
        decoder.close()


def packets_from(encoder: Encode, frames: Iterable[Frame]) -> list[EncodedPacket]:
    packets: list[EncodedPacket] = []
    encoder.open()
    try:
        for frame in frames:
            packets += encoder.process(frame)
            del frame  # as in the pipeline, its memory is free before the next is made
        return [*packets, *encoder.flush()]
    finally:
        encoder.close()

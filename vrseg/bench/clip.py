"""The drawn scene as a file, for benchmarks and trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

from vrseg.source.synthetic import SyntheticSource

if TYPE_CHECKING:
    from pathlib import Path


def write_clip(path: Path, uri: str) -> None:
    """Encode a finite `synthetic:` address as H.264, at a quality that a camera would give.

    Raises:
        ConfigError: the address is wrong.
    """
    source = SyntheticSource(uri)
    info = source.open()
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=info.frame_rate, options={"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, "yuv420p"
            while batch := source.read():
                for packet in batch:
                    picture = packet.payload
                    assert isinstance(picture, av.VideoFrame)  # noqa: S101 -- the scene gives pictures
                    container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    finally:
        source.close()

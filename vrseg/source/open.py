"""From an address to the source that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.address import redact, scheme_of
from vrseg.errors import ConfigError
from vrseg.source.camera import CameraSource
from vrseg.source.file import FileSource
from vrseg.source.images import ImagesSource, is_images
from vrseg.source.live import NetworkSource
from vrseg.source.srt import SrtSource

if TYPE_CHECKING:
    from vrseg.config.schema import SourceSection
    from vrseg.stage import Source

_KNOWN = "a file, a folder of images, rtsp://, rtmp://, srt://, http(s)://, /dev/video0 or synthetic:WIDTHxHEIGHT@FPS"


def make_source(section: SourceSection) -> Source:
    """Return the source for `section.uri`, not yet opened.

    Raises:
        ConfigError: nothing reads that kind of address, or `loop` or `realtime` do not fit it.
    """
    uri = section.uri
    timeouts = {"open_timeout_s": section.open_timeout, "stall_timeout_s": section.stall_timeout}
    match scheme_of(uri):
        case "file" if is_images(uri):
            _refuse(uri, realtime=section.realtime)
            return ImagesSource(uri, loop=section.loop)
        case "file":
            return FileSource(uri, loop=section.loop, realtime=section.realtime)
        case "synthetic":
            # Imported here: it draws with libraries that no other source needs.
            from vrseg.source.synthetic import SyntheticSource  # noqa: PLC0415 - see above

            return SyntheticSource(uri)
        case None:
            raise ConfigError(f"{redact(uri)}: unknown kind of address; use {_KNOWN}")
        case scheme:
            _refuse(uri, loop=section.loop, realtime=section.realtime)
    match scheme:
        case "srt":
            return SrtSource(uri, **timeouts)
        case "v4l2":
            return CameraSource(uri, **timeouts)
        case _:
            return NetworkSource(uri, transport=section.transport, **timeouts)


def _refuse(uri: str, **wishes: bool) -> None:
    """Raise when a wish that only files can fulfil is made of something else."""
    for name, wished in wishes.items():
        if wished:
            raise ConfigError(f"{redact(uri)}: {name} is for video files; leave it out")

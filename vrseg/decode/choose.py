"""The decoder of a stream on a CUDA device: in hardware where the hardware can, in software where it cannot."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import av
import structlog

from vrseg.decode.capabilities import codec_name, hardware_engines, hardware_refusal
from vrseg.decode.cuda import NvdecDecoder
from vrseg.decode.segments import SegmentedDecoder
from vrseg.decode.upload import UploadDecoder
from vrseg.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vrseg.frame import Frame, Packet
    from vrseg.gpu.device import Gpu
    from vrseg.stage import Decode

_log = structlog.get_logger(__name__)

_COUNTS = ("errors", "concealed", "skipped_until_key")


class CudaDecoder:
    """Decodes one stream into surfaces, with whatever decoder its packets need. Implements `Decode`.

    Decided by the first packet, and anew with each change of codec context; said once in the log and in
    `decoder_name`: `nvdec h264`, `nvdec hevc x 7`, `software vp8 + upload`, `upload`.

    Raises: as `NvdecDecoder` and `UploadDecoder`.
    """

    def __init__(self, stream: str, *, gpu: Gpu, live: bool, first_index: int = 0, lanes: int = 1) -> None:
        """Store what decoding needs.

        Args:
            stream: its name.
            gpu: to decode on.
            live: the source cannot wait.
            first_index: of the first frame.
            lanes: so many parts of a file are decoded at once, if the GPU has as many decoders. 0: as many as it has.
        """
        self.errors = 0
        self.decoder_name = ""
        """Of the decoder at work; empty before the first packet."""
        self._stream = stream
        self._gpu = gpu
        self._live = live
        self._index = first_index
        self._lanes = lanes
        self._inner: Decode | None = None
        self._before: Counter[str] = Counter()
        """What decoders counted that work no more."""
        self._context: object = None

    @property
    def concealed(self) -> int:
        """Pictures of which FFmpeg had to guess parts; hardware does not tell."""
        return self._total("concealed")

    @property
    def skipped_until_key(self) -> int:
        """Packets passed over for want of a key frame."""
        return self._total("skipped_until_key")

    def open(self) -> None:
        self._gpu.use()

    def process(self, item: Packet, /) -> Iterable[Frame]:
        context = _context_of(item)
        frames: list[Frame] = []
        if self._inner is None or context is not self._context:
            name, reason = self._decide(context)
            if name != self.decoder_name or self._inner is None:
                frames += self._change(name, context, reason)
            self._context = context
        if self._inner is not None:
            frames += self._numbered(self._inner.process(item))
        return frames

    @property
    def takes_together(self) -> bool:
        """Software does not: it is slow, and gains nothing."""
        return hasattr(self._inner, "process_together")

    def process_together(self, items: Sequence[Packet], outputs: list[Frame], /) -> None:
        """As `process` of each; cheaper where they are decoded in hardware. See `vrseg.stage.Together`."""
        together = getattr(self._inner, "process_together", None)
        if together is None or any(_context_of(item) is not self._context for item in items):
            for item in items:
                outputs += self.process(item)
            return
        before = len(outputs)
        try:
            together(items, outputs)
        finally:
            self._numbered(outputs[before:])

    def flush(self) -> Iterable[Frame]:
        if self._inner is not None:
            for frame in self._inner.flush():
                yield from self._numbered((frame,))
            self._numbered(())

    def close(self) -> None:
        self._context = None
        self._retire()

    def _decide(self, context: av.VideoCodecContext | None) -> tuple[str, str | None]:
        """Return the decoder's name, and why it is not the hardware's."""
        if context is None:
            return "upload", "the source makes pictures"
        codec = codec_name(context)
        refusal = hardware_refusal(self._gpu, context)
        if refusal is not None:
            return f"software {codec} + upload", refusal
        lanes = self._usable_lanes(context)
        return f"nvdec {codec}" + (f" x {lanes}" if lanes > 1 else ""), None

    def _usable_lanes(self, context: av.VideoCodecContext) -> int:
        if self._live:
            return 1
        engines = hardware_engines(self._gpu, context)
        return min(self._lanes, engines) if self._lanes else engines

    def _change(self, name: str, context: av.VideoCodecContext | None, reason: str | None) -> list[Frame]:
        """Put another decoder to work; return what the one before still had."""
        frames: list[Frame] = []
        if self._inner is not None:
            with suppress(MediaError):  # nothing in it could be decoded: the next part may be better
                frames = self._numbered(self._inner.flush())
        self._retire()
        self._inner = self._made(context, hardware=reason is None)
        self._inner.open()
        self.decoder_name = name
        _log.info("decoder", stream=self._stream, decoder=name, **({"because": reason} if reason else {}))
        return frames

    def _made(self, context: av.VideoCodecContext | None, *, hardware: bool) -> Decode:
        if not hardware or context is None:
            return UploadDecoder(self._stream, gpu=self._gpu, live=self._live, first_index=self._index)
        lanes = self._usable_lanes(context)
        if lanes > 1:
            return SegmentedDecoder(self._stream, gpu=self._gpu, lanes=lanes, first_index=self._index)
        return NvdecDecoder(self._stream, gpu=self._gpu, live=self._live, first_index=self._index)

    def _retire(self) -> None:
        inner = self._inner
        if inner is None:
            return
        try:
            inner.close()
        finally:
            self._before = Counter({name: self._total(name) for name in _COUNTS})
            self._inner = None

    def _total(self, name: str) -> int:
        return self._before[name] + int(getattr(self._inner, name, 0))

    def _numbered(self, frames: Iterable[Frame]) -> list[Frame]:
        """Note how many frames there were, for the index of the next decoder's first, and what could not be one."""
        held = list(frames)
        self._index += len(held)
        self.errors = self._total("errors")
        return held


def _context_of(item: Packet) -> av.VideoCodecContext | None:
    """Return what a packet is decoded with; None for a picture."""
    payload = item.payload
    return None if isinstance(payload, av.VideoFrame) else payload.stream.codec_context

"""One file decoded in several places at once: its closed groups of pictures are independent of each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

import av

from vrseg.decode.bitstream import CODECS, Syntax, syntax_of
from vrseg.decode.capabilities import codec_name
from vrseg.decode.lanes import Lane, SegmentBoard
from vrseg.decode.turns import Turns
from vrseg.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vrseg.decode.bitstream import Codec
    from vrseg.frame import Frame, Packet
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface_pool import SurfacePool
    from vrseg.stage import Decode

# Of pictures that were read or decoded ahead of the one that is wanted next.
_BYTES_AHEAD = 4 << 30
_SHARE_AHEAD = 8
"""No more than this part of the device's memory."""
_FEWEST_AHEAD = 16


class MakeInner(Protocol):
    """Constructs the decoder of one lane. It must go on with another segment after `flush`."""

    def __call__(self) -> Decode: ...


class SegmentedDecoder:
    """Decodes several segments of a file at once, each in a lane of its own; frames come in order. Implements `Decode`.

    Lanes of NVDEC have a thread in common that decodes their packets, one of each in turn: see `Turns`. Each takes what
    its decoder still holds at the end of a segment by itself.

    A segment begins where nothing after needs anything before: at IDR pictures of H.264 and HEVC, at key frames of VP9
    and AV1, and where the codec context changes. Only where packets carry times: a decoder that has to make them up
    must see all packets.

    The packets of a segment go to its lane as they come. Packets not yet decoded and frames not yet handed out are at
    most `pictures_ahead` together; `process` waits when there are more, until the first of the frames is there or
    lanes have caught up. Lanes never wait for room, so whatever the order in which they finish, the oldest segment is
    being decoded. What one lane cannot decode adds to `errors` and leaves the others alone.

    Raises:
        DeviceError: from a lane.
        MediaError: from `flush`, when not one packet could be decoded.
    """

    def __init__(
        self,
        stream: str,
        *,
        gpu: Gpu | None,
        lanes: int,
        first_index: int = 0,
        make_inner: MakeInner | None = None,
        pictures_ahead: int | None = None,
    ) -> None:
        """Store what decoding needs.

        Args:
            stream: its name.
            gpu: to decode on; None only with a `make_inner` that needs none.
            lanes: segments decoded at once.
            first_index: of the first frame.
            make_inner: constructs the decoder of a lane; without it they are `NvdecDecoder`s that share their memory.
            pictures_ahead: bound on packets and frames between input and output. Without it: what fits into 4 GiB and
                an eighth of the device's memory.
        """
        self.errors = 0
        self.skipped_until_key = 0
        """Packets passed over for want of a key frame."""
        self._stream = stream
        self._gpu = gpu
        self._lane_count = lanes
        self._index = first_index
        self._make_inner = make_inner
        self._turns: Turns | None = None
        self._pictures_ahead = pictures_ahead
        self._surfaces: SurfacePool | None = None
        self._board: SegmentBoard | None = None
        self._lanes: list[Lane] = []
        self._context: av.VideoCodecContext | None = None
        self._syntax: Syntax | None = None
        self._decoded_any = False

    def open(self) -> None:
        make = self._make_inner or self._nvdec()
        self._board = SegmentBoard()
        for index in range(self._lane_count):
            lane = Lane(f"{self._stream}.lane{index}", make(), self._board)
            lane.start()
            self._lanes.append(lane)

    takes_together = True

    def process(self, item: Packet, /) -> Iterable[Frame]:
        self._put(item)
        return self._taken()

    def process_together(self, items: Sequence[Packet], outputs: list[Frame], /) -> None:
        """As `process` of each, with fewer looks at what is ready. See `vrseg.stage.Together`."""
        for item in items:
            self._put(item)
        wanted = len(outputs) + len(items)  # else more would come in than goes out, beyond any bound
        while frames := self._taken():
            outputs += frames
            if len(outputs) >= wanted:
                break

    def flush(self) -> Iterable[Frame]:
        board = self._opened()
        board.end()
        while not board.finished:
            yield from self._handed_out(board.take(0))
        self._handed_out([])
        if self.errors and not self._decoded_any:
            raise MediaError(f"{self._stream}: none of its pictures could be decoded; the video is damaged")

    def close(self) -> None:
        if self._board is not None:
            self._board.abandon()
        for lane in self._lanes:
            lane.join()
        self._lanes = []
        if self._turns is not None:
            self._turns.end()
            self._turns = None
        self._context = None
        if self._surfaces is not None:
            self._surfaces.close()

    def _put(self, item: Packet) -> None:
        if isinstance(item.payload, av.VideoFrame):
            raise MediaError(f"{self._stream}: segments are made of packets, and this source makes pictures")
        self._opened().put(item, begins=self._begins_segment(item))

    def _taken(self) -> list[Frame]:
        return self._handed_out(self._opened().take(self._most_ahead()))

    def _opened(self) -> SegmentBoard:
        assert self._board is not None  # noqa: S101 -- `open` comes first
        return self._board

    def _begins_segment(self, item: Packet) -> bool:
        payload = cast("av.Packet[av.VideoStream]", item.payload)
        context = payload.stream.codec_context
        if context is not self._context:
            self._context = context
            codec = codec_name(context)
            known = codec in CODECS
            self._syntax = syntax_of(cast("Codec", codec), context.extradata or b"") if known else None
            return True
        if self._syntax is None or payload.pts is None or not payload.is_keyframe:
            return False
        return self._syntax.begins_anew(bytes(payload), key=True)

    def _handed_out(self, frames: list[Frame]) -> list[Frame]:
        first, self._index = self._index, self._index + len(frames)
        self._decoded_any = self._decoded_any or bool(frames)
        self.errors = sum(lane.errors for lane in self._lanes)
        self.skipped_until_key = sum(lane.skipped_until_key for lane in self._lanes)
        return [replace(frame, index=first + number) for number, frame in enumerate(frames)]

    def _most_ahead(self) -> int:
        context = self._context
        if self._pictures_ahead is not None:
            return self._pictures_ahead
        if context is None:
            return 0
        share = self._gpu.memory_bytes // _SHARE_AHEAD if self._gpu is not None else _BYTES_AHEAD
        deep = "10" in (context.pix_fmt or "") or "12" in (context.pix_fmt or "")
        picture_bytes = max(1, context.width * context.height * 3 // 2 * (2 if deep else 1))
        return max(_FEWEST_AHEAD, min(_BYTES_AHEAD, share) // picture_bytes)

    def _nvdec(self) -> MakeInner:
        from vrseg.decode.appearance import AppearanceReader  # noqa: PLC0415 -- only where lanes decode in hardware
        from vrseg.decode.cuda import NvdecDecoder  # noqa: PLC0415 -- as above
        from vrseg.gpu.surface_pool import SurfacePool  # noqa: PLC0415 -- as above

        assert self._gpu is not None  # noqa: S101 -- said in the constructor
        gpu, surfaces, appearances = self._gpu, SurfacePool(self._gpu), AppearanceReader()
        turns = Turns(f"{self._stream}.lanes", gpu.use)
        turns.start()
        self._surfaces, self._turns = surfaces, turns
        return lambda: NvdecDecoder(
            self._stream, gpu=gpu, live=False, surfaces=surfaces, appearances=appearances, turns=turns
        )

"""Segments of a stream, the lanes that decode them side by side, and the board on which both meet."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vrseg.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.frame import Frame, Packet
    from vrseg.stage import Decode


# To come for each packet anew costs more than to take it.
_PACKETS_AT_ONCE = 8


@dataclass(slots=True)
class Segment:
    """Packets that need no others, and the frames that were decoded from them. Guarded by the board's lock."""

    fed: threading.Condition
    """Over the board's lock: a packet came, or none will come any more. For the one lane that has the segment."""
    packets: deque[Packet] = field(default_factory=deque)
    frames: deque[Frame] = field(default_factory=deque)
    in_hand: int = 0
    """Packets that its lane took last."""
    complete: bool = False
    """No more packets will come."""
    done: bool = False
    """No more frames will come."""


class SegmentBoard:
    """Segments in the order of the film: one thread puts packets and takes frames, lanes do the rest.

    Only who has something to do is woken: to wake all lanes for each packet costs more than all else here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimable = threading.Condition(self._lock)
        self._takeable = threading.Condition(self._lock)
        self._segments: deque[Segment] = deque()
        """Oldest first; those of which not all frames were taken."""
        self._unclaimed: deque[Segment] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        self._ahead = 0
        """Packets that no lane is done with, and frames that were not taken."""
        self._most_ahead = 0
        """For which `take` was called last."""

    @property
    def finished(self) -> bool:
        """Tell whether all frames of all segments were taken."""
        with self._lock:
            self._drop_finished()
            return not self._segments

    def put(self, packet: Packet, *, begins: bool) -> None:
        """Add a packet to the newest segment, or begin one with it."""
        with self._lock:
            if begins or not self._segments or self._segments[-1].complete:
                self._complete_newest()
                segment = Segment(threading.Condition(self._lock))
                self._segments.append(segment)
                self._unclaimed.append(segment)
                self._claimable.notify()
            self._segments[-1].packets.append(packet)
            self._segments[-1].fed.notify()
            self._ahead += 1

    def end(self) -> None:
        """Say that no packet follows."""
        with self._lock:
            self._complete_newest()
            self._ended = True
            self._claimable.notify_all()

    def take(self, most_ahead: int) -> list[Frame]:
        """Return the frames that are next, as many as there are.

        Without any it waits as long as more than `most_ahead` packets and frames are on the board, and at the end of
        the film.

        Raises: what a lane failed with.
        """
        with self._lock:
            self._most_ahead = most_ahead
            self._takeable.wait_for(self._may_take)
            if self._failure is not None:
                raise self._failure
            frames: list[Frame] = []
            while self._segments:
                head = self._segments[0]
                frames += head.frames
                head.frames.clear()
                if not head.done:
                    break
                self._segments.popleft()
            self._ahead -= len(frames)
            return frames

    def abandon(self) -> None:
        """Send the lanes home, whatever is left."""
        with self._lock:
            self._ended = True
            self._unclaimed.clear()
            for segment in self._segments:
                self._ahead -= len(segment.packets)
                segment.packets.clear()
                segment.complete = True
                segment.fed.notify()
            self._claimable.notify_all()

    def claim(self) -> Segment | None:
        """Return the oldest segment that no lane has; None at the end."""
        with self._lock:
            self._claimable.wait_for(lambda: self._unclaimed or self._ended)
            return self._unclaimed.popleft() if self._unclaimed else None

    def next_packets(self, segment: Segment) -> list[Packet]:
        """Return the segment's next packets, a few of those that wait; none at its end."""
        with self._lock:
            self._put_down(segment)
            self._tell_taker()
            segment.fed.wait_for(lambda: segment.packets or segment.complete)
            packets = [segment.packets.popleft() for _ in range(min(len(segment.packets), _PACKETS_AT_ONCE))]
            segment.in_hand = len(packets)
            return packets

    def add(self, segment: Segment, frames: list[Frame], *, done: bool = False) -> None:
        """Hand in decoded frames."""
        if not frames and not done:
            return
        with self._lock:
            segment.frames.extend(frames)
            segment.done = done
            self._ahead += len(frames)
            if done:
                self._put_down(segment)
            self._tell_taker()

    def fail(self, error: BaseException) -> None:
        """Let whoever takes frames know that there will not be all."""
        with self._lock:
            self._failure = self._failure or error
            self._tell_taker()

    def _put_down(self, segment: Segment) -> None:
        """Its lane is done with what it took."""
        self._ahead -= segment.in_hand
        segment.in_hand = 0

    def _tell_taker(self) -> None:
        if self._may_take():
            self._takeable.notify()

    def _may_take(self) -> bool:
        self._drop_finished()
        if self._failure is not None or not self._segments or self._segments[0].frames:
            return True
        return not self._ended and self._ahead <= self._most_ahead

    def _drop_finished(self) -> None:
        while self._segments and self._segments[0].done and not self._segments[0].frames:
            self._segments.popleft()

    def _complete_newest(self) -> None:
        if self._segments:
            self._segments[-1].complete = True
            self._segments[-1].fed.notify()


class Lane:
    """A thread with a decoder of its own, on which it opens, works and closes it."""

    def __init__(self, name: str, decoder: Decode, board: SegmentBoard) -> None:
        self._decoder = decoder
        self._together: Callable[[list[Packet], list[Frame]], None] | None
        self._together = getattr(decoder, "process_together", None)
        self._board = board
        self._lost_segments = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def errors(self) -> int:
        """Units that could not be decoded so far, and segments that were lost as a whole."""
        return self._decoder.errors + self._lost_segments

    @property
    def skipped_until_key(self) -> int:
        """Packets passed over for want of a key frame."""
        return int(getattr(self._decoder, "skipped_until_key", 0))

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has closed its decoder. After the board's `end` or `abandon`."""
        self._thread.join()

    def _work(self) -> None:
        try:
            try:
                self._decoder.open()
                while (segment := self._board.claim()) is not None:
                    self._decode(segment)
            finally:
                self._decoder.close()
        except BaseException as error:  # noqa: BLE001 -- it is raised again on the thread that takes the frames
            self._board.fail(error)

    def _decode(self, segment: Segment) -> None:
        board, errors_before = self._board, self._decoder.errors
        try:
            while packets := board.next_packets(segment):
                self._decode_together(packets, segment)
            board.add(segment, list(self._decoder.flush()), done=True)
        except MediaError:
            self._lost_segments += self._decoder.errors == errors_before  # else it is counted there
            while board.next_packets(segment):
                pass  # its packets are of no use to anybody
            board.add(segment, [], done=True)

    def _decode_together(self, packets: list[Packet], segment: Segment) -> None:
        frames: list[Frame] = []
        try:
            if self._together is not None:
                self._together(packets, frames)
                return
            for packet in packets:
                frames += self._decoder.process(packet)
        finally:
            self._board.add(segment, frames)

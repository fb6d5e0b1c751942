"""Packets before the first key frame: pictures that refer to what was never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

# A stream that never marks a key frame (intra refresh) is decoded all the same after this many packets: 10 s at 30
# frames per second, the longest key frame distance that cameras use.
_PATIENCE = 300


class KeyFrameWait:
    """Decides for each packet whether it is worth decoding yet."""

    def __init__(self, *, waiting: bool) -> None:
        self.waiting = waiting
        """Set it when the decoder has lost what it knew."""
        self.skipped = 0
        """Packets passed over so far."""
        self._waited = 0

    def passes_over(self, packet: av.Packet[Any]) -> bool:
        """Tell whether a packet is useless because no key frame came yet."""
        if not self.waiting:
            return False
        if packet.is_keyframe or self._waited >= _PATIENCE:
            self.waiting = False
            self._waited = 0
            return False
        self._waited += 1
        self.skipped += 1
        return True

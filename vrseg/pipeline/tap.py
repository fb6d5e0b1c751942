"""Where somebody may look at the frames of a stream as they pass. It costs nothing while nobody does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.frame import Frame


class Tap:
    """One place on a stream's path. Lives on the event loop.

    `watch` is called with each frame that passes, and must return at once: whatever takes longer is for a thread of
    its own. A frame that is kept keeps its picture's memory, of which a device has little.
    """

    __slots__ = ("watch",)

    def __init__(self) -> None:
        self.watch: Callable[[Frame], None] | None = None

    def show(self, frame: Frame) -> None:
        """Let whoever watches see a frame."""
        if self.watch is not None:
            self.watch(frame)


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of a stream. They outlast its lives, so that who watches goes on watching after a restart."""

    input: Tap = field(default_factory=Tap)
    """Pictures as the decoder gave them, without results."""
    output: Tap = field(default_factory=Tap)
    """Frames with their results, and the view drawn where the stream has a stage for it: what is encoded."""

"""Stages that do nothing, so that what is around them can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrseg.frame import Batch, Inference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Frame


class NoWork:
    """A stage that opens and closes."""

    def open(self) -> None:
        """Nothing to acquire."""

    def flush(self) -> Iterable[Any]:
        """Nothing is left."""
        return ()

    def close(self) -> None:
        """Nothing to release."""


class NoPreprocess(NoWork):
    """Frames as a batch."""

    def process(self, item: tuple[Frame, ...], /) -> Iterable[Batch]:
        """Pass on."""
        yield Batch(frames=item, placements=(), tensor=None)


class NoEngine(NoWork):
    """A batch as an answer."""

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Pass on."""
        yield Inference(frames=item.frames, placements=(), outputs={})


class NoHead(NoWork):
    """An answer as frames."""

    def process(self, item: Inference, /) -> Iterable[Frame]:
        """Pass on."""
        yield from item.frames

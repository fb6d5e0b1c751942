"""What people may look at: the pictures and the encoded video of each stream."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vrseg.assembly import render_stage
from vrseg.pipeline.tap import Taps
from vrseg.pipeline.worker import Worker
from vrseg.sink.live import LiveSink
from vrseg.viewing.broadcast import Broadcast
from vrseg.viewing.feed import Feed
from vrseg.viewing.found import found_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import Stream
    from vrseg.frame import Frame
    from vrseg.models.spec import ModelSpec
    from vrseg.sink.live import LivePart
    from vrseg.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """What there is to see of one stream. It outlasts the stream's lives."""

    taps: Taps
    input: Feed
    output: Feed
    broadcast: Broadcast | None
    """None where no output is H.264."""
    made_for: tuple[Stream, ModelSpec | None] = field(repr=False)

    def live_sink(self) -> LiveSink | None:
        """Make the sink that feeds the broadcast during one life; None where there is no broadcast."""
        if self.broadcast is None:
            return None
        loop, add = asyncio.get_running_loop(), self.broadcast.add

        def publish(part: LivePart) -> None:
            loop.call_soon_threadsafe(add, part)

        return LiveSink(publish)


class Views:
    """The views of all streams, and the one thread that makes their pictures."""

    def __init__(self, backend: Backend) -> None:
        self.by_stream: dict[str, StreamView] = {}
        self._backend = backend
        # The least important work there is: it takes what the streams leave.
        self._worker = Worker("vrseg.previews", niceness=10)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Pictures can be made inside the block."""
        async with self._worker:
            yield

    def of(self, name: str, section: Stream, spec: ModelSpec | None) -> StreamView:
        """Return the view of a stream, a new one when there is none or the stream is configured otherwise now."""
        view = self.by_stream.get(name)
        if view is None or view.made_for != (section, spec):
            view = self.by_stream[name] = self._make(section, spec)
        return view

    def remove(self, name: str) -> None:
        """Show a stream no more; who watches it waits in vain, and is told so."""
        self.by_stream.pop(name, None)

    def _make(self, section: Stream, spec: ModelSpec | None) -> StreamView:
        taps = Taps()
        names = [one.name for one in spec.classes] if spec else []
        sum_up = partial(found_in, class_names=names, background_ids=spec.background_ids if spec else frozenset())

        def output_stages() -> Sequence[Stage[Frame, Frame] | Stage[Frame, bytes]]:
            # A stream without outputs draws nothing. For those who look in, it is drawn here.
            render = None if section.outputs else render_stage(section, spec, self._backend)
            still = self._backend.make_still()
            return (still,) if render is None else (render, still)

        return StreamView(
            taps=taps,
            input=Feed(taps.input, self._worker, lambda: (self._backend.make_still(),), sum_up),
            output=Feed(taps.output, self._worker, output_stages, sum_up),
            broadcast=Broadcast() if any(output.codec == "h264" for output in section.outputs) else None,
            made_for=(section, spec),
        )

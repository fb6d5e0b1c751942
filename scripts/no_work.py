"""Stages that do nothing, so that what is around them can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from vrseg.frame import Batch, Inference
from vrseg.pipeline.model import ModelRunner, ModelStages
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Frame
    from vrseg.stage import Infer, Postprocess, Preprocess

BATCH = 8


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


def observed_model(preprocess: Preprocess, infer: Infer, head: Postprocess) -> tuple[Recorder, ModelRunner]:
    """Make a model of these stages, with the daemon's own observer and its usual batches."""
    recorder = Recorder(Metrics(CollectorRegistry()), make_logger("text", "error"))
    stages = ModelStages(
        name="none", preprocess=preprocess, infer=infer, postprocess=head, max_batch=BATCH, max_delay_s=0.005
    )
    return recorder, ModelRunner(stages, recorder)

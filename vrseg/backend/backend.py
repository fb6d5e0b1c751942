"""What a device must be able to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vrseg.config.schema import Model, View
    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import Frame
    from vrseg.models.spec import ModelSpec, ResolvedClass
    from vrseg.render.stand_in import StandInKind
    from vrseg.stage import Decode, Encode, Infer, Postprocess, Preprocess, Render, Stage, StandIn


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStyle:
    """What the outputs of one stream show."""

    view: View
    opacity: float
    classes: tuple[ResolvedClass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWork:
    """The three stages of one model."""

    preprocess: Preprocess
    infer: Infer
    postprocess: Postprocess


class MakeDecoder(Protocol):
    """Constructs the decoder of one connection of a stream."""

    def __call__(self, stream: str, *, live: bool, first_index: int) -> Decode: ...


class MakeModel(Protocol):
    """Constructs the stages of a model.

    `styles` are the views of its streams, by stream, for devices that draw where the result is (`draws_in_model`).
    With `host_results` somebody reads the results: sinks, or the Python API.
    """

    def __call__(
        self, spec: ModelSpec, model: Model, *, max_batch: int, styles: Mapping[str, ViewStyle], host_results: bool
    ) -> ModelWork: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One device: what it is, why it was chosen, and its stages. Nothing is loaded before a stage is opened."""

    device: str
    """`cpu`, or `cuda:N`."""
    reason: str
    """Why this one, for a person."""
    make_decoder: MakeDecoder
    make_file_decoder: MakeDecoder
    """For a job that has the device to itself: may decode several parts of a file at once."""
    make_model: MakeModel
    engine_name: Callable[[Model], str]
    """Which engine a model's `engine: auto` means here."""
    make_render: Callable[[ViewStyle], Render] | None
    """None where the model's own stages draw the views."""
    make_encoder: Callable[[EncodeSettings], Encode]
    encoder_name: Callable[[EncodeSettings], str]
    """Which encoder the settings mean here. Raises ConfigError where there is none."""
    make_still: Callable[[], Stage[Frame, bytes]]
    """Makes a JPEG of each frame, for those who look in."""
    make_stand_in: Callable[[StandInKind], StandIn]
    """Makes the pictures that viewers get while a source is away."""
    batches_under_way: int
    """That keep the device busy; more would only add latency and memory."""
    wants_whole_batches: bool
    """A whole batch takes it hardly longer than half of one."""
    gpu: Any = None
    """`vrseg.gpu.device.Gpu` of a CUDA device."""

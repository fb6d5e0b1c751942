"""From the configuration to stages: which constructors, with which settings. Nothing is opened here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.address import is_playlist, scheme_of
from vrseg.backend.backend import ViewStyle
from vrseg.backoff import Backoff
from vrseg.config.document import dotted
from vrseg.config.rules_results import class_problems
from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError
from vrseg.pipeline.ingest import IngestStages
from vrseg.pipeline.model import ModelStages
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import QueueRule, StreamStages
from vrseg.sink.factory import make_video_sink
from vrseg.sink.result_factory import check_result_output, make_result_sink
from vrseg.sink.results import ResultRecords
from vrseg.source.open import make_source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import Config, Output, ResultOutput, SourceSection, Stream
    from vrseg.models.spec import ModelSpec
    from vrseg.render.stand_in import StandInKind
    from vrseg.stage import Render, ResultSink, VideoSink

# Of the credits for frames behind the queue of decoded frames: one frame each for render and encode.
FRAMES_BEHIND_MODEL = 2


def model_stages(
    name: str,
    config: Config,
    spec: ModelSpec,
    backend: Backend,
    *,
    read_by: Collection[str] = (),
    niceness: int = 0,
) -> ModelStages:
    """Return the stages of a model. `read_by` are streams whose results somebody reads, beside the configured sinks."""
    section = config.models[name]
    streams = [stream for stream, one in config.streams.items() if one.model == name]
    audience = audience_of(name, config, spec)
    read = audience.read or any(stream in read_by for stream in streams)
    work = backend.make_model(
        spec,
        section,
        max_batch=section.batch.max_size,
        styles=audience.styles,
        host_results=read or not streams,  # frames that come by the Python API belong to no configured stream
    )
    return ModelStages(
        name=name,
        preprocess=work.preprocess,
        infer=work.infer,
        postprocess=work.postprocess,
        max_batch=section.batch.max_size,
        max_delay_s=section.batch.max_delay,
        niceness=niceness,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who looks at what a model says. Where a device's models draw, they draw for those they were loaded with."""

    styles: Mapping[str, ViewStyle]
    """What the outputs show, by stream."""
    read: bool
    """Something on the host looks at results."""

    def covers(self, other: Audience) -> bool:
        """Tell whether a model that was loaded for this audience can serve another."""
        return other.styles.items() <= self.styles.items() and (self.read or not other.read)


def audience_of(name: str, config: Config, spec: ModelSpec) -> Audience:
    """Gather who looks at a model."""
    streams = {stream: one for stream, one in config.streams.items() if one.model == name}
    styles = {stream: style for stream, one in streams.items() if one.outputs and (style := view_style(one, spec))}
    return Audience(styles=styles, read=any(map(_is_read, streams.values())))


def _is_read(stream: Stream) -> bool:
    """Tell whether anything on the host looks at what the model says."""
    return bool(stream.results or stream.track or stream.zones or stream.lines)


def credits_for(max_batch: int, backend: Backend) -> int:
    """Frames of one stream that may be under way behind its queue of decoded frames."""
    return backend.batches_under_way * max_batch + FRAMES_BEHIND_MODEL


def max_batch_of(config: Config, section: Stream) -> int:
    """Frames of a batch of the stream's model; 1 without one."""
    return config.models[section.model].batch.max_size if section.model else 1


def is_live(section: Stream) -> bool:
    """Tell whether the stream's source cannot wait."""
    return make_source(section.source).live


def queue_rule(section: Stream, backend: Backend, *, live: bool, max_batch: int = 1) -> QueueRule:
    """Resolve what `auto` means for the stream's queue.

    A file's then holds a batch at least, where the device wants whole ones: nobody else may be there to fill it.
    """
    policy, size = section.queue.policy, section.queue.size
    if policy == "auto":
        policy = "drop_oldest" if live else "block"
        size = max(size, max_batch) if backend.wants_whole_batches and not live else size
    max_age_s = 0.0 if policy == "block" else section.queue.max_age
    return QueueRule(size=size, policy=policy, max_age_s=max_age_s)


def stream_stages(
    name: str,
    section: Stream,
    spec: ModelSpec | None,
    backend: Backend,
    base_dir: Path,
    *,
    live: bool,
    max_batch: int = 1,
    niceness: int = 0,
    watcher: VideoSink | None = None,
    results: tuple[ResultSink, ...] = (),
) -> StreamStages:
    """Return the stages of one life of a stream.

    `max_batch` is that of its model, if it has one. `watcher` is one more sink of its first encoding in H.264;
    `results` come from `watching.Watches`, which outlast it.
    """
    check_watched(name, section, spec)
    return StreamStages(
        ingest=ingest_stages(name, section, backend, live=live, niceness=niceness),
        queue=queue_rule(section, backend, live=live, max_batch=max_batch),
        render=render_stage(section, spec, backend) if section.outputs else None,
        outputs=tuple(_outputs(section.outputs, backend, base_dir, live=live, watcher=watcher)),
        results=results,
        niceness=niceness,
    )


def check_watched(name: str, section: Stream, spec: ModelSpec | None) -> None:
    """Find out whether what a stream watches is there to be seen, and can be told where it wants it.

    Raises:
        ConfigError: a class that the model does not have, an address that results cannot go to, a missing library.
    """
    for output in section.results:
        check_result_output(output)
    problems = class_problems(section, [one.name for one in spec.classes], ("streams", name)) if spec else ()
    if lines := [f"{dotted(problem.path)}: {problem.text}" for problem in problems]:
        raise ConfigError(*lines)


def ingest_stages(name: str, section: Stream, backend: Backend, *, live: bool, niceness: int) -> IngestStages:
    """Return what a stream reads from."""
    source = section.source
    return IngestStages(
        make_source=lambda: make_source(source),
        make_decoder=lambda first_index: backend.make_decoder(name, live=live, first_index=first_index),
        live=live,
        open_timeout_s=source.open_timeout,
        stall_timeout_s=source.stall_timeout,
        backoff=backoff_of(source),
        niceness=niceness,
    )


def backoff_of(source: SourceSection) -> Backoff:
    """Return how a lost stream is tried again."""
    wish = source.reconnect
    return Backoff(initial_s=wish.initial, max_s=wish.max, jitter=wish.jitter, attempts=wish.attempts)


def view_style(section: Stream, spec: ModelSpec) -> ViewStyle | None:
    """Return what the stream's outputs show; None when they show its frames as they came."""
    if section.view == "none":
        return None
    return ViewStyle(view=section.view, opacity=section.opacity, classes=spec.classes)


def render_stage(section: Stream, spec: ModelSpec | None, backend: Backend) -> Render | None:
    """Return what draws the stream's view; None when its frames go on as they come."""
    style = None if spec is None else view_style(section, spec)
    return backend.make_render(style) if style is not None and backend.make_render is not None else None


def result_sink(output: ResultOutput, spec: ModelSpec | None, base_dir: Path, *, whole: bool = False) -> ResultSink:
    """Return the sink of one output of frames' results; `whole` for jobs, where it appears only when it is complete."""
    return make_result_sink(output, base_dir, result_records(output, spec), whole=whole)


def result_records(output: ResultOutput, spec: ModelSpec | None) -> ResultRecords:
    """Return what describes frames as an output of results wants it."""
    return ResultRecords(
        class_names=[one.name for one in spec.classes] if spec else (),
        background_ids=spec.background_ids if spec else frozenset(),
        masks=output.masks == "rle",
    )


def encode_settings(output: Output, *, live: bool) -> EncodeSettings:
    """Return what the encoder of an output is asked for."""
    return EncodeSettings(
        codec=output.codec,
        encoder=output.encoder,
        bitrate=output.bitrate,
        quality=output.quality,
        preset=output.preset,
        gop_s=output.gop,
        live=live if output.latency == "auto" else output.latency == "live",
    )


def stand_in_kind(output: Output) -> StandInKind | None:
    """Resolve what viewers of an output see while a live source is away; None for nothing."""
    wish = output.on_source_lost
    if wish == "auto":
        return None if scheme_of(output.uri) == "file" and not is_playlist(output.uri) else "hold"
    return None if wish == "stop" else wish


def _outputs(
    outputs: Iterable[Output], backend: Backend, base_dir: Path, *, live: bool, watcher: VideoSink | None
) -> Iterable[OutputStages]:
    """Outputs that ask for the same encoding share one encoder, unless they show other things while the source is away.

    Who then shows nothing shares with anybody.
    """
    groups: dict[tuple[EncodeSettings, StandInKind | None], list[tuple[int, Output]]] = {}
    for number, output in sorted(enumerate(outputs), key=lambda one: stand_in_kind(one[1]) is None):
        settings, kind = encode_settings(output, live=live), stand_in_kind(output) if live else None
        if kind is None:
            kind = next((shown for other, shown in groups if other == settings), None)
        groups.setdefault((settings, kind), []).append((number, output))
    for (settings, kind), group in groups.items():
        made = [(output, make_video_sink(output, base_dir, name=str(number), waits=live)) for number, output in group]
        sinks = tuple(sink for _, sink in made)
        steady = tuple(sink for output, sink in made if stand_in_kind(output) is not None)
        if watcher is not None and settings.codec == "h264":
            sinks, steady, watcher = (*sinks, watcher), (*steady, watcher), None
        stand_in = None if kind is None else backend.make_stand_in(kind)
        yield OutputStages(encode=backend.make_encoder(settings), sinks=sinks, stand_in=stand_in, steady=steady)

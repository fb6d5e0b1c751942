"""Every instrument that counts or times, declared once, on a registry that is passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from vrseg.telemetry.tallies import Tallies
from vrseg.telemetry.timings import Timings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms. What can be read off the pipeline at any time is in `collector` instead."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no annotation there
        self.frames = Tallies("vrseg_frames", "Frames that left a stage.", ["stream", "stage"], registry=registry)
        self.dropped = Counter(
            "vrseg_frames_dropped",
            "Frames discarded on purpose.",
            ["stream", "stage", "reason"],
            registry=registry,
        )
        self.failed = Counter("vrseg_frames_failed", "Frames lost to an error.", ["stream", "stage"], registry=registry)
        self.output_dropped = Counter(
            "vrseg_output_packets_dropped",
            "Encoded packets that one output did not take; the frames may have reached others.",
            ["stream", "output", "reason"],
            registry=registry,
        )
        self.decode_errors = Counter(
            "vrseg_decode_errors",
            "Units passed over, being damaged or before any key frame, and pictures of which parts are a guess.",
            ["stream", "reason"],
            registry=registry,
        )
        self.stage_duration = Timings(
            "vrseg_stage_duration_seconds", "Time a stage worked on one item.", "stage", registry=registry
        )
        self.stage_wait = Timings(
            "vrseg_stage_wait_seconds", "Time an item waited in front of a stage.", "stage", registry=registry
        )
        self.latency = Timings(
            "vrseg_frame_latency_seconds", "From decoded to handed to the outputs.", "stream", registry=registry
        )
        self.deadline_misses = Counter(
            "vrseg_deadline_misses", "Frames delivered later than max_age.", ["stream"], registry=registry
        )
        self.batch_size = Histogram(
            "vrseg_batch_size", "Frames in one inference call.", ["model"], buckets=BATCH_BUCKETS, registry=registry
        )
        self.inference = Tallies(
            "vrseg_inference", "Inference calls.", ["model", "engine", "result"], registry=registry
        )
        self.reconnects = Counter(
            "vrseg_stream_reconnects", "Times a lost stream was tried again.", ["stream", "reason"], registry=registry
        )
        self.stream_info = Gauge(
            "vrseg_stream_info",
            "What a stream carries; always 1.",
            ["stream", "codec", "width", "height"],
            registry=registry,
        )
        self.build_info = Gauge(
            "vrseg_build_info", "The version at work; always 1.", ["version", "device"], registry=registry
        )
        self.reload_successful = Gauge(
            "vrseg_config_last_reload_successful",
            "1 when the configuration at work is the one last asked for.",
            registry=registry,
        )

    def forget_stream(self, stream: str) -> None:
        """Drop every sample of a stream."""
        for instrument in (
            self.dropped,
            self.failed,
            self.output_dropped,
            self.decode_errors,
            self.deadline_misses,
            self.reconnects,
            self.stream_info,
        ):
            instrument.remove_by_labels({"stream": stream})
        self.frames.forget(stream)
        self.latency.forget(stream)

    def forget_model(self, model: str) -> None:
        """Drop every sample of a model."""
        self.batch_size.remove_by_labels({"model": model})
        self.inference.forget(model)

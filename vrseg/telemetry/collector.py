"""Metrics that are read off the pipeline at the moment of a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vrseg.pipeline.observer import STREAM_STATES
from vrseg.stage import OUTPUT_STATES
from vrseg.telemetry.bottleneck import find_bottleneck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from vrseg.telemetry.recorder import Recorder


class PipelineCollector(Collector):
    """Queue fill, stream states, frame conservation, busy ratios and the bottleneck."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        yield from self._queues()
        yield from self._streams()
        yield from self._stages()

    def _queues(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("vrseg_queue_depth", "Items waiting.", labels=["queue"])
        capacity = GaugeMetricFamily("vrseg_queue_capacity", "Items that may wait.", labels=["queue"])
        blocked = CounterMetricFamily(
            "vrseg_queue_blocked_seconds", "Time that writers waited for room.", labels=["queue"]
        )
        for channel in self._recorder.meter.channels:
            depth.add_metric([channel.name], len(channel))
            capacity.add_metric([channel.name], channel.capacity)
            blocked.add_metric([channel.name], channel.blocked_s)
        yield from (depth, capacity, blocked)

    def _streams(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("vrseg_stream_state", "1 for the state a stream is in.", labels=["stream", "state"])
        unaccounted = GaugeMetricFamily(
            "vrseg_frames_unaccounted",
            "Frames that came in and neither ended nor are under way; 0, or frames leak.",
            labels=["stream"],
        )
        last_frame = GaugeMetricFamily(
            "vrseg_stream_last_frame_timestamp_seconds", "Unix time of the last decoded frame.", labels=["stream"]
        )
        output = GaugeMetricFamily(
            "vrseg_output_state", "1 for the state an output is in.", labels=["stream", "output", "state"]
        )
        for stream, record in self._recorder.streams.items():
            if record.last_frame_at:
                last_frame.add_metric([stream], record.last_frame_at)
            unaccounted.add_metric([stream], record.ledger.unaccounted)
            for name in STREAM_STATES:
                state.add_metric([stream, name], float(record.state == name))
            for number, one in record.outputs.items():
                for possible in OUTPUT_STATES:
                    output.add_metric([stream, number, possible], float(one.state.state == possible))
        yield from (state, unaccounted, last_frame, output)

    def _stages(self) -> Iterator[Metric]:
        busy = GaugeMetricFamily("vrseg_stage_busy_ratio", "Share of the time a stage works.", labels=["stage"])
        readings = self._recorder.recent()
        for stage in readings.stages:
            busy.add_metric([stage.stage], stage.busy_ratio)
        yield busy
        limit = GaugeMetricFamily("vrseg_bottleneck", "1 for what limits now.", labels=["stage", "kind"])
        verdict = find_bottleneck(readings)
        limit.add_metric([verdict.stage, verdict.kind], 1.0)
        yield limit

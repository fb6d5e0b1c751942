"""The state of the whole process as plain data, for `/api/v1/status` and reports."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vrseg.address import presentable
from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.readings import quantiles

if TYPE_CHECKING:
    from vrseg.stage import LastingOutput
    from vrseg.telemetry.readings import Quantiles, Readings, StageReading
    from vrseg.telemetry.recorder import Recorder, StreamRecord


def status(recorder: Recorder) -> dict[str, Any]:
    """Return stages, bottleneck, streams and queues as they are now. Times in seconds, ratios 0 to 1."""
    readings = recorder.recent()
    return {
        "window_s": round(readings.window_s, 3),
        "cores": {"usable": readings.cores, "busy": round(readings.cores_busy, 2)},
        "stages": stage_rows(readings),
        "bottleneck": asdict(find_bottleneck(readings)),
        "streams": [stream_row(name, record) for name, record in recorder.streams.items()],
        "queues": [
            {
                "queue": channel.name,
                "depth": len(channel),
                "capacity": channel.capacity,
                "blocked_s": round(channel.blocked_s, 3),
            }
            for channel in recorder.meter.channels
        ],
    }


def stage_rows(readings: Readings) -> list[dict[str, Any]]:
    """Return the stage table as plain data."""
    return [_stage_row(stage) for stage in readings.stages]


def _stage_row(stage: StageReading) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "workers": stage.workers,
        "items": stage.items,
        "busy_ratio": round(stage.busy_ratio, 4),
        "input_full_ratio": round(stage.input_full_ratio, 4),
        "output_full_ratio": round(stage.output_full_ratio, 4),
        "duration_s": _quantiles(stage.duration),
        "wait_s": _quantiles(stage.wait),
    }


def _quantiles(values: Quantiles) -> dict[str, float]:
    return {"p50": round(values.p50_s, 6), "p95": round(values.p95_s, 6), "p99": round(values.p99_s, 6)}


def stream_row(name: str, record: StreamRecord) -> dict[str, Any]:
    """Return one stream as plain data."""
    ledger, info = record.ledger, record.info
    return {
        "name": name,
        "state": record.state,
        "detail": record.detail,
        "since": round(record.since, 3),
        "codec": info.codec if info else None,
        "width": info.width if info else None,
        "height": info.height if info else None,
        "frames": {
            "entered": ledger.entered,
            "delivered": ledger.delivered,
            "dropped": dict(ledger.dropped),
            "failed": ledger.failed,
            "under_way": ledger.held,
            "unaccounted": ledger.unaccounted,
        },
        "latency_s": round(record.last_latency_s, 6),
        "latency_recent_s": _quantiles(quantiles(record.latencies_s)),
        "reconnects": record.reconnects,
        "damaged_units": record.damaged_units,
        "history": [asdict(change) for change in record.history],
        "outputs": [_output_row(output) for _, output in sorted(record.outputs.items())],
    }


def _output_row(output: LastingOutput) -> dict[str, Any]:
    state = output.state
    return {
        "output": int(output.name),
        "kind": output.kind,
        "state": state.state,
        "reason": state.reason,
        "detail": presentable(state.detail),
        "since": round(state.since_s, 3),
        "packets_dropped": dict(output.dropped),
    }

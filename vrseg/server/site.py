"""What the port shows, and the routes that only show it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from vrseg.config.schema import Config
from vrseg.server.answers import Health, Readiness, Status, Version
from vrseg.server.route import Route
from vrseg.telemetry.status import status
from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from vrseg.telemetry.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A read-only view of the daemon. Everything in it is asked anew for each request."""

    registry: CollectorRegistry
    recorder: Recorder
    not_ready: Callable[[], list[str]]
    """Reasons, empty when ready."""
    ill: Callable[[], Awaitable[str]]
    """Why the process must be started anew; empty when it is well."""
    config: Callable[[], dict[str, Any]]
    """As it runs now, redacted."""
    device: str
    started_s: float = field(default_factory=time.monotonic)


def site_routes(site: Site) -> list[Route]:
    """Return the routes; all handlers run on the pipeline's loop, so what they read is of one moment."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(site.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})

    async def healthz(_request: web.Request) -> web.Response:
        # The answer itself is half of the proof: it comes from the loop that moves the frames.
        reason = await site.ill()
        answer = {"status": "ill" if reason else "ok", "reason": reason}
        return web.json_response(answer, status=503 if reason else 200)

    async def readyz(_request: web.Request) -> web.Response:
        reasons = site.not_ready()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def version(_request: web.Request) -> web.Response:
        return web.json_response({"version": __version__, "device": site.device})

    async def show_status(_request: web.Request) -> web.Response:
        head = {
            "version": __version__,
            "device": site.device,
            "uptime_s": round(time.monotonic() - site.started_s, 3),
            "not_ready": site.not_ready(),
        }
        return web.json_response(head | status(site.recorder))

    async def config(_request: web.Request) -> web.Response:
        return web.json_response(site.config())

    return [
        Route(
            method="GET",
            path="/metrics",
            handler=metrics,
            summary="Metrics, as Prometheus reads them.",
            answers={200: "text/plain"},
        ),
        Route(
            method="GET",
            path="/healthz",
            handler=healthz,
            summary="Is the process well? 503 says: start it anew.",
            answers={200: Health, 503: Health},
        ),
        Route(
            method="GET",
            path="/readyz",
            handler=readyz,
            summary="Is this the moment to send traffic here? 503 says: not yet, or not any more.",
            answers={200: Readiness, 503: Readiness},
        ),
        Route(
            method="GET",
            path="/version",
            handler=version,
            summary="The version at work, and its device.",
            answers={200: Version},
        ),
        Route(
            method="GET",
            path="/api/v1/status",
            handler=show_status,
            summary="Stages, streams, queues and the bottleneck, now.",
            answers={200: Status},
        ),
        Route(
            method="GET",
            path="/api/v1/config",
            handler=config,
            summary="The configuration at work, every key, without its secrets.",
            answers={200: Config},
        ),
    ]

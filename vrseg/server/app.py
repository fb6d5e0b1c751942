"""The HTTP port: metrics, health, status, and a page for people."""

from __future__ import annotations

import hmac
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from vrseg.config.rules import is_loopback
from vrseg.errors import ConfigError
from vrseg.telemetry.status import status
from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from vrseg.telemetry.recorder import Recorder

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_REQUEST_BYTES = 64 * 1024
SHUTDOWN_TIMEOUT_S = 1.0
HIGHEST_PORT = 65535

# What a page of ours may load: itself.
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# Without a token, so that probes of a supervisor need no secret; they say nothing about streams.
_OPEN_PATHS = frozenset({"/healthz", "/readyz", "/version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the port shows."""

    registry: CollectorRegistry
    recorder: Recorder
    not_ready: Callable[[], list[str]]
    """Reasons, empty when ready."""
    config: dict[str, Any] = field(repr=False)
    """Redacted."""
    device: str
    token: str | None = field(repr=False)
    started_s: float = field(default_factory=time.monotonic)


def make_app(site: Site) -> web.Application:
    """Return the application; all handlers run on the pipeline's loop, so what they read is of one moment."""
    app = web.Application(middlewares=[_authorise(site.token)], client_max_size=MAX_REQUEST_BYTES)
    app.on_response_prepare.append(_add_security_headers)
    app.add_routes(
        [
            web.get("/", _page),
            web.get("/metrics", _metrics(site)),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz(site)),
            web.get("/version", _version(site)),
            web.get("/api/v1/status", _status(site)),
            web.get("/api/v1/config", _config(site)),
        ]
    )
    return app


@asynccontextmanager
async def serve_http(site: Site, listen: str) -> AsyncIterator[str]:
    """Serve inside the block; yields the address of the page.

    Raises:
        ConfigError: the port is taken, the address is none of this machine's, or it wants a token.
    """
    host, _, port = listen.rpartition(":")
    if int(port) > HIGHEST_PORT:
        raise ConfigError(f"server.listen: {listen}: the highest port is {HIGHEST_PORT}")
    if site.token is None and not is_loopback(host):
        raise ConfigError(f"server.listen: {listen} can be reached from outside; listen on 127.0.0.1, or set a token")
    runner = web.AppRunner(make_app(site), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"server.listen: {listen}: {reason}; choose another port (0 takes a free one)") from error
        yield f"http://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def _authorise(token: str | None) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is not None and request.path not in _OPEN_PATHS:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise web.HTTPUnauthorized(
                    text="a bearer token is needed: Authorization: Bearer ...\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

    return check


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)


async def _page(_request: web.Request) -> web.Response:
    text = resources.files("vrseg.server").joinpath("page.html").read_text(encoding="utf-8")
    return web.Response(text=text, content_type="text/html")


async def _healthz(_request: web.Request) -> web.Response:
    # The answer itself is the proof: it comes from the loop that moves the frames.
    return web.json_response({"status": "ok"})


def _metrics(site: Site) -> Handler:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(site.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})

    return metrics


def _readyz(site: Site) -> Handler:
    async def readyz(_request: web.Request) -> web.Response:
        reasons = site.not_ready()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    return readyz


def _version(site: Site) -> Handler:
    async def version(_request: web.Request) -> web.Response:
        return web.json_response({"version": __version__, "device": site.device})

    return version


def _status(site: Site) -> Handler:
    async def show(_request: web.Request) -> web.Response:
        head = {
            "version": __version__,
            "device": site.device,
            "uptime_s": round(time.monotonic() - site.started_s, 3),
            "not_ready": site.not_ready(),
        }
        return web.json_response(head | status(site.recorder))

    return show


def _config(site: Site) -> Handler:
    async def config(_request: web.Request) -> web.Response:
        return web.json_response(site.config)

    return config

"""The HTTP port: routes of several makers behind one guard."""

from __future__ import annotations

import hmac
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vrseg.config.rules import is_loopback
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from vrseg.server.route import Handler, Route

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


def make_app(routes: Iterable[Route | web.AbstractRouteDef], token: str | None) -> web.Application:
    """Return the application.

    Args:
        routes: those of `Route` appear in the OpenAPI document, others (files of a page) do not.
        token: what is asked for; None asks for nothing.
    """
    app = web.Application(middlewares=[_authorise(token)], client_max_size=MAX_REQUEST_BYTES)
    app.on_response_prepare.append(_add_security_headers)
    app.add_routes([one if isinstance(one, web.AbstractRouteDef) else one.definition for one in routes])
    return app


@asynccontextmanager
async def serve_http(
    routes: Iterable[Route | web.AbstractRouteDef], listen: str, token: str | None
) -> AsyncIterator[str]:
    """Serve inside the block; yields the address of the page.

    Raises:
        ConfigError: the port is taken, the address is none of this machine's, or it wants a token.
    """
    host, _, port = listen.rpartition(":")
    if int(port) > HIGHEST_PORT:
        raise ConfigError(f"server.listen: {listen}: the highest port is {HIGHEST_PORT}")
    if token is None and not is_loopback(host):
        raise ConfigError(f"server.listen: {listen} can be reached from outside; listen on 127.0.0.1, or set a token")
    runner = web.AppRunner(make_app(routes, token), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
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

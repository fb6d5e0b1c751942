"""The HTTP port: routes of several makers behind one guard."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from vrseg.config.rules import is_loopback
from vrseg.errors import ConfigError
from vrseg.server.guard import guards
from vrseg.server.pages import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from vrseg.config.schema import Server
    from vrseg.server.route import Route

MAX_REQUEST_BYTES = 64 * 1024
SHUTDOWN_TIMEOUT_S = 1.0
# Also the time within which a new connection must have sent its first request whole, but for the body.
IDLE_TIMEOUT_S = 20.0
HIGHEST_PORT = 65535

_SECURITY = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(
    routes: Iterable[Route | web.AbstractRouteDef], *, host: str = "127.0.0.1", token: str | None = None
) -> web.Application:
    """Return the application.

    Args:
        routes: those of `Route` can be described in the OpenAPI document, others (files of a page) are not.
        host: what is listened on, as in `server.listen`.
        token: what is asked for; None asks for nothing.
    """
    app = web.Application(middlewares=guards(host, token), client_max_size=MAX_REQUEST_BYTES)
    app.on_response_prepare.append(_add_security_headers)
    app.add_routes([one if isinstance(one, web.AbstractRouteDef) else one.definition for one in routes])
    return app


@asynccontextmanager
async def serve_http(
    routes: Iterable[Route | web.AbstractRouteDef], server: Server, base_dir: Path
) -> AsyncIterator[str]:
    """Serve inside the block; yields the address of the page.

    Raises:
        ConfigError: the port is taken, the address is none of this machine's, it wants a token, or the certificate
            cannot be used.
    """
    listen = server.listen
    host, _, port = listen.rpartition(":")
    if int(port) > HIGHEST_PORT:
        raise ConfigError(f"server.listen: {listen}: the highest port is {HIGHEST_PORT}")
    if server.token is None and not is_loopback(host):
        raise ConfigError(f"server.listen: {listen} can be reached from outside; listen on 127.0.0.1, or set a token")
    tls = tls_context(server, base_dir)
    runner = web.AppRunner(
        make_app(routes, host=host, token=server.token),
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=IDLE_TIMEOUT_S,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=tls).start()
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"server.listen: {listen}: {reason}; choose another port (0 takes a free one)") from error
        yield f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def tls_context(server: Server, base_dir: Path) -> ssl.SSLContext | None:
    """Return what speaks TLS; None where there is no certificate.

    Raises:
        ConfigError: certificate or key cannot be read, or do not belong together.
    """
    if server.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = base_dir / server.certificate
    key = base_dir / server.key if server.key else None
    try:
        # A passphrase that nobody is there to type would stop the start for ever.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ConfigError(
            f"server.certificate: {certificate}: is no PEM certificate with its key ({error.reason}); "
            "name the key's file in server.key, and leave the key without a passphrase"
        ) from error
    except OSError as error:
        raise ConfigError(f"server.certificate: {certificate}, {key}: {error.strerror}; check the paths") from error
    return context


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)

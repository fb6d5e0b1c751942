"""Who may ask what, and how often: what stands before every route."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from vrseg.config.rules import is_loopback
from vrseg.server.pages import is_page
from vrseg.server.problems import errors_as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.server.route import Handler

# Without a token, so that probes of a supervisor need no secret; they say nothing about streams.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/version"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

# A status page asks once a second, a dashboard some ten times; a person changes something every few seconds.
TOKENS_PER_S = 100.0
MOST_TOKENS = 200.0
CHANGE_COSTS = 10.0
WRONG_TOKEN_COSTS = 20.0
MOST_CLIENTS = 256


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


@dataclass(slots=True)
class Buckets:
    """Token buckets by client; who was not heard of for longest makes room for a new one."""

    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def take(self, client: str, cost: float) -> float:
        """Take `cost` tokens of a client; return 0, or after how many seconds there are enough, and take none."""
        now_s = self.clock()
        bucket = self._buckets.setdefault(client, _Bucket(MOST_TOKENS, now_s))
        self._buckets.move_to_end(client)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(MOST_TOKENS, bucket.tokens + TOKENS_PER_S * (now_s - bucket.at_s))
        bucket.at_s = now_s
        if bucket.tokens < cost:
            return (cost - bucket.tokens) / TOKENS_PER_S
        bucket.tokens -= cost
        return 0.0


def guards(listen_host: str, token: str | None) -> list[Any]:
    """Return the middlewares, outermost first."""
    buckets = Buckets()
    checks = [errors_as_json, _limit(buckets), _authorise(token, buckets), _same_site]
    if is_loopback(listen_host):
        checks.insert(1, _host_of_ours(listen_host))
    return checks


def _host_of_ours(listen_host: str) -> Any:
    """A page elsewhere may let its own name stand for 127.0.0.1: then the browser sends that name, and we know."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _name_in(request.headers.get("Host", "127.0.0.1"))
        if host not in ("localhost", listen_host.strip("[]").lower()) and not _is_ip_address(host):
            raise web.HTTPMisdirectedRequest(
                text="this port answers to localhost and to IP addresses; behind a proxy, let it send one as Host"
            )
        return await handler(request)

    return check


def _limit(buckets: Buckets) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            cost = 1.0 if request.method in _READING else CHANGE_COSTS
            _pay(buckets, request, cost)
        return await handler(request)

    return check


def _authorise(token: str | None, buckets: Buckets) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is not None and request.path not in OPEN_PATHS and not is_page(request.path):
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
                _pay(buckets, request, WRONG_TOKEN_COSTS)
                raise web.HTTPUnauthorized(
                    text="a bearer token is needed: Authorization: Bearer ...", headers={"WWW-Authenticate": "Bearer"}
                )
        return await handler(request)

    return check


@web.middleware
async def _same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes that a page elsewhere made a browser ask for.

    Such a page can send simple requests only, and a browser says where they come from.
    """
    if request.method in _READING:
        return await handler(request)
    # A proxy asks in its own name, and tells under which it was asked. A page elsewhere cannot: no browser lets it send
    # such a header without asking here first, and that is refused.
    own = (request.headers.get("Host", ""), request.headers.get("X-Forwarded-Host", ""))
    if _is_foreign(request.headers.get("Origin"), own) or request.headers.get("Sec-Fetch-Site", "none") not in (
        "none",
        "same-origin",
    ):
        raise web.HTTPForbidden(text="a page of another site may not change anything here")
    simple = not ("Authorization" in request.headers or "X-Requested-With" in request.headers)
    if request.method == "POST" and simple and request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(
            text="send Content-Type: application/json; without a body, X-Requested-With with any value will do too"
        )
    return await handler(request)


def _is_foreign(origin: str | None, own: tuple[str, ...]) -> bool:
    try:
        return origin is not None and urlsplit(origin).netloc.lower() not in {host.lower() for host in own if host}
    except ValueError:
        return True


def _pay(buckets: Buckets, request: web.Request, cost: float) -> None:
    wait_s = buckets.take(request.remote or "", cost)
    if wait_s:
        raise web.HTTPTooManyRequests(
            text=f"too many requests; ask again in {wait_s:.1f} s", headers={"Retry-After": str(int(wait_s) + 1)}
        )


def _name_in(host_header: str) -> str:
    """Return the host of a Host header: without port and brackets, in lower case."""
    if host_header.startswith("["):
        return host_header[1:].partition("]")[0].lower()
    return host_header.partition(":")[0].lower()


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

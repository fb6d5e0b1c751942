"""The live page: files that a browser reads as they are."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; "  # blob: what a script has fetched, with the token in the request's header
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""What the page may do: load its own files and ask its own server."""


def page_routes() -> list[web.RouteDef]:
    """Return the routes of the page's files. They say nothing of the streams and need no token; see `is_page`."""

    async def index(_request: web.Request) -> web.Response:
        return _answer("index.html")

    async def file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _files():
            raise web.HTTPNotFound(text=f"no file {name!r}")
        return _answer(name)

    return [web.get("/", index), web.get("/page/{name}", file)]


def is_page(path: str) -> bool:
    """Tell whether a path is that of one of the page's files."""
    return path == "/" or (path.startswith("/page/") and path.removeprefix("/page/") in _files())


@cache
def _files() -> dict[str, Traversable]:
    folder = resources.files("vrseg.server").joinpath("page")
    return {one.name: one for one in folder.iterdir() if one.name[one.name.rfind(".") :] in _TYPES}


def _answer(name: str) -> web.Response:
    return web.Response(
        text=_files()[name].read_text(encoding="utf-8"),
        content_type=_TYPES[name[name.rfind(".") :]],
        charset="utf-8",
        # Asked for anew each time: after an update the page must fit the server. It is small.
        headers={"Cache-Control": "no-cache"},
    )

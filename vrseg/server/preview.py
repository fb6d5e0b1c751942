"""`/preview/...`: pictures of the streams, single and moving, before and after the model."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vrseg.server.route import Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vrseg.viewing.feed import Feed, Picture
    from vrseg.viewing.views import Views

MOST_VIEWERS = 32
"""Requests for pictures under way at once, of all streams."""
PATIENCE_S = 5.0
"""For the next picture; a stream that gives none for so long gives none."""
SEND_TIMEOUT_S = 10.0
"""A viewer who takes nothing for so long is gone."""
_BOUNDARY = "vrseg-picture"
_MOVING_HEADERS = {
    "Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
    "X-Accel-Buffering": "no",  # else nginx takes them in for a viewer who does not, and shows them late
}

_PARAMETERS = (
    Parameter(name="stream", where="path", schema={"type": "string"}, description="A stream's name."),
    Parameter(
        name="side",
        where="query",
        schema={"enum": ["input", "output"], "default": "output"},
        description="`input`: as it was decoded. `output`: what is encoded, or would be.",
    ),
)


def preview_routes(views: Views) -> list[Route]:
    """Return the routes of all pictures."""
    door = _Door(MOST_VIEWERS)

    async def still(request: web.Request) -> web.Response:
        picture = await _one(_feed(views, request), door)
        return web.Response(body=picture.jpeg, content_type="image/jpeg", headers=_told(picture))

    async def results(request: web.Request) -> web.Response:
        picture = await _one(_feed(views, request), door)
        return web.json_response({"found": picture.found, "taken": picture.taken})

    async def moving(request: web.Request) -> web.StreamResponse:
        name, feed = request.match_info["stream"], _feed(views, request)

        def is_shown() -> bool:
            """The stream is there, and no other that got its name."""
            view = views.by_stream.get(name)
            return view is not None and feed in {view.input, view.output}

        return await _moving(request, feed, door, is_shown)

    def route(ending: str, handler: Callable[[web.Request], Any], summary: str, media_type: str) -> Route:
        return Route(
            method="GET",
            path="/preview/{stream}" + ending,
            handler=handler,
            summary=summary,
            parameters=_PARAMETERS,
            answers={200: media_type},
            errors=(400, 404, 503),
        )

    return [
        route(".jpg", still, "The stream's next picture.", "image/jpeg"),
        route(".mjpg", moving, "The stream's pictures as they come.", "multipart/x-mixed-replace"),
        route(".json", results, "What was found in the stream's next picture.", "application/json"),
    ]


class _Door:
    """Lets so many in at once."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def entered(self) -> Iterator[None]:
        if self._free == 0:
            raise web.HTTPServiceUnavailable(
                text=f"{MOST_VIEWERS} viewers are watching, which is all there is room for: try again later",
                headers={"Retry-After": "10"},
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def _feed(views: Views, request: web.Request) -> Feed:
    name, side = request.match_info["stream"], request.query.get("side", "output")
    view = views.by_stream.get(name)
    if view is None:
        raise web.HTTPNotFound(text=f"no stream {name!r}")
    if side not in {"input", "output"}:
        raise web.HTTPBadRequest(text=f"side={side}: choose input or output")
    return view.input if side == "input" else view.output


async def _one(feed: Feed, door: _Door) -> Picture:
    with door.entered(), feed.watched():
        picture = await feed.next(0, PATIENCE_S)
    if picture is None:
        raise web.HTTPServiceUnavailable(
            text="no picture came: see the stream's state in /api/v1/status", headers={"Retry-After": "5"}
        )
    return picture


async def _moving(request: web.Request, feed: Feed, door: _Door, is_shown: Callable[[], bool]) -> web.StreamResponse:
    with door.entered(), feed.watched():
        response = web.StreamResponse(headers=_MOVING_HEADERS)
        await response.prepare(request)
        number = 0
        # Nobody tells a handler that waits that its viewer has gone.
        while request.transport is not None and not request.transport.is_closing():
            picture = await feed.next(number, PATIENCE_S)
            if picture is None:
                if not is_shown():
                    break
                continue
            number = picture.number
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await response.write(_part(picture))
            except (TimeoutError, ConnectionError):
                break
        if request.transport is not None:
            request.transport.abort()  # what a slow viewer has not taken would be sent before the end
    return response


def _part(picture: Picture) -> bytes:
    head = {"Content-Type": "image/jpeg", "Content-Length": str(len(picture.jpeg))} | _told(picture)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"--{_BOUNDARY}\r\n{lines}\r\n".encode() + picture.jpeg + b"\r\n"


def _told(picture: Picture) -> dict[str, str]:
    return {"X-Taken": f"{picture.taken:.3f}", "X-Found": json.dumps(picture.found)}  # ASCII, whatever the names

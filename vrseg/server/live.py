"""`/live/...`: the encoded video of a stream as low-latency HLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from vrseg.server.route import Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.viewing.broadcast import Broadcast
    from vrseg.viewing.views import Views

MOST_WAITING = 64
"""Requests that wait for what is not there yet, of all streams."""
FARTHEST_AHEAD = 2
"""Segments; who asks for more has another stream in mind (RFC 8216bis, 6.2.5.2)."""
_PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_STREAM = Parameter(name="stream", where="path", schema={"type": "string"}, description="A stream's name.")


def live_routes(views: Views) -> list[Route]:
    """Return the routes of playlists and of what they name."""
    waiting = _Waiting()

    async def playlist(request: web.Request) -> web.Response:
        broadcast = _broadcast(views, request)
        number, piece = _asked(request, "_HLS_msn"), _asked(request, "_HLS_part")
        if number is None and piece is not None:
            raise web.HTTPBadRequest(text="_HLS_part needs _HLS_msn")
        # The first request waits for the first piece: a playlist must not be empty.
        await waiting.wait(broadcast, 0 if number is None else number, 0 if number is None else piece)
        return web.Response(text=broadcast.playlist(), content_type=_PLAYLIST_TYPE)

    async def head(request: web.Request) -> web.Response:
        track = _broadcast(views, request).track(_named(request, "track"))
        if track is None:
            raise web.HTTPNotFound(text="that track is over")
        return web.Response(body=track.init, content_type="video/mp4", headers={"X-Codec": track.codec})

    async def piece(request: web.Request) -> web.Response:
        broadcast = _broadcast(views, request)
        number, index = _named(request, "segment"), _named(request, "piece")
        await waiting.wait(broadcast, number, index)
        segment = broadcast.find(number)
        if segment is None or index >= len(segment.pieces):
            raise web.HTTPNotFound(text="that piece is over")
        return web.Response(body=segment.pieces[index].data, content_type="video/mp4")

    async def whole(request: web.Request) -> web.Response:
        segment = _broadcast(views, request).find(_named(request, "segment"))
        if segment is None or not segment.complete:
            raise web.HTTPNotFound(text="that segment is over, or not complete")
        return web.Response(body=b"".join(one.data for one in segment.pieces), content_type="video/mp4")

    def route(name: str, handler: Callable[[web.Request], object], summary: str, media: str, *numbers: str) -> Route:
        return Route(
            method="GET",
            path="/live/{stream}/" + name,
            handler=handler,  # type: ignore[arg-type] # all are coroutines
            summary=summary,
            parameters=(_STREAM, *(_number(one, "path") for one in numbers))
            + ((_number("_HLS_msn", "query"), _number("_HLS_part", "query")) if not numbers else ()),
            answers={200: media},
            errors=(400, 404, 503),
        )

    return [
        route("index.m3u8", playlist, "The playlist of the stream's encoded video.", _PLAYLIST_TYPE),
        route("init-{track}.mp4", head, "What a player reads first.", "video/mp4", "track"),
        route("{segment}.{piece}.m4s", piece, "A part of a segment.", "video/mp4", "segment", "piece"),
        route("{segment}.m4s", whole, "A segment.", "video/mp4", "segment"),
    ]


class _Waiting:
    """Those who wait for video that is not there yet."""

    def __init__(self) -> None:
        self._now = 0

    async def wait(self, broadcast: Broadcast, number: int, piece: int | None) -> None:
        if broadcast.has(number, piece):
            return
        last = broadcast.segments[-1].number if broadcast.segments else 0
        if number > last + FARTHEST_AHEAD:
            raise web.HTTPBadRequest(text=f"segment {number} is far ahead of {last}, the newest")
        if self._now >= MOST_WAITING:
            raise web.HTTPServiceUnavailable(text="too many viewers wait", headers={"Retry-After": "2"})
        self._now += 1
        try:
            came = await broadcast.wait_for(number, piece, 3.0 * broadcast.target_s)
        finally:
            self._now -= 1
        if not came:
            raise web.HTTPServiceUnavailable(
                text="no video comes: see the stream's state in /api/v1/status", headers={"Retry-After": "2"}
            )


def _broadcast(views: Views, request: web.Request) -> Broadcast:
    name = request.match_info["stream"]
    view = views.by_stream.get(name)
    if view is None:
        raise web.HTTPNotFound(text=f"no stream {name!r}")
    if view.broadcast is None:
        raise web.HTTPNotFound(text=f"stream {name} has no output in H.264")
    return view.broadcast


def _asked(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if (number := _whole(text)) is None:
        raise web.HTTPBadRequest(text=f"{name} is a number")
    return number


def _named(request: web.Request, name: str) -> int:
    if (number := _whole(request.match_info[name])) is None:
        raise web.HTTPNotFound(text="nothing has that name")
    return number


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _number(name: str, where: str) -> Parameter:
    return Parameter(
        name=name,
        where="query" if where == "query" else "path",
        schema={"type": "integer", "minimum": 0},
        description="As the playlist counts.",
    )

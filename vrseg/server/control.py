"""Routes that change what runs: streams, and the configuration as a whole."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import ValidationError

from vrseg.config import mistakes, rules
from vrseg.config.allow import NotAnAddressError, is_allowed
from vrseg.config.document import KeyPath, Problem, dotted
from vrseg.config.quantity import parse_duration_s
from vrseg.config.section import NAME_PATTERN
from vrseg.config.show import redacted_section
from vrseg.errors import ConfigError, Finding, VrsegError
from vrseg.fleet import BusyError
from vrseg.server.answers import NewStream, Reloaded, Streams, StreamView
from vrseg.server.answers import Trace as TraceAnswer
from vrseg.server.problems import as_json, refusal
from vrseg.server.route import Parameter, Route
from vrseg.telemetry.status import stream_row
from vrseg.telemetry.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vrseg.config.schema import Config, Stream
    from vrseg.fleet import Change, Fleet
    from vrseg.reload import Reloads
    from vrseg.running import Running
    from vrseg.server.route import Handler, Method

BODY_TIMEOUT_S = 10.0
LONGEST_DRAIN_S = 60.0
LONGEST_TRACE_S = 30

_ID = Parameter(
    name="id", where="path", schema={"type": "string", "pattern": NAME_PATTERN}, description="Name of the stream."
)
_TIMEOUT = Parameter(
    name="timeout",
    where="query",
    schema={"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m)$", "examples": ["5s"]},
    description="How long the stream may take to drain, at most 60s; the configuration's `drain_timeout` if left out.",
)
_SECONDS = Parameter(
    name="seconds",
    where="query",
    schema={"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TRACE_S, "default": 5},
    description="For how long.",
)


class Control:
    """What the routes need to know of the daemon."""

    def __init__(self, running: Running, fleet: Fleet, reloads: Reloads | None) -> None:
        self.running = running
        self.fleet = fleet
        self.reloads = reloads

    def view(self, name: str) -> dict[str, Any]:
        """Show a stream; raises NoSuchStreamError."""
        member = self.fleet.member(name)
        return {
            **stream_row(name, self.running.recorder.streams[name]),
            "origin": member.origin,
            "change": member.change,
            "configuration": redacted_section(self.running.plan.config.streams[name]),
        }

    async def add(self, request: web.Request) -> web.Response:
        config = self.running.plan.config
        if not config.server.allow:
            return refusal(403, "no stream may be added over HTTP: server.allow in the configuration lists no address")
        new = read_stream(await _body(request))
        # First of all: what follows may look at files that an address names.
        if forbidden := list(forbidden_addresses(new.stream, config.server.allow)):
            return refusal(403, "server.allow in the configuration does not list every address", tuple(forbidden))
        check_stream(new, config)
        self.fleet.admit(new.id, new.stream)
        self.running.log.info("stream added over HTTP", stream=new.id, client=request.remote)
        location = {"Location": f"/api/v1/streams/{new.id}"}
        return web.json_response(self.view(new.id), status=201, headers=location)

    def order(self, change: Change) -> Handler:
        """Return the handler that begins to take a stream down."""

        async def handle(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            timeout_s = _drain_timeout_s(request, self.running.plan.config)
            self.fleet.order(name, change, timeout_s)
            self.running.log.info("stream changed over HTTP", change=change, stream=name, client=request.remote)
            return web.json_response(self.view(name), status=202)

        return handle

    async def resume(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        self.fleet.resume(name)
        return web.json_response(self.view(name))

    async def trace(self, request: web.Request) -> web.Response:
        recorder = self.running.recorder
        seconds = _trace_s(request)
        if recorder.trace is not None:
            raise BusyError("a trace is being taken; ask again when it is done")
        trace = recorder.trace = Trace()
        try:
            await asyncio.sleep(seconds)
        finally:
            recorder.trace = None
        # Many megabytes, and nobody adds to it any more: frames need not wait for it.
        return web.json_response(text=await asyncio.to_thread(trace.text))

    async def reload(self, _request: web.Request) -> web.Response:
        if self.reloads is None:
            raise BusyError("this process was not started from a configuration file: there is nothing to reload")
        outcome = await self.reloads.ask()
        if isinstance(outcome, VrsegError):
            raise outcome
        return web.json_response({"models": asdict(outcome.models), "streams": asdict(outcome.streams)})


def control_routes(control: Control) -> list[Route]:
    """Return the routes under /api/v1 that show and change streams."""

    async def show_all(_request: web.Request) -> web.Response:
        return web.json_response({"streams": [control.view(name) for name in control.fleet.members]})

    async def show(request: web.Request) -> web.Response:
        return web.json_response(control.view(request.match_info["id"]))

    one = "/api/v1/streams/{id}"

    def takes_down(method: Method, path: str, change: Change, summary: str) -> Route:
        return Route(
            method=method,
            path=path,
            handler=control.order(change),
            summary=summary,
            parameters=(_ID, _TIMEOUT),
            answers={202: StreamView},
            errors=(404, 409, 422),
        )

    return [
        Route(
            method="GET",
            path="/api/v1/streams",
            handler=show_all,
            summary="All streams.",
            answers={200: Streams},
        ),
        Route(
            method="POST",
            path="/api/v1/streams",
            handler=control.add,
            summary="Add a stream of addresses that server.allow lists; it is gone when the process ends.",
            body=NewStream,
            answers={201: StreamView},
            errors=(409, 422),
        ),
        Route(
            method="GET",
            path=one,
            handler=show,
            summary="One stream.",
            parameters=(_ID,),
            answers={200: StreamView},
            errors=(404,),
        ),
        takes_down(
            "DELETE", one, "remove", "Drain a stream and forget it; one of the file comes back with the next reload."
        ),
        takes_down("POST", f"{one}/restart", "restart", "Drain a stream and begin anew: new connection, new outputs."),
        takes_down(
            "POST", f"{one}/pause", "pause", "Close a stream's source and end its outputs, until it is resumed."
        ),
        Route(
            method="POST",
            path=f"{one}/resume",
            handler=control.resume,
            summary="Let a stream go on that was paused, has ended or has failed.",
            parameters=(_ID,),
            answers={200: StreamView},
            errors=(404, 409),
        ),
        Route(
            method="POST",
            path="/api/v1/trace",
            handler=control.trace,
            summary="What threads and frames do in the next seconds, for Perfetto or chrome://tracing.",
            parameters=(_SECONDS,),
            answers={200: TraceAnswer},
            errors=(409, 422),
        ),
        Route(
            method="POST",
            path="/api/v1/reload",
            handler=control.reload,
            summary="Read the configuration anew; touch only what differs. Answers when that is done.",
            answers={200: Reloaded},
            errors=(409, 422),
        ),
    ]


async def _body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON, with Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return as_json(await request.read())
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {BODY_TIMEOUT_S:.0f} s") from None
    except ValueError as error:
        raise ConfigError(f"the body is not JSON: {error}") from None


def _drain_timeout_s(request: web.Request, config: Config) -> float:
    text = request.query.get("timeout")
    if text is None:
        return config.drain_timeout
    try:
        timeout_s = parse_duration_s(text)
    except ValueError as error:
        raise ConfigError(Finding(path="timeout", text=str(error))) from None
    if timeout_s > LONGEST_DRAIN_S:
        raise ConfigError(Finding(path="timeout", text=f"is too long; write at most {LONGEST_DRAIN_S:.0f}s"))
    return timeout_s


def _trace_s(request: web.Request) -> float:
    text = request.query.get("seconds", "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_TRACE_S:
        raise ConfigError(Finding(path="seconds", text=f"write a number above 0 and up to {LONGEST_TRACE_S}"))
    return seconds


def read_stream(data: Any) -> NewStream:
    """Read a stream that came over HTTP as if it stood in the file, but for variables.

    Raises:
        ConfigError: one finding for each mistake.
    """
    if not isinstance(data, dict):
        raise ConfigError("the body is no JSON object; send {id: ..., stream: {source: ...}}")
    try:
        return NewStream.model_validate(data)
    except ValidationError as error:
        raise _mistaken(mistakes.problems_of(error, data, {}, NewStream.model_json_schema())) from None


def check_stream(new: NewStream, config: Config) -> None:
    """Look at what the stream's keys demand of each other, and of the streams that run.

    Raises:
        ConfigError: one finding for each mistake.
    """
    if found := list(_between_keys(new, config)):
        raise _mistaken(found)


def _mistaken(problems: Iterable[Problem]) -> ConfigError:
    return ConfigError(*(Finding(path=dotted(one.path), text=one.text) for one in problems))


def _between_keys(new: NewStream, config: Config) -> Iterator[Problem]:
    """Yield what one key of the stream demands of another, or of the other streams."""
    others = {name: stream for name, stream in config.streams.items() if name != new.id}
    together = config.model_copy(update={"streams": {**others, new.id: new.stream}})
    for problem in rules.problems_of(together, frozenset(config.models)):
        if problem.path[:2] == ("streams", new.id):
            yield Problem(("stream", *problem.path[2:]), problem.text)


def forbidden_addresses(stream: Stream, allow: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the addresses of a stream that `allow` does not cover. Files and devices are never covered."""
    named: list[tuple[KeyPath, str]] = [(("source", "uri"), stream.source.uri)]
    named += [(("outputs", index, "uri"), one.uri) for index, one in enumerate(stream.outputs)]
    named += [(("results", index, "uri"), one.uri) for index, one in enumerate(stream.results)]
    for path, uri in named:
        try:
            reason = "" if is_allowed(uri, allow) else "is not listed in server.allow; mind the port, if it has one"
        except NotAnAddressError as error:
            reason = str(error)
        if reason:
            yield Finding(path=dotted(("stream", *path)), text=reason)

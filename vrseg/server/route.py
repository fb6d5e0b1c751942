"""A route, with what the OpenAPI document says of it: written once, so that the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Method: TypeAlias = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the query, or a part of the path."""

    name: str
    where: Literal["path", "query"]
    schema: Mapping[str, Any]
    """JSON Schema."""
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: Method
    path: str
    """As aiohttp and OpenAPI write it: `/api/v1/streams/{id}`."""
    handler: Handler
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    """Of the request, as JSON; None where there is none."""
    answers: Mapping[int, type[BaseModel] | str] = field(default_factory=dict)
    """By status: the model of a JSON answer, or the media type of another one. Errors all routes share are not here."""
    errors: tuple[int, ...] = ()
    """Statuses of errors of its own; each is answered with `Problems`."""

    @property
    def definition(self) -> web.RouteDef:
        """What aiohttp is told."""
        return web.route(self.method, self.path, self.handler)

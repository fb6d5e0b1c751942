"""The OpenAPI document, made of the routes themselves and of the models of what they read and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web
from pydantic.json_schema import models_json_schema

from vrseg.server.answers import Problems
from vrseg.server.route import Route
from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

DOCUMENT_PATH = "/openapi.json"

# What the guards may say to any request, and to those that change something.
_TO_ALL = (401, 421, 429)
_TO_CHANGES = (403, 408, 413, 415)
_MEANING = {
    200: "Done.",
    201: "Made.",
    202: "Begun; look at the stream for what becomes of it.",
    400: "A parameter cannot be read.",
    401: "A bearer token is needed.",
    403: "Not allowed.",
    404: "No stream has this name.",
    408: "The body took too long.",
    409: "Not now, or not together with what runs; nothing was changed.",
    413: "The body is too large.",
    415: "Neither JSON nor a header that says the request was meant.",
    421: "The Host header names none of this port's names.",
    422: "There are mistakes; nothing was changed.",
    429: "Too many requests.",
    503: "No; the answer says why.",
}


def with_document(routes: Sequence[Route]) -> list[Route]:
    """Return the routes, and the one of the document that describes them all."""
    shown = Route(
        method="GET",
        path=DOCUMENT_PATH,
        handler=lambda _request: _answer(document),
        summary="This document.",
        answers={200: "application/json"},
    )
    everything = [*routes, shown]
    document = openapi(everything)
    return everything


async def _answer(document: dict[str, Any]) -> web.Response:
    return web.json_response(document)


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """Describe the routes as OpenAPI 3.1."""
    routes = list(routes)
    references, definitions = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vrseg", "version": __version__, "description": "The HTTP port of a running `vrseg run`."},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "`server.token`."}},
        },
        "security": [{}, {"bearer": []}],
    }


References: TypeAlias = "Mapping[tuple[type[Any], JsonSchemaMode], Any]"
"""Where in the document the schema of a model is, by model and by whether it is read or answered."""


def _schemas(routes: Iterable[Route]) -> tuple[References, dict[str, Any]]:
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problems, "serialization"): None}
    for route in routes:
        if route.body is not None:
            models[route.body, "validation"] = None
        for answer in route.answers.values():
            if not isinstance(answer, str):
                models[answer, "serialization"] = None
    references, definitions = models_json_schema(list(models), ref_template="#/components/schemas/{model}")
    return dict(references), definitions.get("$defs", {})


def _operation(route: Route, references: References) -> dict[str, Any]:
    problems = {"application/json": {"schema": references[Problems, "serialization"]}}
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        content = (
            {answer: {"schema": {}}}
            if isinstance(answer, str)
            else {"application/json": {"schema": references[answer, "serialization"]}}
        )
        responses[str(status)] = {"description": _MEANING[status], "content": content}
    for status in sorted({*_TO_ALL, *route.errors, *(() if route.method == "GET" else _TO_CHANGES)}):
        responses.setdefault(str(status), {"description": _MEANING[status], "content": problems})
    operation: dict[str, Any] = {
        "operationId": _identity(route),
        "summary": route.summary,
        "responses": responses,
    }
    if route.parameters:
        operation["parameters"] = [
            {
                "name": one.name,
                "in": one.where,
                "required": one.where == "path",
                "schema": dict(one.schema),
                "description": one.description,
            }
            for one in route.parameters
        ]
    if route.body is not None:
        content = {"application/json": {"schema": references[route.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _identity(route: Route) -> str:
    """`POST /api/v1/streams/{id}/restart` is `post_streams_id_restart`."""
    words = route.path.removeprefix("/api/v1").translate(str.maketrans("/{}.", "_  _")).replace(" ", "").strip("_")
    return f"{route.method.lower()}_{words or 'page'}"

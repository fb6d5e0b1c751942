"""The OpenAPI document agrees with the routes, and no request that it can be made to produce breaks the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from vrseg.server.app import make_app
from vrseg.server.openapi import openapi
from vrseg.server.route import Route

if TYPE_CHECKING:
    from plugins.daemon import Daemon, StartDaemon

EXAMPLES = 12
# Pictures and video, some without an end: these have tests of their own.
LEFT_OUT = ("preview", "live", "trace")


async def _nothing(_request: web.Request) -> web.Response:
    return web.Response()


def test_a_route_is_described_as_it_is_served() -> None:
    route = Route(method="POST", path="/a/{id}", handler=_nothing, summary="A.", answers={200: "text/plain"})
    document = openapi([route])
    app = make_app([route])
    (resource,) = app.router.resources()
    assert list(document["paths"]) == [resource.canonical] == ["/a/{id}"]
    assert set(document["paths"]["/a/{id}"]["post"]["responses"]) > {"200", "401", "415", "429"}


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    running = start_daemon(
        {
            "streams": {"host": {"source": {"uri": "synthetic:64x48@5"}}},
            "server": {"listen": "127.0.0.1:0", "allow": ["synthetic:16x16@1?frames=1*"]},
        }
    )
    running.wait_for(lambda: running.delivered("host") > 1, 30, "it runs")
    return running


def test_no_request_that_the_document_allows_breaks_the_server(daemon: Daemon) -> None:
    document = json.loads(daemon.get("/openapi.json")[1])
    assert document["openapi"] == "3.1.0"
    assert {
        "/api/v1/streams",
        "/api/v1/streams/{id}",
        "/api/v1/streams/{id}/restart",
        "/api/v1/reload",
        "/api/v1/config",
        "/api/v1/status",
        "/healthz",
        "/metrics",
    } <= set(document["paths"])
    for path in document["paths"]:
        for method in document["paths"][path]:
            if not any(part in path for part in LEFT_OUT):
                filled = path.replace("{id}", "nobody")
                answer = daemon.get(filled) if method == "get" else daemon.ask(method.upper(), filled)
                assert answer[0] != 405, path
                assert answer[0] != 404 or "{id}" in path, path
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = daemon.address
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if any(part in operation.path for part in LEFT_OUT):
            continue
        _try(operation)
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.get("/healthz")[0] == 200


def _try(operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        answer = case.call(headers={"X-Requested-With": "test"}, timeout=10)
        case.validate_response(
            answer,
            checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
        )

    ask()

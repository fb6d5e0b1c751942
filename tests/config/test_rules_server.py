"""What one key of `server` demands of another."""

from __future__ import annotations

from typing import Any

import pytest

from vrseg.config.rules_server import server_problems
from vrseg.config.schema import Server


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"key": "key.pem"}, "server.key"),
        ({"allow": ["rtsp://10.0.0.*", "/srv/*"]}, "server.allow.1"),
        ({"allow": ["*"]}, "server.allow.0"),
        ({"allow": ["rtsp://10.0.0.300"]}, "server.allow.0"),
    ],
)
def test_a_mistake_is_named_by_its_key(section: dict[str, Any], path: str) -> None:
    (problem,) = server_problems(Server.model_validate(section))
    assert ".".join(map(str, problem.path)) == path


def test_what_is_right_is_let_be() -> None:
    allow = ["synthetic:*", "rtsp://*:*", "https://*.example.com:8443/cams/*"]
    assert not list(server_problems(Server(certificate="c.pem", key="k.pem", allow=tuple(allow))))

"""What `${NAME}` stood for is not shown, wherever it was put."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from vrseg import address
from vrseg.address import hide, presentable, redact
from vrseg.config.load import load, redacted

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import RunVrseg

HOOK = "T0042/B0042/aBcDeFgHiJkL"


@pytest.fixture(autouse=True)
def _nothing_is_hidden_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_hidden", {})
    monkeypatch.setattr(address, "_any_hidden", re.compile(r"(?!)"))


def shown(tmp_path: Path, uri: str, hook: str, **environment: str) -> str:
    file = tmp_path / "vrseg.yaml"
    results = f'[{{uri: "{hook}"}}]'
    file.write_text(f'streams:\n  door: {{source: {{uri: "{uri}"}}, results: {results}}}\n', encoding="utf-8")
    return json.dumps(redacted(load(file, environment=environment)))


def test_a_secret_in_a_path_is_in_no_answer_and_no_line(tmp_path: Path) -> None:
    said = shown(
        tmp_path, "rtsp://cam/${KEY}/main", "https://hooks.example/services/${HOOK}", KEY="4711abcd", HOOK=HOOK
    )
    assert "rtsp://cam/***/main" in said
    assert "https://hooks.example/services/***" in said
    assert presentable(f"404 for /services/{HOOK}?x") == "404 for /services/***?x"


def test_a_short_secret_is_hidden_where_it_was_put_and_no_word_is_torn(tmp_path: Path) -> None:
    said = shown(tmp_path, "rtsp://cam/${KEY}/main", "https://hooks.example/a", KEY="door")
    assert "rtsp://cam/***/main" in said
    assert "rtsp://cam/door" not in said
    assert presentable("stream door: rtsp://cam/door/main: no answer") == "stream door: rtsp://cam/***/main: no answer"


def test_a_default_stands_in_the_file_and_is_shown(tmp_path: Path) -> None:
    said = shown(
        tmp_path, "rtsp://${CAM:-camera.example}/${PART:-main_stream}", "https://hooks.example/a", PART="sub_stream"
    )
    assert "rtsp://camera.example/***" in said


def test_a_secret_is_hidden_as_it_is_and_as_it_stands_in_an_address(tmp_path: Path) -> None:
    shown(tmp_path, "rtsp://cam/main?pin=${PIN}", "https://hooks.example/a", PIN="se&cret#99")
    assert presentable("pin se&cret#99 is wrong") == "pin *** is wrong"
    assert presentable("asked for se%26cret%2399") == "asked for ***"


def test_a_secret_beside_a_password_is_hidden_in_what_was_shortened_already(tmp_path: Path) -> None:
    shown(tmp_path, "rtsp://user:pass@cam/${KEY}/main", "https://hooks.example/a", KEY="door")
    message = redact("rtsp://user:pass@cam/door/main: no answer")
    assert presentable(message) == "rtsp://***@cam/***/main: no answer"


def test_what_is_hidden_decides_nothing() -> None:
    """Names of spools are made of redacted addresses, and must be the same in every process."""
    hide({"nvr.example.lan": "***"})
    assert redact("mqtt://u:p@nvr.example.lan/x") == "mqtt://***@nvr.example.lan/x"
    assert presentable("mqtt://u:p@nvr.example.lan/x") == "mqtt://***@***/x"


def test_a_command_that_fails_does_not_show_it(vrseg: RunVrseg, tmp_path: Path) -> None:
    file = tmp_path / "vrseg.yaml"
    file.write_text(
        "models: {body: {path: '${PLACE}/body.onnx'}}\nstreams: {door: {source: {uri: 'synthetic:'}, model: body}}\n",
        encoding="utf-8",
    )
    said = vrseg("run", file, env=os.environ | {"PLACE": "/vault/of-the-owner"})
    assert (said.returncode, said.stdout) == (2, "")
    assert "***/body.onnx" in said.stderr
    assert "of-the-owner" not in said.stderr

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vrseg.config.places import state_folder
from vrseg.config.rules_results import class_problems, watch_notes, watch_warnings
from vrseg.config.show import redacted

if TYPE_CHECKING:
    from pathlib import Path

    from config.conftest import Load, Mistakes

TEXT = (
    'streams: {s: {source: {uri: "synthetic:64x48"}, model: m, results: [{uri: a.jsonl}]},\n'
    '          t: {source: {uri: "synthetic:64x48"}, model: m, results: [{uri: b.jsonl}]}}\n'
    "models: {m: {path: demo, classes: [person, bicycle]}}\n"
)
SQUARE = "{points: [[0, 0], [1, 0], [1, 1]]}"


def zone(classes: str) -> str:
    return f"streams.s.zones={{z: {{points: [[0, 0], [1, 0], [1, 1]], classes: [{classes}]}}}}"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("streams.s.results.0.uri=a.csv", "results.0.uri: is no place for results; use a .jsonl file"),
        ("streams.s.results.0.uri=ftp://h/a.jsonl", "uri: is no place for results"),
        ("streams.s.results.0.uri=mqtt:///a", "uri: names no host"),
        ("streams.s.results.0.uri=mqtt://h:70000/a", "uri: has a port or a host that cannot be"),
        ("streams.s.results.0.uri=mqtt://h/a/+/b", "uri: + and # are for subscribers"),
        ("streams.s.results.0.uri=mqtts://h/a/#", "uri: the topic is the address's path; ? and # have no meaning"),
        ("streams.s.results.0.uri=https://", "uri: names no host"),
        ("streams.s.results.0={uri: 'https://h/x', rotate: 1M}", "rotate: is for .jsonl files; https has none"),
        ("streams.s.results.0={uri: '-', rotate: 1M}", "rotate: is for files"),
        ("streams.s.results.0={uri: a.jsonl, rotate: 0}", "rotate: 0 bytes hold no line"),
        ("streams.s.results.0={uri: 'mqtt://h/x', secret: abcdef}", "secret: signs what goes to a webhook"),
        ("streams.s.results.0={uri: 'mqtt://h/x', masks: rle}", "masks: events hold no masks"),
        ("streams.s.results.0={uri: a.jsonl, content: events, masks: rle}", "masks: events hold no masks"),
        ("streams.s={source: {uri: x}, results: [{uri: a.jsonl}]}", "results.0: there are no results without a model"),
        ("streams.s={source: {uri: x}, track: true}", "track: needs a model that sees something"),
        (f"streams.s={{source: {{uri: x}}, zones: {{z: {SQUARE}}}}}", "zones: needs a model that sees something"),
        ("streams.s.zones={z: {points: [[0, 0], [0.5, 0.5], [1, 1]]}}", "zones.z.points: has no area"),
        ("streams.s.zones={z: {points: [[0, 0], [1, 1]]}}", "zones.z.points"),
        ("streams.s.zones={z: {points: [[0, 0], [2, 0], [1, 1]]}}", "zones.z.points"),
        ("streams.s.lines={l: {start: [0, 0], end: [0, 0]}}", "lines.l.end: is where the line starts"),
        (zone("persn"), "no class 'persn'; did you mean person?"),
        (zone("cat"), "no class 'cat'; it has person, bicycle"),
        ("streams.s.lines={l: {start: [0, 0], end: [0, 1], classes: [cat]}}", "lines.l.classes.0: the model has no"),
    ],
)
def test_what_does_not_go_together_is_one_mistake_each(mistakes_in: Mistakes, setting: str, expected: str) -> None:
    (problem,) = mistakes_in(TEXT, setting)
    assert expected in problem


@pytest.mark.parametrize(
    "setting",
    [
        "streams.s.results.0={uri: 'mqtt://u:p@h/x', discovery: false, spool: 1M}",
        "streams.s.results.0={uri: 'mqtts://h', content: frames, masks: rle}",
        "streams.s.results.0={uri: 'https://h/x', secret: abc}",
        "streams.s.results.0={uri: '-', content: events}",
        "streams.s.results.0={uri: a.jsonl, rotate: 100M, backups: 3}",
        "streams.s={source: {uri: x}, results: [{uri: 'mqtt://h/x'}]}",
        zone("bicycle"),
    ],
)
def test_what_goes_together_is_none(load_text: Load, setting: str) -> None:
    load_text(TEXT, setting)


def test_streams_may_share_a_webhook_or_a_broker_but_not_a_topic(load_text: Load, mistakes_in: Mistakes) -> None:
    for uri in ("https://h/x", "mqtt://h", "mqtt://h/"):
        load_text(TEXT, f"streams.s.results.0.uri={uri}", f"streams.t.results.0.uri={uri}")
    (problem,) = mistakes_in(TEXT, "streams.s.results=[{uri: 'mqtt://h'}, {uri: 'mqtt://h'}]")
    assert "streams.s.results.1.uri: streams.s.results.0.uri writes there already" in problem
    (problem,) = mistakes_in(TEXT, "streams.s.results.0.uri=mqtt://h/x", "streams.t.results.0.uri=mqtt://h/x")
    assert "streams.t.results.0.uri: streams.s.results.0.uri writes there already" in problem


def test_no_secret_of_a_results_output_is_shown(load_text: Load) -> None:
    secret = "streams.s.results.0={uri: 'https://u:hush1@h/x?token=hush2', secret: hush3}"
    config = load_text(TEXT, secret, "streams.t.results.0.uri=mqtt://u:hush4@h/x")
    shown = redacted(config)
    assert "hush" not in str(shown)
    assert shown["streams"]["s"]["results"][0]["secret"] == "***"
    assert shown["streams"]["t"]["results"][0]["secret"] is None


def test_classes_of_the_model_itself_are_known_too(load_text: Load) -> None:
    stream = load_text(TEXT, zone("bicycle")).streams["s"]
    (problem,) = class_problems(stream, ["cat", "tricycle"], ("streams", "s"))
    assert problem.path == ("streams", "s", "zones", "z", "classes", 0)
    assert problem.text == "the model has no class 'bicycle'; did you mean tricycle?"


def test_masks_cross_no_line_and_that_is_said(load_text: Load) -> None:
    lines, zones = "streams.s.lines={gate: {start: [0, 0], end: [0, 1]}}", zone("")
    stream = load_text(TEXT, lines, zones, "streams.s.track=true").streams["s"]
    assert list(watch_warnings("s", stream, "detect")) == []
    crossing, tracking = watch_warnings("s", stream, "segment")
    assert "nothing will cross gate" in crossing
    assert "does nothing" in tracking
    assert list(watch_notes(stream, "segment")) == ["z: occupied where masks cover 5 % of it"]
    assert list(watch_notes(stream, "detect")) == ["z: counts who stands in it", "gate: counts who crosses it"]


def test_state_is_kept_where_systemd_says_else_where_the_user_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/a:{tmp_path}/b")
    assert state_folder() == tmp_path / "a"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "vrseg"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local" / "state" / "vrseg"

"""On a device whose models draw, a model is loaded anew when somebody new looks at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vrseg.config.schema import Config
from vrseg.difference import difference, rewritten
from vrseg.plan import Plan, make_plan, outgrown

SHOWN = {"source": {"uri": "synthetic:64x48"}, "model": "person", "outputs": [{"uri": "a.mkv"}]}
READ = {"source": {"uri": "synthetic:64x48"}, "model": "person", "results": [{"uri": "a.jsonl"}]}
UNSEEN = {"source": {"uri": "synthetic:64x48"}, "model": "person"}


def plan(*, draws: bool, **streams: Any) -> Plan:
    config = Config.model_validate({"device": "cpu", "models": {"person": {"path": "demo"}}, "streams": streams})
    made = make_plan(config, Path())
    return replace(made, backend=replace(made.backend, make_render=None)) if draws else made


@pytest.mark.parametrize(
    ("before", "after", "anew"),
    [
        ({"a": SHOWN}, {"a": SHOWN}, False),
        ({"a": SHOWN}, {"a": SHOWN, "b": UNSEEN}, False),
        ({"a": SHOWN}, {"a": SHOWN, "b": SHOWN | {"outputs": [{"uri": "b.mkv"}]}}, True),
        ({"a": SHOWN}, {"a": SHOWN | {"view": "mask"}}, True),
        ({"a": SHOWN}, {"a": SHOWN, "b": READ}, True),
        ({"a": READ}, {"a": READ, "b": READ | {"results": [{"uri": "b.jsonl"}]}}, False),
        ({"a": SHOWN, "b": READ}, {"b": READ}, False),
    ],
)
def test_only_who_looks_anew_counts(before: dict[str, Any], after: dict[str, Any], *, anew: bool) -> None:
    old, new = plan(draws=True, **before), plan(draws=True, **after)
    assert outgrown(old, new) == ({"person"} if anew else set())
    what = difference(old.config, new.config, rewritten=rewritten(old, new))
    assert bool(what.models.changed) == anew
    assert not rewritten(plan(draws=False, **before), plan(draws=False, **after))

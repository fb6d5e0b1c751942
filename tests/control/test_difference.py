"""What differs between two configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrseg.config.schema import Config
from vrseg.difference import difference

if TYPE_CHECKING:
    from vrseg.difference import Change

NAMES = st.sampled_from(["a", "b", "c", "d"])
MODEL = st.fixed_dictionaries({"path": st.sampled_from(["one.onnx", "two.onnx"])})


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    models = draw(st.dictionaries(NAMES, MODEL))
    used = st.none() | st.sampled_from(sorted(models)) if models else st.none()
    stream = st.fixed_dictionaries(
        {
            "source": st.fixed_dictionaries({"uri": st.sampled_from(["x.mp4", "y.mp4"]), "loop": st.booleans()}),
            "model": used,
        }
    )
    values: dict[str, Any] = {"models": models, "streams": draw(st.dictionaries(NAMES, stream))}
    values["server"] = {"listen": draw(st.sampled_from(["127.0.0.1:1", "127.0.0.1:2"]))}
    return Config.model_validate(values)


def all_of(change: Change) -> list[str]:
    return [*change.added, *change.removed, *change.changed, *change.kept]


@given(old=configurations(), new=configurations())
def test_each_name_has_one_fate_and_those_who_are_kept_are_equal(old: Config, new: Config) -> None:
    what = difference(old, new)
    assert sorted(all_of(what.streams)) == sorted(old.streams.keys() | new.streams.keys())
    assert sorted(all_of(what.models)) == sorted(old.models.keys() | new.models.keys())
    for name in what.streams.kept:
        assert old.streams[name] == new.streams[name]
        model = new.streams[name].model
        assert model is None or old.models[model] == new.models[model]
    for name in what.streams.changed:
        model = new.streams[name].model
        assert old.streams[name] != new.streams[name] or (model is not None and model in what.models.changed)
    assert bool(what.fixed) == (old.server.listen != new.server.listen)


@given(old=configurations(), new=configurations())
def test_what_it_says_done_to_the_old_one_gives_the_new_one(old: Config, new: Config) -> None:
    what = difference(old, new)
    streams = {name: one for name, one in old.streams.items() if name not in what.streams.removed}
    streams |= {name: new.streams[name] for name in (*what.streams.added, *what.streams.changed)}
    assert streams == new.streams
    # A stream that is let run on never loses the model that it uses.
    gone = {*what.models.removed, *what.models.changed}
    assert not [name for name in what.streams.kept if new.streams[name].model in gone]


@given(config=configurations())
def test_a_configuration_does_not_differ_from_itself(config: Config) -> None:
    what = difference(config, config.model_copy(deep=True))
    assert what.streams.kept == tuple(config.streams)
    assert what.models.kept == tuple(config.models)
    assert not what.fixed


@given(old=configurations(), new=configurations())
def test_the_way_back_is_the_reverse(old: Config, new: Config) -> None:
    there, back = difference(old, new), difference(new, old)
    for one, other in ((there.streams, back.streams), (there.models, back.models)):
        assert set(one.added) == set(other.removed)
    assert set(there.models.changed) == set(back.models.changed)
    assert there.fixed == back.fixed


def test_a_model_whose_file_was_written_anew_takes_its_streams_along() -> None:
    streams = {"seen": {"source": {"uri": "x.mp4"}, "model": "m"}, "unseen": {"source": {"uri": "y.mp4"}}}
    config = Config.model_validate({"models": {"m": {"path": "one.onnx"}}, "streams": streams})
    what = difference(config, config, rewritten=frozenset({"m"}))
    assert what.models.changed == ("m",)
    assert what.streams.changed == ("seen",)
    assert what.streams.kept == ("unseen",)


@pytest.mark.parametrize(
    ("section", "fixed"),
    [
        ({"device": "cpu"}, "device"),
        ({"server": {"listen": "127.0.0.1:1"}}, "server.listen"),
        ({"server": {"token": "t"}}, "server.token"),
        ({"server": {"certificate": "c.pem"}}, "server.certificate"),
        ({"server": {"key": "k.pem"}}, "server.key"),
    ],
)
def test_what_the_process_is_built_upon_is_named(section: dict[str, Any], fixed: str) -> None:
    assert difference(Config(), Config.model_validate(section)).fixed == (fixed,)


def test_the_rest_of_the_server_can_change() -> None:
    new = Config.model_validate({"server": {"allow": ["rtsp://10.0.0.*"]}, "watch": True, "drain_timeout": "9s"})
    assert not difference(Config(), new).fixed

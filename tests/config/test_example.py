from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from vrseg.config.load import json_schema, load, load_description
from vrseg.config.quantity import format_duration, parse_amount, parse_duration_s
from vrseg.config.schema import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXAMPLE = Path(__file__).parents[2] / "configs" / "vrseg.yaml"


def keys_of_schema(part: Mapping[str, Any], whole: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every key, with `*` for a name of the user's choice and for a place in a list."""
    if "$ref" in part:
        yield from keys_of_schema(whole["$defs"][part["$ref"].rpartition("/")[2]], whole, path)
    for branch in part.get("anyOf", ()):
        yield from keys_of_schema(branch, whole, path)
    for name, inner in part.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from keys_of_schema(inner, whole, f"{path}.{name}")
    for inner in (*part.get("patternProperties", {}).values(), *([part["items"]] if "items" in part else [])):
        yield from keys_of_schema(inner, whole, f"{path}.*")


def keys_of_data(data: object, path: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, inner in data.items():
            yield f"{path}.{key}"
            yield from keys_of_data(inner, f"{path}.{key}")
    elif isinstance(data, list):
        for inner in data:
            yield from keys_of_data(inner, f"{path}.*")


def test_the_example_shows_every_key_and_no_other() -> None:
    schema = json_schema()
    shown = {
        re.sub(r"\.(models|streams|zones|lines)\.[\w-]+", r".\1.*", key)
        for key in keys_of_data(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    } - {".models.*", ".streams.*", ".streams.*.zones.*", ".streams.*.lines.*"}
    assert shown == set(keys_of_schema(schema, schema))


def test_the_example_loads_and_its_values_are_the_defaults_where_it_says_so() -> None:
    config = load(EXAMPLE, environment={})
    usual = Config.model_validate(
        {"streams": {"demo": {"source": {"uri": "x"}}}, "models": {"person": {"path": "demo"}}}
    )
    stream, usual_stream = config.streams["demo"], usual.streams["demo"]
    assert stream.source.model_copy(update={"uri": "x"}) == usual_stream.source
    assert (stream.queue, stream.view, stream.opacity) == (usual_stream.queue, usual_stream.view, usual_stream.opacity)
    model, usual_model = config.models["person"], usual.models["person"]
    assert (model.input, model.output, model.thresholds) == (
        usual_model.input,
        usual_model.output,
        usual_model.thresholds,
    )
    assert (model.batch, model.precision, model.engine) == (
        usual_model.batch,
        usual_model.precision,
        usual_model.engine,
    )
    assert (config.server, config.device, config.drain_timeout) == (usual.server, usual.device, usual.drain_timeout)


def test_the_example_says_of_the_demo_model_what_its_own_description_says() -> None:
    model = load(EXAMPLE, environment={}).models["person"]
    own = load_description(Path(str(files("vrseg.demo").joinpath("person.yaml"))))
    assert (model.task, model.title, model.origin, model.licence) == (own.task, own.title, own.origin, own.licence)
    assert (model.input.color, model.input.scale, model.input.fit) == (own.input.color, own.input.scale, own.input.fit)
    assert model.thresholds == own.thresholds
    assert [one if isinstance(one, str) else one.name for one in model.classes] == list(own.classes)


def test_every_key_of_the_schema_says_what_it_does() -> None:
    schema = json_schema()
    for name, section in schema["$defs"].items():
        for key, field in section["properties"].items():
            described = (
                field.get("description") or "$ref" in field or any("$ref" in one for one in field.get("anyOf", ()))
            )
            assert described, f"{name}.{key}"


def test_the_schema_is_of_the_draft_it_claims_and_its_defaults_are_written_as_people_write_them() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Queue"]["properties"]["max_age"]["default"] == "500ms"
    assert schema["$defs"]["SourceSection"]["required"] == ["uri"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2.5s", 2.5), ("10m", 600), ("12h", 43200), ("7d", 604800), ("0", 0), (0, 0)]
)
def test_durations_have_units(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["10", "", "s", "-1s", "1e3s", "5 min", "1s2", None, 5, True, "٣s"])
def test_what_has_no_unit_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1, 90, 60, 3600, 86400, 1.25])
def test_a_duration_is_written_the_way_it_is_read(seconds: float) -> None:
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "amount"), [("800k", 800_000), ("6M", 6_000_000), ("1.5M", 1_500_000), (42, 42), ("0", 0)]
)
def test_amounts_are_powers_of_a_thousand(text: object, amount: int) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize("text", ["6m", "M", "-1", -1, True, None, "6 MB", 1.5])
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "T", "1000001T", 10**19, 10**400])
def test_what_no_disk_will_ever_hold_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="more than a million T"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["9" * 400 + "s", "36526d"])
def test_what_nobody_will_live_to_see_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration_s(text)

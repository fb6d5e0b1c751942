from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vrseg.config.load import load, load_description
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from config.conftest import Load, Mistakes

STREAM = 'streams: {s: {source: {uri: "synthetic:64x48"}}}\n'

CONTRACT = """
device: auto
models:
  body:
    path: body.onnx
    task: segment
    precision: fp16
    batch: {max_size: 8, max_delay: 5ms}
streams:
  door:
    source: {uri: "rtsp://user:${DOOR_PASSWORD}@10.0.0.5/main", transport: tcp, stall_timeout: 10s,
             reconnect: {initial: 500ms, max: 30s, jitter: 0.2, attempts: 0}}
    queue: {size: 4, policy: drop_oldest, max_age: 500ms}
    model: body
    view: overlay
    outputs:
      - {uri: "rtsp://127.0.0.1:8554/door", codec: h264, encoder: auto, bitrate: 6M}
      - {uri: "/var/lib/vrseg/door/%Y%m%d-%H%M%S.mp4", segment: 10m, keep: 7d}
    results:
      - {uri: "/var/lib/vrseg/door.jsonl"}
    vr: {layout: sbs, projection: half_equirect, fov: 190}
server: {listen: "127.0.0.1:9090"}
"""


def test_the_configuration_of_the_contract_loads_with_units_as_numbers(load_text: Load) -> None:
    config = load_text(CONTRACT, DOOR_PASSWORD="pw")
    door = config.streams["door"]
    assert config.models["body"].batch.max_delay == 0.005
    assert door.source.uri == "rtsp://user:pw@10.0.0.5/main"
    assert door.source.reconnect.initial == 0.5
    assert door.queue.max_age == 0.5
    assert door.outputs[0].bitrate == 6_000_000
    assert (door.outputs[1].segment, door.outputs[1].keep) == (600, 7 * 86400)
    assert door.vr is not None
    assert door.vr.fov == 190


def test_the_example_of_a_real_camera_loads() -> None:
    path = Path(__file__).parents[2] / "configs" / "rtsp.yaml"
    assert load(path, environment={"DOOR_PASSWORD": "pw"}).streams["door"].model == "body"


BROKEN = """\
device: gpu
models:
  body:
    path: body.onnx
    task: keypoints
    classes: [a, {nme: x}, [b]]
    input: {mean: [1, 2], width: a}
    batch: 4
  nopath: {presicion: fp16}
streams:
  bad name:
    source: {uri: "x.mp4", foo: 1, stall_timeout: 10}
  a: {}
  b:
    source: {uri: "rtspx://u:pw@h/x", loop: yes}
    size: 3
    view: overlai
    opacity: 2
    model: bodi
    outputs:
      - {uri: out.avi, codec: h265, bitrate: x, quality: 99}
  c:
    source: {uri: "rtsp://${U}@h/", transport: tcp}
    view: mask
    view: mask
  d: {source: {uri: "synthetic:64x48"}, model: nopath}
server: {listen: "0.0.0.0:99090"}
drain_timeout:
"""


def test_all_mistakes_come_at_once_with_line_key_path_and_remedy(mistakes_in: Mistakes) -> None:
    found = mistakes_in(BROKEN)
    assert found == [
        "1: device: 'gpu' does not fit; write auto, cpu, cuda or cuda:1",
        "5: models.body.task: keypoints is not in this version; segment and detect are",
        "6: models.body.classes.1.name: is needed and not there",
        "6: models.body.classes.1.nme: unknown key; did you mean name?",
        "6: models.body.classes.2: a list is not a mapping of keys",
        "7: models.body.input.mean.2: is needed and not there",
        "7: models.body.input.width: 'a' is not a whole number",
        "8: models.body.batch: '4' is not a mapping of keys",
        "9: models.nopath.path: is needed and not there",
        "9: models.nopath.presicion: unknown key; did you mean precision?",
        "11: streams.bad name: 'bad name' does not fit; a name is letters, digits, - and _, at most 64 of them",
        (
            "12: streams.bad name.source.stall_timeout: '10' is not a duration; write a number and a unit, such as "
            "500ms, 10s, 5m, 12h or 7d"
        ),
        (
            "12: streams.bad name.source.foo: unknown key; known here: uri, transport, open_timeout, stall_timeout, "
            "realtime, loop, reconnect"
        ),
        "13: streams.a.source: is needed and not there",
        (
            "15: streams.b.source.uri: is no kind of source; use a file, rtsp://, rtmp://, srt://, http://, "
            "https://, /dev/video0 or synthetic:"
        ),
        "16: streams.b.size: unknown key here; it belongs into streams.b.queue",
        (
            "17: streams.b.view: 'overlai' is not one of overlay, mask, matte, green, blur, none, alpha-pack; did you "
            "mean overlay?"
        ),
        "18: streams.b.opacity: '2' is out of range; write at most 1",
        "19: streams.b.model: no model is named 'bodi'; did you mean body?",
        "21: streams.b.outputs.0.codec: 'h265' is not one of h264, hevc, av1; did you mean hevc?",
        "21: streams.b.outputs.0.bitrate: 'x' is not an amount; write a number with k, M or G, such as 800k or 6M",
        "21: streams.b.outputs.0.quality: '99' is out of range; write at most 63",
        (
            "21: streams.b.outputs.0.uri: is no video file that can be written; use .mp4, .m4v, .mov, .mkv, .webm, "
            ".ts, or .m3u8"
        ),
        "23: streams.c.source.uri: ${U} is not set; set it in the environment or with systemd's LoadCredential=U:FILE",
        "25: streams.c.view: written twice, first in line 24; remove one",
        "27: server.listen: port 99090 does not exist; the highest is 65535",
        "28: drain_timeout: is empty; give it a value, or remove the key for its usual one",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "streams: there is no stream; nothing would happen"),
        ("- a\n", "1: is not a mapping; the top of the file is `key: value` lines"),
        ("a: [1\n", "2: is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a:\n\tb: 1\n", "2: a tab stands where spaces should; YAML is indented with spaces"),
        ("device: !!python/object/apply:os.getpid []\n", "1: device: a list is not a single text"),
        ("device: !cpu x\n", "1: device: a YAML tag (!…) is not used here; write text that begins with ! in quotes"),
        ("device: *secret\n", "1: text that begins with * is read as an alias; write it in quotes"),
        ("? [a, b]\n: 1\n", "1: a key must be plain text"),
        ("server: {listen: x\x07}\n", "is not text; YAML holds no control characters"),
    ],
)
def test_what_is_no_configuration_at_all_is_said_in_one_line(mistakes_in: Mistakes, text: str, expected: str) -> None:
    found = mistakes_in(text)
    assert any(expected in problem for problem in found), found


def test_a_missing_file_a_folder_and_a_binary_are_told_apart(tmp_path: Path) -> None:
    binary = tmp_path / "body.onnx"
    binary.write_bytes(bytes(range(128, 256)))
    for path, words in ((tmp_path / "no.yaml", "No such file"), (tmp_path, "directory"), (binary, "not UTF-8 text")):
        with pytest.raises(ConfigError, match=words) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_huge_file_is_refused_without_reading_it_all(mistakes_in: Mistakes) -> None:
    assert "larger than 1 MB" in mistakes_in("a: " + "x" * 1_100_000)[0]


BILLION_LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "bomb", [BILLION_LAUGHS, MERGE_BOMB, "a: &a [*a]\n", "a: &a {<<: *a}\n", "[" * 100_000, "{a: " * 50_000]
)
def test_bombs_are_refused_quickly(mistakes_in: Mistakes, bomb: str) -> None:
    start = time.process_time()
    assert re.search("too large|too deeply", mistakes_in(bomb)[0])
    assert time.process_time() - start < 10


def test_anchors_and_merges_save_repetition_and_own_keys_win(load_text: Load) -> None:
    config = load_text(
        "streams:\n"
        '  a: &camera {source: {uri: "synthetic:64x48"}, queue: {size: 9}}\n'
        "  b: {<<: *camera, queue: {size: 2}}\n"
        "  c: *camera\n"
    )
    assert [stream.queue.size for stream in config.streams.values()] == [9, 2, 9]


def test_text_that_looks_like_something_else_stays_text(load_text: Load) -> None:
    config = load_text(STREAM + "server: {token: 0123}\nmodels: {no: {path: demo, licence: 1.0, classes: [on, 7]}}\n")
    assert config.server.token == "0123"
    assert config.models["no"].licence == "1.0"
    assert config.models["no"].classes == ("on", "7")


def test_null_for_a_key_that_may_be_left_out_is_as_good_as_leaving_it_out(load_text: Load) -> None:
    config = load_text(STREAM + "models: {m: {path: demo, input: {width: null, fit: letterbox}}}\n")
    assert config.models["m"].input.model_fields_set == {"fit"}


def test_a_setting_overrides_the_file_and_makes_what_is_missing_on_the_way(load_text: Load) -> None:
    text = STREAM.replace("}}}", "}, outputs: [{uri: a.mp4}]}}")
    config = load_text(
        text,
        "streams.s.source.uri=b.mp4",
        "streams.s.queue.max_age=2s",
        "streams.s.outputs.0.codec=hevc",
        "streams.s.outputs.1={uri: c.mkv, bitrate: 2M}",
        "server.token=${T}",
        T="=a=b",
    )
    stream = config.streams["s"]
    assert (stream.source.uri, stream.queue.max_age) == ("b.mp4", 2.0)
    assert [(output.uri, output.codec) for output in stream.outputs] == [("a.mp4", "hevc"), ("c.mkv", "h264")]
    assert config.server.token == "=a=b"


def test_later_settings_win_and_whole_sections_can_be_set(load_text: Load) -> None:
    config = load_text(STREAM, "streams.s.queue.size=1", "streams.s.queue={size: 2}", "streams.s.queue.policy=block")
    assert (config.streams["s"].queue.size, config.streams["s"].queue.policy) == (2, "block")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("novalue", "--set: takes KEY=VALUE"),
        ("=1", "--set: takes KEY=VALUE"),
        ("a..b=1", "--set: takes KEY=VALUE"),
        ("server.lisen=x", "--set server.lisen: server.lisen: unknown key; did you mean listen?"),
        ("streams.s.source.uri.x=1", "--set streams.s.source.uri.x: there is a single value in the place of"),
        ("streams.s.outputs=[{uri: a.mp4}, {uri: [b]}]", "streams.s.outputs.1.uri: a list is not a single text"),
        ("drain_timeout=soon", "--set drain_timeout: drain_timeout: 'soon' is not a duration"),
        ("drain_timeout=[", "--set drain_timeout: is not YAML"),
    ],
)
def test_a_bad_setting_is_named_by_its_own_key(mistakes_in: Mistakes, setting: str, expected: str) -> None:
    found = mistakes_in(STREAM, setting)
    assert len(found) == 1
    assert expected in found[0]


def test_mistakes_of_a_description_have_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "body.yaml"
    path.write_text("task: segment\ninput:\n  widht: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_description(path)
    assert caught.value.problems == (f"{path}:3: input.widht: unknown key; did you mean width?",)


@given(
    st.recursive(
        st.none() | st.text(max_size=8) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["streams", "s", "source", "uri", "models", "server", "outputs", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_file_holds_the_answer_is_a_configuration_or_a_list_of_mistakes(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert all(problem and "\n" not in problem for problem in problems_of(path))


def test_random_damage_to_the_example_never_gets_a_traceback(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "configs" / "vrseg.yaml").read_text(encoding="utf-8")
    body = "\n".join(line.partition(" #")[0] for line in text.splitlines() if not line.startswith("#"))
    chance = random.Random(7)
    path = tmp_path / "damaged.yaml"
    for _ in range(40):
        position = chance.randrange(len(body))
        path.write_text(body[:position] + chance.choice("{}[]:,#*&!|>'\"%@`\t\n-x0") + body[position + 1 :], "utf-8")
        assert all(problem and "\n" not in problem for problem in problems_of(path))


def problems_of(path: Path) -> tuple[str, ...]:
    try:
        load(path, environment={})
    except ConfigError as error:
        return error.problems
    return ()

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vrseg.config.load import redacted
from vrseg.config.variables import reader, substitute

if TYPE_CHECKING:
    from pathlib import Path

    from config.conftest import Load, Mistakes

SECRET = "hunter2-Z9"


def token(load_text: Load, value: str, **environment: str) -> str | None:
    text = 'streams: {s: {source: {uri: "synthetic:64x48"}}}\nserver: {token: "' + value + '"}\n'
    return load_text(text, **environment).server.token


def uri(value: str, **environment: str) -> object:
    return substitute({"uri": value}, reader(environment)).data


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${B_2}", "x1y2"),
        ("${C:-three}", "three"),
        ("${EMPTY:-filled}", "filled"),
        ("${EMPTY}", ""),
        ("${C:-}", ""),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("pa$word", "pa$word"),
        ("$A", "$A"),
    ],
)
def test_variables_are_read_and_a_lone_dollar_is_a_dollar(load_text: Load, value: str, expected: str) -> None:
    assert token(load_text, value, A="1", B_2="2", EMPTY="") == expected


def test_what_a_variable_holds_is_not_read_as_yaml_or_as_a_variable(load_text: Load) -> None:
    value = "{a: [1, ${A}, &x *y # : '"
    assert token(load_text, "${A}", A=value) == value


def test_a_systemd_credential_stands_in_for_a_variable_that_is_not_set(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "door.password").write_text("from file\n", encoding="utf-8")
    (tmp_path / "BOTH").write_text("from file", encoding="utf-8")
    folder = str(tmp_path)
    assert token(load_text, "${door.password}", CREDENTIALS_DIRECTORY=folder) == "from file"
    assert token(load_text, "${BOTH}", CREDENTIALS_DIRECTORY=folder, BOTH="from variable") == "from variable"


def test_a_credential_that_is_no_text_is_a_mistake(mistakes_in: Mistakes, tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"\xff\xfe\x80")
    text = 'streams: {s: {source: {uri: "synthetic:64x48"}}}\nserver:\n  token: ${KEY}\n'
    assert mistakes_in(text, CREDENTIALS_DIRECTORY=str(tmp_path)) == [
        "3: server.token: ${KEY}: the credential cannot be read: it is not text"
    ]


@pytest.mark.parametrize("broken", ["${", "${}", "${1A}", "${A", "${A-b}x ${", "${../etc/passwd}"])
def test_a_broken_reference_is_a_mistake(mistakes_in: Mistakes, broken: str) -> None:
    text = 'streams: {s: {source: {uri: "synthetic:64x48"}}}\nserver: {token: "' + broken + '"}\n'
    found = mistakes_in(text, A="1", **{"A-b": "2"})
    assert len(found) == 1
    assert found[0].startswith("2: server.token: ${")


def test_a_password_cannot_break_out_of_its_part_of_the_address() -> None:
    rtsp = "rtsp://user:${P}@10.0.0.5/main"
    assert uri(rtsp, P="p@ss/w?rd#1") == {"uri": "rtsp://user:p%40ss%2Fw%3Frd%231@10.0.0.5/main"}
    assert uri(rtsp, P="plain-1%20") == {"uri": "rtsp://user:plain-1%20@10.0.0.5/main"}
    assert uri("rtsp://${U}@h/", U="user:pw") == {"uri": "rtsp://user:pw@h/"}
    assert uri("srt://h:9000?passphrase=${P}&mode=caller", P="a&b c") == {
        "uri": "srt://h:9000?passphrase=a%26b%20c&mode=caller"
    }
    assert uri("rtsp://${HOST}/${PATH_}", HOST="h:554", PATH_="a/b") == {"uri": "rtsp://h:554/a/b"}


SECRETS_EVERYWHERE = """\
device: ${S}
models: {m: {path: "${S}", task: "${S}", batch: {max_size: "${S}", max_delay: "${S}"}, input: {mean: ["${S}", 0, 0]}}}
streams:
  a: {source: {uri: "foo://${S}/${S}", realtime: "${S}"}, view: "${S}", model: "${S}", queue: "${S}"}
  b:
    source: {uri: "rtsp://u:${S}@h/x", loop: true}
    outputs: [{uri: "${S}", bitrate: "${S}"}, {uri: "x://u:${S}@h"}, "${S}", {uri: "a.${S}"}, {uri: "a.${S}"}]
    results: [{uri: "${S}.json"}, {uri: "mqtt://u:${S}@h"}]
server: {listen: "${S}"}
"""


@pytest.mark.parametrize("secret", [SECRET, 'it\'s "quoted" \\ and\nbroken', "x" * 500, "*alias", "%tag @ `"])
def test_no_message_shows_what_a_variable_holds(mistakes_in: Mistakes, secret: str) -> None:
    found = mistakes_in(SECRETS_EVERYWHERE, "streams.b.opacity=${S}", S=secret)
    assert len(found) > 12
    for problem in found:
        assert secret not in problem
        assert secret[:30].lower() not in problem.lower()
        assert repr(secret)[1:-1] not in problem


def test_passwords_written_into_the_file_are_not_shown_either(mistakes_in: Mistakes) -> None:
    text = (
        "streams:\n"
        f'  a: {{source: {{uri: "rtsp://u:{SECRET}@h/x", loop: true, reconnect: {{max: 1ms}}}}, model: m}}\n'
        f'  b: {{source: {{uri: "foo://u:{SECRET}@h/x"}}, outputs: [{{uri: "rtsp://u:{SECRET}@h/y", keep: 1d}},'
        f' {{uri: "rtsp://u:{SECRET}@h/y"}}], results: [{{uri: "http://u:{SECRET}@h/y"}}]}}\n'
        f"server: {{token: *{SECRET}}}\n"
    )
    found = mistakes_in(text)
    assert found
    assert not [problem for problem in found if SECRET in problem]
    assert not [problem for problem in mistakes_in(text.replace("*", "")) if SECRET in problem]


def test_what_is_shown_of_a_configuration_holds_no_secret(load_text: Load) -> None:
    config = load_text(
        'streams: {s: {source: {uri: "rtsp://user:${S}@h/x", stall_timeout: 90s}, '
        'outputs: [{uri: "srt://h:9?passphrase=${S}&latency=5", gop: 500ms}]}}\nserver: {token: "${S}"}\n',
        S=SECRET,
    )
    shown = redacted(config)
    assert SECRET not in str(shown)
    assert shown["server"]["token"] == "***"
    assert shown["streams"]["s"]["source"]["uri"] == "rtsp://***@h/x"
    assert shown["streams"]["s"]["source"]["stall_timeout"] == "90s"
    assert shown["streams"]["s"]["outputs"][0]["uri"] == "srt://h:9?passphrase=***&latency=5"

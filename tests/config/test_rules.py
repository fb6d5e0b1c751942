from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vrseg.config.rules import is_loopback
from vrseg.config.rules_outputs import VIDEO_FILES
from vrseg.sink.containers import CONTAINERS

if TYPE_CHECKING:
    from config.conftest import Load, Mistakes

TEXT = (
    'streams: {s: {source: {uri: "synthetic:64x48"}, model: m, outputs: [{uri: a.mp4}], results: [{uri: a.jsonl}]}}\n'
)
MODEL = "models: {m: {path: demo}}\n"
SEGMENTS = '[{uri: "%s", segment: 10m}]'


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("streams.s.model=n", "no model is named 'n'; known: m"),
        ("streams.s.view=alpha-pack", "alpha-pack is not in this version"),
        ("models.m.task=matte", "matte is not in this version; segment and detect are"),
        ("streams.s.source.uri=", "is empty"),
        ('streams.s.source.uri="a\\0.mp4"', "source.uri: holds a character that no file and no address can have"),
        ('streams.s.source.uri="rtsp://h/x\\ny"', "source.uri: holds a character that no file"),
        ('streams.s.source.uri="\\ud800.mp4"', "source.uri: holds a character that no file"),
        ('streams.s.outputs.0.uri="a\\0.mp4"', "outputs.0.uri: holds a character that no file"),
        ('streams.s.results.0.uri="a\\0.jsonl"', "results.0.uri: holds a character that no file"),
        ("streams.s.source.uri=gopher://h/x", "uri: is no kind of source"),
        ("streams.s.source.uri=http://[::1/x.mp4", "uri: has a host or a port that cannot be"),
        ("streams.s.source.uri=rtsp://h:99999/x", "uri: has a host or a port that cannot be"),
        ("streams.s.source.uri=rtsp://admin:pa#ss@h/x", "in a password, write / ? # as %2F %3F %23"),
        ("streams.s.source={uri: /dev/video0, realtime: true}", "source.realtime: is for files; v4l2 is live already"),
        ("streams.s.source={uri: 'rtsp://h/x', loop: true}", "source.loop: is for files; rtsp is live already"),
        ("streams.s.source.reconnect={initial: 2s, max: 1s}", "reconnect.max: is shorter than `initial`"),
        ("streams.s.source.stall_timeout=0s", "'0s' is out of range; write more than 0"),
        ("streams.s.outputs.0.gop=0", "'0' is out of range; write more than 0"),
        ("streams.s.outputs.0.uri=a.avi", "uri: is no video file that can be written"),
        ("streams.s.outputs.0.uri=a", "uri: is no video file"),
        ("streams.s.outputs.0={uri: 'a/%H.m3u8'}", "a playlist must keep its name"),
        ("streams.s.outputs.0={uri: a.m3u8, keep_size: 1G}", "keep_size: is for recordings; a playlist reaches back"),
        ("streams.s.outputs.0={uri: a.m3u8, segment: 1s}", "segment: is shorter than `gop`"),
        ("streams.s.outputs.0={uri: a.m3u8, segment: 4s, keep: 3s}", "keep: is shorter than one piece"),
        ("streams.s.outputs.0={uri: 'a%s.mp4', segment: 1s, keep: 7d}", "segment: makes more than 100000 files"),
        ("streams.s.outputs.0={uri: 'a%s.mp4', segment: 1m, keep_size: 0}", "keep_size: 0 keeps nothing"),
        ("streams.s.outputs.0.keep_size=1G", "keep_size: deletes old segments; set `segment` too"),
        ("streams.s.outputs.0={uri: 'srt://h:1', min_free: 1G}", "min_free: is for files; srt is a live output"),
        ("streams.s.outputs.0={uri: 'srt://h:1', keep_size: 1G}", "keep_size: is for files; srt is a live output"),
        (
            "streams.s={source: {uri: b.mp4}, outputs: [{uri: a.m3u8, on_source_lost: hold}]}",
            "is for live sources; a file",
        ),
        ("streams.s.outputs.0.uri=http://h/a.mp4", "uri: is no kind of output"),
        ("streams.s.outputs.0.uri=a.webm", "codec: a .webm file cannot hold h264; use av1"),
        ("streams.s.outputs.0={uri: a.ts, codec: av1}", "codec: a .ts file cannot hold av1"),
        ("streams.s.outputs.0={uri: a.mp4, bitrate: 1M, quality: 3}", "quality: cannot be had together with `bitrate`"),
        ("streams.s.outputs.0.bitrate=0", "0 bits per second"),
        ("streams.s.outputs=" + SEGMENTS % "a.mp4", "every segment would have the same name"),
        ("streams.s.outputs.0.keep=7d", "set `segment` too"),
        ("streams.s.outputs=" + SEGMENTS % "rtsp://h/x", "segment: is for files; rtsp is a live output"),
        ("streams.s.outputs.0={uri: 'rtmp://h/x', codec: av1}", "RTMP carries h264 or hevc"),
        (
            "streams.s.outputs=[{uri: a.mp4}, {uri: ./a.mp4}]",
            "outputs.1.uri: streams.s.outputs.0.uri writes there already",
        ),
        ("streams.s.results=[{uri: a.jsonl}, {uri: a.jsonl}]", "results.1.uri: streams.s.results.0.uri writes there"),
        ("streams.s.source.uri=a.mp4", "outputs.0.uri: would overwrite streams.s.source"),
        ("streams.s.results.0.uri=a.csv", "uri: is no place for results"),
        ("server.listen=0.0.0.0:9090", "listen: can be reached from other machines; set server.token"),
        ("server.listen=example.org:9090", "listen: can be reached from other machines"),
        ("server.listen=127.0.0.1:65536", "port 65536 does not exist"),
        ("streams={}", "there is no stream"),
    ],
)
def test_keys_that_do_not_go_together_are_one_mistake_each(mistakes_in: Mistakes, setting: str, expected: str) -> None:
    found = mistakes_in(TEXT + MODEL, setting)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "setting",
    [
        "server={listen: '0.0.0.0:9090', token: t}",
        "server.listen='[::1]:0'",
        "streams.s.outputs=[{uri: 'file:///tmp/%H.mkv', segment: 1h, keep: 30d}]",
        "streams.s.outputs=[{uri: a.webm, codec: av1}, {uri: 'srt://h:9?mode=listener'}]",
        "streams.s.outputs=[{uri: 'rtmps://h/x', codec: hevc}]",
        "streams.s.source={uri: clip.mp4, loop: true, realtime: true}",
        "streams.s.results=[{uri: '-'}, {uri: '-', masks: rle}]",
        "streams.s.view=none",
    ],
)
def test_keys_that_go_together_are_accepted(load_text: Load, setting: str) -> None:
    load_text(TEXT + MODEL, setting)


def test_without_a_model_there_is_nothing_to_view_and_no_result(mistakes_in: Mistakes, load_text: Load) -> None:
    bare = 'streams: {s: {source: {uri: "synthetic:64x48"}}}\n'
    assert load_text(bare, "streams.s.view=none").streams["s"].view == "none"
    assert "view: mask shows what a model saw" in mistakes_in(bare, "streams.s.view=mask")[0]
    assert "no results without a model" in mistakes_in(bare, "streams.s.results=[{uri: a.jsonl}]")[0]


def test_two_streams_may_not_write_to_one_place(mistakes_in: Mistakes) -> None:
    streams = "\n".join(
        f'  {name}: {{source: {{uri: "synthetic:64x48"}}, outputs: [{{uri: "rtsp://h/x"}}]}}' for name in "ab"
    )
    assert (
        "3: streams.b.outputs.0.uri: streams.a.outputs.0.uri writes there" in mistakes_in(f"streams:\n{streams}\n")[0]
    )


def test_a_broken_model_is_still_a_name_that_streams_may_use(mistakes_in: Mistakes) -> None:
    assert mistakes_in(TEXT + "models: {m: {pth: demo}}\n") == [
        "2: models.m.path: is needed and not there",
        "2: models.m.pth: unknown key; did you mean path?",
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_loopback_addresses_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "localhost.example.org", "::ffff:1.2.3.4"])  # noqa: S104 - not bound
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_rules_and_the_muxers_agree_on_what_a_file_can_hold() -> None:
    assert {ending: kind.codecs for ending, kind in CONTAINERS.items()} == VIDEO_FILES

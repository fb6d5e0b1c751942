"""The page, its changes and its moving pictures through a real nginx, under a path of its choice."""

from __future__ import annotations

import time
import urllib.request
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from plugins.daemon import daemons_in
from plugins.reverse_proxy import ReverseProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.browser import Browser
    from plugins.daemon import Daemon

pytestmark = pytest.mark.alone

CONFIG = {
    "models": {"person": {"path": "demo"}},
    "streams": {
        "door": {
            "source": {"uri": "synthetic:160x90@10?figures=1"},
            "model": "person",
            "outputs": [{"uri": "door.mkv", "preset": "ultrafast"}],
        }
    },
    "server": {"listen": "127.0.0.1:0", "allow": ["synthetic:*"]},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemons_in(tmp_path_factory.mktemp("daemon")) as start:
        one = start(CONFIG)
        one.wait_for(lambda: one.delivered("door") > 10, 30, "frames flow")
        yield one


@pytest.fixture
def proxy(daemon: Daemon, tmp_path: Path) -> Iterator[ReverseProxy]:
    one = ReverseProxy(tmp_path, daemon.address, "/cameras/")
    yield one
    one.close()


def test_the_page_shows_and_changes_streams_from_any_path(
    browser: Browser, daemon: Daemon, proxy: ReverseProxy
) -> None:
    browser.complaints()
    browser.driver.get(proxy.address)
    picture = '[data-stream="door"] img'
    browser.wait_for(lambda: browser.js(f"document.querySelector('{picture}')?.checkVisibility()"), 30, "it is shown")
    before = browser.picture_of(picture)
    browser.wait_for(lambda: browser.picture_of(picture) != before, 30, "it moves")
    browser.click("#add")
    browser.wait_for(lambda: browser.js("document.querySelector('#add-dialog').open"), 10, "the form")
    browser.type("#add-id", "yard")
    browser.type("#add-uri", "synthetic:160x90@10?figures=0")
    browser.click("#add-form .primary")
    daemon.wait_for(lambda: {one["name"] for one in daemon.status()["streams"]} == {"door", "yard"}, 10, "it is added")
    browser.driver.get(f"{proxy.address}#stream=door")
    video = "document.querySelectorAll('video')[1]"
    browser.wait_for(lambda: browser.js(f"{video}?.checkVisibility() && {video}.currentTime > 1"), 30, "it plays")
    browser.driver.get("about:blank")
    assert browser.complaints() == []
    assert daemon.ask("DELETE", "/api/v1/streams/yard?timeout=5s")[0] == 202


def test_a_proxy_is_asked_to_keep_no_pictures(daemon: Daemon) -> None:
    with urllib.request.urlopen(f"{daemon.address}preview/door.mjpg", timeout=10) as answer:  # noqa: S310 -- http
        assert answer.headers["X-Accel-Buffering"] == "no"


def test_moving_pictures_come_one_by_one(proxy: ReverseProxy) -> None:
    arrivals_s: list[float] = []
    with urllib.request.urlopen(f"{proxy.address}preview/door.mjpg", timeout=10) as answer:  # noqa: S310 -- http
        while len(arrivals_s) < 12:
            if answer.readline().startswith(b"--"):
                arrivals_s.append(time.monotonic())
    gaps_s = [after - before for before, after in pairwise(arrivals_s)]
    assert sorted(gaps_s)[len(gaps_s) // 2] > 0.05, "ten a second, and not several at once"
    assert max(gaps_s) < 1.0

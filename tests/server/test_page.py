"""The live page in a real browser, on running daemons."""

from __future__ import annotations

import re
import urllib.request
from contextlib import contextmanager
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from plugins.daemon import daemons_in
from plugins.media_servers import unused_port
from selenium.webdriver.common.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.browser import Browser
    from plugins.daemon import Daemon

pytestmark = pytest.mark.alone

CONFIG: dict[str, Any] = {
    "models": {"person": {"path": "demo"}},
    "streams": {
        "door": {
            "source": {"uri": "synthetic:320x180@15"},
            "queue": {"max_age": "10s"},  # a busy machine drops nothing: that is not what is tested here
            "model": "person",
            "outputs": [{"uri": "door.mkv", "preset": "ultrafast"}],
        },
        "yard": {"source": {"uri": "synthetic:160x90@10?seed=3"}, "queue": {"max_age": "10s"}, "model": "person"},
        "garage": {"source": {"uri": "rtsp://127.0.0.1:9/none", "reconnect": {"initial": "20s", "max": "20s"}}},
    },
}
TOKEN = "s3cret-token"


@contextmanager
def running(folder: Path, config: dict[str, Any], **server: Any) -> Iterator[Daemon]:
    """Run a daemon for as long as the block takes."""
    folder.mkdir(exist_ok=True)
    section = {"listen": "127.0.0.1:0", "allow": ["synthetic:*"]} | server
    with daemons_in(folder) as start:
        yield start({"server": section} | config)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("page"), CONFIG) as one:
        one.wait_for(lambda: one.delivered("door") > 10, 30, "frames flow")
        yield one


@pytest.fixture
def page(browser: Browser, daemon: Daemon) -> Iterator[Browser]:
    """The overview on a desktop. Whatever a test does, the console stays empty and nothing is asked of others."""
    browser.size(1280, 860)
    browser.prefer(prefers_color_scheme="light")
    browser.driver.get("about:blank")
    browser.complaints()
    browser.asked_for()
    browser.driver.get(daemon.address)
    browser.wait_for(lambda: browser.js("document.querySelectorAll('.card').length") >= 3, 30, "all streams are there")
    yield browser
    # Chromium itself complains of a picture that was asked for in the moment in which its stream was removed.
    here = {stream["name"] for stream in daemon.status()["streams"]}
    assert [one for one in browser.complaints() if preview_in(one) in here | {""}] == []
    asked = [one for one in browser.asked_for() if not one.startswith(("blob:", "about:", "data:"))]
    assert [one for one in asked if not one.startswith(daemon.address)] == []


def preview_in(complaint: str) -> str:
    """Name the stream whose preview was not found, if that is the complaint."""
    found = re.search(r"/preview/([\w-]+)\.\S+ .*\b404\b", complaint)
    return found[1] if found else ""


def card(stream: str, inside: str = "") -> str:
    return f'[data-stream="{stream}"] {inside}'.strip()


def assert_moves(browser: Browser, selector: str) -> None:
    browser.wait_for(lambda: browser.js(f"document.querySelector('{selector}')?.checkVisibility()"), 30, "it is shown")
    before = browser.picture_of(selector)
    browser.wait_for(lambda: browser.picture_of(selector) != before, 30, f"{selector} moves")


def test_the_overview_shows_moving_pictures_states_and_figures(page: Browser) -> None:
    for stream in ("door", "yard"):
        assert_moves(page, card(stream, "img"))
        assert page.text(card(stream, ".pill")) == "running"
        page.wait_for(lambda stream=stream: re.search(r"person \d", page.text(card(stream, ".found"))), 30, "results")  # type: ignore[misc] # mypy cannot infer a lambda with a default
    page.wait_for(
        lambda: re.search(r"FRAMES/S\s+[1-9]|frames/s\s+[1-9]", page.text(card("door", ".figures"))), 30, "a rate"
    )
    assert re.search(r"latency\s+[\d.]+ ms", page.text(card("door", ".figures")))
    assert page.text("#verdict").startswith("Bottleneck")
    assert page.shifted < 0.02


def test_a_dead_camera_is_shown_as_such(page: Browser) -> None:
    page.wait_for(lambda: "No picture" in page.text(card("garage", ".notice")), 30, "it says so")
    said = page.text(card("garage", ".notice"))
    assert "nobody listens there" in said
    assert re.search(r"since \d\d:\d\d:\d\d \(\d+ s\), next try in \d+ s", said), said
    assert page.text(card("garage", ".pill")) == "reconnecting"


def test_the_encoded_video_plays_beside_the_input(page: Browser, daemon: Daemon) -> None:
    page.driver.get(f"{daemon.address}#stream=door")
    video = "document.querySelectorAll('video')[1]"
    page.wait_for(lambda: page.js(f"{video}?.videoWidth"), 30, "the video has begun")
    began_s = page.js(f"{video}.currentTime")
    page.wait_for(lambda: page.js(f"{video}.currentTime") > began_s + 2, 30, "the video plays")
    assert page.js(f"[{video}.videoWidth, {video}.videoHeight]") == [320, 180]
    assert re.search(r"as encoded · \d\.\d s behind", page.text("figure:nth-child(2) figcaption"))
    assert_moves(page, "figure:nth-child(1) img")
    assert page.text("#detail h1") == "door"
    assert [page.js(f"document.querySelectorAll('#detail tbody th')[{n}].innerText") for n in range(3)] == [
        "source", "decode", "preprocess",
    ]  # fmt: skip
    assert "running" in page.text("ol.history")
    page.wait_for(lambda: "person" in page.text("#detail .found"), 30, "results")
    page.wait_for(lambda: page.js(f"{video}.buffered.length") == 1, 30, "one range, without holes")


def test_a_stream_that_is_not_encoded_shows_drawn_pictures(page: Browser, daemon: Daemon) -> None:
    page.driver.get(f"{daemon.address}#stream=yard")
    assert_moves(page, "figure:nth-child(2) img")
    assert "as drawn" in page.text("figure:nth-child(2) figcaption")
    assert not page.js("document.querySelectorAll('video')[1].checkVisibility()")


def test_a_stream_is_added_paused_and_removed(page: Browser, daemon: Daemon) -> None:
    page.click("#add")
    page.type("#add-id", "gate")
    page.click("#add-form .primary")
    assert "source address" in page.text("#add-problem")
    page.type("#add-uri", "synthetic:160x90@10?seed=5")
    page.click("#add-form .primary")
    page.wait_for(lambda: page.text(card("gate", ".pill")) == "running", 30, "the new stream runs")
    assert daemon.stream("gate")["state"] == "running"
    page.click(card("gate", "h2 a"))
    page.wait_for(lambda: page.text("#detail h1") == "gate", 30, "its page")
    page.click(".top .actions button:nth-child(2)")
    page.wait_for(lambda: page.text(".top .pill") == "paused", 30, "it is paused")
    page.click(".top .actions button:nth-child(2)")
    page.wait_for(lambda: page.text(".top .pill") == "running", 30, "it runs again")
    page.click(".top .actions button:nth-child(3)")
    assert "gate" in page.text("#confirm-dialog")
    page.click("#confirm-form .danger")
    page.wait_for(lambda: page.js("document.querySelectorAll('.card').length") == 3, 30, "it is gone")
    assert {one["name"] for one in daemon.status()["streams"]} == {"door", "yard", "garage"}


def test_a_source_that_may_not_be_named_is_refused_with_the_reason(page: Browser) -> None:
    page.click("#add")
    page.type("#add-id", "secret")
    page.type("#add-uri", "rtsp://10.0.0.1/main")
    page.click("#add-form .primary")
    page.wait_for(lambda: "server.allow" in page.text("#add-problem"), 30, "the reason")
    (complaint,) = page.complaints()  # the browser notes each refusal
    assert "403" in complaint


def test_everything_can_be_reached_by_keyboard(page: Browser) -> None:
    reached: list[str] = []
    while True:
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        if page.js("document.activeElement === document.body"):
            break  # once around
        reached.append(page.js("document.activeElement.id || document.activeElement.innerText"))
        card_mark = "document.activeElement.closest('h2') ? '::after' : null"
        assert page.js(f"getComputedStyle(document.activeElement, {card_mark}).outlineStyle") == "solid", reached
        assert len(reached) < 30
    assert {"add", "door", "yard", "garage", "Metrics"} <= set(reached)
    page.js("document.querySelector('#add').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait_for(lambda: page.js("document.activeElement.id") == "add-id", 30, "the form has the focus")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait_for(lambda: page.js("document.activeElement.id") == "add", 30, "and gives it back")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_phones_and_desks_in_light_and_dark(
    page: Browser, daemon: Daemon, width: int, scheme: str, tmp_path: Path
) -> None:
    page.size(width, 800, phone=width < 600)
    page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    for place in ("", "#stream=door"):
        page.driver.get(f"{daemon.address}{place}")
        page.wait_for(lambda: page.js("document.querySelector('img')?.checkVisibility()"), 30, "pictures")
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        (tmp_path / f"{place or 'overview'}.png").write_bytes(page.driver.get_screenshot_as_png())
    red, green, blue = map(int, re.findall(r"\d+", page.js("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue > 384) == (scheme == "light")
    assert page.js("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"


def test_a_server_that_went_away_is_missed_and_found_again(browser: Browser, tmp_path: Path) -> None:
    config = {"streams": {"yard": {"source": {"uri": "synthetic:160x90@10"}}}}
    port = unused_port()
    with running(tmp_path / "first", config, listen=f"127.0.0.1:{port}") as daemon:
        browser.driver.get(daemon.address)
        browser.wait_for(lambda: browser.text(card("yard", ".pill")) == "running", 30, "it runs")
    browser.wait_for(lambda: "does not answer" in browser.text("#banner"), 30, "the page says so")
    with running(tmp_path / "second", config, listen=f"127.0.0.1:{port}"):
        browser.wait_for(
            lambda: not browser.js("document.querySelector('#banner').checkVisibility()"), 30, "it is back"
        )
        assert_moves(browser, card("yard", "img"))
        browser.driver.get("about:blank")


def test_an_output_that_is_held_up_is_shown_as_such(browser: Browser, tmp_path: Path) -> None:
    recording = {"uri": "yard.mkv", "min_free": "900T", "preset": "ultrafast"}
    config = {"streams": {"yard": {"source": {"uri": "synthetic:160x90@10"}, "outputs": [recording]}}}
    with running(tmp_path, config) as daemon:
        browser.driver.get(daemon.address)
        browser.wait_for(lambda: "Recording paused" in browser.text(card("yard", ".trouble")), 30, "the card says so")
        browser.driver.get(f"{daemon.address}#stream=yard")
        browser.wait_for(lambda: "less than min_free" in browser.text(".outputs"), 30, "its page says why")
        assert "packets not taken" in browser.text(".outputs")
        browser.driver.get("about:blank")


def test_where_a_token_is_wanted_it_is_asked_for_and_stays_in_the_tab(browser: Browser, tmp_path: Path) -> None:
    config = {"streams": {"yard": {"source": {"uri": "synthetic:160x90@10"}}}}
    with running(tmp_path, config, token=TOKEN) as daemon:
        browser.driver.get(daemon.address)
        browser.wait_for(
            lambda: browser.js("document.querySelector('#token-dialog').open"), 30, "the token is asked for"
        )
        browser.type("#token", "wrong")
        browser.click("#token-form .primary")
        browser.wait_for(lambda: "not the token" in browser.text("#token-problem"), 30, "a wrong one is refused")
        browser.js("document.querySelector('#token').value = ''")
        browser.type("#token", TOKEN)
        browser.asked_for()
        browser.click("#token-form .primary")
        browser.wait_for(lambda: browser.text(card("yard", ".pill")) == "running", 30, "it runs")
        assert_moves(browser, card("yard", "img"))
        assert browser.js("document.cookie + JSON.stringify(localStorage)") == "{}"
        assert not [one for one in browser.asked_for() if TOKEN in one]
        for path in ("/preview/yard.jpg", "/preview/yard.mjpg", "/live/yard/index.m3u8", "/api/v1/status"):
            assert daemon.get(path)[0] == 401
        browser.driver.get("about:blank")


def test_the_page_s_files_may_only_load_their_own_server(daemon: Daemon) -> None:
    with urllib.request.urlopen(daemon.address) as answer:  # noqa: S310 -- http
        policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert daemon.get("/page/..%2f..%2fapp.py")[0] == 404
    assert daemon.get("/page/app.js")[0] == 200


PAIRS = [
    ("--ink", "--paper"), ("--ink", "--card"), ("--ink", "--well"), ("--soft", "--paper"), ("--soft", "--card"),
    ("--accent", "--paper"), ("--accent", "--card"), ("--on-accent", "--accent"), ("--on-bad", "--bad"),
    ("--good", "--card"), ("--warn", "--card"), ("--bad", "--card"), ("--good", "--paper"), ("--warn", "--paper"),
    ("--bad", "--paper"), ("--on-screen", "--screen"), ("--on-screen-soft", "--screen"),
]  # fmt: skip
EDGES = [("--edge", "--card"), ("--edge", "--paper"), ("--accent", "--well")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_read_has_contrast_enough(scheme: str) -> None:
    css = resources.files("vrseg.server").joinpath("page/style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", dark))
    for pairs, least in ((PAIRS, 4.5), (EDGES, 3.0)):  # WCAG 2.2, 1.4.3 and 1.4.11, AA
        poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
        assert not {pair: ratio for pair, ratio in poor.items() if ratio < least}


def contrast(one: str, other: str) -> float:
    """Return the ratio of WCAG, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[index:end], 16) / 255 for index, end in pairwise((1, 3, 5, 7))]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

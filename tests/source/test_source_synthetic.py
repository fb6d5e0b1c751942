from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from vrseg.demo.scene import Scene, SceneFrame
from vrseg.errors import ConfigError
from vrseg.source.synthetic import SyntheticAddress, SyntheticSource, parse_synthetic

if TYPE_CHECKING:
    from vrseg.frame import Packet

pytestmark = pytest.mark.alone


def picture_of(packet: Packet) -> av.VideoFrame:
    assert isinstance(packet.payload, av.VideoFrame)
    return packet.payload


def test_the_bare_address_means_720_lines_for_ever() -> None:
    assert parse_synthetic("synthetic:") == SyntheticAddress(
        width=1280, height=720, frame_rate=Fraction(30), seed=0, figures=4, frames=None, pace="live"
    )


def test_every_part_of_the_address_is_heard() -> None:
    assert parse_synthetic("synthetic:640x360@29.97?seed=3&figures=0&frames=9&pace=none") == SyntheticAddress(
        width=640, height=360, frame_rate=Fraction(2997, 100), seed=3, figures=0, frames=9, pace="none"
    )
    assert parse_synthetic("synthetic:64x48@30000/1001").frame_rate == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("synthetic:huge", "WIDTHxHEIGHT@RATE"),
        ("synthetic:641x360", "even sides"),
        ("synthetic:8x8", "even sides from 16"),
        ("synthetic:9000x720", "to 8192"),
        ("synthetic:640x360@0", "rate from 1 to 240"),
        ("synthetic:640x360@30/0", "rate from 1 to 240"),
        ("synthetic:640x360@999", "rate from 1 to 240"),
        ("synthetic:?seed=-1", "whole number from 0"),
        ("synthetic:?seed=²", "whole number from 0"),
        ("synthetic:?figures=41", "from 0 to 40"),
        ("synthetic:?frames=0", "from 1"),
        ("synthetic:?frames=", "from 1"),
        ("synthetic:?pace=fast", "pace=live or pace=none"),
        ("synthetic:?people=3", "'people' means nothing"),
    ],
)
def test_a_wrong_address_is_answered_with_one_line_that_mends_it(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        SyntheticSource(uri)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_carry_time_colour_tags_and_the_truth() -> None:
    source = SyntheticSource("synthetic:320x180@25?frames=3&pace=none&seed=2")
    info = source.open()
    assert (info.width, info.height, info.frame_rate, info.frame_count) == (320, 180, Fraction(25), 3)
    assert info.duration_s == pytest.approx(0.12)
    packets = [packet for _ in range(3) for packet in source.read()]
    assert source.read() == []
    assert source.read() == []
    source.close()
    expected = Scene(2, 320, 180, Fraction(25))
    for index, packet in enumerate(packets):
        picture = picture_of(packet)
        assert (picture.pts, picture.time_base) == (index, Fraction(1, 25))
        assert picture.format.name == "yuv420p"
        assert (picture.colorspace, picture.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert (picture.color_primaries, picture.color_trc) == (ColorPrimaries.BT709, ColorTrc.BT709)
        truth = packet.truth
        assert isinstance(truth, SceneFrame)
        assert np.array_equal(truth.mask, expected.render(index).mask)
        # Chroma has half the size, so single pixels differ; a wrong range moves the means of all channels, a wrong
        # matrix moves them apart.
        shown = picture.to_ndarray(format="rgb24").astype(int)
        error = (shown - truth.image_hwc).mean((0, 1))
        assert np.abs(error).max() < 2
        assert np.ptp(error) < 0.5


def test_a_live_source_keeps_time() -> None:
    source = SyntheticSource("synthetic:64x48@50?frames=40")
    assert source.live
    source.open()
    start = time.monotonic()
    arrivals = {}
    while packets := source.read():
        arrivals[picture_of(packets[0]).pts or 0] = packets[0].arrived_s - start
    source.close()
    # Never early, and lateness does not add up: the least late of the last ten is as good as on time.
    assert all(arrived_s >= pts / 50 - 0.003 for pts, arrived_s in arrivals.items())
    assert min(arrived_s - pts / 50 for pts, arrived_s in arrivals.items() if pts >= 30) < 0.02


def test_a_live_source_that_was_kept_waiting_skips_what_is_past() -> None:
    source = SyntheticSource("synthetic:64x48@50")
    source.open()
    source.read()
    time.sleep(0.3)
    start = time.monotonic()
    pts = picture_of(source.read()[0]).pts or 0
    source.close()
    assert pts >= 13
    assert time.monotonic() - start < 0.1


def test_an_unpaced_source_does_not_wait_and_skips_nothing() -> None:
    source = SyntheticSource("synthetic:64x48@1?frames=12&pace=none")
    assert not source.live
    source.open()
    start = time.monotonic()
    numbers = [picture_of(packet).pts for _ in range(12) for packet in source.read()]
    source.close()
    assert numbers == list(range(12))
    assert time.monotonic() - start < 6


def test_close_is_safe_at_any_time_and_opening_again_starts_anew() -> None:
    source = SyntheticSource("synthetic:64x48@240?frames=2&pace=none")
    source.close()
    assert source.read() == []
    for _ in range(2):
        source.open()
        assert picture_of(source.read()[0]).pts == 0
        source.close()
        source.close()

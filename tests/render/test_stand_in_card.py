from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.clips import moving_picture
from plugins.frames import frame_of
from plugins.late_gpu import Painter, nv12_of

from vrseg.encode.download import picture_of
from vrseg.gpu.memory import Pool
from vrseg.gpu.transfer import copy_to_host
from vrseg.render.picture import planes_of, upright
from vrseg.render.stand_in import StandInCard
from vrseg.render.stand_in_cuda import DeviceStandInCard
from vrseg.stage import Absence

if TYPE_CHECKING:
    from vrseg.frame import U8, Frame
    from vrseg.gpu.device import Gpu
    from vrseg.render.stand_in import StandInKind

TEXT = "reconnecting: no signal for 12 s"
KINDS: tuple[StandInKind, ...] = ("hold", "black")


def absence(frame: Frame, text: str = TEXT, pts: int = 90_000) -> Absence:
    return Absence(last=replace(frame, time_base=Fraction(1, 90_000)), pts=pts, duration=18_000, text=text)


def card(kind: StandInKind, frame: Frame) -> Frame:
    maker = StandInCard(kind)
    maker.open()
    (made,) = maker.process(absence(frame))
    maker.close()
    return made


def luma(frame: Frame) -> U8:
    return planes_of(frame.picture).y


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuv420p10le", "rgb24", "yuvj420p"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_picture_is_dimmed_or_black_with_white_letters_on_it(kind: StandInKind, pixel_format: str) -> None:
    picture = moving_picture(640, 360, 7).reformat(format=pixel_format)
    before = [bytes(plane) for plane in picture.planes]
    made = card(kind, frame_of(picture))
    shown = luma(made)
    assert [bytes(plane) for plane in picture.planes] == before, "the last picture is shared"
    assert (made.picture.width, made.picture.height) == (640, 360)
    assert (made.pts, made.duration, made.time_base, made.result) == (90_000, 18_000, Fraction(1, 90_000), None)
    top, band = shown[:200], shown[250:320]
    assert band.max() > 200, "letters"
    assert np.median(band[:, 200:440]) < 20 or kind == "hold"
    if kind == "black":
        assert top.max() <= 16
        assert planes_of(made.picture).u.max() == planes_of(made.picture).u.min() == 128
    else:
        full = pixel_format == "yuvj420p"
        source = planes_of(moving_picture(640, 360, 7).reformat(format="yuvj420p" if full else "yuv420p")).y[:200]
        black = 0 if full else 16
        assert np.abs(top - (black + (source.astype(int) - black) / 2)).mean() < 2
        assert top.std() > 5, "still to be made out"


def test_a_turned_picture_is_lettered_upright() -> None:
    made = card("black", frame_of(moving_picture(360, 640, 1), rotation_deg=90))
    straight = card("black", frame_of(moving_picture(640, 360, 1)))
    seen = upright(planes_of(made.picture), 90).y
    np.testing.assert_array_equal(seen, luma(straight))


@pytest.mark.parametrize("size", [(64, 48), (17, 33), (2, 2), (160, 1080), (3840, 2160)])
def test_any_size_can_be_lettered(size: tuple[int, int]) -> None:
    made = card("black", frame_of(moving_picture(*size, 1)))
    assert (made.picture.width, made.picture.height) == size


def test_a_card_is_drawn_when_its_text_or_the_picture_changes_and_not_otherwise() -> None:
    maker = StandInCard("hold")
    first, second = frame_of(moving_picture(160, 120, 1)), frame_of(moving_picture(160, 120, 9))

    def shown(frame: Frame, text: str) -> Any:
        (made,) = maker.process(absence(frame, text))
        return made.picture

    one = shown(first, "1 s")
    assert shown(first, "1 s") is one
    assert shown(first, "2 s") is not one
    assert shown(second, "2 s") is not one
    maker.close()
    maker.close()


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_it_is_the_same_picture_in_a_surface(late_gpu: Gpu, kind: StandInKind) -> None:
    (frame,) = Painter(late_gpu).frames([0])
    host = replace(frame, picture=_on_host(late_gpu, frame))
    maker = DeviceStandInCard(late_gpu, kind)
    maker.open()
    pinned_bytes = late_gpu.counts.snapshot().pinned_bytes
    (made,) = maker.process(absence(frame))
    crossed = late_gpu.counts.snapshot()
    assert crossed.pinned_bytes == pinned_bytes, "the picture that was copied down is let go"
    (again,) = maker.process(absence(frame, pts=108_000))
    spent = late_gpu.counts.snapshot() - crossed
    assert again.picture is made.picture, "nothing crosses the bus while the text stays"
    assert (spent.to_host_bytes, spent.to_device_bytes, spent.device_allocations) == (0, 0, 0)
    assert again.pts == 108_000
    expected = nv12_of(card(kind, host).picture)
    np.testing.assert_array_equal(nv12_of(_on_host(late_gpu, made)), expected)
    maker.close()
    maker.close()


def _on_host(gpu: Gpu, frame: Frame) -> av.VideoFrame:
    surface, stream = frame.picture, gpu.new_stream()
    lease = Pool(gpu, "pinned", surface.size_bytes, limit=1, name="test").lend()
    surface.wait_on(stream)
    copy_to_host(gpu, lease.address, surface.luma_address, surface.size_bytes, stream)
    stream.synchronize()
    picture = picture_of(surface, lease)
    copy = av.VideoFrame.from_ndarray(nv12_of(picture), format="nv12")
    copy.colorspace, copy.color_range = picture.colorspace, picture.color_range
    return copy

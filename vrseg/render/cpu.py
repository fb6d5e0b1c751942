"""What the output shows: each view draws a frame's result on a copy of its picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from vrseg.errors import ConfigError
from vrseg.frame import Detections, Segmentation
from vrseg.postprocess.class_map import NOTHING
from vrseg.render.blend import FULL, Blender, crop, fill
from vrseg.render.colours import BLACK, CHROMA_GREEN, UNKNOWN_CLASS, WHITE, contrast
from vrseg.render.coverage import Cover, CoverageMaker
from vrseg.render.frosted import FrostedGlass
from vrseg.render.label import LabelledBox, draw
from vrseg.render.picture import blank_like, drawable, drawable_copy, is_full_range, planes_of, upright, yuv_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import av

    from vrseg.config.schema import View
    from vrseg.frame import F32, U8, Frame, Result
    from vrseg.models.spec import ResolvedClass
    from vrseg.stage import Render


def make_render(view: View, *, opacity: float, classes: Sequence[ResolvedClass]) -> Render:
    """Make the stage that draws `view`.

    Args:
        view: what the output shows.
        opacity: of the colours in `overlay`, 0 to 1.
        classes: in the order of class ids.

    Raises:
        ConfigError: the view is not in this version.
    """
    makers: Mapping[str, Callable[[], Render]] = {
        "overlay": lambda: Overlay(classes, opacity=opacity),
        "mask": lambda: ClassColours(classes),
        "matte": lambda: Matte(classes),
        "green": lambda: GreenScreen(classes),
        "blur": lambda: BackgroundBlur(classes),
        "none": PassThrough,
    }
    if view not in makers:
        raise ConfigError(f"view {view} is not in this version; choose one of {', '.join(makers)}")
    return makers[view]()


class PassThrough:
    """Stage[Frame, Frame]: the picture as it came."""

    def open(self) -> None: ...

    def process(self, frame: Frame, /) -> Iterable[Frame]:
        return (frame,)

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None: ...


class _View(PassThrough, ABC):
    """Stage[Frame, Frame]: frames without a result pass unchanged, all others get a picture of their own."""

    def __init__(self, classes: Sequence[ResolvedClass]) -> None:
        self._classes = classes
        self._background_ids = {NOTHING} | {index for index, style in enumerate(classes) if style.background}
        self._coverage = CoverageMaker()
        self._blender = Blender()

    def process(self, frame: Frame, /) -> Iterable[Frame]:
        if frame.result is None:
            return (frame,)
        picture = self.draw(frame, frame.result)
        return (frame if picture is frame.picture else replace(frame, picture=picture),)

    @abstractmethod
    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        """Make the picture to show; the frame's own, unchanged, when there is nothing to draw."""

    def _colour(self, class_id: int) -> tuple[int, int, int]:
        return self._classes[class_id].color_rgb if class_id < len(self._classes) else UNKNOWN_CLASS

    def _foreground(self, frame: Frame, result: Result) -> Cover | None:
        return self._coverage.foreground(result, frame.width, frame.height, self._background_ids)


class Overlay(_View):
    """Classes in colour over the picture; boxes with labels."""

    def __init__(self, classes: Sequence[ResolvedClass], *, opacity: float) -> None:
        super().__init__(classes)
        self._peak = round(opacity * FULL)

    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        if isinstance(result, Detections):
            return self._draw_boxes(frame, result) if len(result) else cast("av.VideoFrame", frame.picture)
        covers = self._coverage.classes(result, frame.width, frame.height, self._background_ids, self._peak)
        picture: av.VideoFrame | None = None
        for cover in covers:
            picture = picture or drawable_copy(frame.picture)
            colour = yuv_of(self._colour(cover.class_id), picture)
            self._blender.mix(crop(planes_of(picture), *cover.area), colour, cover.weight)
        return picture or cast("av.VideoFrame", frame.picture)

    def _draw_boxes(self, frame: Frame, detections: Detections) -> av.VideoFrame:
        picture = drawable_copy(frame.picture)
        planes = upright(planes_of(picture), frame.rotation_deg)
        boxes = _upright_boxes(detections.boxes_xyxy, frame)
        # Worst first, so that the best is drawn on top.
        for index in reversed(range(len(detections))):
            class_id = int(detections.class_ids[index])
            rgb = self._colour(class_id)
            name = self._classes[class_id].name if class_id < len(self._classes) else f"class {class_id}"
            left, top, right, bottom = (round(float(edge)) for edge in boxes[index])
            box = LabelledBox(
                left=left,
                top=top,
                right=right,
                bottom=bottom,
                text=f"{name} {round(float(detections.scores[index]) * 100)} %",
                colour=yuv_of(rgb, picture),
                text_colour=yuv_of(contrast(rgb), picture),
            )
            draw(planes, box, self._blender)
        return picture


class ClassColours(_View):
    """Class colours on black."""

    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        picture = blank_like(frame.picture)
        planes = planes_of(picture)
        fill(planes, yuv_of(BLACK, picture))
        for cover in self._coverage.classes(result, frame.width, frame.height, self._background_ids):
            colour = yuv_of(self._colour(cover.class_id), picture)
            self._blender.mix(crop(planes, *cover.area), colour, cover.weight)
        return picture


class Matte(_View):
    """The foreground's probability as grey: white is certain. Boxes are white."""

    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        picture = blank_like(frame.picture)
        planes = planes_of(picture)
        fill(planes, yuv_of(BLACK, picture))
        if isinstance(result, Segmentation):
            cover = self._coverage.probability(result, frame.width, frame.height, self._background_ids)
            if cover is not None:
                crop(planes, *cover.area).y[:] = _as_luma(cover.weight, full=is_full_range(picture))
        elif (cover := self._foreground(frame, result)) is not None:
            self._blender.mix(crop(planes, *cover.area), yuv_of(WHITE, picture), cover.weight)
        return picture


class GreenScreen(_View):
    """The foreground before chroma green."""

    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        picture = blank_like(frame.picture)
        fill(planes_of(picture), yuv_of(CHROMA_GREEN, picture))
        _show(self._foreground(frame, result), drawable(frame.picture), picture, self._blender)
        return picture


class BackgroundBlur(_View):
    """The foreground sharp, the rest as through frosted glass."""

    def __init__(self, classes: Sequence[ResolvedClass]) -> None:
        super().__init__(classes)
        self._glass = FrostedGlass()

    def draw(self, frame: Frame, result: Result) -> av.VideoFrame:
        source = drawable(frame.picture)
        foreground = self._foreground(frame, result)
        picture = self._glass.blur(source, foreground)
        _show(foreground, source, picture, self._blender)
        return picture


def _show(cover: Cover | None, source: av.VideoFrame, target: av.VideoFrame, blender: Blender) -> None:
    """Put what `cover` holds of `source` onto `target`."""
    if cover is not None:
        blender.mix(crop(planes_of(target), *cover.area), crop(planes_of(source), *cover.area), cover.weight)


def _as_luma(probability: U8, *, full: bool) -> U8:
    if full:
        return probability
    luma = np.multiply(probability, 55, dtype=np.uint16)  # 55 / 64 is 219 / 255
    return np.add(np.right_shift(luma, 6, out=luma), 16, out=luma).astype(np.uint8)


def _upright_boxes(boxes_xyxy: F32, frame: Frame) -> F32:
    """Turn boxes of the coded picture into boxes of the picture as it is shown."""
    left, top, right, bottom = boxes_xyxy.T
    width, height = frame.width, frame.height
    turned = {
        0: (left, top, right, bottom),
        90: (height - bottom, left, height - top, right),
        180: (width - right, height - bottom, width - left, height - top),
        270: (top, width - right, bottom, width - left),
    }
    return np.stack(turned[frame.rotation_deg], axis=1)

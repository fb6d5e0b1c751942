"""The demo's scene: people who walk about a furnished room, drawn from a seed, with the truth about every pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops

from vrseg.demo import shadow
from vrseg.demo.backdrop import SWAY_M, Backdrop
from vrseg.demo.camera import NEAREST_M, WALL_M, Camera
from vrseg.demo.figure import Figure
from vrseg.demo.mesh import Coverage, Light, draw
from vrseg.demo.noise import sensor_sheets
from vrseg.demo.prop import KINDS, Prop
from vrseg.demo.skeleton import JOINTS
from vrseg.demo.tube import detail_of_figures, detail_of_props
from vrseg.demo.walk import closest_m, plan_walk
from vrseg.demo.wardrobe import choose_build, choose_outfit

if TYPE_CHECKING:
    from vrseg.demo.mesh import Skin
    from vrseg.demo.walk import Walk
    from vrseg.frame import F32, I64, U8

_PERSONAL_SPACE_M = 0.6
_SHEETS = 6
"""Sheets of sensor noise, laid on in no order: too many for the eye to see one return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFrame:
    """One picture and what is true of it."""

    image_hwc: U8 = field(repr=False)
    """(h, w, 3): RGB."""
    mask: U8 = field(repr=False)
    """(h, w): 1 where a person is seen, else 0."""
    boxes_xyxy: F32
    """(N, 4): x0, y0, x1, y1 around the visible part of each figure, pixels, end exclusive."""
    joints: F32 = field(repr=False)
    """(N, J, 3): x, y in pixels, and 1 where the figure is what is seen there, else 0; `JOINTS` names them."""
    figure_ids: I64
    """(N,): from 1; the figures of which anything is seen, in the order of the other fields."""


@dataclass(frozen=True)
class Scene:
    """A room and its people. `render` is a pure function of the fields and the index."""

    seed: int = 0
    width: int = 1280
    height: int = 720
    frame_rate: Fraction = Fraction(30)
    figures: int = 4

    def render(self, index: int) -> SceneFrame:
        """Draw frame `index`. Any order, any number of times: the same index gives the same picture."""
        time_s = float(index / self.frame_rate)
        camera = Camera(self.width, self.height, SWAY_M * float(np.sin(0.21 * time_s + self.seed)))
        light = self._light(time_s)
        poses = [(person, person.pose(person.walk.at(time_s), time_s)) for person in self._people]
        bodies: list[tuple[float, int, Skin, F32]] = [
            (pose.joint("neck")[2], person.number, person.skin, person.vertices(pose)) for person, pose in poses
        ]
        bodies += [(prop.z_m, 0, prop.skin, prop.vertices(time_s)) for prop in self._props]
        bodies.sort(key=lambda body: -body[0])

        canvas = self._backdrop.render(camera)
        shadow.cast(canvas, camera, [body[2:] for body in bodies], light.direction)
        ids = Image.new("L", canvas.size)
        for _, number, skin, vertices in bodies:
            _put(ids, draw(canvas, camera, skin, vertices, light), number)
        id_map = np.asarray(ids)
        seen = [(person.number, camera.project(pose.joints)) for person, pose in poses]
        return _frame(self._develop(canvas, index, time_s), id_map, seen)

    def _develop(self, canvas: Image.Image, index: int, time_s: float) -> U8:
        """Add what the lens and the sensor do: vignette, exposure, grain."""
        sheet = self._sheets[np.random.default_rng((self.seed, index)).integers(_SHEETS)]
        picture = ImageChops.add(canvas, sheet, 1, -128)
        gain = 1.2 + 0.07 * np.sin(0.31 * time_s + 2 * self.seed)
        warmth = 0.035 * np.sin(0.17 * time_s + self.seed)
        levels = np.arange(256)[None, :] * (gain * np.array(((1 + warmth,), (1.0,), (1 - warmth,))))
        return np.asarray(picture.point(np.clip(levels, 0, 255).astype(int).ravel().tolist()))

    def _light(self, time_s: float) -> Light:
        turn = self.seed * 1.7 + 0.12 * time_s
        direction = np.array((0.55 * np.sin(turn), 0.9, -0.45 + 0.25 * np.cos(turn)), np.float32)
        return Light(
            direction=(direction / np.linalg.norm(direction)).astype(np.float32),
            lamp_rgb=np.array((0.62, 0.59, 0.53), np.float32),
            ambient_rgb=np.array((0.48, 0.5, 0.55), np.float32),
        )

    @cached_property
    def _backdrop(self) -> Backdrop:
        return Backdrop(self.seed, self.width, self.height)

    @cached_property
    def _sheets(self) -> list[Image.Image]:
        return sensor_sheets(np.random.default_rng((self.seed, 3)), self.width, self.height, _SHEETS)

    @cached_property
    def _people(self) -> tuple[Figure, ...]:
        rng = np.random.default_rng((self.seed, 4))
        people: list[Figure] = []
        for number in range(1, self.figures + 1):
            walk = self._free_walk(rng, [person.walk for person in people])
            build, outfit = choose_build(rng), choose_outfit(rng)
            people.append(Figure(number, build, outfit, walk, detail_of_figures(self.height)))
        return tuple(people)

    def _free_walk(self, rng: np.random.Generator, others: list[Walk]) -> Walk:
        """Plan a walk that bumps into nobody, or the best of many tries where the room is full."""
        best, best_m = None, -1.0
        for _ in range(40):
            depth = float(rng.uniform(NEAREST_M + 0.9, WALL_M - 1.8))
            span = Camera(self.width, self.height).half_width_m(depth)
            radii = (float(rng.uniform(0.35, 0.75) * span), float(rng.uniform(0.4, 0.8)))
            room = max(0.9 * span - 1.15 * radii[0], 0)
            walk = plan_walk(rng, (float(rng.uniform(-room, room)), depth), radii)
            margin_m = min((closest_m(walk, other) for other in others), default=np.inf)
            if margin_m > best_m:
                best, best_m = walk, margin_m
            if margin_m > _PERSONAL_SPACE_M:
                break
        assert best is not None  # noqa: S101  forty tries each give a walk; this tells the type checker
        return best

    @cached_property
    def _props(self) -> tuple[Prop, ...]:
        rng = np.random.default_rng((self.seed, 5))
        props = []
        for number in range(int(rng.integers(4, 7))):
            depth = float(rng.uniform(NEAREST_M + 0.1, WALL_M - 0.5))
            span = Camera(self.width, self.height).half_width_m(depth) + SWAY_M
            moves = number % 2 == 0
            props.append(
                Prop(
                    kind=KINDS[rng.integers(len(KINDS))],
                    seed=int(rng.integers(1 << 30)),
                    x_m=float(rng.uniform(-span, span)),
                    z_m=depth,
                    drift_m=float(rng.uniform(0.4, 1.6)) if moves else 0.0,
                    period_s=float(rng.uniform(11, 26)),
                    size=float(rng.uniform(0.75, 1.15)),
                    detail=detail_of_props(self.height),
                )
            )
        return tuple(props)


def _put(ids: Image.Image, coverage: Coverage | None, number: int) -> None:
    if coverage is not None:
        ids.paste(number, (coverage.left, coverage.top), coverage.mask)


def _frame(image_hwc: U8, id_map: U8, people: list[tuple[int, F32]]) -> SceneFrame:
    """Read boxes and visible joints off the map of who is seen where."""
    boxes, joints, numbers = [], [], []
    height, width = id_map.shape
    for number, pixels in people:
        own = id_map == number
        columns, rows = np.flatnonzero(own.any(0)), np.flatnonzero(own.any(1))
        if not len(columns):
            continue
        x, y = np.floor(pixels).astype(int).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        visible = inside & own[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        joints.append(np.column_stack([pixels, visible]))
        numbers.append(number)
    return SceneFrame(
        image_hwc=image_hwc,
        mask=(id_map > 0).astype(np.uint8),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        joints=np.array(joints, np.float32).reshape(-1, len(JOINTS), 3),
        figure_ids=np.array(numbers, np.int64),
    )

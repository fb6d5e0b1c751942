"""The empty room: a furnished wall and a tiled floor, painted once, moved for each picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vrseg.demo.camera import EYE_HEIGHT_M, WALL_M, Camera
from vrseg.demo.noise import octave_noise
from vrseg.demo.wall import paint_wall

if TYPE_CHECKING:
    from vrseg.demo.tube import Floats
    from vrseg.frame import F32

SWAY_M = 0.6
"""How far the camera moves to each side."""


@dataclass(frozen=True)
class Backdrop:
    """Wall and floor of one room, at one picture size."""

    seed: int
    width: int
    height: int

    @property
    def _rest(self) -> Camera:
        return Camera(self.width, self.height)

    @property
    def _edge_px(self) -> int:
        """Row where the wall meets the floor."""
        return round(float(self._rest.project(np.array((0, 0, WALL_M), np.float32))[1]))

    def _margin_px(self, row: int) -> int:
        """How much further to each side a painted row reaches than the picture."""
        return int(SWAY_M * (row - self._rest.horizon_px) / EYE_HEIGHT_M) + 2

    def render(self, camera: Camera) -> Image.Image:
        """Show the room from the camera's place, RGB. The wall moves as one, the floor by rows: a shear."""
        picture = Image.new("RGB", (self.width, self.height))
        per_row = camera.x_m / EYE_HEIGHT_M
        wall_px = self._margin_px(self._edge_px) + per_row * (self._edge_px - camera.horizon_px)
        picture.paste(self._wall.crop((round(wall_px), 0, round(wall_px) + self.width, self._edge_px)), (0, 0))
        first = self._margin_px(self.height) + per_row * (self._edge_px - camera.horizon_px)
        floor = self._floor.transform(
            (self.width, self.height - self._edge_px),
            Image.Transform.AFFINE,
            (1, per_row, first, 0, 1, 0),
            Image.Resampling.NEAREST,
        )
        picture.paste(floor, (0, self._edge_px))
        return picture

    @cached_property
    def _wall(self) -> Image.Image:
        width = self.width + 2 * self._margin_px(self._edge_px) + 1
        return paint_wall(np.random.default_rng((self.seed, 1)), width, self._edge_px, self.height)

    @cached_property
    def _floor(self) -> Image.Image:
        """Tiles or boards in perspective; each pixel is the mean of several points, so that far joints fade."""
        rng = np.random.default_rng((self.seed, 2))
        camera, margin = self._rest, self._margin_px(self.height)
        width, height = self.width + 2 * margin, self.height - self._edge_px
        style = _FloorStyle.choose(rng)
        total = np.zeros((height, width, 3), np.float32)
        offsets = ((0.1, 0.2), (0.6, 0.4), (0.35, 0.65), (0.85, 0.9))
        for across, down in offsets:
            row = np.arange(height, dtype=np.float32)[:, None] + self._edge_px + down
            z = EYE_HEIGHT_M * camera.focal_px / (row - camera.horizon_px)
            x = (np.arange(width, dtype=np.float32)[None, :] + across - margin - 0.5 * self.width) * z / camera.focal_px
            total += style.colours(x, np.broadcast_to(z, x.shape))
        shade = np.interp(np.arange(height), (0, 0.08 * height, height), (0.62, 0.92, 1.04))[:, None, None]
        return Image.fromarray(np.clip(total / len(offsets) * shade, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class _FloorStyle:
    light: F32
    dark: F32
    tile_xz_m: tuple[float, float]
    checkered: bool
    jitter: F32
    """(64, 64): each tile's own brightness."""
    stains: F32
    """(512, 512): mirrored, so that it repeats every 16 metres without a seam."""

    @classmethod
    def choose(cls, rng: np.random.Generator) -> _FloorStyle:
        base = np.array(_FLOORS[rng.integers(len(_FLOORS))], np.float32) * rng.uniform(0.85, 1.1)
        boards = rng.random() < 0.4
        return cls(
            light=base.astype(np.float32),
            dark=(base * rng.uniform(0.55, 0.85)).astype(np.float32),
            tile_xz_m=(0.22, 2.4) if boards else (0.6, 0.6),
            checkered=not boards and rng.random() < 0.6,
            jitter=rng.uniform(0.88 if boards else 0.95, 1.06, (64, 64)).astype(np.float32),
            stains=np.pad(octave_noise(rng, 256, 256, (8, 16, 64)), ((0, 256), (0, 256)), "symmetric"),
        )

    def colours(self, x: Floats, z: Floats) -> F32:
        """Give the colours of floor points, (h, w, 3)."""
        column = np.floor(x / self.tile_xz_m[0]).astype(np.int32)
        shift = 0.37 * column * self.tile_xz_m[1] * (not self.checkered)
        along = (z + shift) / self.tile_xz_m[1]
        row = np.floor(along).astype(np.int32)
        odd = ((column + row) % 2 == 1) & self.checkered
        colours = np.where(odd[..., None], self.dark, self.light)
        gap_x = np.abs(x / self.tile_xz_m[0] - column - 0.5) > 0.5 - 0.008 / self.tile_xz_m[0]
        gap_z = np.abs(along - row - 0.5) > 0.5 - 0.008 / self.tile_xz_m[1]
        level = self.jitter[row % 64, column % 64] * np.where(gap_x | gap_z, 0.72, 1.0)
        level *= (
            1 + 0.16 * self.stains[np.floor(z * 32).astype(np.int32) % 512, np.floor(x * 32).astype(np.int32) % 512]
        )
        return np.asarray(colours * level[..., None], np.float32)


_FLOORS = ((186, 150, 112), (150, 112, 82), (188, 184, 176), (142, 146, 150), (206, 196, 178), (122, 104, 96))

"""Solid bodies of four-cornered facets, and how they are drawn: culled, shaded, sorted far to near, filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from vrseg.demo.camera import Camera
    from vrseg.frame import F32, I64

SUPERSAMPLING = 2
"""Facets are filled on a grid this much finer and averaged: smooth edges without any blending."""

# A picture turned from RGB into RGBX has 255 in its fourth byte; facets are filled with 0 there. So the same fill
# that colours a body also says, to a quarter of a pixel, what it covers.
_COVERED = [255] * 128 + [0] * 128


@dataclass(frozen=True, slots=True)
class Light:
    """One lamp far away, and what the room reflects."""

    direction: F32
    """(3,): unit vector towards the lamp."""
    lamp_rgb: F32
    ambient_rgb: F32
    """(3,): 1 shows a colour as it is."""

    def shade(self, normals: F32) -> F32:
        """Give the (N, 3) factors on the colour of surfaces with unit `normals`."""
        lit = np.clip(normals @ self.direction * 0.75 + 0.25, 0, None)
        # The floor and the walls give light back; undersides get the least of it.
        room = 0.85 + 0.15 * normals[:, 1]
        return np.asarray(lit[:, None] * self.lamp_rgb + room[:, None] * self.ambient_rgb, np.float32)


@dataclass(frozen=True, slots=True)
class Skin:
    """What of a body never changes: which vertices make a facet, and its colour."""

    quads: I64
    """(Q, 4): vertex numbers around each facet."""
    inner: I64
    """(Q,): vertex number of a point inside the body, which the facet looks away from; -1: seen from both sides."""
    albedo: F32
    """(Q, 3): RGB, 0 to 255."""
    slices: I64
    """(S, 4): vertex numbers of quads through the body, for its shadow: far fewer than its facets."""
    bias_m: F32
    """(Q,): the facet is drawn as if it were so much nearer. For what lies on a surface, such as eyes."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a body covers of the picture, whatever stands before it."""

    left: int
    top: int
    mask: Image.Image
    """`L`: 255 where at least half of the pixel is the body's."""


def draw(canvas: Image.Image, camera: Camera, skin: Skin, vertices: F32, light: Light) -> Coverage | None:
    """Draw a body onto an RGB canvas, in place.

    Args:
        canvas: the picture so far, farther bodies included.
        camera: gives the projection.
        skin: the facets.
        vertices: (V, 3) world points in metres, the `inner` points among them.
        light: how facets are shaded.

    Returns:
        What the body covers, or None when it is out of sight.
    """
    pixels = camera.project(vertices)
    left, top = np.floor(pixels.min(0)).astype(int) - 1
    right, bottom = np.ceil(pixels.max(0)).astype(int) + 2
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), camera.width), min(int(bottom), camera.height)
    if left >= right or top >= bottom:
        return None
    order, inks = _visible(camera, skin, vertices, light)
    corners = ((pixels - np.array((left, top), np.float32)) * SUPERSAMPLING)[skin.quads[order]].reshape(-1, 8)
    patch = canvas.crop((left, top, right, bottom)).convert("RGBX")
    fine = patch.resize((patch.width * SUPERSAMPLING, patch.height * SUPERSAMPLING), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(fine)
    for polygon, ink in zip(corners.tolist(), inks, strict=True):
        pen.polygon(polygon, fill=ink)
    patch = fine.reduce(SUPERSAMPLING)
    canvas.paste(patch.convert("RGB"), (left, top))
    return Coverage(left, top, patch.getchannel("X").point(_COVERED))


def cross(one: F32, other: F32) -> F32:
    """Give the cross products of two (N, 3) lists of vectors; `numpy.cross` takes three times as long."""
    product = np.empty_like(one)
    for axis, after, last in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        product[:, axis] = one[:, after] * other[:, last] - one[:, last] * other[:, after]
    return product


def _visible(camera: Camera, skin: Skin, vertices: F32, light: Light) -> tuple[I64, list[int]]:
    """Pick the facets that look at the camera, far to near, and their colours as RGBX fill values."""
    corners = vertices[skin.quads]
    middles = corners.mean(1)
    normals = cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    sight = middles - camera.position
    two_sided = skin.inner < 0
    outward = np.where(two_sided[:, None], -sight, middles - vertices[skin.inner])
    normals *= np.where((normals * outward).sum(1) < 0, -1, 1)[:, None]
    facing = np.flatnonzero(((normals * sight).sum(1) < 0) & (middles[:, 2] > 0.3))
    distance = np.linalg.norm(sight[facing], axis=1) - skin.bias_m[facing]
    order = facing[np.argsort(-distance, kind="stable")]
    colours = skin.albedo[order] * light.shade(normals[order])
    rgb = np.clip(colours, 0, 255).astype(np.int64)
    return order, (rgb[:, 0] | rgb[:, 1] << 8 | rgb[:, 2] << 16).tolist()

"""Names and colours of a model's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.config.schema import ClassDescription
from vrseg.errors import ModelError
from vrseg.models.palette import class_color, parse_color
from vrseg.models.spec import ResolvedClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.models.description import Claims
    from vrseg.models.spec import SupportedTask

MAX_CLASSES = 255
"""Class maps hold 8 bits, and 255 means nothing."""


def resolve_classes(
    task: SupportedTask, said: Sequence[ClassDescription | str], channels: int | None, claims: Claims
) -> tuple[ResolvedClass, ...]:
    """Give every class a name and a colour.

    Raises:
        ModelError: the number of names is not the number of channels.
    """
    named = [ClassDescription(name=one) if isinstance(one, str) else one for one in said]
    if task == "segment" and channels == 2 and len(named) == 1:
        named = [ClassDescription(name="background", background=True), *named]
    if not named:
        named = _unnamed(task, channels)
    if channels is not None and len(named) != channels:
        raise ModelError(
            f"its output has {channels} class{'es' if channels > 1 else ''} but {claims.says('classes')} "
            f"names {len(named)}; name each one, in the order of the output"
        )
    if task == "segment" and len(named) > MAX_CLASSES:
        raise ModelError(f"has {len(named)} classes; masks of at most {MAX_CLASSES} are supported")
    return tuple(
        ResolvedClass(
            name=one.name,
            color_rgb=parse_color(one.color) if one.color else class_color(index),
            background=one.background,
        )
        for index, one in enumerate(named)
    )


def _unnamed(task: SupportedTask, channels: int | None) -> list[ClassDescription]:
    if task == "segment" and channels == 1:
        return [ClassDescription(name="foreground")]
    if task == "segment" and channels == 2:
        return [ClassDescription(name="background", background=True), ClassDescription(name="foreground")]
    return [ClassDescription(name=f"class {index}") for index in range(channels or 0)]

"""The picture that a model takes: what the ONNX file fixes, completed by what people say, and checked against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vrseg.errors import ModelError
from vrseg.models.spec import InputSpec

if TYPE_CHECKING:
    from vrseg.config.schema import ModelDescription
    from vrseg.models.description import Claims
    from vrseg.models.graph import Graph, Tensor
    from vrseg.models.spec import DType, Layout

_CHANNELS = 3
_AXES: dict[Layout, tuple[int, int, int]] = {"nchw": (1, 2, 3), "nhwc": (3, 1, 2)}
"""Where channels, height and width stand."""


def resolve_input(graph: Graph, said: ModelDescription, claims: Claims) -> InputSpec:
    """Complete the description of the input.

    Raises:
        ModelError: the graph takes no single RGB picture, or a key contradicts it.
    """
    tensor = _picture_tensor(graph)
    layout = _layout(tensor, said, claims)
    _, height_axis, width_axis = _AXES[layout]
    if tensor.dtype not in ("uint8", "float16", "float32"):
        raise ModelError(f"input {tensor}; pictures are taken as uint8, float16 or float32: export it again")
    if said.input.dtype not in (None, tensor.dtype):
        raise _contradiction(tensor, claims, "dtype", said.input.dtype)
    scale = said.input.scale
    if tensor.dtype == "uint8":
        scale = _whole_pixels(tensor, said, claims)
    if 0.0 in said.input.std:
        raise ModelError(f"{claims.says('input', 'std')} has a std of 0; every channel is divided by it")
    return InputSpec(
        name=tensor.name,
        width=_size(tensor, width_axis, "width", said.input.width, claims),
        height=_size(tensor, height_axis, "height", said.input.height, claims),
        layout=layout,
        color=said.input.color,
        dtype=cast("DType", tensor.dtype),
        scale=scale,
        mean=said.input.mean,
        std=said.input.std,
        fit=said.input.fit,
        anchor=said.input.anchor,
        pad=said.input.pad,
    )


def _picture_tensor(graph: Graph) -> Tensor:
    if len(graph.inputs) != 1:
        names = ", ".join(one.name for one in graph.inputs) or "none"
        raise ModelError(f"has {len(graph.inputs)} inputs ({names}); models that take one picture are supported")
    tensor = graph.inputs[0]
    if len(tensor.shape) != 4:
        raise ModelError(f"input {tensor}; a batch of pictures has four dimensions: export it with (N, 3, h, w)")
    return tensor


def _layout(tensor: Tensor, said: ModelDescription, claims: Claims) -> Layout:
    fits = [layout for layout, (axis, _, _) in _AXES.items() if tensor.shape[axis] == _CHANNELS]
    open_ = [layout for layout, (axis, _, _) in _AXES.items() if tensor.shape[axis] is None]
    if said.input.layout is not None:
        if said.input.layout not in [*fits, *open_]:
            raise _contradiction(tensor, claims, "layout", said.input.layout)
        return said.input.layout
    candidates = fits or open_
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ModelError(f"input {tensor}, which does not tell its layout; write input.layout: nchw or nhwc")
    raise ModelError(f"input {tensor}; colour pictures have 3 channels: use a model that takes them")


def _size(tensor: Tensor, axis: int, key: str, said: int | None, claims: Claims) -> int:
    fixed = tensor.shape[axis]
    if fixed is None and said is None:
        raise ModelError(
            f"input {tensor}, which leaves the {key} open; write input.{key} in {claims.says('input', key)}"
        )
    if fixed is not None and said is not None and fixed != said:
        raise _contradiction(tensor, claims, key, said)
    return fixed or said or 0


def _whole_pixels(tensor: Tensor, said: ModelDescription, claims: Claims) -> float:
    """A uint8 input takes pixels as they are; anything else would be lost in rounding."""
    for key, value, plain in (
        ("scale", said.input.scale, 1.0),
        ("mean", said.input.mean, (0.0, 0.0, 0.0)),
        ("std", said.input.std, (1.0, 1.0, 1.0)),
    ):
        if claims.has("input", key) and value != plain:
            raise _contradiction(tensor, claims, key, value)
    return 1.0


def _contradiction(tensor: Tensor, claims: Claims, key: str, value: object) -> ModelError:
    return ModelError(
        f"input {tensor} but {claims.says('input', key)} says {key} {value}; "
        "correct the description or use another model"
    )

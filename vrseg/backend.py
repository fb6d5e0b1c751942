"""The constructors of one device. The only place that chooses between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.config.schema import Model
    from vrseg.encode.settings import EncodeSettings
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Decode, Encode, Infer, Postprocess, Preprocess, Render


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One device: what it is, why it was chosen, and its stages."""

    device: str
    """`cpu`, or `cuda:N`."""
    reason: str
    """Why this one, for a person."""
    make_decoder: Callable[..., Decode]
    """(stream, *, live, first_index)"""
    make_preprocess: Callable[[ModelSpec], Preprocess]
    make_engine: Callable[[ModelSpec, Model], Infer]
    make_head: Callable[[ModelSpec], Postprocess]
    make_render: Callable[..., Render]
    """(view, *, opacity, classes)"""
    make_encoder: Callable[[EncodeSettings], Encode]


def choose_backend(device: str) -> Backend:
    """Decide once, at start. `auto` is the CPU in this version.

    Raises:
        DeviceError: the device is not there, or this version cannot use it.
    """
    if device.startswith("cuda"):
        raise DeviceError(
            f"device {device}: this version computes on the CPU only; set `device: auto` or `device: cpu`"
        )
    reason = "asked for" if device == "cpu" else "this version computes on the CPU"
    return _cpu(reason)


def _cpu(reason: str) -> Backend:
    from vrseg.decode.cpu import PyavDecoder  # noqa: PLC0415 -- a device's libraries load only when it is chosen
    from vrseg.encode.cpu import PyavEncoder  # noqa: PLC0415 -- as above
    from vrseg.infer.choose import make_engine  # noqa: PLC0415 -- as above
    from vrseg.postprocess.choose import make_head  # noqa: PLC0415 -- as above
    from vrseg.preprocess.cpu import SwscalePreprocess  # noqa: PLC0415 -- as above
    from vrseg.render.cpu import make_render  # noqa: PLC0415 -- as above

    return Backend(
        device="cpu",
        reason=reason,
        make_decoder=partial(PyavDecoder, threads=0),
        make_preprocess=SwscalePreprocess,
        make_engine=make_engine,
        make_head=make_head,
        make_render=make_render,
        make_encoder=PyavEncoder,
    )

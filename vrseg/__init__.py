"""vrseg: understand cameras, RTSP streams and VR video frame by frame, live, on your own machine.

`Pipeline` and `AsyncPipeline` are for frames of your own, `Engine` for tensors that are on the device already. They are
loaded when first asked for, so that `import vrseg` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from vrseg.version import __version__

if TYPE_CHECKING:
    from vrseg.api import AsyncPipeline, Prediction
    from vrseg.blocking import Pipeline
    from vrseg.infer.zero_copy import Buffers, Engine

# ONNX Runtime gives the machine an identity, and keeps statistics to send, unless it is told otherwise before it loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["AsyncPipeline", "Buffers", "Engine", "Pipeline", "Prediction", "__version__"]

_HOMES = {
    "AsyncPipeline": "vrseg.api",
    "Buffers": "vrseg.infer.zero_copy",
    "Engine": "vrseg.infer.zero_copy",
    "Pipeline": "vrseg.blocking",
    "Prediction": "vrseg.api",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vrseg' has no attribute {name!r}")

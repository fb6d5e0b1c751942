"""vrseg: understand cameras, RTSP streams and VR video frame by frame, live, on your own machine.

`Pipeline` and `AsyncPipeline` are for frames of your own. They are loaded when first asked for, so that `import vrseg`
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.version import __version__

if TYPE_CHECKING:
    from vrseg.api import AsyncPipeline, Prediction
    from vrseg.blocking import Pipeline

__all__ = ["AsyncPipeline", "Pipeline", "Prediction", "__version__"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from vrseg import api, blocking  # noqa: PLC0415 -- see above

        return getattr(blocking if name == "Pipeline" else api, name)
    raise AttributeError(f"module 'vrseg' has no attribute {name!r}")

"""What an engine is built from and for, and the name that all of it together gives it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from vrseg.errors import ModelError
from vrseg.models.build import WORKSPACE_BYTES, BatchSizes

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.models.spec import ModelSpec
    from vrseg.models.tensorrt_library import LibraryName

_FORMAT = 1
"""Counts changes in how vrseg prepares graphs and builds: engines of before are not found any more."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The GPU that an engine is for."""

    compute_capability: tuple[int, int]
    name: str
    """As CUDA calls it. The full TensorRT times kernels, so its plans fit one product only."""
    memory_bytes: int
    index: int | None
    """As CUDA numbers them here; None when the card is not in this machine."""

    def identity(self, library: LibraryName) -> dict[str, Any]:
        """Return what a plan of this library depends on. TensorRT-RTX compiles its kernels on the card itself."""
        major, minor = self.compute_capability
        known: dict[str, Any] = {"compute_capability": f"{major}.{minor}"}
        if library == "tensorrt":
            known |= {"name": self.name, "memory_bytes": self.memory_bytes}
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything that a build depends on."""

    spec: ModelSpec
    """Its `path` is the file that is built, in the precision that it shall have."""
    precision: str
    """What people call it; the types are in the file."""
    library: LibraryName
    library_version: str
    card: Card
    max_batch: int
    workspace_bytes: int = WORKSPACE_BYTES

    @property
    def batch(self) -> BatchSizes:
        """Full batches are what a busy pipeline sends."""
        return BatchSizes(least=1, usual=self.max_batch, most=self.max_batch)

    def fields(self) -> dict[str, Any]:
        """Return all that decides whether an engine is the right one, ready for JSON.

        Raises:
            ModelError: the model cannot be read.
        """
        image = self.spec.input
        return {
            "format": _FORMAT,
            "model": digest_of(self.spec.path),
            "precision": self.precision,
            "library": f"{self.library} {self.library_version}",
            "card": self.card.identity(self.library),
            "platform": f"{platform.system()} {platform.machine()}",
            "profile": {image.name: [[one, *image.shape] for one in (1, self.max_batch, self.max_batch)]},
            "flags": ["STRONGLY_TYPED"],
            "max_aux_streams": 0,
            "workspace_bytes": self.workspace_bytes,
        }


def key_of(fields: dict[str, Any]) -> str:
    """Return the name of the engine that these fields of a request describe."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def timing_key(request: BuildRequest) -> str:
    """Return the name of what builds with this version on this GPU have measured."""
    fields = {"library": request.library_version, "card": request.card.identity("tensorrt")}
    return key_of(fields)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of an ONNX file and of the files that hold its weights.

    Raises:
        ModelError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in (path, *_weight_files(path)):
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _weight_files(path: Path) -> list[Path]:
    model = onnx.load(path, load_external_data=False)
    outside = [weight for weight in model.graph.initializer if uses_external_data(weight)]
    return sorted({path.parent / ExternalDataInfo(weight).location for weight in outside})

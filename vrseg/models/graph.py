"""What an ONNX file itself tells: its inputs and outputs. Weights are not looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

from vrseg.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_POINTER = b"version https://git-lfs"
# Nodes that move values about without changing their meaning: behind them stands the one that made the scores.
_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Flatten"})
# As NumPy calls them; the others have the same name in lower case.
_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    dtype: str
    """`float32`, `uint8`, `int64`, ..."""
    shape: tuple[int | None, ...]
    """None where any size will do."""
    maker: str = ""
    """For outputs: type of the node that made the values, `Sigmoid` for instance."""

    def __str__(self) -> str:
        shape = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"'{self.name}' is {self.dtype} {shape or 'of unknown shape'}"


@dataclass(frozen=True, slots=True)
class Graph:
    """The outside of a network."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_graph(path: Path) -> Graph:
    """Read what goes in and comes out.

    Raises:
        ModelError: the file cannot be read, or is no ONNX.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
        if head == _POINTER:
            raise ModelError(f"{path}: this is a Git LFS pointer, not the model; fetch the file itself: git lfs pull")
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}; check the path and its permissions") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file; download or export it again") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: holds no network; download or export it again")
    weights = {weight.name for weight in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    return Graph(
        tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        tuple(_tensor(value, _maker(value.name, makers)) for value in model.graph.output),
    )


def _tensor(value: onnx.ValueInfoProto, maker: str = "") -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type)
    shape = tuple(size.dim_value if size.dim_value > 0 else None for size in kind.shape.dim)
    return Tensor(value.name, _DTYPES.get(dtype, dtype.lower()), shape, maker)


def _maker(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    node = makers.get(name)
    while node is not None and node.op_type in _MOVES and node.input:
        node = makers.get(node.input[0])
    return node.op_type if node is not None else ""

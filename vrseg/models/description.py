"""What people say about a model: in the YAML beside it and in the configuration, which wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrseg.config.document import dotted
from vrseg.config.load import load_description
from vrseg.config.schema import Model, ModelDescription
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Claims:
    """Both descriptions of one model, with only the keys that somebody wrote."""

    in_file: dict[str, Any]
    in_config: dict[str, Any]
    file_name: str
    config_key: str
    """`models.body`"""

    def description(self, usual: dict[str, Any]) -> ModelDescription:
        """Merge: the configuration wins over the file, and both over what is `usual` for this kind of model."""
        return ModelDescription.model_validate(_merge(_merge(usual, self.in_file), self.in_config))

    def says(self, *keys: str) -> str:
        """Name the author of a key, for messages: `body.yaml` or `models.body.input`, or who should have said it."""
        if _has(self.in_config, keys):
            return dotted((self.config_key, *keys[:-1]))
        return self.file_name if _has(self.in_file, keys) else f"{self.file_name} or {self.config_key}"

    def has(self, *keys: str) -> bool:
        """Tell whether somebody wrote this key."""
        return _has(self.in_config, keys) or _has(self.in_file, keys)


def read_claims(name: str, model: Model, onnx_path: Path, base_dir: Path) -> Claims:
    """Collect what is said about a model.

    Raises:
        ConfigError: the description that the configuration names is missing, or a description is broken.
    """
    path = onnx_path.with_suffix(".yaml")
    if model.description is not None:
        path = base_dir / model.description
        if not is_file(path):
            raise ConfigError(f"models.{name}.description: {path}: no such file; check the path")
    in_file = load_description(path).model_dump(exclude_unset=True) if is_file(path) else {}
    in_config = model.model_dump(exclude_unset=True, include=set(ModelDescription.model_fields))
    return Claims(in_file, in_config, path.name, f"models.{name}")


def is_file(path: Path) -> bool:
    """Tell whether there is such a file; there is none where the name itself is impossible."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _has(data: dict[str, Any], keys: tuple[str, ...]) -> bool:
    inner: Any = data
    for key in keys:
        if not isinstance(inner, dict) or inner.get(key) is None:
            return False
        inner = inner[key]
    return True

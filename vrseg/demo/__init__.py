"""The demo's own material: a drawn scene with people in it, and a small network that finds them."""

from __future__ import annotations

from pathlib import Path

MODEL_PATH = Path(__file__).with_name("person.onnx")
"""The embedded network; its description lies beside it, as `person.yaml`."""

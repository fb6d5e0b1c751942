"""ONNX Runtime keeps an identity of the machine for its own statistics, unless it is told not to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_onnx_runtime_leaves_nothing_in_the_user_s_home(tmp_path: Path) -> None:
    program = "import vrseg.infer.onnx, onnxruntime; onnxruntime.get_available_providers()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

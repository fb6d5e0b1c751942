"""What a test may ask for, and what happens where this machine does not have it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = [
    "plugins.clips",
    "plugins.daemon",
    "plugins.gpu_on_cpu",
    "plugins.fake_tensorrt",  # uses the one before
    "plugins.late_gpu",
    "plugins.fake_nvenc",  # uses the one before
    "plugins.media_servers",
    "plugins.broker",  # uses the one before
    "plugins.nvdec_on_cpu",
    "plugins.onnx_on_cpu",
]

# SVT-AV1 reads its log level once in a process, and tests open its encoder before vrseg does.
os.environ.setdefault("SVT_LOG", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("material") and not (SHARED / "media").is_dir():
        _missing(f"no clips and models in {SHARED}", must_be_there=os.environ.get("CI") == "true")
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        _missing("no NVIDIA GPU", must_be_there=bool(os.environ.get("VRSEG_REQUIRE_GPU")))


def _missing(what: str, *, must_be_there: bool) -> None:
    if must_be_there:
        pytest.fail(f"{what}, but this run may not do without", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real clips and models; only for tests marked `material`."""
    return SHARED


@pytest.fixture(scope="session")
def media_dir(shared_dir: Path) -> Path:
    return shared_dir / "media"


@pytest.fixture(scope="session")
def models_dir(shared_dir: Path) -> Path:
    return shared_dir / "models"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """`make_logger` sets up logging for the process; the next test starts anew."""
    yield
    structlog.reset_defaults()

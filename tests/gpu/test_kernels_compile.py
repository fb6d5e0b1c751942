"""Every kernel of the package compiles for every generation of cards, on a machine without any."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

import pytest

import vrseg
from vrseg.gpu.kernels import OPTIONS, source_of

PACKAGE = Path(vrseg.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.cu"))
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


@pytest.fixture(scope="session")
def _nvrtc() -> None:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        if os.environ.get("VRSEG_REQUIRE_NVRTC"):
            pytest.fail(f"NVRTC does not load, but this run may not do without: {error}", pytrace=False)
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc cuda-core")


@pytest.mark.usefixtures("_nvrtc")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_kernel_file_compiles_for_every_supported_card(path: Path, architecture: str) -> None:
    from cuda.core import Program, ProgramOptions

    package = ".".join(("vrseg", *path.parent.relative_to(PACKAGE).parts))
    assert OPTIONS == ("-std=c++17",)
    options = ProgramOptions(arch=architecture, std="c++17", ftz=True)  # as CuPy does
    log = StringIO()
    made = Program(source_of(package, path.name), "c++", options).compile("cubin", logs=log)
    assert len(made.code) > 0
    assert log.getvalue() == ""  # a warning is a mistake that nobody has looked at yet

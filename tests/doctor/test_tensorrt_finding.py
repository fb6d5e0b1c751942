from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from vrseg.doctor.tensorrt import tensorrt_finding
from vrseg.errors import DeviceError
from vrseg.models import tensorrt_library
from vrseg.models.tensorrt_library import library_for, load_tensorrt, rtx_fits

if TYPE_CHECKING:
    from collections.abc import Callable

TURING, AMPERE, HOPPER, BLACKWELL = (7, 5), (8, 6), (9, 0), (12, 0)

Installed = dict[str, Any]
"""What `import` finds: a module by its name, or the error that it raises."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def with_packages(**packages: Any) -> None:
        def load(name: str) -> ModuleType:
            found = packages[name]
            if isinstance(found, Exception):
                raise found
            module = ModuleType(name)
            module.__dict__["__version__"] = found
            return module

        monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: SimpleNamespace() if name in packages else None)
        monkeypatch.setattr(tensorrt_library, "import_module", load)

    return with_packages


@pytest.mark.parametrize("card", [TURING, (8, 0), AMPERE, (8, 9), BLACKWELL, (12, 1)])
def test_rtx_is_offered_to_the_cards_that_it_runs_on(card: tuple[int, int], machine: Callable[..., None]) -> None:
    machine()
    finding = tensorrt_finding(card)
    assert finding.state == "optional"
    assert finding.remedy is not None
    assert finding.remedy.endswith("'vrseg[tensorrt-rtx]'")


@pytest.mark.parametrize("card", [HOPPER, (10, 0), (10, 3)])
def test_the_full_library_is_offered_to_the_others(card: tuple[int, int], machine: Callable[..., None]) -> None:
    machine(tensorrt_rtx="1.7.1.116")
    finding = tensorrt_finding(card)
    assert not rtx_fits(card)
    assert f"TensorRT-RTX is there, but does not run on compute capability {card[0]}.{card[1]}" in finding.detail
    assert finding.remedy is not None
    assert finding.remedy.endswith("'vrseg[tensorrt]'")


@pytest.mark.parametrize(
    ("packages", "card", "detail"),
    [
        ({"tensorrt": "11.4.0.106"}, HOPPER, "tensorrt 11.4.0.106 fits compute capability 9.0"),
        ({"tensorrt": "10.8.0.43"}, AMPERE, "tensorrt 10.8.0.43 fits compute capability 8.6"),
        ({"tensorrt_rtx": "1.7.1.116"}, AMPERE, "tensorrt_rtx 1.7.1.116 fits compute capability 8.6"),
        (
            {"tensorrt_rtx": "1.7.1.116", "tensorrt": "11.4.0.106"},
            AMPERE,
            "tensorrt 11.4.0.106 fits compute capability 8.6",
        ),
    ],
)
def test_what_is_there_and_fits_is_well(
    packages: Installed, card: tuple[int, int], detail: str, machine: Callable[..., None]
) -> None:
    machine(**packages)
    finding = tensorrt_finding(card)
    assert (finding.state, finding.detail, finding.remedy) == ("ok", detail, None)


def test_a_library_that_does_not_load_is_told_with_its_reason(machine: Callable[..., None]) -> None:
    machine(tensorrt=ImportError("libnvinfer.so.11: cannot open shared object file"))
    finding = tensorrt_finding(HOPPER)
    assert finding.state == "optional"
    assert finding.detail == "tensorrt does not load: libnvinfer.so.11: cannot open shared object file"
    assert finding.remedy is not None
    assert finding.remedy.endswith("--upgrade 'vrseg[tensorrt]'")


def test_versions_that_type_networks_otherwise_are_too_old(machine: Callable[..., None]) -> None:
    machine(tensorrt="10.7.0", tensorrt_rtx="1.2.0")
    with pytest.raises(DeviceError, match=r"tensorrt 10\.7\.0 is too old, 10\.8 or newer is needed"):
        load_tensorrt("tensorrt")
    assert load_tensorrt("tensorrt-rtx").__version__ == "1.2.0", "its numbers count from one"


def test_a_card_gets_the_library_that_is_installed_and_fits(machine: Callable[..., None]) -> None:
    machine(tensorrt_rtx="1.7.1.116")
    assert library_for(AMPERE) == "tensorrt-rtx"
    with pytest.raises(DeviceError, match=r"pip install 'vrseg\[tensorrt\]'"):
        library_for(HOPPER)
    machine(tensorrt_rtx="1.7.1.116", tensorrt="11.4.0.106")
    assert library_for(AMPERE) == "tensorrt"
    machine()
    with pytest.raises(DeviceError, match=r"pip install 'vrseg\[tensorrt-rtx\]'"):
        library_for(AMPERE)

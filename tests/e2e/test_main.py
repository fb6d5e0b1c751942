from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.daemon import RunVrseg


def test_the_version_is_printed(vrseg: RunVrseg) -> None:
    said = vrseg("--version")
    assert said.returncode == 0
    assert said.stdout.startswith("vrseg 0.")

"""What a model's licence means for people who use it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec

_AGPL = re.compile(r"\bAGPL", re.IGNORECASE)
_GPL = re.compile(r"\bGPL", re.IGNORECASE)
_NON_COMMERCIAL = re.compile(
    r"\bNC\b|non[\s-]?commercial|research[\s-]only|academic|\bS-Lab\b|polyform-(strict|noncommercial)", re.IGNORECASE
)
_UNKNOWN = re.compile(r"\s*|unknown|none|noassertion|other|proprietary", re.IGNORECASE)


def licence_warning(spec: ModelSpec) -> str | None:
    """Say in one line what the licence of the weights asks for, when it asks for much or is not known."""
    licence = spec.licence or ""
    if _UNKNOWN.fullmatch(licence):
        return f"model {spec.name}: nobody says what licence its weights have; find out before you pass them on"
    if _NON_COMMERCIAL.search(licence):
        return f"model {spec.name}: its weights are for non-commercial use only ({licence})"
    if _AGPL.search(licence):
        return (
            f"model {spec.name}: its weights are under {licence}: who offers it over a network must offer the source "
            "of the whole work"
        )
    if _GPL.search(licence) and "LGPL" not in licence.upper():
        return f"model {spec.name}: its weights are under {licence}: who passes it on must pass on the source too"
    return None

"""The configuration as it may be shown to people: every key, no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrseg.address import presentable

if TYPE_CHECKING:
    from vrseg.config.schema import Config
    from vrseg.config.section import Section

_HIDDEN = "***"
_SECRET_KEYS = frozenset({"token", "secret"})


def redacted(config: Config) -> dict[str, Any]:
    """Write the configuration out in full, as JSON would hold it; tokens, secrets and credentials are hidden."""
    shown: dict[str, Any] = _without_credentials(config.model_dump(mode="json"))
    return shown


def redacted_section(section: Section) -> dict[str, Any]:
    """Write a part of the configuration as `redacted` does."""
    shown: dict[str, Any] = _without_credentials(section.model_dump(mode="json"))
    return shown


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if key in _SECRET_KEYS and isinstance(item, str) else _without_credentials(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return presentable(value) if isinstance(value, str) else value

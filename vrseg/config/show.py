"""The configuration as it may be shown to people: every key, no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrseg.address import redact

if TYPE_CHECKING:
    from vrseg.config.schema import Config

_HIDDEN = "***"


def redacted(config: Config) -> dict[str, Any]:
    """Write the configuration out in full, as JSON would hold it; tokens and credentials in addresses are hidden."""
    shown: dict[str, Any] = _without_credentials(config.model_dump(mode="json"))
    if config.server.token is not None:
        shown["server"]["token"] = _HIDDEN
    return shown


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return redact(value) if isinstance(value, str) else value

"""Sections made by code instead of read from a file: the same checks, the same kind of error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from vrseg.config.schema import Section

AnySection = TypeVar("AnySection", bound="Section")


def build(section: type[AnySection], values: dict[str, Any]) -> AnySection:
    """Make a section from plain values, as a configuration would hold them.

    Raises:
        ConfigError: one problem for each mistake, with its key path.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            *(f"{'.'.join(map(str, one['loc']))}: {one['msg']}; got {one['input']!r}" for one in error.errors())
        ) from None

"""What all parts of the configuration have in common: frozen, closed to unknown keys."""

from __future__ import annotations

import os
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vrseg.config.quantity import Duration

Positive = Annotated[Duration, Field(gt=0)]
"""A duration that is not zero."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


def _check_nameable(text: str) -> str:
    try:
        os.fsencode(text)
        nameable = not any(unicodedata.category(character) == "Cc" for character in text)
    except UnicodeEncodeError:
        nameable = False
    if not nameable:
        raise ValueError("holds a character that no file and no address can have, such as NUL or a line break")
    return text


Place = Annotated[str, AfterValidator(_check_nameable)]
"""A path or an address."""


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, data: Any) -> Any:
        """Keep `key: null` from counting as set where null is the default: it must not hide another's value."""
        if not isinstance(data, dict):
            return data
        optional = {name for name, field in cls.model_fields.items() if field.default is None}
        return {key: value for key, value in data.items() if value is not None or key not in optional}

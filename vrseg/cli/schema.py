"""`vrseg schema`: the configuration as JSON Schema."""

from __future__ import annotations

import json

from vrseg.config.schema import json_schema


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors and other programs."""
    print(json.dumps(json_schema(), indent=2))

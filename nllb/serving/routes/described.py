"""OpenAPI descriptions of routes with parameters in JSON, forms or query strings."""

from typing import Any


def describe(**parameters: str) -> dict[str, Any]:
    """Return the description of a body with these parameters and their descriptions."""
    schema = {
        "type": "object",
        "properties": {name: {"description": text} for name, text in parameters.items()},
    }
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {"requestBody": {"content": {kind: {"schema": schema} for kind in kinds}}}

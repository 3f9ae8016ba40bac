"""The page `/docs`: the API as one HTML page without scripts or requests to other hosts."""

from html import escape
from typing import Any


def api_page(spec: dict[str, Any]) -> str:
    """Return the page of an OpenAPI description."""
    groups: dict[str, list[str]] = {}
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_operation(path, method, operation, spec))
    sections = [f"<h2>{escape(name)}</h2>{''.join(parts)}" for name, parts in groups.items()]
    title = escape(f"{spec['info']['title']} {spec['info']['version']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}: API</title><link rel="stylesheet" href="docs.css"></head><body><main>'
        f"<h1>{title}: API</h1><p>{escape(spec['info'].get('description', ''))} "
        '<a href="openapi.json">OpenAPI description</a></p>'
        f"{''.join(sections)}</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], spec: dict[str, Any]) -> str:
    rows = [
        (each["name"], each.get("description", ""), each.get("required", False))
        for each in operation.get("parameters", ())
    ]
    content = operation.get("requestBody", {}).get("content", {})
    for kind in content.values():
        schema = _resolve(kind.get("schema", {}), spec)
        required = schema.get("required", ())
        rows += [
            (name, field.get("description", ""), name in required)
            for name, field in schema.get("properties", {}).items()
        ]
        break
    items = "".join(
        f"<dt><code>{escape(name)}</code>{' (required)' if required else ''}</dt>"
        f"<dd>{escape(description)}</dd>"
        for name, description, required in rows
    )
    kinds = f"<p>Body: {escape(', '.join(content))}</p>" if content else ""
    return (
        f"<details><summary><code>{method.upper()} {escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{kinds}<dl>{items}</dl></details>"
    )


def _resolve(schema: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    reference: str = schema.get("$ref", "")
    if not reference:
        return schema
    found: dict[str, Any] = spec["components"]["schemas"][reference.rpartition("/")[2]]
    return found

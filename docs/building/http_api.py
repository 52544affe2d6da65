"""The page of the HTTP API, from its own OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tables import code, table

from autokv.api.app import create_app

METHODS = ("get", "post", "put", "patch", "delete")


def page() -> str:
    """Every operation by resource, then every schema."""
    document = create_app("sqlite://").openapi()
    lines = [document["info"]["description"], ""]
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                tags.setdefault(operation.get("tags", ["other"])[0], []).extend(_operation(path, method, operation))
    for tag, parts in tags.items():
        lines += [f"## {tag.capitalize()}", "", *parts]
    lines += ["## Schemas", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _schema(name, schema)
    return "\n".join(lines)


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {method.upper()} {path}", "", f"**{operation.get('summary', '')}**", "")
    if "description" in operation:
        yield from (operation["description"].replace("<", "&lt;"), "")
    rows = [
        (
            code(each["name"]),
            each["in"],
            _type(each.get("schema", {})),
            "yes" if each.get("required") else "",
            _meaning(each.get("description", ""), each.get("schema", {})),
        )
        for each in operation.get("parameters", [])
    ]
    yield from table(("parameter", "in", "type", "required", "meaning"), rows)
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        yield from (f"Body: {code(media)}, {_type(body.get('schema', {})) or 'bytes'}.", "")
    answers = [
        (
            code(status),
            ", ".join(_answer(media, body) for media, body in response.get("content", {}).items()),
            response.get("description", ""),
        )
        for status, response in operation["responses"].items()
    ]
    yield from table(("status", "body", "meaning"), answers)


def _answer(media: str, body: dict[str, Any]) -> str:
    schema = body.get("schema", body.get("itemSchema", {}))
    return f"{code(media)} {_type(schema)}".strip()


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "")
    if "description" in schema:
        yield from (schema["description"].replace("<", "&lt;"), "")
    required = schema.get("required", [])
    rows = [
        (
            code(field),
            _type(each),
            "yes" if field in required else "",
            _meaning(each.get("description", ""), each),
        )
        for field, each in schema.get("properties", {}).items()
    ]
    yield from table(("field", "type", "required", "meaning"), rows)
    if "enum" in schema:
        yield from ("One of " + ", ".join(code(each) for each in schema["enum"]) + ".", "")


def _meaning(description: str, schema: dict[str, Any]) -> str:
    default = schema.get("default")
    told = "" if default in (None, [], {}) else f"Default: {code(json.dumps(default))}."
    limits = [f"{sign} {schema[name]}" for name, sign in LIMITS.items() if name in schema]
    parts = [description.strip().rstrip("."), ", ".join(limits)]
    return " ".join([*(f"{part}." for part in parts if part), told]).strip()


LIMITS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "minLength": "length ≥",
    "maxLength": "length ≤",
}


def _type(schema: dict[str, Any]) -> str:
    """In a few words, with a link to a schema that has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[word] if each.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(code(each) for each in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'values'}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties']) or 'values'}"
    return str(schema.get("format", schema.get("type", "")))

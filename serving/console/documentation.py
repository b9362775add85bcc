"""The API's documentation at /docs: its OpenAPI document as a page, which needs nothing from elsewhere."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.api.guard import OPEN, scope_of
from serving.console.pages import rendered


class Told(NamedTuple):
    """A route as it is documented. `fields` and `answers` are (name, type, required, description)."""

    method: str
    path: str
    summary: str
    scope: str
    kinds: list[str]
    fields: list[tuple[str, str, bool, str]]
    example: str
    answers: list[tuple[str, str, bool, str]]
    reply: str
    statuses: list[tuple[str, str]]


def install(pages: APIRouter, app: FastAPI) -> None:
    """Add the page to the console's routes."""

    @pages.get("/docs")
    def docs(request: Request) -> Response:
        return rendered(request, "docs.html", about=app.description, routes=list(_routes(app.openapi())))


def _routes(document: dict[str, Any]) -> Iterator[Told]:
    schemas = document["components"]["schemas"]

    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = schemas[name] if name else schema
        return found

    def fields(schema: dict[str, Any]) -> list[tuple[str, str, bool, str]]:
        needed = schema.get("required", ())
        return [
            (name, _type(field), name in needed, field.get("description", ""))
            for name, field in schema.get("properties", {}).items()
        ]

    for path, methods in document["paths"].items():
        for method, about in methods.items():
            kinds: dict[str, Any] = about.get("requestBody", {}).get("content", {})
            first: dict[str, Any] = next(iter(kinds.values()), {})
            asked = resolved(first.get("schema", {}))
            asked_for = fields(asked) + [
                (
                    one["name"],
                    f"{_type(one['schema'])}, in the {one['in']}",
                    one["required"],
                    one.get("description", ""),
                )
                for one in about.get("parameters", ())
            ]
            content = about["responses"].get("200", {}).get("content", {}).get("application/json", {})
            reply = resolved(content.get("schema", {}))
            yield Told(
                method.upper(),
                path,
                about.get("description") or about.get("summary", ""),
                "" if path.startswith(OPEN) else scope_of(path),
                list(kinds),
                asked_for,
                _example(asked),
                fields(reply),
                _example(reply),
                [(status, answer["description"]) for status, answer in about["responses"].items()],
            )


def _example(schema: dict[str, Any]) -> str:
    examples = schema.get("examples")
    return json.dumps(examples[0], indent=2) if examples else ""


def _type(schema: dict[str, Any]) -> str:
    """A field's type in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " or ".join(map(json.dumps, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")

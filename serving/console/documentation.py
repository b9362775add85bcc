"""The API's documentation at /docs: the OpenAPI document as a page that loads nothing from other sites."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.api.guard import PUBLIC, scope_of
from serving.console.pages import page_router, render

router = page_router()


class FieldDescription(NamedTuple):
    """A field or parameter, as the page shows it."""

    name: str
    type: str
    required: bool
    description: str


class RouteDescription(NamedTuple):
    """A route, as the page shows it."""

    method: str
    path: str
    description: str
    scope: str
    media_types: list[str]
    request_fields: list[FieldDescription]
    request_example: str
    response_fields: list[FieldDescription]
    response_example: str
    statuses: list[tuple[str, str]]


@router.get("/docs")
def documentation(request: Request) -> Response:
    """The page."""
    app: FastAPI = request.app
    return render(request, "docs.html", description=app.description, routes=list(_routes(app.openapi())))


def _routes(document: dict[str, Any]) -> Iterator[RouteDescription]:
    schemas = document["components"]["schemas"]

    def resolve(schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        resolved: dict[str, Any] = schemas[name] if name else schema
        return resolved

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
            first: dict[str, Any] = next(iter(content.values()), {})
            request = resolve(first.get("schema", {}))
            success = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
            response = resolve(success.get("schema", {}))
            yield RouteDescription(
                method.upper(),
                path,
                operation.get("description") or operation.get("summary", ""),
                "" if path.startswith(PUBLIC) else scope_of(path),
                list(content),
                _fields(request) + [_parameter(each) for each in operation.get("parameters", ())],
                _example(request),
                _fields(response),
                _example(response),
                [(status, each["description"]) for status, each in operation["responses"].items()],
            )


def _fields(schema: dict[str, Any]) -> list[FieldDescription]:
    required = schema.get("required", ())
    return [
        FieldDescription(name, _type(field), name in required, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _parameter(parameter: dict[str, Any]) -> FieldDescription:
    kind = f"{_type(parameter['schema'])}, in the {parameter['in']}"
    return FieldDescription(parameter["name"], kind, parameter["required"], parameter.get("description", ""))


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
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")

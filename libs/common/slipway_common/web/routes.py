"""Routes of the management API, declared as data: the router, the rights check and OpenAPI all read the same table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Who may call: anyone; anyone who is logged in; users about their own account; who may do this in the repository, in the
# namespace, or to the robot of the path; administrators.
Access = Literal[
    "public", "login", "account", "repository:pull", "repository:push", "repository:delete", "repository:maintain",
    "repository:admin", "namespace:pull", "namespace:admin", "robot:admin", "system:admin",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `{name}` in `path` is a repository name, which may have slashes; `service` is who answers it."""

    method: str
    path: str
    access: Access
    summary: str
    handler: Handler
    service: str = "gateway"
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    status: int = 200


def openapi_document(routes: tuple[Route, ...], *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `routes`."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Slipway",
            "version": version,
            "description": "Management API of Slipway. The registry protocol itself is the OCI distribution specification.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.service],
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query)],
        "responses": {
            str(route.status): _content("Done.", route.response, schemas),
            "default": _reference("What is wrong, and what to do.", "Problem", "application/problem+json"),
        },
        "x-access": route.access,
    }
    if route.access != "public":
        operation["security"] = [{"basic": []}, {"bearer": []}]
    if route.body is not None:
        operation["requestBody"] = {**_content("", route.body, schemas), "required": True}
        operation["requestBody"].pop("description")
    return operation


def _operation_id(route: Route) -> str:
    words = [part.strip("{}") for part in route.path.split("/") if part not in ("", "api", "v1", "-")]
    return "_".join([route.method.lower(), *words]).replace(".", "_").replace("-", "_")


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part,
         "description": part.get("description", "")}
        for name, part in schema.get("properties", {}).items()
    ]  # fmt: skip


def _content(description: str, model: type[BaseModel] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    if model is None:
        return {"description": description}
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return _reference(description, model.__name__, "application/json")


def _reference(description: str, name: str, media_type: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}

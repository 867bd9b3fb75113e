"""The description of the management API is valid, and complete."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel

from slipway_common.launcher.service import installed_services
from slipway_common.web.routes import Route, openapi_document

ROUTES = tuple(route for service in installed_services().values() for route in service.routes)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(ROUTES, version="1.2.3")


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_is_in_the_document_and_nothing_else(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_no_two_routes_are_the_same_or_have_the_same_name(document: dict[str, Any]) -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_all_but_public_routes_ask_for_a_login(document: dict[str, Any]) -> None:
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert ("security" in operation) == (route.access != "public"), route.path
        assert operation["x-access"] == route.access


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for entry in node for found in references(entry)]
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for entry in node.values() for found in references(entry)]
        return []

    schemas = document["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in references(document)} <= set(schemas)


def test_models_of_the_same_name_and_different_form_do_not_hide_each_other() -> None:
    """Two services may each call something Page: the document has one place for that name."""
    for route in ROUTES:
        for other in ROUTES:
            for mine in (route.body, route.response):
                for theirs in (other.body, other.response):
                    if mine is not None and theirs is not None and mine.__name__ == theirs.__name__:
                        assert mine is theirs, mine.__name__


def test_parameters_and_bodies_are_described() -> None:
    class Wish(BaseModel):
        """What is wanted."""

        name: str

    class Query(BaseModel):
        n: int = 1
        must: str

    async def handle(_request: object) -> Any:
        raise NotImplementedError

    route = Route(
        "POST", "/api/v1/things/{name}/-/x.y/{id}", "login", "Make", handle, query=Query, body=Wish, status=201
    )
    described = openapi_document((route,), version="1")
    validate(described)
    operation = described["paths"][route.path]["post"]
    parameters = {(one["in"], one["name"]): one["required"] for one in operation["parameters"]}
    assert parameters == {("path", "name"): True, ("path", "id"): True, ("query", "n"): False, ("query", "must"): True}
    assert operation["requestBody"]["required"]
    assert "201" in operation["responses"]

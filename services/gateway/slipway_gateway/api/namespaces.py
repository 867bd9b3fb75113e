"""Namespaces in the management API."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import Denied, NotFound
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import NAMESPACE, ORIGIN, account_of
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, given, nothing, once, read_json, wanted_version
from slipway_gateway.domain.principals import ROOT_NAMESPACE, parse_namespace
from slipway_gateway.store.namespaces import Namespace
from slipway_gateway.store.repositories import readable_by


class NamespaceView(BaseModel):
    """A namespace: the first component of its repositories' names."""

    name: str = Field(description="`_` is the root namespace, of names without one.")
    description: str
    create_on_push: bool = Field(description="Whether a first push makes a repository.")
    default_visibility: Literal["private", "public"] | None = Field(
        description="Of repositories that do not say; null: as the registry's setting."
    )
    public_allowed: bool = Field(description="Whether any of its repositories may be public.")
    created_by: str | None


class NamespacePage(BaseModel):
    namespaces: list[NamespaceView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class NewNamespaceBody(Body):
    name: str
    description: str = ""
    create_on_push: bool = True
    default_visibility: Literal["private", "public"] | None = None
    public_allowed: bool = True


class NamespacePatch(Body):
    """What is to be changed; what is left out stays."""

    description: str = ""
    create_on_push: bool = True
    default_visibility: Literal["private", "public"] | None = None
    public_allowed: bool = True


async def list_namespaces(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    management = request.app[MANAGEMENT]
    readable = readable_by(management.access.rules, account_of(request))
    found = await management.namespace_store.list_by_name(readable, after=query.last, limit=query.n + 1)
    page = [_view(one) for one in found[: query.n]]
    return answer(NamespacePage(namespaces=page, next=page[-1].name if len(found) > query.n else None))


async def create_namespace(request: web.Request) -> web.Response:
    body = await read_json(request, NewNamespaceBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewNamespaceBody) -> web.Response:
    management, account = request.app[MANAGEMENT], account_of(request)
    name = parse_namespace(body.name)
    by_users = management.users_create_namespaces and account is not None and not account.is_robot
    if not management.access.rules.is_operator(account) and not (by_users and account and account.bounds.unlimited):
        raise Denied("only administrators create namespaces here", action="create", target=name)
    values = body.model_dump(exclude={"name"})
    made = await management.namespaces.create(name, values, account, request[ORIGIN])
    location = f"/api/v1/namespaces/{made.name}"
    return answer(_view(made), status=201, version=made.version, location=location)


async def show_namespace(request: web.Request) -> web.Response:
    found = await request.app[MANAGEMENT].namespace_store.find(request[NAMESPACE].name)
    if found is None:
        raise NotFound("no such namespace", namespace=request.match_info["namespace"])
    return answer(_view(found), version=found.version)


async def update_namespace(request: web.Request) -> web.Response:
    values = given(await read_json(request, NamespacePatch))
    after = await request.app[MANAGEMENT].namespaces.update(
        request[NAMESPACE].name, values, version=wanted_version(request), origin=request[ORIGIN]
    )
    return answer(_view(after), version=after.version)


async def delete_namespace(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].namespaces.delete(
        request[NAMESPACE].name, version=wanted_version(request), origin=request[ORIGIN]
    )
    return nothing()


def _view(one: Namespace) -> NamespaceView:
    return NamespaceView(
        name=one.name or ROOT_NAMESPACE,
        description=one.description,
        create_on_push=one.create_on_push,
        default_visibility=one.default_visibility,
        public_allowed=one.public_allowed,
        created_by=one.created_by,
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/namespaces", "login", "List the namespaces that you have rights in", list_namespaces,
          query=PageQuery, response=NamespacePage),
    Route("POST", "/api/v1/namespaces", "login", "Create a namespace", create_namespace,
          body=NewNamespaceBody, response=NamespaceView, status=201),
    Route("GET", "/api/v1/namespaces/{namespace}", "namespace:pull", "Show a namespace", show_namespace,
          response=NamespaceView),
    Route("PATCH", "/api/v1/namespaces/{namespace}", "namespace:admin", "Change a namespace's rules", update_namespace,
          body=NamespacePatch, response=NamespaceView),
    Route("DELETE", "/api/v1/namespaces/{namespace}", "namespace:admin", "Delete an empty namespace", delete_namespace,
          status=204),
)  # fmt: skip

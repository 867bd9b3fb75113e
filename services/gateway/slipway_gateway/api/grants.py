"""Grants in the management API: on a repository, on a namespace or patterns of its names, on patterns of any names."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import NAMESPACE, ORIGIN, REPOSITORY
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, nothing, read_json
from slipway_gateway.domain.access import RoleName, parse_role
from slipway_gateway.domain.patterns import parse_pattern
from slipway_gateway.domain.principals import Subject, parse_subject
from slipway_gateway.grants import GrantTarget, on_names, on_namespace, on_repository
from slipway_gateway.store.grants import Grant


class GrantView(BaseModel):
    """Who was given which role, on what."""

    subject: str = Field(description="`user:alice`, `robot:acme+ci` or `team:platform`.")
    on: str = Field(description="`repository:acme/web`, `namespace:acme` or `pattern:acme/web-*`.")
    role: RoleName
    granted_at: datetime
    granted_by: str | None


class GrantPage(BaseModel):
    grants: list[GrantView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class GrantBody(Body):
    role: RoleName


class PatternQuery(BaseModel):
    pattern: str | None = Field(
        None,
        max_length=255,
        description="Names of the namespace that it is for, such as `acme/web-*`; all where left out.",
    )


class WidePatternQuery(BaseModel):
    pattern: str = Field(max_length=255, description="Names that it is for, such as `**` or `*/base`.")


class Given(BaseModel):
    subject: str
    on: str
    role: RoleName
    before: RoleName | None = Field(None, description="The role before; null: none.")


async def list_on_repository(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    found = await request.app[MANAGEMENT].grant_store.list_on_repository(
        request[REPOSITORY].id, after=query.after_number(), limit=query.n + 1
    )
    return _page(found, query.n)


async def list_on_namespace(request: web.Request) -> web.Response:
    query, namespace = PageQuery.model_validate(dict(request.query)), request[NAMESPACE]
    found = await request.app[MANAGEMENT].grant_store.list_on_namespace(
        namespace.id or 0, namespace.name, after=query.after_number(), limit=query.n + 1
    )
    return _page(found, query.n)


async def list_patterns(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    found = await request.app[MANAGEMENT].grant_store.list_patterns(after=query.after_number(), limit=query.n + 1)
    return _page(found, query.n)


async def put_on_repository(request: web.Request) -> web.Response:
    return await _put(request, on_repository(request[REPOSITORY]))


async def delete_on_repository(request: web.Request) -> web.Response:
    return await _delete(request, on_repository(request[REPOSITORY]))


async def put_on_namespace(request: web.Request) -> web.Response:
    return await _put(request, _namespace_target(request))


async def delete_on_namespace(request: web.Request) -> web.Response:
    return await _delete(request, _namespace_target(request))


async def put_on_names(request: web.Request) -> web.Response:
    return await _put(request, _names_target(request))


async def delete_on_names(request: web.Request) -> web.Response:
    return await _delete(request, _names_target(request))


def _namespace_target(request: web.Request) -> GrantTarget:
    query = PatternQuery.model_validate(dict(request.query))
    pattern = parse_pattern(query.pattern) if query.pattern is not None else None
    return on_namespace(request[NAMESPACE].id or 0, request[NAMESPACE].name, pattern)


def _names_target(request: web.Request) -> GrantTarget:
    return on_names(parse_pattern(WidePatternQuery.model_validate(dict(request.query)).pattern))


def _subject(request: web.Request) -> Subject:
    return parse_subject(request.match_info["subject"])


async def _put(request: web.Request, target: GrantTarget) -> web.Response:
    body, subject = await read_json(request, GrantBody), _subject(request)
    before = await request.app[MANAGEMENT].grants.give(subject, target, parse_role(body.role), request[ORIGIN])
    return answer(Given(subject=str(subject), on=target.text, role=body.role, before=before.word if before else None))


async def _delete(request: web.Request, target: GrantTarget) -> web.Response:
    await request.app[MANAGEMENT].grants.take(_subject(request), target, request[ORIGIN])
    return nothing()


def _page(found: list[Grant], limit: int) -> web.Response:
    grants = [
        GrantView(
            subject=str(one.subject), on=one.on, role=one.role.word, granted_at=one.granted_at, granted_by=one.granted_by,
        )
        for one in found[:limit]
    ]  # fmt: skip
    return answer(GrantPage(grants=grants, next=str(found[limit - 1].id) if len(found) > limit else None))


_ON_REPOSITORY = "/api/v1/repositories/{name}/-/grants"
_ON_NAMESPACE = "/api/v1/namespaces/{namespace}/grants"
ROUTES: tuple[Route, ...] = (
    Route("GET", _ON_REPOSITORY, "repository:admin", "List who has which role on a repository", list_on_repository,
          query=PageQuery, response=GrantPage),
    Route("PUT", _ON_REPOSITORY + "/{subject}", "repository:admin", "Give somebody a role on a repository",
          put_on_repository, body=GrantBody, response=Given),
    Route("DELETE", _ON_REPOSITORY + "/{subject}", "repository:admin", "Take somebody's role on a repository away",
          delete_on_repository, status=204),
    Route("GET", _ON_NAMESPACE, "namespace:admin", "List who has which role in a namespace", list_on_namespace,
          query=PageQuery, response=GrantPage),
    Route("PUT", _ON_NAMESPACE + "/{subject}", "namespace:admin", "Give somebody a role in a namespace",
          put_on_namespace, query=PatternQuery, body=GrantBody, response=Given),
    Route("DELETE", _ON_NAMESPACE + "/{subject}", "namespace:admin", "Take somebody's role in a namespace away",
          delete_on_namespace, query=PatternQuery, status=204),
    Route("GET", "/api/v1/grants", "system:admin", "List grants on patterns of names", list_patterns,
          query=PageQuery, response=GrantPage),
    Route("PUT", "/api/v1/grants/{subject}", "system:admin", "Give somebody a role on a pattern of names",
          put_on_names, query=WidePatternQuery, body=GrantBody, response=Given),
    Route("DELETE", "/api/v1/grants/{subject}", "system:admin", "Take somebody's role on a pattern of names away",
          delete_on_names, query=WidePatternQuery, status=204),
)  # fmt: skip

"""The gateway's own part of the management API, and the check that every route of it goes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import Denied, NotFound, Unauthenticated
from slipway_common.events.event import repository_stream, to_cloudevent_json
from slipway_common.events.log import EventLog
from slipway_common.oci.names import parse_repository_name
from slipway_common.web.routes import Access, Handler, Route
from slipway_gateway.domain.access import AccessRules, Action, Decision, Identity
from slipway_gateway.identity import Authenticator
from slipway_gateway.reads import Reads
from slipway_gateway.store.repositories import Repository, RepositoryStore

IDENTITY = web.RequestKey("identity", Identity)
REPOSITORY = web.RequestKey("repository", Repository)


class RepositoryView(BaseModel):
    """A repository as the management API shows it."""

    id: int
    name: str
    visibility: str
    created_at: datetime


class RepositoryPage(BaseModel):
    repositories: list[RepositoryView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class PageQuery(BaseModel):
    n: int = Field(100, ge=1, le=1000, description="Entries in a page.")
    last: str = Field("", pattern=r"^[^\x00]*$", description="The `next` of the page before.")


class EventsQuery(BaseModel):
    after: int = Field(0, ge=0, le=2**63 - 1, description="Only events with a larger sequence number.")
    n: int = Field(100, ge=1, le=1000, description="Entries in a page.")


class EventPage(BaseModel):
    """CloudEvents in the order of their sequence numbers, which have no gaps."""

    events: list[dict[str, Any]]
    first_seq: int = Field(description="The oldest event still kept; older ones went by retention.")
    head: int = Field(description="The newest event's sequence number.")


class AccountView(BaseModel):
    name: str | None
    is_admin: bool


@dataclass(slots=True)
class Gatekeeper:
    """Runs before every route of the management API: default deny, by the access the route declares."""

    authenticator: Authenticator
    reads: Reads
    rules: AccessRules

    def guard(self, access: Access, handler: Handler) -> Handler:
        """A handler behind the check that `access` stands for."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            identity = await self.authenticator.identify(request.headers.get("Authorization"))
            request[IDENTITY] = identity
            await self._check(access, request, identity)
            return await handler(request)

        return guarded

    async def _check(self, access: Access, request: web.Request, identity: Identity) -> None:
        if access == "public":
            return
        if access.startswith("repository:"):
            await self._check_repository(Action(access.partition(":")[2]), request, identity)
            return
        if self.rules.login_needed(identity):
            raise Unauthenticated("log in with name and password")
        if access == "login":
            return
        if not (access == "system:admin" and (identity.is_admin or self.rules.anonymous == "everything")):
            raise Denied("only administrators may do this")

    async def _check_repository(self, action: Action, request: web.Request, identity: Identity) -> None:
        name = parse_repository_name(request.match_info["name"])
        repository = await self.reads.repository(name)
        decision = self.rules.decide(identity, action, name, repository.visibility if repository else None)
        if decision in (Decision.LOGIN, Decision.SCOPE):
            raise Unauthenticated("log in with name and password")
        if decision is Decision.DENY:
            raise Denied("this needs a right that you do not have here")
        if repository is None:
            raise NotFound("no such repository", name=name)
        request[REPOSITORY] = repository


@dataclass(slots=True)
class Management:
    """What the handlers below work with."""

    repositories: RepositoryStore
    log: EventLog
    pool: asyncpg.Pool
    rules: AccessRules
    document: Callable[[], dict[str, Any]]


MANAGEMENT = web.AppKey("management", Management)


async def list_repositories(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    management = request.app[MANAGEMENT]
    found = await management.repositories.list_by_name(
        after=query.last, limit=query.n + 1, all_of_them=management.rules.may_read_all(request[IDENTITY])
    )
    page = [
        RepositoryView(id=one.id, name=one.name, visibility=one.visibility, created_at=one.created_at)
        for one in found[: query.n]
    ]
    return _json(RepositoryPage(repositories=page, next=page[-1].name if len(found) > query.n else None))


async def list_events(request: web.Request) -> web.Response:
    query = EventsQuery.model_validate(dict(request.query))
    management, stream = request.app[MANAGEMENT], repository_stream(request[REPOSITORY].id)
    bounds = await management.log.bounds(management.pool, stream)
    events = await management.log.read(management.pool, stream, after=query.after, limit=query.n)
    joined = b",".join(to_cloudevent_json(event) for event in events)
    body = b'{"events":[%s],"first_seq":%d,"head":%d}' % (joined, bounds.first_seq, bounds.seq)
    return web.Response(body=body, content_type="application/json")


async def show_account(request: web.Request) -> web.Response:
    identity = request[IDENTITY]
    return _json(AccountView(name=identity.name, is_admin=identity.is_admin))


async def show_openapi(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(request.app[MANAGEMENT].document()), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/repositories", "login", "List repositories", list_repositories,
          query=PageQuery, response=RepositoryPage),
    Route("GET", "/api/v1/repositories/{name}/-/events", "repository:pull", "Read a repository's events", list_events,
          query=EventsQuery, response=EventPage),
    Route("GET", "/api/v1/account", "login", "Show who is logged in", show_account, response=AccountView),
    Route("GET", "/api/v1/openapi.json", "public", "Show this document", show_openapi),
)  # fmt: skip


def _json(model: BaseModel) -> web.Response:
    return web.Response(body=model.model_dump_json().encode(), content_type="application/json")

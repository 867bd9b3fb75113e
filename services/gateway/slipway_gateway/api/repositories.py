"""Repositories in the management API."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import Denied, NotFound
from slipway_common.events.catalogue import GrantGiven, GrantTaken
from slipway_common.events.event import Event, repository_stream, to_cloudevent_json
from slipway_common.oci.names import namespace_of, parse_repository_name
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import IDENTITY, ORIGIN, REPOSITORY, STANDING, account_of
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, given, nothing, once, read_json, wanted_version
from slipway_gateway.domain.access import Action
from slipway_gateway.repositories import Wish
from slipway_gateway.store.repositories import RepositoryDetails, RepositoryFilter, readable_by

Visibility = Literal["private", "public"]
Kind = Literal["package", "application"]


class RepositoryView(BaseModel):
    """A repository."""

    id: int = Field(description="Never used again; stays the same when the repository is renamed.")
    name: str
    namespace: str = Field(description="First component of the name; empty for names without one.")
    visibility: Visibility
    kind: Kind = Field(description="Named after a software package, or after an application.")
    description: str = Field(description="Markdown.")
    labels: dict[str, str]
    created_at: datetime
    created_by: str | None
    updated_at: datetime


class RepositoryWithRole(RepositoryView):
    actions: list[Action] = Field(description="What the caller may do here.")


class RepositoryPage(BaseModel):
    repositories: list[RepositoryView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class RepositoryQuery(PageQuery):
    namespace: str | None = Field(None, max_length=255, pattern=r"^[^\x00]*$", description="Only those of a namespace.")
    visibility: Visibility | None = Field(None, description="Only public or only private ones.")
    kind: Kind | None = Field(None, description="Only packages or only applications.")
    q: str | None = Field(None, max_length=255, pattern=r"^[^\x00]*$", description="Only names that contain this.")


class NewRepositoryBody(Body):
    name: str = Field(description="Full name, such as `acme/web`.")
    visibility: Visibility | None = Field(None, description="Default: as the namespace says.")
    kind: Kind = "package"
    description: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class RepositoryPatch(Body):
    """What is to be changed; what is left out stays."""

    name: str = Field("", description="A new name, perhaps in another namespace; the old one leads here for a while.")
    visibility: Visibility = "private"
    kind: Kind = "package"
    description: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class EventsQuery(BaseModel):
    after: int = Field(0, ge=0, le=2**63 - 1, description="Only events with a larger sequence number.")
    n: int = Field(100, ge=1, le=1000, description="Entries in a page.")


class EventPage(BaseModel):
    """CloudEvents in the order of their sequence numbers, which have no gaps."""

    events: list[dict[str, Any]]
    first_seq: int = Field(description="The oldest event still kept; older ones went by retention.")
    head: int = Field(description="The newest event's sequence number.")


async def list_repositories(request: web.Request) -> web.Response:
    query = RepositoryQuery.model_validate(dict(request.query))
    management = request.app[MANAGEMENT]
    found = await management.repository_store.list_by_name(
        readable_by(management.access.rules, account_of(request)),
        after=query.last,
        limit=query.n + 1,
        wanted=RepositoryFilter(query.namespace, query.visibility, query.kind, query.q),
    )
    page = [RepositoryView(**_shown(one)) for one in found[: query.n]]
    return answer(RepositoryPage(repositories=page, next=page[-1].name if len(found) > query.n else None))


async def create_repository(request: web.Request) -> web.Response:
    body = await read_json(request, NewRepositoryBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewRepositoryBody) -> web.Response:
    management, identity = request.app[MANAGEMENT], request[IDENTITY]
    name = parse_repository_name(body.name)
    standing = await management.access.standing(identity, name, former_names=False)
    if not management.access.may(identity, standing, Action.PUSH):
        raise Denied("this needs the right to push to that name", action="create", target=name)
    wish = Wish(body.visibility, body.kind, body.description, body.labels)
    made = await management.repositories.create(name, wish, standing.account, request[ORIGIN])
    location = f"/api/v1/repositories/{made.name}"
    return answer(RepositoryView(**_shown(made)), status=201, version=made.version, location=location)


async def show_repository(request: web.Request) -> web.Response:
    management, standing = request.app[MANAGEMENT], request[STANDING]
    found = await management.repository_store.find_details(request[REPOSITORY].id)
    if found is None:
        raise NotFound("no such repository", name=request[REPOSITORY].name)
    actions = sorted(management.access.rules.rights(standing.account, standing.place))
    return answer(RepositoryWithRole(**_shown(found), actions=actions), version=found.version)


async def update_repository(request: web.Request) -> web.Response:
    management, repository = request.app[MANAGEMENT], request[REPOSITORY]
    values = given(await read_json(request, RepositoryPatch))
    target = None
    if "name" in values:
        _require_admin(request)
        values["name"] = parse_repository_name(values["name"])
        target = await management.access.standing(request[IDENTITY], values["name"], former_names=False)
    if "visibility" in values:
        _require_admin(request)
    after = await management.repositories.update(
        repository,
        values,
        version=wanted_version(request),
        standing_at_target=target,
        origin=request[ORIGIN],
    )
    return answer(RepositoryView(**_shown(after)), version=after.version)


def _require_admin(request: web.Request) -> None:
    """Name and visibility decide on who gets at the repository: that takes more than the settings."""
    decision = request.app[MANAGEMENT].access.may(request[IDENTITY], request[STANDING], Action.ADMIN)
    if not decision:
        raise Denied("changing the name or the visibility needs the role admin", action="admin")


async def delete_repository(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].repositories.delete(
        request[REPOSITORY], version=wanted_version(request), origin=request[ORIGIN]
    )
    return nothing()


async def list_events(request: web.Request) -> web.Response:
    query = EventsQuery.model_validate(dict(request.query))
    management, stream = request.app[MANAGEMENT], repository_stream(request[REPOSITORY].id)
    bounds = await management.log.bounds(management.pool, stream)
    events = await management.log.read(management.pool, stream, after=query.after, limit=query.n)
    whole = management.access.may(request[IDENTITY], request[STANDING], Action.ADMIN)
    joined = b",".join(to_cloudevent_json(event if whole else _without_grants(event)) for event in events)
    body = b'{"events":[%s],"first_seq":%d,"head":%d}' % (joined, bounds.first_seq, bounds.seq)
    return web.Response(body=body, content_type="application/json")


def _without_grants(event: Event) -> Event:
    """The event as whoever may only pull sees it: that rights were changed, but neither whose nor by whom."""
    if event.type in (GrantGiven.TYPE, GrantTaken.TYPE):
        return replace(event, data={}, actor=None, request_id=None)
    return event


def _shown(details: RepositoryDetails) -> dict[str, Any]:
    return {
        "id": details.id, "name": details.name, "namespace": namespace_of(details.name),
        "visibility": details.visibility, "kind": details.kind, "description": details.description,
        "labels": dict(details.labels), "created_at": details.created_at, "created_by": details.created_by,
        "updated_at": details.updated_at,
    }  # fmt: skip


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/repositories", "login", "List the repositories that you may read", list_repositories,
          query=RepositoryQuery, response=RepositoryPage),
    Route("POST", "/api/v1/repositories", "login", "Create a repository", create_repository,
          body=NewRepositoryBody, response=RepositoryView, status=201),
    Route("GET", "/api/v1/repositories/{name}/-/events", "repository:pull", "Read a repository's events", list_events,
          query=EventsQuery, response=EventPage),
    Route("GET", "/api/v1/repositories/{name}", "repository:pull", "Show a repository", show_repository,
          response=RepositoryWithRole),
    Route("PATCH", "/api/v1/repositories/{name}", "repository:maintain", "Change, rename or move a repository",
          update_repository, body=RepositoryPatch, response=RepositoryView),
    Route("DELETE", "/api/v1/repositories/{name}", "repository:admin", "Delete a repository with all that is in it",
          delete_repository, status=204),
)  # fmt: skip

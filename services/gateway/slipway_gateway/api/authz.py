"""Why may somebody do something, and what was done: for those who look after a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import Denied
from slipway_common.events.event import repository_stream
from slipway_common.oci.names import parse_repository_name
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import IDENTITY, REPOSITORY, account_of
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Moment, answer
from slipway_gateway.audit import AuditEntry, AuditFilter
from slipway_gateway.domain.access import Action, RoleName
from slipway_gateway.domain.principals import Subject, SubjectKind, parse_subject
from slipway_gateway.store.access import ExplainedGrant

NDJSON = "application/x-ndjson"


class ExplainQuery(BaseModel):
    principal: str = Field(description="`user:alice`, `robot:acme+ci`, or `anonymous` for those who do not log in.")
    action: Action
    repository: str = Field(description="Full name, of a repository that exists or one that could.")


class GrantReached(BaseModel):
    role: RoleName
    on: str = Field(description="`repository`, `namespace`, or the pattern.")
    team: str | None


class ExplanationView(BaseModel):
    allowed: bool
    decision: Literal["allow", "login", "scope", "deny"]
    because: list[str]
    grants: list[GrantReached]


class AuditQuery(BaseModel):
    n: int = Field(100, ge=1, le=1000, description="Entries in a page.")
    last: str = Field("", max_length=200, pattern=r"^[^\x00]*$", description="The `next` of the page before.")
    principal: str | None = Field(
        None,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Only what this user or robot did: `alice` or `user:alice`.",
    )
    outcome: Literal["changed", "refused"] | None = Field(None, description="Only changes, or only refusals.")
    since: Moment | None = Field(None, description="Only from this time on.")
    until: Moment | None = Field(None, description="Only before this time.")


class WideAuditQuery(AuditQuery):
    repository: str | None = Field(None, max_length=255, description="Only what concerns this repository.")


class AuditEntryView(BaseModel):
    at: datetime
    outcome: Literal["changed", "refused"]
    actor: str | None
    address: str | None
    action: str = Field(description="The event's type; of a refusal, what was refused.")
    target: str | None
    request_id: str | None
    count: int = Field(description="How many of the same within a few seconds: refusals are gathered.")
    details: dict[str, Any]


class AuditPage(BaseModel):
    entries: list[AuditEntryView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


async def explain(request: web.Request) -> web.Response:
    query = ExplainQuery.model_validate(dict(request.query))
    management, account = request.app[MANAGEMENT], account_of(request)
    name = parse_repository_name(query.repository)
    subject = None if query.principal == "anonymous" else _principal(query.principal)
    own = account is not None and subject is not None and account.name == subject.name and account.kind == subject.kind
    standing = await management.access.standing(request[IDENTITY], name)
    if not own and not management.access.may(request[IDENTITY], standing, Action.ADMIN):
        raise Denied(
            "what others may do is told to administrators of the repository only", action="explain", target=name
        )
    knows_name = management.access.may(request[IDENTITY], standing, Action.PULL)
    found = await management.explanations.explain(subject, query.action, name, knows_name=knows_name)
    return answer(
        ExplanationView(
            allowed=found.allowed,
            decision=found.decision.value,
            because=found.because,
            grants=[_reached(grant) for grant in found.grants],
        )
    )


def _reached(grant: ExplainedGrant) -> GrantReached:
    return GrantReached(role=grant.role.word, on=grant.on, team=grant.team)


def _principal(text: str) -> Subject:
    subject = parse_subject(text)
    if subject.kind is SubjectKind.TEAM:
        raise Denied("a team does nothing by itself: ask for one of its members")
    return subject


async def list_audit(request: web.Request) -> web.StreamResponse:
    query = WideAuditQuery.model_validate(dict(request.query))
    stream = target = None
    if query.repository is not None:
        target = parse_repository_name(query.repository)
        # Also of a repository that was deleted since; a name that never was one has no changes, but what was refused at it.
        found = await request.app[MANAGEMENT].repository_store.find_last_of_name(target)
        stream = repository_stream(found or 0)
    return await _audit(request, query, stream, target)


async def list_repository_audit(request: web.Request) -> web.StreamResponse:
    repository = request[REPOSITORY]
    query = AuditQuery.model_validate(dict(request.query))
    return await _audit(request, query, repository_stream(repository.id), repository.name)


async def _audit(request: web.Request, query: AuditQuery, stream: str | None, target: str | None) -> web.StreamResponse:
    audit = request.app[MANAGEMENT].audit
    wanted = AuditFilter(_bare(query.principal), stream, target, query.outcome, query.since, query.until)
    if NDJSON in request.headers.get("Accept", ""):
        return await _export(request, audit.export(wanted))
    found = await audit.page(wanted, last=query.last, limit=query.n + 1)
    entries = [_entry(one) for one in found[: query.n]]
    return answer(AuditPage(entries=entries, next=found[query.n - 1].place if len(found) > query.n else None))


def _bare(principal: str | None) -> str | None:
    """`alice`, also where it is written `user:alice`: no user and robot have the same name."""
    return principal.partition(":")[2] or principal if principal is not None else None


async def _export(request: web.Request, entries: AsyncIterator[AuditEntry]) -> web.StreamResponse:
    """Every entry, a line each, as long as the client reads."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
    await response.prepare(request)
    async for entry in entries:
        await response.write(_entry(entry).model_dump_json().encode() + b"\n")
    await response.write_eof()
    return response


def _entry(entry: AuditEntry) -> AuditEntryView:
    return AuditEntryView(**{name: getattr(entry, name) for name in AuditEntryView.model_fields})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/authz/explain", "login", "Explain why somebody may do something, or may not", explain,
          query=ExplainQuery, response=ExplanationView),
    Route("GET", "/api/v1/audit", "system:admin", "List what was changed and refused", list_audit,
          query=WideAuditQuery, response=AuditPage),
    Route("GET", "/api/v1/repositories/{name}/-/audit", "repository:admin", "List what was changed and refused in a repository",
          list_repository_audit, query=AuditQuery, response=AuditPage),
)  # fmt: skip

"""Teams in the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import Denied, InvalidInput, NotFound
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import ORIGIN, account_of
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, given, nothing, once, read_json, wanted_version
from slipway_gateway.domain.principals import parse_account_name
from slipway_gateway.store.teams import Team, TeamMember, TeamRole


class TeamView(BaseModel):
    """A team: users who are given rights together."""

    name: str
    description: str
    external_groups: list[str] = Field(description="Groups of the OpenID provider, whose users are members.")
    created_at: datetime
    created_by: str | None


class TeamPage(BaseModel):
    teams: list[TeamView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class NewTeamBody(Body):
    name: str
    description: str = ""
    external_groups: list[str] = Field(default_factory=list)


class TeamPatch(Body):
    """What is to be changed; what is left out stays."""

    description: str = ""
    external_groups: list[str] = Field(default_factory=list, description="For administrators. Replace those before.")


class TeamMemberView(BaseModel):
    name: str = Field(description="The user.")
    role: TeamRole
    source: Literal["manual", "oidc"] = Field(
        description="`oidc`: put there by the provider's groups, and taken away by them."
    )
    added_at: datetime
    added_by: str | None


class TeamMemberPage(BaseModel):
    members: list[TeamMemberView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class TeamMemberBody(Body):
    role: TeamRole = Field("member", description="A maintainer adds and removes members.")


async def list_teams(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    found = await request.app[MANAGEMENT].team_store.list_by_name(after=query.last, limit=query.n + 1)
    page = [_view(one) for one in found[: query.n]]
    return answer(TeamPage(teams=page, next=page[-1].name if len(found) > query.n else None))


async def create_team(request: web.Request) -> web.Response:
    body = await read_json(request, NewTeamBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewTeamBody) -> web.Response:
    made = await request.app[MANAGEMENT].teams.create(
        parse_account_name(body.name), body.model_dump(exclude={"name"}), request[ORIGIN]
    )
    return answer(_view(made), status=201, version=made.version, location=f"/api/v1/teams/{made.name}")


async def show_team(request: web.Request) -> web.Response:
    found = await _find(request)
    return answer(_view(found), version=found.version)


async def update_team(request: web.Request) -> web.Response:
    team = await _find(request)
    await _require(request, team, "maintainer")
    values = given(await read_json(request, TeamPatch))
    if "external_groups" in values and not _is_operator(request):
        raise Denied("which groups make members is for administrators to say")
    after = await request.app[MANAGEMENT].teams.update(
        team.name, values, version=wanted_version(request), origin=request[ORIGIN]
    )
    return answer(_view(after), version=after.version)


async def delete_team(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].teams.delete(_name(request), version=wanted_version(request), origin=request[ORIGIN])
    return nothing()


async def list_members(request: web.Request) -> web.Response:
    query, team = PageQuery.model_validate(dict(request.query)), await _find(request)
    await _require(request, team, "member")
    found = await request.app[MANAGEMENT].team_store.list_members(team.id, after=query.last, limit=query.n + 1)
    page = [_member_view(one) for one in found[: query.n]]
    return answer(TeamMemberPage(members=page, next=page[-1].name if len(found) > query.n else None))


async def put_member(request: web.Request) -> web.Response:
    team = await _find(request)
    await _require(request, team, "maintainer")
    body = await read_json(request, TeamMemberBody)
    member = await request.app[MANAGEMENT].teams.add_member(team.name, _user(request), body.role, request[ORIGIN])
    return answer(_member_view(member))


async def delete_member(request: web.Request) -> web.Response:
    team = await _find(request)
    await _require(request, team, "maintainer")
    await request.app[MANAGEMENT].teams.remove_member(team.name, _user(request), request[ORIGIN])
    return nothing()


async def _require(request: web.Request, team: Team, role: TeamRole) -> None:
    """Raise Denied unless the caller is an administrator or has that role in the team, with a credential that nothing bounds."""
    if _is_operator(request):
        return
    account, found = account_of(request), None
    if account is not None and account.bounds.unlimited:
        found = await request.app[MANAGEMENT].team_store.find_role(team.id, account.id)
    if found is None or (role == "maintainer" and found != "maintainer"):
        raise Denied(f"only administrators and the team's {role}s may do this")


def _is_operator(request: web.Request) -> bool:
    return request.app[MANAGEMENT].access.rules.is_operator(account_of(request))


def _name(request: web.Request) -> str:
    try:
        return parse_account_name(request.match_info["team"])
    except InvalidInput as exc:
        raise NotFound("no such team") from exc


def _user(request: web.Request) -> str:
    try:
        return parse_account_name(request.match_info["user"])
    except InvalidInput as exc:
        raise NotFound("no such user") from exc


async def _find(request: web.Request) -> Team:
    found = await request.app[MANAGEMENT].team_store.find(_name(request))
    if found is None:
        raise NotFound("no such team", team=_name(request))
    return found


def _view(team: Team) -> TeamView:
    return TeamView(**{name: getattr(team, name) for name in TeamView.model_fields})


def _member_view(member: TeamMember) -> TeamMemberView:
    return TeamMemberView(**{name: getattr(member, name) for name in TeamMemberView.model_fields})


_TEAM = "/api/v1/teams/{team}"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/teams", "login", "List teams", list_teams, query=PageQuery, response=TeamPage),
    Route("POST", "/api/v1/teams", "system:admin", "Create a team", create_team,
          body=NewTeamBody, response=TeamView, status=201),
    Route("GET", _TEAM, "login", "Show a team", show_team, response=TeamView),
    Route("PATCH", _TEAM, "login", "Change what is said of a team; as an administrator, also its groups", update_team,
          body=TeamPatch, response=TeamView),
    Route("DELETE", _TEAM, "system:admin", "Delete a team with its grants", delete_team, status=204),
    Route("GET", _TEAM + "/members", "login", "List who is in a team, as one of them", list_members,
          query=PageQuery, response=TeamMemberPage),
    Route("PUT", _TEAM + "/members/{user}", "login", "Put a user into a team, as its maintainer", put_member,
          body=TeamMemberBody, response=TeamMemberView),
    Route("DELETE", _TEAM + "/members/{user}", "login", "Take a user out of a team, as its maintainer", delete_member,
          status=204),
)  # fmt: skip

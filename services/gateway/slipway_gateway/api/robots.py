"""Robots in the management API: their secrets, and the CI systems whose tokens stand for them."""

from __future__ import annotations

from datetime import datetime, timedelta

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import InvalidInput, NotFound
from slipway_common.oci.names import parse_repository_name
from slipway_common.web.routes import Route
from slipway_gateway.api.account import MAX_DAYS, TokenView
from slipway_gateway.api.gatekeeper import NAMESPACE, ORIGIN, account_of
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, given, nothing, once, read_json, wanted_version
from slipway_gateway.api.users import number_in
from slipway_gateway.credentials import CredentialBounds
from slipway_gateway.domain.access import Action, RoleName, parse_role
from slipway_gateway.domain.principals import parse_account_name, parse_robot_name, robot_name
from slipway_gateway.robots import RobotWish
from slipway_gateway.store.credentials import CredentialRow
from slipway_gateway.store.robots import NewTrust, Robot, RobotTrust


class RobotView(BaseModel):
    """A login for programs, which belongs to a namespace."""

    name: str = Field(description="`<namespace>+<name>`; with it and a secret the robot logs in.")
    description: str
    disabled: bool = Field(description="Cannot log in, by whatever secret.")
    created_at: datetime
    created_by: str | None


class SecretView(TokenView):
    """A robot's secret, as far as it is known afterwards."""

    name: str = Field(description="Empty; `trust:<name>` if a CI system got it for a token of its own.")


class RobotWithSecrets(RobotView):
    secrets: list[SecretView] = Field(description="The newest first, at the end those that CI systems hold.")


class RobotWithSecret(RobotView):
    secret: str = Field(description="The secret itself, shown this once.")


class RobotPage(BaseModel):
    robots: list[RobotView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class NewSecretBody(Body):
    actions: list[Action] | None = Field(None, min_length=1, max_length=5, description="What it is good for at most.")
    patterns: list[str] | None = Field(None, min_length=1, max_length=100, description="Such as `acme/web`, `acme/**`.")
    expires_in_days: float | None = Field(None, gt=0, le=MAX_DAYS)


class NewRobotBody(NewSecretBody):
    name: str = Field(description="Without the namespace and the plus.")
    description: str = ""
    role: RoleName | None = None
    repositories: list[str] | None = Field(
        None, min_length=1, max_length=100, description="Where it has the role; left out: in the whole namespace."
    )


class RobotPatch(Body):
    """What is to be changed; what is left out stays."""

    description: str = ""
    disabled: bool = False


class NewSecret(SecretView):
    secret: str = Field(description="The secret itself, shown this once.")


class TrustView(BaseModel):
    """Whose tokens stand for a robot."""

    id: int
    name: str
    issuer: str = Field(description="The `iss` of the tokens: whose keys sign them.")
    audience: str = Field(description="The `aud` of the tokens.")
    claims: dict[str, str] = Field(description="What a token must say, as patterns: `*` stands for anything.")
    life_s: int = Field(description="For how many seconds a login is good.")
    created_at: datetime
    created_by: str | None


class TrustList(BaseModel):
    trusts: list[TrustView]


class NewTrustBody(Body):
    name: str
    issuer: str = Field(description="Such as `https://token.actions.githubusercontent.com`, as the tokens write it.")
    audience: str = "slipway"
    claims: dict[str, str] = Field(description='Such as `{"repository": "acme/web", "ref": "refs/heads/main"}`.')
    life_s: int = Field(900, ge=60, le=43_200)


async def list_robots(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    found = await request.app[MANAGEMENT].robot_store.list_by_name(
        request[NAMESPACE].id or 0, after=query.last, limit=query.n + 1
    )
    page = [RobotView(**_shown(one)) for one in found[: query.n]]
    return answer(RobotPage(robots=page, next=page[-1].name if len(found) > query.n else None))


async def create_robot(request: web.Request) -> web.Response:
    body = await read_json(request, NewRobotBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewRobotBody) -> web.Response:
    wish = RobotWish(
        description=body.description,
        role=parse_role(body.role) if body.role is not None else None,
        repositories=[parse_repository_name(one) for one in body.repositories]
        if body.repositories is not None
        else None,
        bounds=_bounds(body),
    )
    made = await request.app[MANAGEMENT].robots.create(
        request[NAMESPACE], parse_account_name(body.name), wish, account=account_of(request), origin=request[ORIGIN]
    )
    view = RobotWithSecret(**_shown(made.robot), secret=made.secret)
    return answer(view, status=201, version=made.robot.version, location=f"/api/v1/robots/{made.robot.name}")


async def show_robot(request: web.Request) -> web.Response:
    found = await _find(request)
    secrets = await request.app[MANAGEMENT].robot_store.list_secrets(found.id)
    view = RobotWithSecrets(**_shown(found), secrets=[SecretView(**_secret(one)) for one in secrets])
    return answer(view, version=found.version)


async def update_robot(request: web.Request) -> web.Response:
    values = given(await read_json(request, RobotPatch))
    after = await request.app[MANAGEMENT].robots.update(
        _name(request), values, version=wanted_version(request), origin=request[ORIGIN]
    )
    return answer(RobotView(**_shown(after)), version=after.version)


async def delete_robot(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].robots.delete(_name(request), version=wanted_version(request), origin=request[ORIGIN])
    return nothing()


async def create_secret(request: web.Request) -> web.Response:
    body = await read_json(request, NewSecretBody)
    return await once(request, lambda: _create_secret(request, body))


async def _create_secret(request: web.Request, body: NewSecretBody) -> web.Response:
    made, secret = await request.app[MANAGEMENT].robots.add_secret(
        _name(request), _bounds(body), account=account_of(request), origin=request[ORIGIN]
    )
    return answer(NewSecret(**_secret(made), secret=secret), status=201)


async def revoke_secret(request: web.Request) -> web.Response:
    robot = await _find(request)
    await request.app[MANAGEMENT].robots.revoke_secret(robot, number_in(request, "id"), request[ORIGIN])
    return nothing()


async def list_trusts(request: web.Request) -> web.Response:
    found = await request.app[MANAGEMENT].workloads.list_trusts(await _find(request))
    return answer(TrustList(trusts=[_trust_view(one) for one in found]))


async def create_trust(request: web.Request) -> web.Response:
    body = await read_json(request, NewTrustBody)
    return await once(request, lambda: _create_trust(request, body))


async def _create_trust(request: web.Request, body: NewTrustBody) -> web.Response:
    made = await request.app[MANAGEMENT].workloads.add_trust(
        _name(request), NewTrust(**body.model_dump()), account=account_of(request), origin=request[ORIGIN]
    )
    return answer(_trust_view(made), status=201)


async def remove_trust(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].workloads.remove_trust(_name(request), number_in(request, "id"), request[ORIGIN])
    return nothing()


def _bounds(body: NewSecretBody) -> CredentialBounds:
    days = body.expires_in_days
    return CredentialBounds(body.actions, body.patterns, timedelta(days=days) if days is not None else None)


def _name(request: web.Request) -> str:
    try:
        return robot_name(*parse_robot_name(request.match_info["robot"]))
    except InvalidInput as exc:
        raise NotFound("no such robot") from exc


async def _find(request: web.Request) -> Robot:
    found = await request.app[MANAGEMENT].robot_store.find(_name(request))
    if found is None:
        raise NotFound("no such robot", robot=_name(request))
    return found


def _shown(robot: Robot) -> dict[str, object]:
    return {name: getattr(robot, name) for name in RobotView.model_fields}


def _secret(row: CredentialRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in SecretView.model_fields}


def _trust_view(trust: RobotTrust) -> TrustView:
    return TrustView(**{name: getattr(trust, name) for name in TrustView.model_fields})


_OF_NAMESPACE = "/api/v1/namespaces/{namespace}/robots"
_ROBOT = "/api/v1/robots/{robot}"
ROUTES: tuple[Route, ...] = (
    Route("GET", _OF_NAMESPACE, "namespace:admin", "List a namespace's robots", list_robots,
          query=PageQuery, response=RobotPage),
    Route("POST", _OF_NAMESPACE, "namespace:admin", "Create a robot, with a secret", create_robot,
          body=NewRobotBody, response=RobotWithSecret, status=201),
    Route("GET", _ROBOT, "robot:admin", "Show a robot", show_robot, response=RobotWithSecrets),
    Route("PATCH", _ROBOT, "robot:admin", "Change, disable or enable a robot", update_robot,
          body=RobotPatch, response=RobotView),
    Route("DELETE", _ROBOT, "robot:admin", "Delete a robot with its secrets and grants", delete_robot, status=204),
    Route("POST", _ROBOT + "/secrets", "robot:admin", "Make a second secret, to replace the first", create_secret,
          body=NewSecretBody, response=NewSecret, status=201),
    Route("DELETE", _ROBOT + "/secrets/{id}", "robot:admin", "Revoke a robot's secret", revoke_secret, status=204),
    Route("GET", _ROBOT + "/trusts", "robot:admin", "List whose tokens stand for a robot", list_trusts,
          response=TrustList),
    Route("POST", _ROBOT + "/trusts", "robot:admin", "Let a CI system's tokens stand for a robot", create_trust,
          body=NewTrustBody, response=TrustView, status=201),
    Route("DELETE", _ROBOT + "/trusts/{id}", "robot:admin", "Trust a CI system's tokens no longer", remove_trust,
          status=204),
)  # fmt: skip

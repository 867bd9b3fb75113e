"""Users in the management API, for administrators."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from pydantic import BaseModel, Field, SecretStr

from slipway_common.errors import InvalidInput, NotFound
from slipway_common.web.routes import Route
from slipway_gateway.api.account import TokenList, token_view
from slipway_gateway.api.gatekeeper import ORIGIN
from slipway_gateway.api.management import MANAGEMENT
from slipway_gateway.api.resources import Body, PageQuery, answer, given, nothing, once, read_json, wanted_version
from slipway_gateway.credentials import Owner
from slipway_gateway.domain.principals import parse_account_name
from slipway_gateway.domain.secrets import CredentialKind
from slipway_gateway.store.accounts import User


class UserView(BaseModel):
    name: str
    display_name: str
    email: str
    is_admin: bool = Field(description="Administrators may do everything in the registry.")
    disabled: bool = Field(description="Cannot log in, by whatever credential.")
    has_password: bool = Field(description="False for those who log in at a provider only.")
    created_at: datetime
    created_by: str | None
    last_login_at: datetime | None


class UserWithTeams(UserView):
    teams: list[str]


class UserWithPassword(UserView):
    password: str | None = Field(None, description="If none was given: the generated one, shown this once.")


class UserPage(BaseModel):
    users: list[UserView]
    next: str | None = Field(None, description="Pass as `last` to get the next page; null on the last one.")


class NewUserBody(Body):
    name: str
    password: SecretStr | None = Field(None, description="Left out: one is generated, and shown in the answer.")
    display_name: str = ""
    email: str = ""
    is_admin: bool = False


class UserPatch(Body):
    """What is to be changed; what is left out stays."""

    display_name: str = ""
    email: str = ""
    is_admin: bool = False
    disabled: bool = False
    password: SecretStr | None = None


async def list_users(request: web.Request) -> web.Response:
    query = PageQuery.model_validate(dict(request.query))
    found = await request.app[MANAGEMENT].account_store.list_by_name(after=query.last, limit=query.n + 1)
    page = [UserView(**_shown(one)) for one in found[: query.n]]
    return answer(UserPage(users=page, next=page[-1].name if len(found) > query.n else None))


async def create_user(request: web.Request) -> web.Response:
    body = await read_json(request, NewUserBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewUserBody) -> web.Response:
    password = body.password.get_secret_value() if body.password is not None else None
    made, generated = await request.app[MANAGEMENT].accounts.create(
        parse_account_name(body.name),
        password=password,
        values=body.model_dump(exclude={"name", "password"}),
        origin=request[ORIGIN],
    )
    view = UserWithPassword(**_shown(made), password=generated)
    return answer(view, status=201, version=made.version, location=f"/api/v1/users/{made.name}")


async def show_user(request: web.Request) -> web.Response:
    found = await _find(request)
    teams = await request.app[MANAGEMENT].account_store.teams_of(found.id)
    return answer(UserWithTeams(**_shown(found), teams=teams), version=found.version)


async def update_user(request: web.Request) -> web.Response:
    body = await read_json(request, UserPatch)
    values = given(body)
    values.pop("password", None)
    after = await request.app[MANAGEMENT].accounts.update(
        _name(request),
        values,
        password=body.password.get_secret_value() if body.password is not None else None,
        version=wanted_version(request),
        origin=request[ORIGIN],
    )
    return answer(UserView(**_shown(after)), version=after.version)


async def delete_user(request: web.Request) -> web.Response:
    await request.app[MANAGEMENT].accounts.delete(
        _name(request), version=wanted_version(request), origin=request[ORIGIN]
    )
    return nothing()


async def list_user_tokens(request: web.Request) -> web.Response:
    owner = _owner(await _find(request))
    found = await request.app[MANAGEMENT].credentials.list_of(owner, CredentialKind.TOKEN)
    return answer(TokenList(tokens=[token_view(one) for one in found]))


async def revoke_user_token(request: web.Request) -> web.Response:
    owner = _owner(await _find(request))
    await request.app[MANAGEMENT].credentials.revoke(owner, number_in(request, "id"), request[ORIGIN])
    return nothing()


def number_in(request: web.Request, part: str) -> int:
    """A number that the path names. Raises NotFound for what is none: nothing has such an id."""
    text = request.match_info[part]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound("there is nothing of that id", id=text[:40])
    return int(text)


def _name(request: web.Request) -> str:
    try:
        return parse_account_name(request.match_info["user"])
    except InvalidInput as exc:
        raise NotFound("no such user") from exc


async def _find(request: web.Request) -> User:
    found = await request.app[MANAGEMENT].account_store.find(_name(request))
    if found is None:
        raise NotFound("no such user", account=_name(request))
    return found


def _owner(user: User) -> Owner:
    return Owner(user.id, user.name, "user")


def _shown(user: User) -> dict[str, object]:
    return {name: getattr(user, name) for name in UserView.model_fields}


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/users", "system:admin", "List users", list_users, query=PageQuery, response=UserPage),
    Route("POST", "/api/v1/users", "system:admin", "Create a user", create_user,
          body=NewUserBody, response=UserWithPassword, status=201),
    Route("GET", "/api/v1/users/{user}", "system:admin", "Show a user", show_user, response=UserWithTeams),
    Route("PATCH", "/api/v1/users/{user}", "system:admin", "Change, disable or enable a user, or set a password", update_user,
          body=UserPatch, response=UserView),
    Route("DELETE", "/api/v1/users/{user}", "system:admin", "Delete a user", delete_user, status=204),
    Route("GET", "/api/v1/users/{user}/tokens", "system:admin", "List a user's access tokens", list_user_tokens,
          response=TokenList),
    Route("DELETE", "/api/v1/users/{user}/tokens/{id}", "system:admin", "Revoke a user's access token", revoke_user_token,
          status=204),
)  # fmt: skip

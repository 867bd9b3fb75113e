"""One's own account in the management API: who am I, my password, my access tokens, my login in a browser."""

from __future__ import annotations

from datetime import datetime, timedelta

from aiohttp import web
from pydantic import BaseModel, Field, SecretStr

from slipway_common.errors import Denied, NotFound
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import IDENTITY, ORIGIN, account_of
from slipway_gateway.api.management import AUTHENTICATOR, MANAGEMENT
from slipway_gateway.api.resources import Body, answer, nothing, once, read_json
from slipway_gateway.credentials import CredentialBounds, Owner
from slipway_gateway.domain.access import Account, Action
from slipway_gateway.domain.labels import check_line
from slipway_gateway.domain.secrets import CredentialKind
from slipway_gateway.identity import BadCredentials
from slipway_gateway.store.credentials import CredentialRow

MAX_DAYS = 3650


class AccountView(BaseModel):
    """Who is logged in. Without a login, where that is allowed, the name is null."""

    name: str | None
    is_admin: bool
    kind: str | None = Field(None, description="`user` or `robot`.")
    display_name: str = ""
    email: str = ""
    teams: list[str] = Field(default_factory=list)


class AccountPatch(Body):
    """What is to be changed; what is left out stays."""

    display_name: str | None = None
    email: str | None = None
    password: SecretStr | None = Field(None, description="A new password; it ends every login with the old one.")
    current_password: SecretStr | None = Field(None, description="Needed to set a new password.")


class TokenView(BaseModel):
    """An access token, without its secret."""

    id: int
    name: str
    hint: str = Field(description="The last characters of the secret.")
    actions: list[Action] | None = Field(description="What it is good for at most; null: whatever its owner may do.")
    patterns: list[str] | None = Field(description="On which repositories; null: on all.")
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None


class TokenList(BaseModel):
    tokens: list[TokenView]


class NewTokenBody(Body):
    name: str = Field(min_length=1, max_length=100, description="What it is for.")
    actions: list[Action] | None = Field(None, min_length=1, max_length=5)
    patterns: list[str] | None = Field(None, min_length=1, max_length=100, description="Such as `acme/web`, `acme/**`.")
    expires_in_days: float | None = Field(None, gt=0, le=MAX_DAYS)


class NewToken(TokenView):
    token: str = Field(description="The secret, shown this once.")


async def show_account(request: web.Request) -> web.Response:
    account = account_of(request)
    if account is None:
        return answer(AccountView(name=None, is_admin=False))
    store = request.app[MANAGEMENT].account_store
    user = await store.find(account.name) if account.kind == "user" else None
    view = AccountView(
        name=account.name,
        is_admin=account.is_admin,
        kind=account.kind,
        display_name=user.display_name if user else "",
        email=user.email if user else "",
        teams=await store.teams_of(account.id),
    )
    return answer(view, version=user.version if user else None)


async def update_account(request: web.Request) -> web.Response:
    body, account = await read_json(request, AccountPatch), _user(request)
    accounts = request.app[MANAGEMENT].accounts
    if body.password is not None:
        current = body.current_password.get_secret_value() if body.current_password is not None else ""
        await _check_password(request, account.name, current)
        await accounts.update(
            account.name, {}, password=body.password.get_secret_value(), version=None, origin=request[ORIGIN]
        )
    values = {
        key: value for key, value in (("display_name", body.display_name), ("email", body.email)) if value is not None
    }
    if values:
        await accounts.update(account.name, values, password=None, version=None, origin=request[ORIGIN])
    return await show_account(request)


async def _check_password(request: web.Request, name: str, password: str) -> None:
    """Raise Denied unless it is the account's; a guess here counts like one at the login."""
    try:
        await request.app[AUTHENTICATOR].by_password(name, password, request[ORIGIN].address or "")
    except BadCredentials as exc:
        raise Denied("the current password is wrong") from exc


async def list_tokens(request: web.Request) -> web.Response:
    found = await request.app[MANAGEMENT].credentials.list_of(_owner(request), CredentialKind.TOKEN)
    return answer(TokenList(tokens=[token_view(one) for one in found]))


async def create_token(request: web.Request) -> web.Response:
    body = await read_json(request, NewTokenBody)
    return await once(request, lambda: _create(request, body))


async def _create(request: web.Request, body: NewTokenBody) -> web.Response:
    check_line("name", body.name)
    made, secret = await request.app[MANAGEMENT].credentials.create(
        _owner(request), CredentialKind.TOKEN, body.name, bounds_of(body), request[ORIGIN]
    )
    return answer(NewToken(**token_view(made).model_dump(), token=secret), status=201)


async def revoke_token(request: web.Request) -> web.Response:
    text = request.match_info["id"]
    owner = Owner(_user(request).id, _user(request).name, "user")
    if text == "current":
        # A command line that logs out takes back the very token it used.
        credential_id = request[IDENTITY].credential_id
    else:
        credential_id = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
    if credential_id is None:
        raise NotFound("there is no such token or secret", id=text[:40])
    await request.app[MANAGEMENT].credentials.revoke(owner, credential_id, request[ORIGIN])
    return nothing()


def bounds_of(body: NewTokenBody) -> CredentialBounds:
    days = body.expires_in_days
    return CredentialBounds(body.actions, body.patterns, timedelta(days=days) if days is not None else None)


def token_view(row: CredentialRow) -> TokenView:
    return TokenView(**{name: getattr(row, name) for name in TokenView.model_fields})


def _user(request: web.Request) -> Account:
    account = account_of(request)
    if account is None or account.is_robot:
        raise Denied("this is for users")
    return account


def _owner(request: web.Request) -> Owner:
    account = _user(request)
    return Owner(account.id, account.name, "user")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/account", "login", "Show who is logged in", show_account, response=AccountView),
    Route("PATCH", "/api/v1/account", "account", "Change one's own name, address or password", update_account,
          body=AccountPatch, response=AccountView),
    Route("GET", "/api/v1/account/tokens", "account", "List one's own access tokens", list_tokens, response=TokenList),
    Route("POST", "/api/v1/account/tokens", "account", "Make an access token", create_token,
          body=NewTokenBody, response=NewToken, status=201),
    Route("DELETE", "/api/v1/account/tokens/{id}", "account", "Revoke one's own access token; `current`: the one in use",
          revoke_token, status=204),
)  # fmt: skip

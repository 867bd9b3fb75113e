"""Login with an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1; RFC 7636).

provider = OpenIdProvider(session, ProviderSettings(issuer="https://id.example.com/realms/acme", client_id="slipway"))
attempt = new_login_attempt()                                   # keep it in the browser's session
url = await provider.authorization_url(redirect_uri, attempt)   # send the browser there
login = await provider.exchange_code(code, attempt, redirect_uri)   # when it is back with the attempt's state
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import aiohttp
from yarl import URL

from slipway_common.errors import Misconfigured, Unavailable
from slipway_gateway.domain.trust import find_claim
from slipway_gateway.federation.documents import Answer, DirectRequests, send
from slipway_gateway.federation.issuer import UNKNOWN_KEY_PAUSE_S, Issuer, UnusableIssuer
from slipway_gateway.federation.tokens import RefusedToken, VerifiedToken, audiences_of, verify_token

_MAX_TEXT_LENGTH = 255  # of a subject (Core, section 2), and of what else is kept of a login
# What the provider says (RFC 6749, section 5.2) when it is the client that it does not accept, not the login.
_CLIENT_ERRORS = ("invalid_client", "unauthorized_client")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How the operator has registered Slipway with the provider.

    client_secret  None for a public client
    groups_claim   a claim of the ID token, or the path to one: `realm_access.roles`
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What ties the answer of the provider to the browser that asked: none of it may be guessed, each is used once."""

    state: str
    nonce: str
    verifier: str = field(repr=False)
    challenge: str


@dataclass(frozen=True, slots=True)
class ExternalLogin:
    """Who has logged in, as the provider says. Only `issuer` and `subject` together name somebody for good."""

    issuer: str
    subject: str
    preferred_username: str | None
    name: str | None
    email: str | None
    email_verified: bool
    groups: tuple[str, ...]


def new_login_attempt() -> LoginAttempt:
    verifier = secrets.token_urlsafe(32)
    return LoginAttempt(
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=verifier,
        challenge=challenge_of(verifier),
    )


def challenge_of(verifier: str) -> str:
    """S256 of RFC 7636, section 4.2."""
    return _base64url(hashlib.sha256(verifier.encode("ascii")).digest())


class OpenIdProvider:
    """The one provider that an operator has configured."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: ProviderSettings,
        *,
        unknown_key_pause_s: float = UNKNOWN_KEY_PAUSE_S,
    ) -> None:
        self._requests = DirectRequests(session)
        self._settings = settings
        self._issuer = Issuer(self._requests, settings.issuer, unknown_key_pause_s=unknown_key_pause_s)

    async def authorization_url(self, redirect_uri: str, attempt: LoginAttempt) -> str:
        """Where to send the browser. Raises Unavailable, UnusableIssuer."""
        endpoint = (await self._issuer.published()).authorization_endpoint
        if endpoint is None:
            raise UnusableIssuer(f"{self._settings.issuer} does not say where users log in")
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return str(endpoint.extend_query(query))

    async def exchange_code(self, code: str, attempt: LoginAttempt, redirect_uri: str) -> ExternalLogin:
        """Redeem the code that the browser brought back. The caller has compared the state.

        Raises RefusedToken or UnknownKey when the login does not hold, Unavailable when the provider is away, and Misconfigured
        when it does not know this client.
        """
        endpoint, headers, form = await self._as_client()
        form |= {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        answer = await send(self._requests, "POST", endpoint, headers=headers, form=form)
        tokens = self._accepted(answer, endpoint)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise RefusedToken("the identity provider sent no ID token")
        token = await verify_token(id_token, self._issuer, [self._settings.client_id])
        self._check_party(token)
        _check_nonce(token, attempt.nonce)
        _check_access_token(token, tokens.get("access_token"))
        return self._login_of(token.claims)

    async def _as_client(self) -> tuple[URL, dict[str, str], dict[str, str]]:
        """The token endpoint, with the header or the fields by which it knows this client (RFC 6749, section 2.3.1)."""
        published = await self._issuer.published()
        client_id, secret = self._settings.client_id, self._settings.client_secret
        if published.token_endpoint is None:
            raise UnusableIssuer(f"{self._settings.issuer} does not say where codes are redeemed")
        if secret is None:
            return published.token_endpoint, {}, {"client_id": client_id}
        if "client_secret_basic" in published.client_authentication:
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
            return published.token_endpoint, {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}, {}
        if "client_secret_post" in published.client_authentication:
            return published.token_endpoint, {}, {"client_id": client_id, "client_secret": secret}
        raise UnusableIssuer(f"{self._settings.issuer} does not take a client's secret in a way that is known here")

    def _accepted(self, answer: Answer, endpoint: URL) -> dict[str, Any]:
        if answer.status == 200 and answer.document is not None:
            return answer.document
        error = (answer.document or {}).get("error")
        if answer.status == 401 or error in _CLIENT_ERRORS:
            raise Misconfigured(
                "the identity provider does not accept Slipway's client id, its secret or what it asks for",
                client_id=self._settings.client_id,
            )
        if 400 <= answer.status < 500 and answer.status != 429:
            raise RefusedToken("the identity provider does not accept this login any more: start again")
        raise Unavailable(
            f"{endpoint.raw_host} answered {answer.status} for {endpoint.raw_path}", host=endpoint.raw_host
        )

    def _check_party(self, token: VerifiedToken) -> None:
        """The token must be made for this client, whoever else may read it (Core, section 3.1.3.7, steps 4 and 5)."""
        party = token.claims.get("azp")
        if party is None and len(audiences_of(token.claims)) > 1:
            raise RefusedToken("the token is for several clients and does not say for which it was made")
        if party is not None and party != self._settings.client_id:
            raise RefusedToken("the token was made for another client")

    def _login_of(self, claims: Mapping[str, Any]) -> ExternalLogin:
        subject = claims["sub"]
        if not 0 < len(subject) <= _MAX_TEXT_LENGTH:
            raise RefusedToken("the token's subject is empty or too long")
        return ExternalLogin(
            issuer=self._settings.issuer,
            subject=subject,
            preferred_username=_text(claims.get("preferred_username")),
            name=_text(claims.get("name")),
            email=_text(claims.get("email")),
            email_verified=claims.get("email_verified") is True,
            groups=_texts(find_claim(claims, self._settings.groups_claim)),
        )


def _check_nonce(token: VerifiedToken, nonce: str) -> None:
    stated = token.claims.get("nonce")
    if not isinstance(stated, str) or not hmac.compare_digest(stated.encode(), nonce.encode()):
        raise RefusedToken("the token is not the answer to this login")


def _check_access_token(token: VerifiedToken, access_token: object) -> None:
    """If the ID token names an access token, it must be the one that came with it (Core, section 3.1.3.6)."""
    stated = token.claims.get("at_hash")
    if stated is None:
        return
    # Half of the hash that belongs to the signature: Ed25519 has SHA-512, all others here SHA-256.
    make_hash = hashlib.sha256 if token.algorithm.endswith("256") else hashlib.sha512
    if isinstance(access_token, str) and isinstance(stated, str):
        digest = make_hash(access_token.encode()).digest()
        if hmac.compare_digest(_base64url(digest[: len(digest) // 2]).encode(), stated.encode()):
            return
    raise RefusedToken("the ID token and the access token do not belong together")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT_LENGTH else None


def _texts(value: object) -> tuple[str, ...]:
    """Of a list, or of one text, what can be a group's name."""
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for one in values if (text := _text(one)) is not None))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")

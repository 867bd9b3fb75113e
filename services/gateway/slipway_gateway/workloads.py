"""Keyless CI: a build proves by its CI system's own token who it is, and gets a short-lived robot secret for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from slipway_common.errors import Conflict, Denied, NotFound, Unauthenticated
from slipway_common.events.catalogue import TrustAdded, TrustRemoved
from slipway_common.events.event import Origin, namespace_stream
from slipway_gateway.changes import Change, Changes
from slipway_gateway.credentials import TRUST_PREFIX, CredentialBounds, Credentials
from slipway_gateway.domain.access import Account
from slipway_gateway.domain.principals import InvalidPrincipal, parse_account_name, parse_robot_name
from slipway_gateway.domain.secrets import CredentialKind
from slipway_gateway.domain.trust import claims_match, validate_rule
from slipway_gateway.federation.tokens import RefusedToken, audiences_of, unverified_issuer
from slipway_gateway.federation.workloads import Workload, WorkloadTokens
from slipway_gateway.identity import BadCredentials
from slipway_gateway.robots import owner_of
from slipway_gateway.store.robots import NewTrust, Robot, RobotStore, RobotTrust

_log = structlog.get_logger()

# RFC 8693, section 2.1.
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MAX_TRUSTS = 20
# Of one issuer, in the whole registry, among which a build is looked for that does not say which robot it wants to be.
_MAX_COMPARED = 1000
_MAX_LOGGED_CHARS = 128


@dataclass(frozen=True, slots=True)
class Issued:
    """A robot secret that ends by itself."""

    secret: str
    robot: str
    life_s: int


class Workloads:
    def __init__(self, store: RobotStore, verifier: WorkloadTokens, credentials: Credentials, changes: Changes) -> None:
        self._store = store
        self._verifier = verifier
        self._credentials = credentials
        self._changes = changes

    async def exchange(self, token: str, *, robot: str, origin: Origin) -> Issued:
        """A secret of `robot`, or of the only one that trusts such a token where `robot` is empty.

        Raises BadCredentials, the same for whatever reason: only the log says which. Raises Unavailable when the issuer is away.
        """
        try:
            workload = await self._verify(token, robot)
            trust = workload.trust
            secret = await self._issue(trust, replace(origin, actor=trust.robot))
        except Unauthenticated as exc:
            _log.info("workload_refused", robot=robot[:_MAX_LOGGED_CHARS], reason=exc.message)
            message = "no robot of this registry trusts the token, or not the one that was named"
            raise BadCredentials(message, name=robot or None) from exc
        _log.info("workload_let_in", robot=trust.robot, trust=trust.id, subject=workload.claims.get("sub"))
        return Issued(secret, trust.robot, trust.life_s)

    async def _verify(self, token: str, robot: str) -> Workload[RobotTrust]:
        candidates = await self._of_robot(robot) if robot else await self._of_issuer(unverified_issuer(token))
        workload = await self._verifier.verify(token, candidates)
        if len(_robots_that_trust(workload, candidates)) > 1:
            raise RefusedToken("several robots trust the token: it must be said which is meant")
        return workload

    async def _of_robot(self, robot: str) -> list[RobotTrust]:
        try:
            parse_robot_name(robot)
        except InvalidPrincipal as exc:
            raise RefusedToken("no robot has such a name") from exc
        return await self._store.list_trusts_of_living(robot, limit=MAX_TRUSTS)

    async def _of_issuer(self, issuer: str) -> list[RobotTrust]:
        if not issuer.isprintable():
            raise RefusedToken("no issuer has such an address")
        found = await self._store.list_trusts_in_issuer(issuer, limit=_MAX_COMPARED + 1)
        if len(found) > _MAX_COMPARED:
            raise RefusedToken("too many robots trust the issuer: it must be said which is meant")
        return found

    async def _issue(self, trust: RobotTrust, origin: Origin) -> str:
        async def work(change: Change) -> str:
            # While the issuer was asked, the robot may have been disabled, or the trust withdrawn.
            robot = await self._store.lock(change.connection, trust.robot)
            if robot is None or robot.disabled:
                raise RefusedToken("the robot is disabled or gone")
            if await self._store.find_trust(change.connection, robot.id, trust.id) is None:
                raise RefusedToken("the trust was withdrawn")
            bounds = CredentialBounds(expires_in=timedelta(seconds=trust.life_s))
            _, secret = await self._credentials.create_in(
                change, owner_of(robot), CredentialKind.ROBOT, f"{TRUST_PREFIX}{trust.name}", bounds
            )
            return secret

        return await self._changes.make(origin, work, adds_only=True)

    async def list_trusts(self, robot: Robot) -> list[RobotTrust]:
        return await self._store.list_trusts(robot.id, limit=MAX_TRUSTS)

    async def add_trust(self, name: str, new: NewTrust, *, account: Account | None, origin: Origin) -> RobotTrust:
        """Let tokens stand for a robot. Raises InvalidTrust, Conflict if there is one of that name or there are too many.

        What is had for them knows no bounds, so the caller's credential must have none: else Denied.
        """
        parse_account_name(new.name)
        validate_rule(new.issuer, new.audience, new.claims)
        if account is not None and not account.bounds.unlimited:
            raise Denied("this takes your password, or a token without bounds")

        async def work(change: Change) -> RobotTrust:
            robot = await self._lock(change, name)
            if await self._store.count_trusts(change.connection, robot.id) >= MAX_TRUSTS:
                raise Conflict(f"there are {MAX_TRUSTS} already: remove one first", robot=name)
            made = await self._store.insert_trust(change.connection, robot.id, new, actor=origin.actor)
            if made is None:
                raise Conflict("the robot has a trust of that name already", robot=name, name=new.name)
            _tell(change, robot, TrustAdded(robot=name, name=made.name, issuer=made.issuer))
            return made

        return await self._changes.make(origin, work)

    async def remove_trust(self, name: str, trust_id: int, origin: Origin) -> None:
        """Trust those tokens no longer: what was had for them is worth nothing from now on. Raises NotFound."""

        async def work(change: Change) -> None:
            robot = await self._lock(change, name)
            trust = await self._store.find_trust(change.connection, robot.id, trust_id)
            if trust is None:
                raise NotFound("the robot has no such trust", robot=name, id=trust_id)
            await self._store.delete_trust(change.connection, trust)
            _tell(change, robot, TrustRemoved(robot=name, name=trust.name))

        await self._changes.make(origin, work)

    async def _lock(self, change: Change, name: str) -> Robot:
        found = await self._store.lock(change.connection, name)
        if found is None:
            raise NotFound("no such robot", robot=name)
        return found


def _robots_that_trust(workload: Workload[RobotTrust], candidates: Sequence[RobotTrust]) -> set[int]:
    """The robots for which a verified token is good."""
    claims, audiences = workload.claims, audiences_of(dict(workload.claims))
    return {
        trust.robot_id
        for trust in candidates
        if trust.issuer == workload.trust.issuer and trust.audience in audiences and claims_match(trust.claims, claims)
    }


def _tell(change: Change, robot: Robot, payload: TrustAdded | TrustRemoved) -> None:
    change.tell(namespace_stream(robot.namespace_id), payload, subject=str(owner_of(robot)))

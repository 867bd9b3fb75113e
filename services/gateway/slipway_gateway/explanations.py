"""Why somebody may do something, or may not: the same decision as on every request, told step by step."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_common.errors import NotFound
from slipway_common.oci.names import RepositoryName, namespace_of
from slipway_gateway.access import Access
from slipway_gateway.domain.access import ANONYMOUS, Action, Decision, Identity, actions_of
from slipway_gateway.domain.principals import Subject
from slipway_gateway.store.access import AccessStore, ExplainedGrant, Standing
from slipway_gateway.store.accounts import AccountStore


@dataclass(frozen=True, slots=True)
class Explanation:
    allowed: bool
    decision: Decision
    because: list[str]
    grants: list[ExplainedGrant]


class Explanations:
    def __init__(self, access: Access, store: AccessStore, accounts: AccountStore) -> None:
        self._access = access
        self._store = store
        self._accounts = accounts

    async def explain(
        self, subject: Subject | None, action: Action, name: RepositoryName, *, knows_name: bool
    ) -> Explanation:
        """Whether `subject` (None: who is not logged in) may do `action` at `name`, and why. Raises NotFound for nobody.

        `knows_name`: whoever asks may know whether there is a repository of that name.
        """
        identity = await self._identity(subject)
        standing = await self._access.standing(identity, name)
        decision = self._access.decide(identity, standing, action)
        grants = await self._grants(identity, standing, name)
        reasons = self._reasons(standing, action, grants, knows_name=knows_name)
        return Explanation(decision is Decision.ALLOW, decision, reasons, grants)

    async def _identity(self, subject: Subject | None) -> Identity:
        if subject is None:
            return ANONYMOUS
        found = await self._accounts.find_principal(subject.name, subject.kind)
        if found is None:
            raise NotFound(f"there is no {subject.kind} named {subject.name}, or it is disabled")
        return Identity(name=subject.name, principal_id=found[0])

    async def _grants(self, identity: Identity, standing: Standing, name: RepositoryName) -> list[ExplainedGrant]:
        if identity.principal_id is None:
            return []
        repository = standing.repository
        name = repository.name if repository else name
        namespace = await self._access.namespace(standing.account, namespace_of(name))
        return await self._store.explain(
            identity.principal_id,
            repository_id=repository.id if repository else None,
            namespace_id=namespace.id,
            name=name,
        )

    def _reasons(
        self, standing: Standing, action: Action, grants: list[ExplainedGrant], *, knows_name: bool
    ) -> list[str]:
        rules, account, place = self._access.rules, standing.account, standing.place
        reasons = []
        if rules.anonymous == "everything":
            reasons.append("login is off (anonymous=everything): everybody may do everything")
        if account is not None and account.is_admin:
            reasons.append(f"{account.name} is an administrator of the registry, who may do everything")
        if place.visibility is None and knows_name:
            reasons.append("there is no repository of that name; rights on the name are those it would have")
        if action is Action.PULL and place.visibility == "public":
            reasons.append("the repository is public: everybody may pull")
        if action is Action.PULL and rules.anonymous == "pull":
            reasons.append("anonymous=pull: everybody may pull from every repository")
        reasons += [_told(grant, action) for grant in grants]
        if not reasons or (not grants and account is not None and not account.is_admin):
            reasons.append(
                "no grant reaches this name: neither on the repository, nor its namespace, nor by pattern or team"
            )
        return reasons


def _told(grant: ExplainedGrant, action: Action) -> str:
    on = f"the {grant.on}" if grant.on in ("repository", "namespace") else f"names like {grant.on}"
    through = f" through team {grant.team}" if grant.team else ""
    verb = "includes" if action in actions_of(grant.role) else "does not include"
    return f"role {grant.role.word} on {on}{through} {verb} {action}"

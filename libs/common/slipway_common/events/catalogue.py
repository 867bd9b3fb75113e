"""What can happen: the payload of every event, by type.

Types name a fact in the past tense and end in a version. Within a version fields are only ever added, and readers
ignore those they do not know; a change that breaks readers is a new version, sent beside the old one for as long as
that is read.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Payload(_Part):
    """The data of one type of event."""

    TYPE: ClassVar[str]

    def shortened(self) -> Self | None:
        """Return a shorter form of the same fact that says it was cut, or None when nothing may be left out."""
        return None


class RepositoryRef(_Part):
    id: int = Field(description="Never used again, not even after the repository is gone.")
    name: str = Field(description="Full name at the time of the event, such as `acme/tools/hello`.")
    namespace: str = Field(
        description="First component of the name at the time of the event; empty for the root namespace."
    )


class PlatformImage(_Part):
    """One image of an index."""

    os: str
    architecture: str
    variant: str | None = None
    digest: str = Field(description="Digest of this platform's manifest.")
    image_id: str | None = Field(None, description="Digest of its config.")
    size_bytes: int = Field(description="Manifest, config and layers together.")


class RepositoryCreated(Payload):
    """A repository came to be, by hand or by the first push to its name."""

    TYPE: ClassVar[str] = "slipway.repository.created.v1"

    repository: RepositoryRef
    visibility: str = Field(description="`public` or `private`.")
    kind: str = Field("package", description="`package` or `application`.")


class RepositoryUpdated(Payload):
    """What is said of a repository was changed."""

    TYPE: ClassVar[str] = "slipway.repository.updated.v1"

    repository: RepositoryRef
    changed: list[str] = Field(description="Names of what has another value now.")


class RepositoryVisibilityChanged(Payload):
    """A repository was opened to everybody, or closed."""

    TYPE: ClassVar[str] = "slipway.repository.visibility-changed.v1"

    repository: RepositoryRef
    visibility: str = Field(description="`public` or `private`.")
    before: str


class RepositoryRenamed(Payload):
    """A repository has another name, perhaps in another namespace; its id and its content are what they were."""

    TYPE: ClassVar[str] = "slipway.repository.renamed.v1"

    repository: RepositoryRef = Field(description="With the new name.")
    before: str = Field(description="The name before.")
    alias_until: str | None = Field(None, description="Until when the name before leads to it; null: not at all.")


class RepositoryDeleted(Payload):
    """A repository was deleted, with all that is in it."""

    TYPE: ClassVar[str] = "slipway.repository.deleted.v1"

    repository: RepositoryRef


class NamespaceCreated(Payload):
    """A namespace came to be, by hand or because an administrator named it."""

    TYPE: ClassVar[str] = "slipway.namespace.created.v1"

    namespace: str


class NamespaceUpdated(Payload):
    """A namespace's rules, or what is said of it, were changed."""

    TYPE: ClassVar[str] = "slipway.namespace.updated.v1"

    namespace: str = Field(description="Its name; empty for the root namespace.")
    changed: list[str] = Field(description="Names of what has another value now.")


class NamespaceDeleted(Payload):
    """An empty namespace was deleted, with its robots and the roles in it."""

    TYPE: ClassVar[str] = "slipway.namespace.deleted.v1"

    namespace: str


class GrantGiven(Payload):
    """Somebody was given a role, or another one."""

    TYPE: ClassVar[str] = "slipway.grant.given.v1"

    subject: str = Field(description="`user:alice`, `robot:acme+ci` or `team:platform`.")
    on: str = Field(description="`repository:acme/web`, `namespace:acme` or `pattern:acme/web-*`.")
    role: str = Field(description="`reader`, `writer`, `maintainer` or `admin`.")
    before: str | None = Field(None, description="The role before; null: none.")


class GrantTaken(Payload):
    """A role was taken from somebody."""

    TYPE: ClassVar[str] = "slipway.grant.taken.v1"

    subject: str
    on: str
    role: str


class AccountCreated(Payload):
    """A user came to be: by an administrator's hand, or by logging in at a provider for the first time."""

    TYPE: ClassVar[str] = "slipway.account.created.v1"

    account: str
    is_admin: bool = False
    issuer: str | None = Field(None, description="The OpenID provider that vouches for the user, if any.")


class AccountUpdated(Payload):
    """A user was changed, disabled or enabled, or has another password."""

    TYPE: ClassVar[str] = "slipway.account.updated.v1"

    account: str
    changed: list[str] = Field(description="Names of what has another value now; `password` without its value.")


class AccountDeleted(Payload):
    """A user was deleted, with tokens, roles and memberships."""

    TYPE: ClassVar[str] = "slipway.account.deleted.v1"

    account: str


class TeamCreated(Payload):
    """A team came to be, without members."""

    TYPE: ClassVar[str] = "slipway.team.created.v1"

    team: str


class TeamUpdated(Payload):
    """What is said of a team, or whom it takes in, was changed."""

    TYPE: ClassVar[str] = "slipway.team.updated.v1"

    team: str
    changed: list[str] = Field(description="Names of what has another value now.")


class TeamDeleted(Payload):
    """A team was deleted, with the roles it had."""

    TYPE: ClassVar[str] = "slipway.team.deleted.v1"

    team: str


class TeamMemberAdded(Payload):
    """A user joined a team, or has another role in it."""

    TYPE: ClassVar[str] = "slipway.team.member-added.v1"

    team: str
    account: str
    role: str = Field(description="`member` or `maintainer`.")


class TeamMemberRemoved(Payload):
    """A user is in a team no longer."""

    TYPE: ClassVar[str] = "slipway.team.member-removed.v1"

    team: str
    account: str


class RobotCreated(Payload):
    """A robot came to be."""

    TYPE: ClassVar[str] = "slipway.robot.created.v1"

    robot: str


class RobotUpdated(Payload):
    """A robot was changed, disabled or enabled."""

    TYPE: ClassVar[str] = "slipway.robot.updated.v1"

    robot: str
    changed: list[str] = Field(description="Names of what has another value now.")


class RobotDeleted(Payload):
    """A robot was deleted, with its secrets, roles and trusts."""

    TYPE: ClassVar[str] = "slipway.robot.deleted.v1"

    robot: str


class CredentialCreated(Payload):
    """An access token or robot secret was made. The secret itself is known to nobody but whom it was shown to."""

    TYPE: ClassVar[str] = "slipway.credential.created.v1"

    owner: str = Field(description="`user:alice` or `robot:acme+ci`.")
    id: int
    kind: str = Field(description="`token` or `robot`.")
    name: str
    expires_at: str | None = None


class CredentialRevoked(Payload):
    """An access token or robot secret was taken back."""

    TYPE: ClassVar[str] = "slipway.credential.revoked.v1"

    owner: str
    id: int
    kind: str
    name: str


class TrustAdded(Payload):
    """Tokens of a CI system came to stand for a robot."""

    TYPE: ClassVar[str] = "slipway.trust.added.v1"

    robot: str
    name: str
    issuer: str


class TrustRemoved(Payload):
    """Tokens of a CI system stand for a robot no longer."""

    TYPE: ClassVar[str] = "slipway.trust.removed.v1"

    robot: str
    name: str


class ManifestPushed(Payload):
    """A manifest or index was put: one event for each, children of an index included."""

    TYPE: ClassVar[str] = "slipway.manifest.pushed.v1"

    repository: RepositoryRef
    digest: str
    media_type: str
    artifact_type: str | None = None
    image_id: str | None = Field(None, description="Digest of the image's config.")
    size_bytes: int = Field(description="Size of the manifest's own bytes.")
    subject: str | None = Field(None, description="Digest of the manifest that this one is about.")


class ImagePushed(Payload):
    """Tags were set: one event for each request that sets tags, whether or not they moved."""

    TYPE: ClassVar[str] = "slipway.image.pushed.v1"

    repository: RepositoryRef
    tags: list[str]
    digest: str = Field(description="What the tags now name: a manifest or an index.")
    media_type: str
    artifact_type: str | None = None
    image_id: str | None = Field(None, description="Digest of the image's config; none for an index.")
    size_bytes: int = Field(description="The whole tree: manifests, configs and layers, each digest once.")
    platforms: list[PlatformImage] = Field(default_factory=list)
    replaced: dict[str, str] = Field(
        default_factory=dict, description="Tags that named another digest before, with that digest."
    )
    truncated: bool = Field(False, description="Lists were cut to fit the envelope; ask for the rest by digest.")

    def shortened(self) -> Self | None:
        """Halve platforms until none is left, then what was replaced, then the tags but one."""
        if self.platforms:
            return self._cut(platforms=self.platforms[: len(self.platforms) // 2])
        if self.replaced:
            return self._cut(replaced=dict(list(self.replaced.items())[: len(self.replaced) // 2]))
        if len(self.tags) > 1:
            return self._cut(tags=self.tags[: len(self.tags) // 2])
        return None

    def _cut(self, **lists: object) -> Self:
        return self.model_copy(update={**lists, "truncated": True})


class ReferrerAttached(Payload):
    """A manifest with a subject was put: a signature, an attestation, a bill of materials."""

    TYPE: ClassVar[str] = "slipway.referrer.attached.v1"

    repository: RepositoryRef
    subject: str = Field(description="Digest of what it is about; that manifest may not be here (yet).")
    digest: str
    media_type: str
    artifact_type: str | None = None
    size_bytes: int = Field(description="Size of the manifest's own bytes.")


class TagDeleted(Payload):
    """A tag was taken away; the manifest it named is still there."""

    TYPE: ClassVar[str] = "slipway.tag.deleted.v1"

    repository: RepositoryRef
    tag: str
    digest: str = Field(description="What the tag named.")


class ManifestDeleted(Payload):
    """A manifest was deleted, and with it every tag that named it."""

    TYPE: ClassVar[str] = "slipway.manifest.deleted.v1"

    repository: RepositoryRef
    digest: str
    tags: list[str] = Field(default_factory=list, description="Tags that went with it.")
    truncated: bool = Field(False, description="The list of tags was cut: whatever tag still names the digest is gone.")

    def shortened(self) -> Self | None:
        if not self.tags:
            return None
        return self.model_copy(update={"tags": self.tags[: len(self.tags) // 2], "truncated": True})


PAYLOADS: Final[tuple[type[Payload], ...]] = (
    RepositoryCreated,
    RepositoryUpdated,
    RepositoryVisibilityChanged,
    RepositoryRenamed,
    RepositoryDeleted,
    NamespaceCreated,
    NamespaceUpdated,
    NamespaceDeleted,
    GrantGiven,
    GrantTaken,
    AccountCreated,
    AccountUpdated,
    AccountDeleted,
    TeamCreated,
    TeamUpdated,
    TeamDeleted,
    TeamMemberAdded,
    TeamMemberRemoved,
    RobotCreated,
    RobotUpdated,
    RobotDeleted,
    CredentialCreated,
    CredentialRevoked,
    TrustAdded,
    TrustRemoved,
    ManifestPushed,
    ImagePushed,
    ReferrerAttached,
    TagDeleted,
    ManifestDeleted,
)

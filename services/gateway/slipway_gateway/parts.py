"""What a gateway is made of: stores, use cases, and what they share; nothing of how it is reached."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from slipway_common import __version__
from slipway_common.database.pool import Database
from slipway_common.events.log import EventLog
from slipway_common.launcher.service import Runtime
from slipway_common.outgoing.addresses import parse_allowance
from slipway_common.outgoing.guard import OutgoingRules, open_guarded_session
from slipway_common.security.signing import KeyRing
from slipway_common.storage.files import FileStore
from slipway_common.storage.port import ObjectStore
from slipway_common.web.routes import openapi_document
from slipway_gateway.access import Access
from slipway_gateway.accounts import Accounts
from slipway_gateway.api.challenges import PublicAddress
from slipway_gateway.api.management import Management
from slipway_gateway.audit import Audit
from slipway_gateway.cache import ContentCache, ExactCache
from slipway_gateway.changes import Changes
from slipway_gateway.credentials import Credentials
from slipway_gateway.deletions import Deletions
from slipway_gateway.domain.access import AccessRules
from slipway_gateway.explanations import Explanations
from slipway_gateway.external_logins import ExternalLogins
from slipway_gateway.federation.provider import OpenIdProvider, ProviderSettings
from slipway_gateway.federation.workloads import WorkloadTokens
from slipway_gateway.grants import Grants
from slipway_gateway.idempotency import IdempotentAnswers
from slipway_gateway.identity import Authenticator
from slipway_gateway.maintenance import Chores, Maintenance
from slipway_gateway.namespaces import Namespaces
from slipway_gateway.passwords import Passwords
from slipway_gateway.pushes import Pushes
from slipway_gateway.reads import Reads
from slipway_gateway.refusals import Refusals
from slipway_gateway.repositories import Repositories
from slipway_gateway.robots import Robots
from slipway_gateway.sessions import LoginSessions
from slipway_gateway.settings import GatewaySettings
from slipway_gateway.store.access import AccessStore
from slipway_gateway.store.accounts import AccountStore
from slipway_gateway.store.audit import RefusalStore
from slipway_gateway.store.blobs import BlobStore, ReclaimStore
from slipway_gateway.store.credentials import CredentialStore
from slipway_gateway.store.grants import GrantStore
from slipway_gateway.store.idempotency import IdempotencyStore
from slipway_gateway.store.manifests import ManifestStore
from slipway_gateway.store.namespaces import NamespaceStore
from slipway_gateway.store.principals import PrincipalStore
from slipway_gateway.store.repositories import RepositoryStore
from slipway_gateway.store.robots import RobotStore
from slipway_gateway.store.sessions import LoginSessionStore
from slipway_gateway.store.teams import TeamStore
from slipway_gateway.store.throttle import FailureStore
from slipway_gateway.store.uploads import UploadStore
from slipway_gateway.teams import Teams
from slipway_gateway.throttle import LoginThrottle, RequestRates
from slipway_gateway.uploads import Uploads
from slipway_gateway.workloads import Workloads

ADMIN = "admin"
# A writer renews its lease every 10 s while bytes come; three missed renewals, and another may go on.
_WRITER_LEASE = timedelta(seconds=30)
# Configs and small layers up to this size are kept in memory.
_SMALL_BLOB_BYTES = 64 * 1024


class Gateway:
    """The parts of a running gateway."""

    def __init__(self, runtime: Runtime, objects: ObjectStore, outgoing: Outgoing) -> None:
        settings: GatewaySettings = runtime.settings
        database = runtime.database
        lease = timedelta(seconds=settings.blob_lease_s)
        log, announce = EventLog("slipway/gateway"), runtime.announcer.announce
        self.runtime, self.settings, self.objects, self.log, self.outgoing = runtime, settings, objects, log, outgoing
        self.cache = ExactCache(max_bytes=settings.cache_bytes // 2)
        self.content = ContentCache(max_bytes=settings.cache_bytes // 2, max_item_bytes=_SMALL_BLOB_BYTES)
        self.principals = PrincipalStore(database)
        self.repository_store = RepositoryStore(database)
        self.manifests = ManifestStore(database, self.cache, lease=lease)
        self.blobs = BlobStore(database, self.cache, lease=lease)
        self.upload_store = UploadStore(database, blob_lease=lease, writer_lease=_WRITER_LEASE)
        self.reads = Reads(
            repositories=self.repository_store,
            manifests=self.manifests,
            blobs=self.blobs,
            objects=objects,
            cache=self.cache,
            content=self.content,
        )
        self.passwords = Passwords()
        self.ring = KeyRing(database.pool, runtime.box, purpose="registry", token_type="JWT")  # noqa: S106
        self.failures = FailureStore(database)
        self.access_store = AccessStore(database)
        self.access = Access(
            self.access_store, self.cache, AccessRules(settings.anonymous), max_bytes=settings.cache_bytes // 8
        )
        self.authenticator = Authenticator(
            self.principals, self.access, self.passwords, self.ring, LoginThrottle(self.failures)
        )
        self.rates = RequestRates(per_second=settings.requests_per_second)
        self.refusal_store = RefusalStore(database)
        self.refusals = Refusals(self.refusal_store)
        self.address = PublicAddress(
            settings.public_url, settings.trusted_proxies, tls=settings.tls_certificate is not None
        )
        self.changes = Changes(database, self.cache, log, announce)
        self.idempotency = IdempotentAnswers(IdempotencyStore(database), runtime.box)
        self._manage(database)
        self.uploads = Uploads(self.upload_store, objects, self.content)
        self.pushes = Pushes(self.manifests, self.reads, self.cache, log, announce)
        self.deletions = Deletions(self.manifests, self.blobs, self.cache, log, announce)
        self.maintenance = Maintenance(
            uploads=self.upload_store,
            reclaim=ReclaimStore(database),
            objects=objects,
            pool=database.pool,
            upload_idle=timedelta(seconds=settings.upload_idle_s),
            event_retention=timedelta(days=settings.event_retention_days),
        )
        self.chores = Chores(
            authenticator=self.authenticator,
            refusals=self.refusals,
            refusal_store=self.refusal_store,
            failures=self.failures,
            sessions=self.sessions,
            idempotency=self.idempotency,
            credentials=self.credentials,
            repositories=self.repository_store,
            refusal_retention=timedelta(days=settings.event_retention_days),
        )

    def _manage(self, database: Database) -> None:
        """What the management API works with."""
        settings = self.settings
        grants, namespaces = GrantStore(database), NamespaceStore(database)
        accounts, teams, robots = AccountStore(database), TeamStore(database), RobotStore(database)
        longest = settings.longest_token_days
        self.credential_store = CredentialStore(database)
        self.credentials = Credentials(
            self.credential_store,
            self.authenticator,
            self.changes,
            refresh_life=timedelta(days=settings.refresh_token_days),
            longest_life=timedelta(days=longest) if longest else None,
        )
        self.repositories = Repositories(
            self.repository_store,
            namespaces,
            grants,
            self.changes,
            self.access.rules,
            default_visibility=settings.default_visibility,
            alias_life=timedelta(days=settings.alias_days),
        )
        self.workloads = Workloads(robots, self.outgoing.workload_tokens, self.credentials, self.changes)
        sessions, managed_teams = LoginSessionStore(database), Teams(teams, self.changes)
        self.sessions = LoginSessions(sessions)
        self.external_logins = ExternalLogins(
            self.outgoing.provider,
            sessions,
            accounts,
            managed_teams,
            self.credentials,
            self.changes,
            self.runtime.box,
        )
        self.management = Management(
            access=self.access,
            repositories=self.repositories,
            namespaces=Namespaces(namespaces, grants, self.changes),
            grants=Grants(grants, self.changes),
            accounts=Accounts(accounts, self.passwords, self.changes),
            teams=managed_teams,
            robots=Robots(robots, self.credentials, grants, self.changes),
            workloads=self.workloads,
            credentials=self.credentials,
            sessions=self.sessions,
            audit=Audit(self.log, database.pool, self.refusal_store),
            explanations=Explanations(self.access, self.access_store, accounts),
            repository_store=self.repository_store,
            namespace_store=namespaces,
            grant_store=grants,
            account_store=accounts,
            team_store=teams,
            robot_store=robots,
            log=self.log,
            pool=database.pool,
            document=lambda: openapi_document(self.runtime.api, version=__version__),
            users_create_namespaces=settings.namespace_creation == "users",
        )

    async def prepare(self) -> None:
        """Load keys; make the first account."""
        await self.ring.load()
        await self._make_first_admin()

    async def _make_first_admin(self) -> None:
        if await self.principals.any():
            return
        given = self.settings.admin_password
        password = given.get_secret_value() if given else secrets.token_urlsafe(18)
        if await self.principals.insert_first_admin(ADMIN, await self.passwords.hash_new(password)) and given is None:
            self.runtime.announce(
                f"\n  The first account was made. This is shown once:\n\n    user      {ADMIN}\n    password  {password}\n"
            )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Whom the gateway asks elsewhere: the operator's OpenID provider, and the issuers that trust rules name."""

    provider: OpenIdProvider | None
    workload_tokens: WorkloadTokens


@contextlib.asynccontextmanager
async def open_outgoing(settings: GatewaySettings) -> AsyncIterator[Outgoing]:
    rules = OutgoingRules(parse_allowance(settings.outgoing_networks))
    async with (
        open_guarded_session(rules) as guarded,
        aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        issuer = settings.oidc_issuer
        provider = OpenIdProvider(session, _provider_settings(settings, issuer)) if issuer else None
        yield Outgoing(provider, WorkloadTokens(guarded))


def _provider_settings(settings: GatewaySettings, issuer: str) -> ProviderSettings:
    secret = settings.oidc_client_secret
    return ProviderSettings(
        issuer=issuer,
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret is not None else None,
        scopes=tuple(settings.oidc_scopes.split()),
        groups_claim=settings.oidc_groups_claim,
    )


def open_store(settings: GatewaySettings) -> ObjectStore:
    if settings.storage == "files":
        return FileStore(settings.storage_folder or settings.data / "objects")
    from slipway_common.storage.s3 import S3Config, S3Store

    return S3Store(
        S3Config(
            bucket=settings.s3_bucket or "",
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            access_key=settings.s3_access_key.get_secret_value() if settings.s3_access_key else None,
            secret_key=settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None,
            prefix=settings.s3_prefix,
            part_size_bytes=settings.s3_part_size_bytes,
            pool_bytes=settings.s3_pool_bytes,
        )
    )

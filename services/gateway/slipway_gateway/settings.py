"""Settings of the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from slipway_common.settings import CommonSettings, Listen, Networks, Url, setting


class GatewaySettings(CommonSettings):
    """What only the gateway needs to know."""

    listen: Listen = setting(
        "127.0.0.1:5000",
        "Where clients reach the registry, as HOST:PORT; an empty host means every address.",
        danger="Clients refuse plain HTTP anywhere but on localhost: set tls_certificate, or put a proxy with TLS in front.",
    )
    public_url: Url = setting(
        None,
        "The address that clients use, such as https://registry.example.com. Unset: taken from each request's Host header.",
        danger="Set it wherever others than yourself can reach the port: tokens and redirects carry it.",
    )
    tls_certificate: Path | None = setting(None, "Certificate chain (PEM) with which to serve HTTPS.")
    tls_key: Path | None = setting(None, "Private key (PEM) of tls_certificate; unset if that file holds both.")
    trusted_proxies: Networks = setting(
        [],
        "Networks of proxies whose X-Forwarded-Proto counts, with commas between.",
        danger="Anyone in these networks can make the registry name itself by http or https.",
    )
    admin_password: SecretStr | None = setting(
        None,
        "Password of the first account, admin, when it is made at first start. Unset: one is generated and printed once.",
        danger="Has no effect later. Better given as SLIPWAY_ADMIN_PASSWORD_FILE than in the environment.",
    )
    anonymous: Literal["nothing", "pull", "everything"] = setting(
        "nothing",
        "What may be done without logging in: nothing; pull anything; or everything, which turns login off altogether.",
        danger="'everything' lets whoever reaches the port overwrite and delete images.",
    )
    default_visibility: Literal["private", "public"] = setting(
        "private", "What repositories are that a first push creates.", danger="Anyone pulls from public ones."
    )
    namespace_creation: Literal["admins", "users"] = setting(
        "admins", "Who creates namespaces: administrators only, or every user, who then owns what they created."
    )
    alias_days: int = setting(
        90,
        "How long a repository's former name leads to it after it was renamed; 0: not at all.",
        unit="days",
        ge=0,
    )
    refresh_token_days: int = setting(
        90,
        "How long a client that asked for a refresh token at login (docker login does) need not be given the password again; "
        "0: no refresh tokens.",
        unit="days",
        ge=0,
        le=3650,
    )
    oidc_issuer: str | None = setting(
        None,
        "Issuer URL of an OpenID provider (Keycloak, Entra, Google …) at which users log in; exactly as the provider writes it. "
        "Register <public_url>/login/oidc/callback there.",
    )
    oidc_client_id: str = setting("slipway", "Name by which the provider knows this registry.")
    oidc_client_secret: SecretStr | None = setting(None, "Secret of oidc_client_id; unset for a public client.")
    oidc_scopes: str = setting("openid profile email", "What is asked of the provider, with spaces between.")
    oidc_groups_claim: str = setting(
        "groups",
        "Claim of the ID token with the user's groups, or a path to one such as realm_access.roles. Teams list the groups whose "
        "members they take in.",
    )
    longest_token_days: int = setting(
        0,
        "The longest that access tokens and robot secrets may live; 0: as long as whoever makes one wishes.",
        unit="days",
        ge=0,
        danger="Without an end, a secret that leaks is good until somebody revokes it.",
    )
    requests_per_second: float = setting(
        0,
        "Requests that one user, robot or (not logged in) address may make in each process, on average over ten seconds; "
        "beyond that 429. 0: no limit. With a limit, repeated requests are no longer answered from memory.",
        unit="requests per second",
        ge=0,
    )
    token_s: int = setting(
        300,
        "How long a bearer token of the registry lives. Rights are checked again at every use.",
        unit="seconds",
        ge=60,
        le=3600,
    )
    storage: Literal["files", "s3"] = setting("files", "Where blobs are kept: in the data folder, or in a bucket.")
    storage_folder: Path | None = setting(
        None, "Folder for blobs when storage is files. Default: objects in the data folder."
    )
    s3_endpoint_url: str | None = setting(None, "URL of the S3 service; unset for AWS.")
    s3_region: str = setting("us-east-1", "Region of the bucket.")
    s3_bucket: str | None = setting(None, "Name of the bucket. It must exist.")
    s3_access_key: SecretStr | None = setting(
        None, "Access key; unset: the usual AWS places (environment, instance role)."
    )
    s3_secret_key: SecretStr | None = setting(None, "Secret key that belongs to s3_access_key.")
    s3_prefix: str = setting("", "Put before every key, so that several registries can share a bucket.")
    s3_part_size_bytes: int = setting(
        16 * 1024 * 1024,
        "Size of a part of a multipart upload. A blob may have 10,000 parts: the default allows 156 GiB.",
        unit="bytes",
        ge=5 * 1024 * 1024,
        le=512 * 1024 * 1024,
    )
    s3_pool_bytes: int = setting(
        192 * 1024 * 1024,
        "Memory for parts being filled and sent, shared by all uploads of a process; uploads wait when it is full.",
        unit="bytes",
        ge=32 * 1024 * 1024,
    )
    s3_redirect: bool = setting(
        False,
        "Answer blob downloads with a redirect to a signed URL of the bucket instead of passing the bytes on.",
        danger="The URL works for 60 s, even if access is taken away meanwhile; clients must be able to reach the bucket.",
    )
    blob_lease_s: int = setting(
        86_400,
        "How long a blob or manifest that a pusher was told of stays usable although nothing refers to it.",
        unit="seconds",
        ge=5,
        danger="Shorter than your longest push, and pushes fail at the end.",
    )
    upload_idle_s: int = setting(
        86_400, "After how long without a byte an upload is given up and its bytes deleted.", unit="seconds", ge=5
    )
    body_timeout_s: float = setting(
        60.0, "How long a client may send nothing of a body, or take nothing of an answer, before it is cut off.",
        unit="seconds", gt=0,
    )  # fmt: skip
    cache: Literal["exact", "off"] = setting(
        "exact",
        "exact: answers come from memory while this is the only gateway process on the database, and are never stale; "
        "off: the database is asked each time.",
    )
    cache_bytes: int = setting(128 * 1024 * 1024, "Memory for manifests and small blobs.", unit="bytes", ge=1024 * 1024)
    event_retention_days: int = setting(
        30, "How long events are kept that every consumer has read.", unit="days", ge=1,
        danger="A consumer that is away for longer than three times this has to load its state anew.",
    )  # fmt: skip

    def contradictions(self) -> Iterator[str]:
        yield from super().contradictions()
        if self.tls_key is not None and self.tls_certificate is None:
            yield "tls_key is set without tls_certificate"
        if self.storage == "s3" and not self.s3_bucket:
            yield "storage is s3: set s3_bucket"
        if self.oidc_issuer is not None and not self.oidc_issuer.startswith(("https://", "http://")):
            yield "oidc_issuer: set a URL, for instance https://id.example.com/realms/acme"
        if self.oidc_client_secret is not None and self.oidc_issuer is None:
            yield "oidc_client_secret is set without oidc_issuer: set both or neither"
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            yield "s3_access_key and s3_secret_key belong together: set both or neither"

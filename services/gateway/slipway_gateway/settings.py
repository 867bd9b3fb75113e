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
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            yield "s3_access_key and s3_secret_key belong together: set both or neither"

"""An image's config (image-spec: config.md; Docker's differs in nothing that is read here)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway_common.oci.digests import Digest
from slipway_metadata.domain.documents import Document, Problems

MAX_CONFIG_BYTES = 4 * 1024 * 1024  # the largest seen in the wild are some hundred KiB; a longer one is not read


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """How containers of the image run, unless told otherwise."""

    author: str | None
    env: list[str]
    entrypoint: list[str]
    cmd: list[str]
    labels: dict[str, str]
    working_dir: str | None
    user: str | None
    exposed_ports: list[str]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of the build; `layer` is the position of the layer it made, None where none or unclear."""

    created_at: datetime | None
    created_by: str | None
    author: str | None
    comment: str | None
    empty: bool
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    os: str | None
    architecture: str | None
    variant: str | None
    created_at: datetime | None
    facts: ConfigFacts
    diff_ids: list[Digest | None]
    history: list[HistoryEntry]


def read_config(data: bytes, problems: Problems) -> ImageConfig:
    """Read what is sound in `data`; anybody may have written it, so nothing in it makes this fail."""
    document = Document.parse(data, "config", problems)
    run = document.part("config")
    return ImageConfig(
        os=document.word("os"),
        architecture=document.word("architecture"),
        variant=document.word("variant"),
        created_at=document.timestamp("created"),
        facts=ConfigFacts(
            author=document.text("author"),
            env=run.texts("Env"),
            entrypoint=run.texts("Entrypoint"),
            cmd=run.texts("Cmd"),
            labels=run.text_map("Labels"),
            working_dir=run.text("WorkingDir"),
            user=run.text("User"),
            exposed_ports=run.keys("ExposedPorts"),
        ),
        diff_ids=document.part("rootfs").digests("diff_ids"),
        history=[_read_entry(entry) for entry in document.objects("history")],
    )


def _read_entry(entry: Document) -> HistoryEntry:
    return HistoryEntry(
        created_at=entry.timestamp("created"),
        created_by=entry.text("created_by"),
        author=entry.text("author"),
        comment=entry.text("comment"),
        empty=entry.flag("empty_layer"),
    )

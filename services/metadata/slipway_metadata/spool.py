"""Described manifests on their way into the database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import orjson

from slipway_metadata.domain.image import ImageDescription
from slipway_metadata.events import Push

# A description is as long as its documents, and anybody may push documents of 8 MiB in any number.
_IN_MEMORY_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 8 * 1024 * 1024
_CHUNK_RECORDS = 500


class Spool:
    """Keeps up to 8 MiB in memory, and what is beyond in a temporary file without a name: it ends with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        self._file.close()

    def add(self, digest: str, push: Push, description: ImageDescription) -> None:
        """Append one description; each digest once."""
        head = orjson.dumps({"digest": digest, "pushed_at": push.at, "pushed_by": push.by})
        self._file.write(head[:-1] + b"," + orjson.dumps(description)[1:] + b"\n")
        self._count += 1

    def chunks(self) -> Iterator[str]:
        """Yield JSON lists of at most 500 descriptions and about 8 MiB, from the beginning each time it is called."""
        self._file.seek(0)
        lines: list[bytes] = []
        size = 0
        for line in self._file:
            if lines and (len(lines) == _CHUNK_RECORDS or size + len(line) > _CHUNK_BYTES):
                yield _to_list(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield _to_list(lines)


def _to_list(lines: list[bytes]) -> str:
    return (b"[" + b",".join(lines) + b"]").decode("utf-8")

from __future__ import annotations

import json
from datetime import UTC, datetime

from slipway_metadata.events import Push
from slipway_metadata.spool import Spool
from tests.unit.metadata.documents import describe_image, make_document_image

PUSH = Push(datetime(2026, 1, 1, tzinfo=UTC), "ann")


def _fill(spool: Spool, count: int, label: str) -> None:
    config = json.dumps({"config": {"Labels": {"long": label}}}).encode()
    description = describe_image(make_document_image(config))
    for number in range(count):
        spool.add(f"sha256:{number:064}", PUSH, description)


def test_descriptions_come_back_in_chunks_as_often_as_asked() -> None:
    spool = Spool()
    _fill(spool, 1200, "short")
    for _ in range(2):
        chunks = [json.loads(chunk) for chunk in spool.chunks()]
        assert [len(chunk) for chunk in chunks] == [500, 500, 200]
        assert chunks[2][-1]["digest"] == f"sha256:{1199:064}"
        assert chunks[0][0]["pushed_by"] == "ann"


def test_long_descriptions_make_short_chunks() -> None:
    spool = Spool()
    _fill(spool, 10, "x" * 3_000_000)
    assert [len(json.loads(chunk)) for chunk in spool.chunks()] == [2, 2, 2, 2, 2]


def test_nothing_spooled_is_no_chunk() -> None:
    assert list(Spool().chunks()) == []

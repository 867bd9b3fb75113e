"""Which bytes of a blob a client asks for (RFC 9110, section 14)."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.oci.digests import digest_of
from slipway_gateway.api.blobs import _parse_range
from slipway_gateway.api.oci_errors import RangeNotSatisfiable

DIGEST = digest_of(b"blob")
CONTENT = bytes(range(100))


def request(range_: str, **headers: str) -> web.Request:
    return make_mocked_request(
        "GET", "/", headers={"Range": range_, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def asked(range_: str, size: int = 100, **headers: str) -> tuple[int, int] | None:
    return _parse_range(request(range_, **headers), size, DIGEST)


def test_without_a_range_everything_is_meant() -> None:
    assert _parse_range(make_mocked_request("GET", "/"), 100, DIGEST) is None


@given(st.integers(0, 10**18), st.integers(0, 10**18), st.integers(0, 10**18))
def test_range_is_cut_at_the_end_and_never_reaches_outside(first: int, last: int, size: int) -> None:
    for text in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            start, length = asked(text, size) or (-1, 0)
        except RangeNotSatisfiable:
            assert first >= size or last < first or last == 0
            continue
        assert start >= 0
        assert length >= 1
        assert start + length <= size


@given(st.integers(0, 120), st.integers(0, 120))
def test_bytes_are_those_that_a_slice_would_give(first: int, last: int) -> None:
    expected = CONTENT[first : last + 1]
    if expected:
        start, length = asked(f"bytes={first}-{last}") or (0, 0)
        assert CONTENT[start : start + length] == expected
    else:
        with pytest.raises(RangeNotSatisfiable):
            asked(f"bytes={first}-{last}")


@pytest.mark.parametrize(("text", "span"), [
    ("bytes=0-0", (0, 1)), ("bytes=99-", (99, 1)), ("bytes=-1", (99, 1)), ("bytes=-100", (0, 100)), ("bytes=-500", (0, 100)),
    ("bytes=0-9999999999999999999", (0, 100)), ("bytes= 1-2 ", (1, 2)),
])  # fmt: skip
def test_ranges_at_the_edges(text: str, span: tuple[int, int]) -> None:
    assert asked(text) == span


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-"])
def test_range_outside_is_refused(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        asked(text)


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_empty_blob_has_no_range(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        asked(text, 0)


@pytest.mark.parametrize("text", [
    "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-0,1-1", "bytes=" + "0-," * 1000, "items=0-1", "bytes=0--1",
    "bytes=--1", "bytes=1",
    "bytes=٠-٥", "bytes=²-", "bytes=0x1-", "bytes=1.0-2", "bytes=" + "9" * 20 + "-", "bytes=-" + "9" * 5000, "bytes=1-2-3",
    "bytes=+1-2", "bytes=0-1;",
])  # fmt: skip
def test_what_is_not_understood_is_ignored(text: str) -> None:
    assert asked(text) is None


def test_range_of_other_content_is_ignored() -> None:
    assert asked("bytes=0-1", If_Range=f'"{DIGEST}"') == (0, 2)
    for other in (f'"{digest_of(b"other")}"', DIGEST, f'W/"{DIGEST}"', "Sun, 09 Sep 2001 01:46:40 GMT", ""):
        assert asked("bytes=0-1", If_Range=other) is None

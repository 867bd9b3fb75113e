"""Where a client says the bytes of a PATCH belong."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.api.oci_errors import SizeInvalid
from slipway_gateway.api.uploads import _start_of, parse_upload_id, range_so_far
from slipway_gateway.uploads import UploadUnknown


def request(content_range: str | None = None, length: int | None = None) -> web.Request:
    headers = {"Content-Range": content_range, "Content-Length": None if length is None else str(length)}
    return make_mocked_request(
        "PATCH", "/v2/a/blobs/uploads/x", headers={k: v for k, v in headers.items() if v is not None}
    )


def test_client_need_not_say() -> None:
    assert _start_of(request()) is None
    assert _start_of(request(length=5)) is None


@given(
    st.integers(0, 10**18),
    st.integers(1, 10**6),
    st.sampled_from(["{}-{}", "bytes {}-{}/*", "bytes={}-{}", " {}-{} ", "bytes {}-{}/99"]),
)
def test_range_that_spans_the_body_says_where_it_begins(first: int, length: int, form: str) -> None:
    text = form.format(first, first + length - 1)
    assert _start_of(request(text, length)) == first
    assert _start_of(request(text)) == first


@given(st.integers(0, 10**6), st.integers(-10, 10**6), st.integers(0, 10**6))
def test_range_that_spans_something_else_lies(first: int, span: int, length: int) -> None:
    last = max(first + span - 1, 0)
    actual = last - first + 1
    if actual == length or (length == 0 and actual in (0, 1)):
        assert _start_of(request(f"{first}-{last}", length)) == first
    else:
        with pytest.raises(SizeInvalid):
            _start_of(request(f"{first}-{last}", length))


@pytest.mark.parametrize(("text", "start"), [("0-0", 0), ("5-4", 5), ("5-5", 5)])
def test_empty_body_is_announced_in_either_way(text: str, start: int) -> None:
    assert _start_of(request(text, 0)) == start


@pytest.mark.parametrize("text", [
    "", "-", "0-", "-0", "a-b", "0--1", "-1-0", "0-1-2", "0 - 1", "bytes", "bytes 0-", "bytes */5", "0-1,2-3", "0x0-0x1",
    "٠-٥", "0-1/", "1e3-2e3",
    "9" * 20 + "-" + "9" * 20, "9" * 5000 + "-1", "0.0-1.0", "items 0-1",
])  # fmt: skip
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SizeInvalid):
        _start_of(request(text, 2))


@given(st.text(max_size=12))
def test_whatever_it_says_is_read_or_refused(text: str) -> None:
    clean = "".join(letter for letter in text if letter not in "\r\n\x00")
    try:
        start = _start_of(request(clean))
    except SizeInvalid:
        return
    assert start is not None
    assert start >= 0


@pytest.mark.parametrize(("offset", "said"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (10**12, f"0-{10**12 - 1}")])
def test_range_so_far_is_inclusive(offset: int, said: str) -> None:
    assert range_so_far(offset) == said


@pytest.mark.parametrize(
    "text", ["", "x", "../x", "1" * 33, "é", "\x00", "'; --", "00000000-0000-0000-0000-00000000000g"]
)
def test_upload_that_has_no_id_is_unknown(text: str) -> None:
    with pytest.raises(UploadUnknown):
        parse_upload_id(text)

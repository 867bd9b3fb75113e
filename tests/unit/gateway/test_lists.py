"""Pages of lists: how long, from where, and where the next one is."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.oci.digests import digest_of
from slipway_common.oci.names import RepositoryName
from slipway_gateway.api.call import Call
from slipway_gateway.api.lists import MAX_PAGE, _after, _limit, _link, _referrer
from slipway_gateway.api.oci_errors import PaginationInvalid
from slipway_gateway.domain.access import ANONYMOUS
from slipway_gateway.store.manifests import Referrer


def call(query: str = "", path: str = "/v2/a/tags/list") -> Call:
    request = make_mocked_request("GET", f"{path}?{query}")
    return Call(request, RepositoryName("a"), "", ANONYMOUS, None, "id")


def test_page_is_as_long_as_can_be_unless_less_is_asked_for() -> None:
    assert _limit(call()) == MAX_PAGE == 1000


@given(st.integers(0, 10**30))
def test_page_is_never_longer_than_that(number: int) -> None:
    assert _limit(call(f"n={number}")) == min(number, MAX_PAGE)


@pytest.mark.parametrize(
    "text", ["", "-1", "abc", "1.0", "1e3", "%D9%A3", "%C2%B2", "+1", "0x10", "1_000", "%20", "1%00", "null"]
)
def test_what_is_no_number_of_entries_is_refused(text: str) -> None:
    with pytest.raises(PaginationInvalid):
        _limit(call(f"n={text}"))


@pytest.mark.parametrize("text", ["9" * 19, "9" * 5000])
def test_number_beyond_all_bounds_is_as_long_as_can_be(text: str) -> None:
    assert _limit(call(f"n={text}")) == MAX_PAGE


def test_page_begins_after_any_text_but_one_with_nul() -> None:
    assert _after(call()) == ""
    assert _after(call("last=a%2Fb%27--")) == "a/b'--"
    with pytest.raises(PaginationInvalid):
        _after(call("last=a%00"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(1, 1000))
def test_link_leads_to_the_page_after(last: str, n: int) -> None:
    link = _link(call(), n=n, last=last)
    assert link.startswith("<")
    assert link.endswith('>; rel="next"')
    url = urlsplit(link[1:].partition(">")[0])
    assert url.path == "/v2/a/tags/list"
    assert parse_qs(url.query, keep_blank_values=True) == {"n": [str(n)], "last": [last]}
    assert not set(link[1:].partition(">")[0]) & set('<>\r\n "\\')


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_link_has_nothing_in_it_that_ends_it(path: str) -> None:
    link = _link(call(path=f"/v2/{quote(path, safe='')}/tags/list"), n=1, last="x")
    assert link.count("<") == link.count(">") == 1
    assert link.isascii()
    assert "\r" not in link
    assert "\n" not in link


def test_referrer_shows_what_there_is() -> None:
    digest = digest_of(b"x")
    bare = Referrer(digest, "a/b", None, 5, {})
    assert _referrer(bare) == {"mediaType": "a/b", "digest": digest, "size": 5}
    full = Referrer(digest, "a/b", "c/d", 5, {"k": "v"})
    assert _referrer(full) == {**_referrer(bare), "artifactType": "c/d", "annotations": {"k": "v"}}

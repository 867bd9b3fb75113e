"""Whose doing a request is."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from slipway_common.oci.names import RepositoryName
from slipway_gateway.api.call import Call
from slipway_gateway.domain.access import ANONYMOUS, Identity, Place
from slipway_gateway.store.access import Standing

NAME = RepositoryName("acme/app")


def call(identity: Identity = ANONYMOUS, **headers: str) -> Call:
    request = make_mocked_request("GET", "/v2/acme/app/tags/list", headers=headers)
    return Call(request, NAME, "", identity, Standing(None, None, Place(NAME, None, None)), "192.0.2.7")


@pytest.mark.parametrize("headers", [{}, {"X-Request-Id": "not plain\xff"}])
def test_request_without_a_sane_id_keeps_the_one_it_is_given(headers: dict[str, str]) -> None:
    """What it does, and what is logged of it, is found by one id."""
    made = call(**headers)
    assert len(made.origin.request_id or "") == 16
    assert made.origin is made.origin
    assert call(**headers).origin.request_id != made.origin.request_id


def test_origin_says_who_asks_from_where_by_which_request() -> None:
    origin = call(Identity("alice", principal_id=1), **{"X-Request-Id": "abc"}).origin
    assert (origin.actor, origin.request_id, origin.address) == ("alice", "abc", "192.0.2.7")
    assert call().origin.actor == "anonymous"

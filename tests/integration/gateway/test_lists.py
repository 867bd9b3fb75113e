"""Tag lists and the catalogue: in byte order, in pages by key, with lengths that nobody can abuse."""

from __future__ import annotations

import pytest

from slipway_common.testing.images import an_image
from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.running import add_public_repository, running_gateway

TAGS = ["0", "1.0", "A", "Z", "_x", "a", "a-b", "a.b", "a_b", "latest", "v10", "v2", "z"]


async def push_tags(client: Client, repository: str, tags: list[str]) -> None:
    image = an_image().build()
    await client.push(repository, image, tags[0])
    path = f"/v2/{repository}/manifests/{image.digest}?" + "&".join(f"tag={tag}" for tag in tags)
    answer = await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})
    assert answer.status == 201


def next_path(link: str | None) -> str | None:
    if link is None:
        return None
    assert link.endswith('>; rel="next"')
    return link[1 : link.index(">")]


async def test_tags_come_in_byte_order(client: Client, repository: str) -> None:
    await push_tags(client, repository, TAGS[::-1])
    answer = await client.get(f"/v2/{repository}/tags/list")
    assert answer.json() == {"name": repository, "tags": sorted(TAGS)}
    assert "Link" not in answer.headers


@pytest.mark.parametrize("size", [1, 2, 5, 12, 13, 14])
async def test_pages_of_any_size_make_the_whole_list(client: Client, repository: str, size: int) -> None:
    await push_tags(client, repository, TAGS)
    found: list[str] = []
    path: str | None = f"/v2/{repository}/tags/list?n={size}"
    while path is not None:
        answer = await client.get(path)
        assert len(answer.json()["tags"]) <= size
        found += answer.json()["tags"]
        path = next_path(answer.headers.get("Link"))
    assert found == sorted(TAGS)


async def test_list_goes_on_after_any_text_whether_or_not_it_is_a_tag(client: Client, repository: str) -> None:
    await push_tags(client, repository, TAGS)
    for last in ("", "0", "a", "aa", "m", "zz", "\u00e4", "a b", "%"):
        assert await client.list_tags(repository, last=last) == [
            tag for tag in sorted(TAGS) if tag.encode() > last.encode()
        ]


async def test_no_entries_were_asked_for(client: Client, repository: str) -> None:
    await push_tags(client, repository, TAGS)
    answer = await client.get(f"/v2/{repository}/tags/list", n="0")
    assert (answer.json()["tags"], "Link" in answer.headers) == ([], False)


@pytest.mark.parametrize("wrong", ["-1", "abc", "1.5", "", "0x10", "1e3", "\u0661", "+1", " 1", "NaN"])
@pytest.mark.parametrize("what", ["tags/list", "catalog", "referrers"])
async def test_number_that_is_none_is_refused(client: Client, repository: str, wrong: str, what: str) -> None:
    await client.open_upload(repository)
    paths = {
        "tags/list": f"/v2/{repository}/tags/list",
        "catalog": "/v2/_catalog",
        "referrers": f"/v2/{repository}/referrers/sha256:{'0' * 64}",
    }
    answer = await client.get(paths[what], n=wrong)
    assert (answer.status, answer.codes) == (400, ["PAGINATION_NUMBER_INVALID"])


@pytest.mark.parametrize("huge", ["1001", "999999999999999999", "9" * 400])
async def test_huge_number_is_cut_to_a_thousand(client: Client, repository: str, huge: str) -> None:
    tags = [f"t{number:04}" for number in range(1100)]
    image = an_image().build()
    await client.push(repository, image)
    for start in range(0, len(tags), 100):
        query = "&".join(f"tag={tag}" for tag in tags[start : start + 100])
        path = f"/v2/{repository}/manifests/{image.digest}?{query}"
        await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})
    for query in (f"?n={huge}", ""):
        answer = await client.get(f"/v2/{repository}/tags/list{query}")
        assert answer.json()["tags"] == tags[:1000]
        following = await client.get(next_path(answer.headers["Link"]) or "")
        assert following.json()["tags"] == tags[1000:]


@pytest.mark.parametrize("hostile", ["%00", "a%00b", "%ff", "%ed%a0%80", "%", "%zz", "'; DROP TABLE x;--", "x" * 4000])
async def test_hostile_position_is_harmless(client: Client, repository: str, hostile: str) -> None:
    await push_tags(client, repository, TAGS)
    quoted = hostile.replace(" ", "%20").replace("'", "%27")
    digest = "sha256:" + "0" * 64
    for path in (f"/v2/{repository}/tags/list", "/v2/_catalog", f"/v2/{repository}/referrers/{digest}"):
        for query in (f"last={quoted}", f"n=2&last={quoted}", f"artifactType={quoted}"):
            answer = await client.get(f"{path}?{query}")
            assert answer.status in (200, 400)


@pytest.mark.parametrize(
    "query",
    ["last=%00", "last=%ff", "n=0", "n=-1", "n=abc", "n=1001", "n=" + "9" * 40, "after=-1", "after=" + "9" * 40, "after=1.5",
     "after=9223372036854775807", "n=%00", "last=" + "x" * 4000],
)  # fmt: skip
async def test_odd_pages_of_the_management_api_are_harmless(client: Client, repository: str, query: str) -> None:
    await client.open_upload(repository)
    for path in ("/api/v1/repositories", f"/api/v1/repositories/{repository}/-/events"):
        answer = await client.get(f"{path}?{query}")
        assert answer.status in (200, 400)
        if answer.status == 400:
            assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["%00", "A", "..", "%2e%2e", "a//b", "%ff", "a%2fb", "x" * 300, "-"])
async def test_odd_names_in_the_management_api_are_refused(client: Client, name: str) -> None:
    for path in (f"/api/v1/repositories/{name}/-/events", f"/api/v1/repositories/{name}/-/images"):
        answer = await client.get(path)
        assert answer.status in (400, 404)


async def test_tags_of_a_repository_that_is_not_there(client: Client) -> None:
    answer = await client.get("/v2/acme/nothing-here/tags/list")
    assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])


async def test_catalogue_lists_what_the_caller_may_read_in_byte_order(database_url: str) -> None:
    async with running_gateway(database_url) as gateway, open_client(gateway.url) as client:
        names = ["acme/a", "acme/a-b", "acme/a.b", "acme/a/b", "acme/a_b", "b", "zebra/x/y/z"]
        for name in names[::-1]:
            await client.open_upload(name)
        await add_public_repository(database_url, "public/one")
        await add_public_repository(database_url, "public/two")
        every = sorted([*names, "public/one", "public/two"], key=str.encode)
        found: list[str] = []
        path: str | None = "/v2/_catalog?n=2"
        while path is not None:
            answer = await client.get(path)
            found += answer.json()["repositories"]
            path = next_path(answer.headers.get("Link"))
        assert found == every
        assert (await client.get("/v2/_catalog")).json()["repositories"] == every
        assert (await client.anonymous().get("/v2/_catalog")).status == 401

"""Reading blobs: ranges, validators, headers; mounting them; taking them away."""

from __future__ import annotations

import os

import pytest

from slipway_common.testing.images import an_image, digest
from tests.integration.gateway.client import Client
from tests.integration.gateway.running import RunningGateway, add_public_repository

KIB, MIB = 1024, 1024 * 1024
MISSING = "sha256:" + "0" * 64


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, 64 * KIB, 64 * KIB + 1, MIB], ids=str)
async def test_blob_is_served_with_its_length_digest_and_no_way_to_be_interpreted(
    client: Client, repository: str, size: int
) -> None:
    content = os.urandom(size)
    name = await client.push_blob(repository, content)
    for answer in (await client.get_blob(repository, name), await client.head(f"/v2/{repository}/blobs/{name}")):
        assert answer.status == 200
        assert answer.headers["Content-Length"] == str(size)
        assert answer.digest == name
        assert answer.headers["ETag"] == f'"{name}"'
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.body == (content if answer.method == "GET" else b"")


@pytest.mark.parametrize("size", [1000, 20 * KIB, 300 * KIB], ids=["a-row", "in-memory", "from-file"])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=500-", 500, None),
        ("bytes=-100", -100, None),
        ("bytes=990-99999999", 990, None),
        ("bytes=-99999999", 0, None),
    ],
)
async def test_one_range_is_answered_by_206(
    client: Client, repository: str, size: int, asked: str, start: int, stop: int | None
) -> None:
    content = os.urandom(size)
    name = await client.push_blob(repository, content)
    if stop == 1000:
        stop = size
    answer = await client.get_blob(repository, name, headers={"Range": asked})
    first = start if start >= 0 else size + start
    expected = content[start:stop]
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{size}"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=99999999-", "bytes=-0"])
async def test_range_outside_the_blob_is_416_with_its_length(client: Client, repository: str, asked: str) -> None:
    name = await client.push_blob(repository, os.urandom(1000))
    answer = await client.get_blob(repository, name, headers={"Range": asked})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */1000"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "items=0-1",
        "bytes=0-1,5-6",
        "0-5",
        "bytes=" + ",".join(["0-1"] * 900),
        "bytes=" + "9" * 40 + "-",
        "bytes=\u0661-\u0662",
    ],
    ids=lambda text: text[:16],
)
async def test_range_that_is_not_understood_is_ignored(client: Client, repository: str, asked: str) -> None:
    content = os.urandom(1000)
    name = await client.push_blob(repository, content)
    answer = await client.get_blob(repository, name, headers={"Range": asked})
    assert (answer.status, answer.body) == (200, content)


async def test_range_of_an_empty_blob_cannot_be_satisfied(client: Client, repository: str) -> None:
    name = await client.push_blob(repository, b"")
    assert (await client.get_blob(repository, name, headers={"Range": "bytes=0-0"})).status == 416


async def test_if_range_of_another_content_gets_the_whole(client: Client, repository: str) -> None:
    content = os.urandom(1000)
    name = await client.push_blob(repository, content)
    headers = {"Range": "bytes=0-9", "If-Range": f'"{MISSING}"'}
    assert (await client.get_blob(repository, name, headers=headers)).body == content
    headers["If-Range"] = f'"{name}"'
    assert (await client.get_blob(repository, name, headers=headers)).body == content[:10]


@pytest.mark.parametrize(
    "wrong",
    ["abc", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256:" + "0" * 65, "sha256:%00" + "0" * 63],
)
async def test_malformed_digest_is_digest_invalid(client: Client, repository: str, wrong: str) -> None:
    await client.push_blob(repository, b"so that the repository exists")
    for method in ("GET", "HEAD", "DELETE"):
        answer = await client.request(method, f"/v2/{repository}/blobs/{wrong}")
        assert answer.status == 400
        if method != "HEAD":
            assert answer.codes == ["DIGEST_INVALID"]


async def test_missing_blob_and_missing_repository_say_so(client: Client, repository: str) -> None:
    assert (await client.get_blob("acme/nothing-here", MISSING)).codes == ["NAME_UNKNOWN"]
    await client.push_blob(repository, b"so that the repository exists")
    assert (await client.get_blob(repository, MISSING)).codes == ["BLOB_UNKNOWN"]


async def test_blob_of_another_repository_is_not_found_although_it_is_stored(
    client: Client, repository: str, other_repository: str
) -> None:
    name = await client.push_blob(repository, b"only in the first")
    await client.push_blob(other_repository, b"so that the repository exists")
    assert (await client.head(f"/v2/{other_repository}/blobs/{name}")).status == 404
    assert (await client.get_blob(other_repository, name)).codes == ["BLOB_UNKNOWN"]
    assert (await client.delete(f"/v2/{other_repository}/blobs/{name}")).codes == ["BLOB_UNKNOWN"]


async def test_knowing_a_digest_is_not_having_the_bytes(client: Client, repository: str, other_repository: str) -> None:
    """Uploading other bytes under a digest that is stored elsewhere is refused as for any digest."""
    name = await client.push_blob(repository, b"the secret")
    known = await client.start_upload(other_repository, body=b"a guess", digest=name)
    unknown = await client.start_upload(other_repository, body=b"a guess", digest=MISSING)
    assert (known.status, known.codes, known.message) == (unknown.status, unknown.codes, unknown.message)
    assert (known.status, known.codes) == (400, ["DIGEST_INVALID"])
    empty = await client.finish(await client.open_upload(other_repository), name)
    assert (empty.status, empty.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.get_blob(other_repository, name)).status == 404


# Mounts


async def test_blob_is_mounted_from_a_readable_repository(
    client: Client, repository: str, other_repository: str
) -> None:
    name = await client.push_blob(repository, b"shared")
    answer = await client.start_upload(other_repository, mount=name, **{"from": repository})
    assert (answer.status, answer.digest) == (201, name)
    assert answer.location == f"/v2/{other_repository}/blobs/{name}"
    assert (await client.get(answer.location)).body == b"shared"


async def test_blob_is_mounted_without_a_source_from_wherever_it_is_readable(
    client: Client, repository: str, other_repository: str
) -> None:
    name = await client.push_blob(repository, os.urandom(100))
    assert (await client.start_upload(other_repository, mount=name)).status == 201


async def test_mount_that_cannot_be_done_opens_a_session(
    client: Client, repository: str, other_repository: str
) -> None:
    await client.push_blob(repository, b"so that the repository exists")
    answers = [
        await client.start_upload(other_repository, mount=MISSING, **{"from": repository}),
        await client.start_upload(other_repository, mount=MISSING, **{"from": "acme/nothing-here"}),
        await client.start_upload(other_repository, mount=MISSING, **{"from": "Not/A/Name"}),
        await client.start_upload(other_repository, mount=MISSING),
    ]
    for answer in answers:
        assert answer.status == 202
        assert (await client.finish(answer.location, digest(b"x"), b"x")).status == 201


async def test_mount_of_a_malformed_digest_is_refused(client: Client, repository: str) -> None:
    assert (await client.start_upload(repository, mount="sha256:abc")).codes == ["DIGEST_INVALID"]


async def test_token_for_one_repository_mounts_nothing_from_others(
    client: Client, repository: str, other_repository: str
) -> None:
    """Without a source only what the token covers is searched; with one, the token is asked to cover it."""
    name = await client.push_blob(repository, os.urandom(100))
    narrow = client.with_token(await client.get_token(f"repository:{other_repository}:pull,push"))
    assert (await narrow.start_upload(other_repository, mount=name)).status == 202
    refused = await narrow.start_upload(other_repository, mount=name, **{"from": repository})
    assert refused.status == 401
    assert f"repository:{repository}:pull" in refused.challenge
    assert f"repository:{other_repository}:pull,push" in refused.challenge
    both = client.with_token(
        await client.get_token(f"repository:{other_repository}:pull,push", f"repository:{repository}:pull")
    )
    assert (await both.start_upload(other_repository, mount=name)).status == 201


async def test_mount_without_rights_at_the_source_looks_like_a_missing_blob(
    eve: Client, client: Client, repository: str, shared_gateway: RunningGateway
) -> None:
    """Asked of the one place where it is decided: nobody but administrators can push yet."""
    name = await client.push_blob(repository, b"a secret of the administrator's")
    await add_public_repository(shared_gateway.database_url, f"{repository}-public")
    for target in (f"{repository}-public", repository, f"{repository}-new"):
        answers = [
            await eve.start_upload(target, mount=name, **{"from": repository}),
            await eve.start_upload(target, mount=MISSING, **{"from": repository}),
            await eve.start_upload(target, mount=name),
        ]
        assert {(answer.status, answer.body) for answer in answers} == {(answers[0].status, answers[0].body)}
        assert answers[0].status == 403


# Deleting


async def test_blob_without_a_manifest_is_deleted_from_this_repository_only(
    client: Client, repository: str, other_repository: str
) -> None:
    name = await client.push_blob(repository, b"shared by two")
    await client.push_blob(other_repository, b"shared by two")
    assert (await client.delete(f"/v2/{repository}/blobs/{name}")).status == 202
    assert (await client.get_blob(repository, name)).status == 404
    assert (await client.delete(f"/v2/{repository}/blobs/{name}")).codes == ["BLOB_UNKNOWN"]
    assert (await client.get_blob(other_repository, name)).body == b"shared by two"


async def test_deleted_blob_is_pushed_again(client: Client, repository: str) -> None:
    content = os.urandom(1000)
    name = await client.push_blob(repository, content)
    await client.delete(f"/v2/{repository}/blobs/{name}")
    assert await client.push_blob(repository, content) == name
    assert (await client.get_blob(repository, name)).body == content


async def test_blob_that_a_manifest_needs_is_not_deleted(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image, "latest")
    for name in image.blobs:
        answer = await client.delete(f"/v2/{repository}/blobs/{name}")
        assert (answer.status, answer.codes) == (405, ["DENIED"])
        assert (await client.get_blob(repository, name)).status == 200


async def test_blob_that_only_a_trashed_manifest_needs_is_hidden_and_revived_by_a_push(
    client: Client, repository: str
) -> None:
    image = an_image().build()
    await client.push(repository, image, "latest")
    assert (await client.delete(f"/v2/{repository}/manifests/{image.digest}")).status == 202
    (layer,) = image.layer_digests
    assert (await client.delete(f"/v2/{repository}/blobs/{layer}")).status == 202
    assert (await client.get_blob(repository, layer)).status == 404
    refused = await client.put_manifest(repository, "latest", image.manifest, image.media_type)
    assert refused.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert refused.json()["errors"][0]["detail"] == [{"digest": layer}]
    await client.push(repository, image, "latest")
    assert (await client.get_blob(repository, layer)).body == image.blobs[layer]


async def test_hidden_blob_is_revived_by_a_mount(client: Client, repository: str, other_repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image)
    await client.push_content(other_repository, image)
    (layer,) = image.layer_digests
    await client.delete(f"/v2/{repository}/manifests/{image.digest}")
    await client.delete(f"/v2/{repository}/blobs/{layer}")
    revived = await client.start_upload(repository, mount=layer, **{"from": other_repository})
    assert revived.status == 201
    assert (await client.get_blob(repository, layer)).status == 200

"""Manifests: pushed, pulled, refused, tagged, deleted, revived; and the events of each push."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

import asyncpg
import pytest

from slipway_common.testing.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    an_artifact,
    an_image,
    an_index,
    describe,
    digest,
)
from tests.integration.gateway.client import Answer, Client
from tests.integration.gateway.running import RunningGateway

MISSING = "sha256:" + "0" * 64


def shapes() -> dict[str, Image]:
    image = an_image("shape").build()
    arm = an_image("shape").for_platform("linux/arm64/v8").build()
    return {
        "oci": image,
        "docker": an_image("shape").as_docker().build(),
        "index": an_index().with_child(image, "linux/amd64").with_child(arm, "linux/arm64/v8").build(),
        "docker-list": an_index().as_docker().of(an_image("shape").as_docker().build()).build(),
        "nested-index": an_index().of(an_index().of(image).build(), arm).build(),
        "empty-index": an_index().build(),
        "artifact": an_artifact("application/vnd.test").with_layer(b"data", "text/plain").build(),
        "about-nothing-here": an_artifact("application/vnd.test").about(an_image("elsewhere").build()).build(),
        "sha512-blobs": an_image("shape").hashed_by("sha512").build(),
        "index-with-a-subject": an_index().of(image).about(image).build(),
    }


@pytest.mark.parametrize("shape", shapes())
async def test_every_shape_is_pushed_and_pulled_byte_exact(client: Client, repository: str, shape: str) -> None:
    image = shapes()[shape]
    pushed = await client.push(repository, image, "v1")
    sha256 = digest(image.manifest)
    assert pushed.digest == sha256
    assert pushed.location == f"/v2/{repository}/manifests/v1"
    for reference in ("v1", sha256):
        answer = await client.get_manifest(repository, reference)
        assert (answer.status, answer.body, answer.digest) == (200, image.manifest, sha256)
        assert answer.headers["Content-Type"] == image.media_type
        assert answer.headers["ETag"] == f'"{sha256}"'
        head = await client.head(f"/v2/{repository}/manifests/{reference}")
        assert (head.status, head.body, head.digest) == (200, b"", sha256)
        assert head.headers["Content-Length"] == str(len(image.manifest))


async def test_manifest_is_pushed_by_its_sha512(client: Client, repository: str) -> None:
    image = an_image().hashed_by("sha512").build()
    answer = await client.push(repository, image)
    assert answer.digest == image.digest
    assert image.digest.startswith("sha512:")
    assert (await client.get_manifest(repository, image.digest)).body == image.manifest


@pytest.mark.parametrize("spacing", [{"indent": 3}, {"separators": (",", ":")}, {"indent": "\t"}])
async def test_bytes_are_kept_as_pushed(client: Client, repository: str, spacing: dict[str, Any]) -> None:
    image = an_image().build()
    await client.push_content(repository, image)
    content = (json.dumps({**image.document, "unknown": {"LAYERS": 1}}, **spacing) + "\r\n ").encode()
    assert (await client.put_manifest(repository, "v1", content, OCI_MANIFEST)).status == 201
    assert (await client.get_manifest(repository, "v1")).body == content


async def test_digest_that_does_not_fit_is_refused(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push_content(repository, image)
    answer = await client.put_manifest(repository, MISSING, image.manifest, image.media_type)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.get_manifest(repository, image.digest)).status == 404


async def test_missing_content_is_named(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push_blob(repository, image.blobs[image.config_digest])
    answer = await client.put_manifest(repository, "v1", image.manifest, image.media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert answer.json()["errors"][0]["detail"] == [{"digest": image.layer_digests[0]}]
    index = an_index().of(image).build()
    refused = await client.put_manifest(repository, "all", index.manifest, index.media_type)
    assert refused.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert await client.list_tags(repository) == []


async def test_blob_of_another_repository_counts_as_missing_and_stays_unreadable(
    client: Client, repository: str, other_repository: str
) -> None:
    image = an_image("secret").build()
    await client.push_content(repository, image)
    await client.open_upload(other_repository)
    answer = await client.put_manifest(other_repository, "v1", image.manifest, image.media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert (await client.get_blob(other_repository, image.config_digest)).status == 404


async def test_layer_that_may_not_be_distributed_may_be_missing(client: Client, repository: str) -> None:
    image = (
        an_image()
        .with_layer(b"foreign", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://x/y"])
        .build()
    )
    await client.push_blob(repository, image.blobs[image.config_digest])
    assert (await client.put_manifest(repository, "v1", image.manifest, image.media_type)).status == 201


async def test_child_of_an_index_may_be_a_blob(client: Client, repository: str) -> None:
    """As in the caches of builders."""
    cache = await client.push_blob(repository, b"a layer")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [describe(b"a layer", "application/x-layer")]}
    answer = await client.put_manifest(repository, "cache", json.dumps(index).encode(), OCI_INDEX)
    assert answer.status == 201
    assert (await client.delete(f"/v2/{repository}/blobs/{cache}")).status == 405


@pytest.mark.parametrize("where", ["config", "layer", "child"])
@pytest.mark.parametrize("wrong", [-1, 1, 2**40])
async def test_wrong_size_in_a_descriptor_is_refused(client: Client, repository: str, where: str, wrong: int) -> None:
    image = an_image().build()
    await client.push(repository, image)
    document = image.document if where != "child" else an_index().of(image).build().document
    part = {"config": lambda: document["config"], "layer": lambda: document["layers"][0]}.get(
        where, lambda: document["manifests"][0]
    )()
    part["size"] += wrong
    answer = await client.put_manifest(repository, "v1", json.dumps(document).encode(), document["mediaType"])
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert part["digest"] in answer.message


REFUSED: dict[str, tuple[Any, str | None]] = {
    "not json": (b"{", OCI_MANIFEST),
    "not utf-8": (b'{"a":"\xff"}', OCI_MANIFEST),
    "empty": (b"", OCI_MANIFEST),
    "a list": (b"[]", OCI_MANIFEST),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", OCI_MANIFEST),
    "a number of 5000 digits": (b'{"schemaVersion":2,"x":' + b"9" * 5000 + b"}", OCI_MANIFEST),
    "NaN": (b'{"schemaVersion":2,"x":NaN}', OCI_MANIFEST),
    "1e400": (b'{"schemaVersion":2,"x":1e400}', OCI_MANIFEST),
    "lone surrogate": (b'{"schemaVersion":2,"x":"\\ud800"}', OCI_MANIFEST),
    "no schemaVersion": ({"mediaType": OCI_MANIFEST}, OCI_MANIFEST),
    "schemaVersion 1": ({"schemaVersion": 1, "mediaType": OCI_MANIFEST}, OCI_MANIFEST),
    "media types that differ": ({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, OCI_MANIFEST),
    "index under an image's type": ({"schemaVersion": 2, "manifests": []}, OCI_MANIFEST),
    "image under an index's type": ({"schemaVersion": 2, "config": {}, "layers": []}, OCI_INDEX),
    "unknown type": ({"schemaVersion": 2}, "application/json"),
    "no type at all": ({"schemaVersion": 2}, None),
    "image without config": ({"schemaVersion": 2, "layers": []}, OCI_MANIFEST),
    "image without layers": ({"schemaVersion": 2, "config": describe(b"{}", "x/y")}, OCI_MANIFEST),
    "index of no list": ({"schemaVersion": 2, "manifests": {}}, OCI_INDEX),
    "NUL in artifactType": ({"schemaVersion": 2, "manifests": [], "artifactType": "a\0b"}, OCI_INDEX),
    "NUL in subject's type": (
        {"schemaVersion": 2, "manifests": [], "subject": {**describe(b"", "x"), "mediaType": "a\0b"}},
        OCI_INDEX,
    ),
    "100k layers": (
        {"schemaVersion": 2, "config": describe(b"{}", "x/y"), "layers": [0] * 100_000},
        OCI_MANIFEST,
    ),
    "null": (b"null", OCI_MANIFEST),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_is_no_manifest_is_refused_with_a_reason(client: Client, repository: str, why: str) -> None:
    content, media_type = REFUSED[why]
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = await client.put_manifest(repository, "v1", body, media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert len(answer.message) > 10


async def test_nul_in_a_configs_media_type_is_refused(client: Client, repository: str) -> None:
    image = an_image().with_config(b"{}", "application/vnd.\0").build()
    await client.push_content(repository, image)
    answer = await client.put_manifest(repository, "v1", image.manifest, image.media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


async def test_nul_in_annotations_and_platforms_is_kept_or_refused_but_harms_nothing(
    client: Client, repository: str
) -> None:
    child = an_image().build()
    index = an_index().with_child(child, "li\0nux/amd\0").annotated({"a\0b": "c\0d"}).about(child).build()
    await client.push_content(repository, index)
    answer = await client.put_manifest(repository, "v1", index.manifest, index.media_type)
    assert answer.status in (201, 400)
    if answer.status == 201:
        assert (await client.get_manifest(repository, "v1")).body == index.manifest
        assert (await client.list_referrers(repository, child.digest))[0]["annotations"] == {"a\0b": "c\0d"}
        assert await client.list_events(repository)


@pytest.mark.parametrize("kind", ["v1+json", "v1+prettyjws"])
async def test_docker_schema_1_is_refused_in_words_a_user_understands(
    client: Client, repository: str, kind: str
) -> None:
    media_type = f"application/vnd.docker.distribution.manifest.{kind}"
    body = json.dumps({"schemaVersion": 1, "name": "x", "tag": "y", "fsLayers": [], "history": []}).encode()
    answer = await client.put_manifest(repository, "v1", body, media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert "schema 1" in answer.message


async def test_four_mebibytes_are_accepted_and_one_byte_more_is_413_while_streaming(
    client: Client, repository: str
) -> None:
    limit = 4 * 1024 * 1024
    empty = an_index().annotated(filler="").build().manifest
    for size, status in ((limit, 201), (limit + 1, 413)):
        content = empty.replace(b'"filler": ""', b'"filler": "' + b"x" * (size - len(empty)) + b'"')
        assert len(content) == size
        assert (await client.put_manifest(repository, "big", content, OCI_INDEX)).status == status

    sent = 0

    async def endless():  # type: ignore[no-untyped-def]
        nonlocal sent
        for _ in range(1000):
            sent += 64 * 1024
            yield b" " * 64 * 1024
            await asyncio.sleep(0)

    answer = await client.request("PUT", f"/v2/{repository}/manifests/big", body=endless())
    assert (answer.status, answer.codes) == (413, ["SIZE_INVALID"])
    assert sent < 60 * 1024 * 1024


async def test_bad_references_are_refused(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image, "good")
    for reference in (".bad", "-bad", "x" * 129, "b%20d", "b%00d", "%ff", "b%C3%A4d"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            body = image.manifest if method == "PUT" else None
            answer = await client.request(method, f"/v2/{repository}/manifests/{reference}", body=body)
            assert answer.status == 400, str(answer)
    assert await client.list_tags(repository) == ["good"]


# Tags


async def test_tag_moves_and_the_old_manifest_stays(client: Client, repository: str) -> None:
    old, new = an_image("old").build(), an_image("new").build()
    await client.push(repository, old, "latest")
    await client.push(repository, new, "latest")
    assert (await client.get_manifest(repository, "latest")).body == new.manifest
    assert (await client.get_manifest(repository, old.digest)).body == old.manifest


async def test_several_tags_are_set_at_once(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push_content(repository, image)
    path = f"/v2/{repository}/manifests/{image.digest}?tag=b&tag=a&tag=a&tag=c"
    answer = await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})
    assert answer.status == 201
    assert set(answer.headers.getall("OCI-Tag")) == {"a", "b", "c"}
    assert await client.list_tags(repository) == ["a", "b", "c"]


async def test_one_bad_tag_among_several_sets_none(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push_content(repository, image)
    path = f"/v2/{repository}/manifests/{image.digest}?tag=good&tag=.bad"
    answer = await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})
    assert answer.status == 400
    assert (await client.get_manifest(repository, image.digest)).status == 404
    assert await client.list_tags(repository) == []


async def test_64_writers_of_one_tag_leave_what_the_last_event_says(client: Client, repository: str) -> None:
    images = [an_image(f"racer {number}").build() for number in range(8)]
    for image in images:
        await client.push_content(repository, image)
    answers = await asyncio.gather(
        *(
            client.put_manifest(repository, "latest", images[number % 8].manifest, images[0].media_type)
            for number in range(64)
        )
    )
    assert {answer.status for answer in answers} == {201}
    events = await client.list_events(repository)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    last = [event for event in events if event["type"] == "slipway.image.pushed.v1"][-1]
    assert (await client.get_manifest(repository, "latest")).digest == last["data"]["digest"]


async def test_writers_of_several_tags_in_any_order_do_not_fail_each_other(client: Client, repository: str) -> None:
    images = [an_image(f"racer {number}").build() for number in range(4)]
    for image in images:
        await client.push(repository, image)
    tags = [f"t{number}" for number in range(6)]

    async def write(number: int) -> Answer:
        image, order = images[number % 4], tags if number % 2 else tags[::-1]
        path = f"/v2/{repository}/manifests/{image.digest}?" + "&".join(f"tag={tag}" for tag in order)
        return await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})

    async def delete(number: int) -> Answer:
        reference = images[number % 4].digest if number % 2 else tags[number % 6]
        return await client.delete(f"/v2/{repository}/manifests/{reference}")

    answers = await asyncio.gather(*(write(n) if n % 3 else delete(n) for n in range(48)))
    assert {answer.status for answer in answers} <= {201, 202, 404}


# Deleting


@pytest.mark.parametrize("what", ["manifest", "tag"])
async def test_deletion_that_meets_a_deadlock_is_done_again(
    client: Client, repository: str, shared_gateway: RunningGateway, what: str
) -> None:
    """Somebody locks two rows in the other order; PostgreSQL undoes one of the two transactions."""
    image = an_image().build()
    await client.push(repository, image, "a")
    await client.put_manifest(repository, "b", image.manifest, image.media_type)
    lock = """
        SELECT FROM gateway.tags t JOIN gateway.repositories r ON r.id = t.repository_id
        WHERE r.name = $1 AND t.name = $2 FOR UPDATE OF t
    """
    stream = """
        SELECT FROM log.streams WHERE stream = 'repository/' ||
        (SELECT id FROM gateway.repositories WHERE name = $1) FOR UPDATE
    """
    connection = await asyncpg.connect(shared_gateway.database_url)
    try:
        async with connection.transaction():
            await (
                connection.execute(stream, repository) if what == "tag" else connection.execute(lock, repository, "b")
            )
            deletion = asyncio.create_task(
                client.delete(f"/v2/{repository}/manifests/{'a' if what == 'tag' else image.digest}")
            )
            await asyncio.sleep(0.3)
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                await connection.execute(lock, repository, "a")
    finally:
        await connection.close()
    assert (await deletion).status == 202
    assert (await client.get_manifest(repository, "a")).status == 404


async def test_deleting_a_tag_removes_only_the_tag(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image, "one")
    await client.push(repository, image, "two")
    assert (await client.delete(f"/v2/{repository}/manifests/one")).status == 202
    assert (await client.get_manifest(repository, "one")).codes == ["MANIFEST_UNKNOWN"]
    assert (await client.delete(f"/v2/{repository}/manifests/one")).codes == ["MANIFEST_UNKNOWN"]
    for reference in ("two", image.digest):
        assert (await client.get_manifest(repository, reference)).body == image.manifest
    assert await client.list_tags(repository) == ["two"]


async def test_deleting_a_manifest_takes_its_tags_along_and_a_push_revives_it(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image, "one")
    await client.push(repository, image, "two")
    assert (await client.delete(f"/v2/{repository}/manifests/{image.digest}")).status == 202
    for reference in ("one", "two", image.digest):
        assert (await client.get_manifest(repository, reference)).codes == ["MANIFEST_UNKNOWN"]
    assert await client.list_tags(repository) == []
    assert (await client.delete(f"/v2/{repository}/manifests/{image.digest}")).status == 404
    assert (await client.put_manifest(repository, "three", image.manifest, image.media_type)).status == 201
    assert (await client.get_manifest(repository, image.digest)).body == image.manifest
    assert await client.list_tags(repository) == ["three"]


async def test_child_of_a_living_index_is_not_deleted_and_goes_after_it(client: Client, repository: str) -> None:
    child = an_image().build()
    index = an_index().of(child).build()
    await client.push(repository, index, "all")
    refused = await client.delete(f"/v2/{repository}/manifests/{child.digest}")
    assert (refused.status, refused.codes) == (405, ["DENIED"])
    assert refused.json()["errors"][0]["detail"] == {"indexes": [index.digest]}
    assert (await client.delete(f"/v2/{repository}/manifests/{index.digest}")).status == 202
    assert (await client.delete(f"/v2/{repository}/manifests/{child.digest}")).status == 202


async def test_index_of_a_trashed_child_is_refused_until_the_child_is_pushed_again(
    client: Client, repository: str
) -> None:
    child = an_image().build()
    index = an_index().of(child).build()
    await client.push(repository, child)
    await client.delete(f"/v2/{repository}/manifests/{child.digest}")
    answer = await client.put_manifest(repository, "all", index.manifest, index.media_type)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]
    await client.push(repository, index, "all")
    assert (await client.get_manifest(repository, child.digest)).status == 200


# Referrers


async def test_referrers_are_found_before_and_after_their_subject(client: Client, repository: str) -> None:
    subject = an_image().build()
    early = an_artifact("application/vnd.early").annotated(when="before").about(subject).build()
    late = an_image("late").about(subject).build()
    answer = await client.push(repository, early)
    assert answer.headers["OCI-Subject"] == subject.digest
    assert [found["digest"] for found in await client.list_referrers(repository, subject.digest)] == [early.digest]
    await client.push(repository, subject, "latest")
    await client.push(repository, late)
    found = {entry["digest"]: entry for entry in await client.list_referrers(repository, subject.digest)}
    assert set(found) == {early.digest, late.digest}
    assert found[early.digest] == {
        "mediaType": OCI_MANIFEST,
        "digest": early.digest,
        "size": len(early.manifest),
        "artifactType": "application/vnd.early",
        "annotations": {"when": "before"},
    }
    assert found[late.digest]["artifactType"] == "application/vnd.oci.image.config.v1+json"


async def test_nothing_refers_to_what_nobody_knows(client: Client, repository: str) -> None:
    for name in (repository, "acme/nothing-here"):
        answer = await client.get(f"/v2/{name}/referrers/{MISSING}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        await client.open_upload(repository)


async def test_referrers_of_what_is_no_digest_are_refused(client: Client, repository: str) -> None:
    await client.open_upload(repository)
    assert (await client.get(f"/v2/{repository}/referrers/latest")).codes == ["DIGEST_INVALID"]


async def test_referrers_are_filtered_and_paged(client: Client, repository: str) -> None:
    subject = an_image().build()
    for number in range(7):
        kind = "application/vnd.odd" if number % 2 else "application/vnd.even"
        await client.push(repository, an_artifact(kind).annotated(n=str(number)).about(subject).build())
    path = f"/v2/{repository}/referrers/{subject.digest}"
    filtered = await client.get(path, artifactType="application/vnd.odd")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert len(filtered.json()["manifests"]) == 3
    found: list[str] = []
    next_page: str | None = f"{path}?n=3"
    while next_page is not None:
        answer = await client.get(next_page)
        found += [entry["digest"] for entry in answer.json()["manifests"]]
        next_page = answer.headers["Link"].partition(">")[0][1:] if "Link" in answer.headers else None
    assert len(found) == len(set(found)) == 7
    assert found == sorted(found)


async def test_deleted_referrer_is_no_longer_listed(client: Client, repository: str) -> None:
    subject = an_image().build()
    artifact = an_artifact("application/vnd.test").about(subject).build()
    await client.push(repository, artifact)
    await client.delete(f"/v2/{repository}/manifests/{artifact.digest}")
    assert await client.list_referrers(repository, subject.digest) == []


async def test_pages_of_heavy_referrers_stay_under_four_mebibytes(client: Client, repository: str) -> None:
    subject = an_image().build()
    sizes = [1_500_000, 4_100_000, 900_000, 900_000, 900_000, 4_100_000]
    pushed = set()
    for number, size in enumerate(sizes):
        artifact = an_artifact("application/vnd.heavy").annotated(n=str(number), filler="x" * size)
        pushed.add((await client.push(repository, artifact.about(subject).build())).digest)
    found: list[str] = []
    path: str | None = f"/v2/{repository}/referrers/{subject.digest}"
    while path is not None:
        answer = await client.get(path)
        assert len(answer.body) <= 4 * 1024 * 1024 + 1024
        found += [entry["digest"] for entry in answer.json()["manifests"]]
        path = answer.headers["Link"].partition(">")[0][1:] if "Link" in answer.headers else None
    assert (sorted(found), len(found)) == (sorted(pushed), len(sizes))


# Events


def tell(events: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [
        (event["type"].removeprefix("slipway.").removesuffix(".v1"), event["data"].get("digest")) for event in events
    ]


async def test_push_of_an_image_tells_each_fact_once_and_in_order(client: Client, repository: str) -> None:
    image = an_image("told").for_platform("linux/arm64/v8").build()
    await client.push(repository, image, "v1")
    events = await client.list_events(repository)
    assert tell(events) == [
        ("repository.created", None),
        ("manifest.pushed", image.digest),
        ("image.pushed", image.digest),
    ]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert {event["actor"] for event in events} == {"admin"}
    pushed = events[2]["data"]
    assert pushed["repository"]["name"] == repository
    assert (pushed["tags"], pushed["image_id"]) == (["v1"], image.config_digest)
    assert pushed["size_bytes"] == image.tree_size_bytes
    assert [(one["os"], one["architecture"], one["variant"]) for one in pushed["platforms"]] == [
        ("linux", "arm64", "v8")
    ]
    assert pushed["replaced"] == {}


async def test_push_of_an_index_rings_once_for_all_its_platforms(client: Client, repository: str) -> None:
    children = [an_image("all").for_platform(name).build() for name in ("linux/amd64", "linux/arm64/v8")]
    index = an_index().of(*children).build()
    await client.push(repository, index, "latest")
    events = await client.list_events(repository)
    assert tell(events)[1:] == [
        ("manifest.pushed", children[0].digest),
        ("manifest.pushed", children[1].digest),
        ("manifest.pushed", index.digest),
        ("image.pushed", index.digest),
    ]
    told = events[-1]["data"]
    assert {(one["architecture"], one["digest"], one["image_id"]) for one in told["platforms"]} == {
        (name, child.digest, child.config_digest) for name, child in zip(("amd64", "arm64"), children, strict=True)
    }
    assert told["size_bytes"] == index.tree_size_bytes


async def test_moved_tag_tells_what_it_replaced(client: Client, repository: str) -> None:
    old, new = an_image("old").build(), an_image("new").build()
    await client.push(repository, old, "latest")
    await client.push(repository, new, "latest")
    assert (await client.list_events(repository))[-1]["data"]["replaced"] == {"latest": old.digest}


async def test_artifact_with_a_subject_tells_of_the_attachment(client: Client, repository: str) -> None:
    subject = an_image().build()
    artifact = an_artifact("application/vnd.sbom").about(subject).build()
    await client.push(repository, artifact)
    events = await client.list_events(repository)
    assert tell(events)[1:] == [("manifest.pushed", artifact.digest), ("referrer.attached", artifact.digest)]
    assert events[-1]["data"]["subject"] == subject.digest
    assert events[-1]["data"]["artifact_type"] == "application/vnd.sbom"


async def test_several_tags_in_one_put_ring_once(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push_content(repository, image)
    path = f"/v2/{repository}/manifests/a?tag=b&tag=c"
    await client.request("PUT", path, body=image.manifest, headers={"Content-Type": image.media_type})
    events = await client.list_events(repository)
    assert tell(events)[1:] == [("manifest.pushed", image.digest), ("image.pushed", image.digest)]
    assert events[-1]["data"]["tags"] == ["a", "b", "c"]


async def test_deletions_are_told_and_refused_pushes_are_not(client: Client, repository: str) -> None:
    image = an_image().build()
    await client.push(repository, image, "v1")
    await client.put_manifest(repository, "v2", image.manifest, DOCKER_MANIFEST)
    await client.put_manifest(repository, "v3", b"{}", DOCKER_LIST)
    await client.delete(f"/v2/{repository}/manifests/v1")
    await client.delete(f"/v2/{repository}/manifests/v1")
    await client.put_manifest(repository, "v4", image.manifest, image.media_type)
    await client.delete(f"/v2/{repository}/manifests/{image.digest}")
    events = await client.list_events(repository)
    assert tell(events)[3:] == [
        ("tag.deleted", image.digest),
        ("manifest.pushed", image.digest),
        ("image.pushed", image.digest),
        ("manifest.deleted", image.digest),
    ]
    assert events[-1]["data"]["tags"] == ["v4"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_hostile_config_is_kept_and_told_of_without_its_platform(client: Client, repository: str) -> None:
    for config in (b"[]", b"not json", b'{"os":"\\u0000","architecture":7}', os.urandom(100), b"{}"):
        image = an_image().with_config(config, "application/vnd.oci.image.config.v1+json").build()
        await client.push(repository, image, "odd")
        event = (await client.list_events(repository))[-1]
        assert (event["data"]["digest"], event["data"]["platforms"]) == (image.digest, [])

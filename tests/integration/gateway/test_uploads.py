"""Every way to upload a blob, and what happens to sessions that are left, resumed, or fought over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import uuid

import pytest

from slipway_common.testing.images import digest
from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.running import RunningGateway, run_sql, running_gateway

KIB, MIB = 1024, 1024 * 1024
# What a session holds in its row, and what goes to storage.
ROW, OBJECT = 10, 20 * KIB
in_row_or_storage = pytest.mark.parametrize("size", [ROW, OBJECT], ids=["in-its-row", "in-storage"])


async def test_blob_pushed_by_post_and_put_is_pulled_byte_exact(client: Client, repository: str) -> None:
    content = os.urandom(100 * KIB)
    opened = await client.start_upload(repository)
    assert (opened.status, opened.headers["Range"]) == (202, "0-0")
    assert uuid.UUID(opened.headers["Docker-Upload-UUID"])
    finished = await client.finish(opened.location, digest(content), content)
    assert finished.status == 201
    assert finished.location == f"/v2/{repository}/blobs/{digest(content)}"
    assert finished.digest == digest(content)
    assert (await client.get(finished.location)).body == content


async def test_blob_is_pushed_by_a_single_post(client: Client, repository: str) -> None:
    content = os.urandom(10 * KIB)
    answer = await client.start_upload(repository, body=content, digest=digest(content))
    assert (answer.status, answer.digest) == (201, digest(content))
    assert (await client.get(answer.location)).body == content


async def test_empty_blob_is_a_blob(client: Client, repository: str) -> None:
    name = await client.push_blob(repository, b"")
    answer = await client.get_blob(repository, name)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("ranged", [True, False], ids=["with-content-range", "without-content-range"])
async def test_chunks_by_patch_make_one_blob(client: Client, repository: str, ranged: bool) -> None:
    content = os.urandom(3 * MIB)
    location = await client.open_upload(repository)
    for start in (0, MIB):
        chunk = content[start : start + MIB]
        answer = await client.patch(location, chunk, content_range=f"{start}-{start + MIB - 1}" if ranged else None)
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{start + MIB - 1}")
        location = answer.location
    last = f"{2 * MIB}-{3 * MIB - 1}" if ranged else None
    finished = await client.finish(location, digest(content), content[2 * MIB :], content_range=last)
    assert finished.status == 201
    assert (await client.get(finished.location)).body == content


async def test_chunked_transfer_encoding_is_received_like_any_body(client: Client, repository: str) -> None:
    content = os.urandom(700 * KIB)

    async def pieces():  # type: ignore[no-untyped-def]
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    location = await client.open_upload(repository)
    assert (await client.patch(location, pieces())).status == 202
    assert (await client.finish(location, digest(content))).status == 201


async def test_content_range_with_unit_is_understood(client: Client, repository: str) -> None:
    location = await client.open_upload(repository)
    assert (await client.patch(location, b"12345", content_range="bytes 0-4/*")).headers["Range"] == "0-4"


@in_row_or_storage
async def test_chunk_out_of_order_is_refused_with_the_true_range_and_the_session_lives(
    client: Client, repository: str, size: int
) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository)
    await client.patch(location, content, content_range=f"0-{size - 1}")
    for lying in ("0-9", "5-14", f"{size + 10}-{size + 19}"):
        refused = await client.patch(location, b"abcdefghij", content_range=lying)
        assert (refused.status, refused.codes) == (416, ["BLOB_UPLOAD_INVALID"])
        assert (refused.headers["Range"], refused.location) == (f"0-{size - 1}", location)
    assert (await client.patch(location, b"abcde", content_range=f"{size}-{size + 4}")).status == 202
    finished = await client.finish(location, digest(content + b"abcde"))
    assert finished.status == 201
    assert (await client.get(finished.location)).body == content + b"abcde"


@in_row_or_storage
async def test_put_out_of_order_is_refused_and_the_session_lives(client: Client, repository: str, size: int) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository)
    await client.patch(location, content)
    whole = digest(content + b"ab")
    for lying in ("0-1", "3-4"):
        refused = await client.finish(location, whole, b"ab", content_range=lying)
        assert (refused.status, refused.headers["Range"]) == (416, f"0-{size - 1}")
    assert (await client.finish(location, whole, b"ab", content_range=f"{size}-{size + 1}")).status == 201


@pytest.mark.parametrize("lying", ["0-3", "0-20", "9-0", "abc", "-5", "0-", "0--1", "1e3-2e3", "0-9,10-19"])
async def test_content_range_that_contradicts_the_length_is_refused(
    client: Client, repository: str, lying: str
) -> None:
    location = await client.open_upload(repository)
    answer = await client.patch(location, b"0123456789", content_range=lying)
    assert answer.status == 400
    assert answer.codes == ["SIZE_INVALID"]
    assert (await client.get(location)).headers["Range"] == "0-0"


async def test_status_tells_how_far_the_session_has_come(client: Client, repository: str) -> None:
    location = await client.open_upload(repository)
    await client.patch(location, b"x" * 1000)
    status = await client.get(location)
    assert (status.status, status.headers["Range"], status.location) == (204, "0-999", location)


@in_row_or_storage
async def test_cancelled_session_is_gone_and_its_bytes_are_queued_for_deletion(
    client: Client, repository: str, shared_gateway: RunningGateway, size: int
) -> None:
    location = await client.open_upload(repository)
    await client.patch(location, b"x" * size)
    assert (await client.delete(location)).status == 204
    for answer in (
        await client.get(location),
        await client.delete(location),
        await client.patch(location, b"x"),
        await client.finish(location, digest(b"x"), b"x"),
    ):
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    uploads = await run_sql(
        shared_gateway.database_url, "SELECT FROM gateway.uploads WHERE id = $1", uuid.UUID(location[-36:])
    )
    assert not uploads


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_digest_algorithm_of_a_session_is_the_clients_choice(
    client: Client, repository: str, algorithm: str
) -> None:
    content = os.urandom(300 * KIB)
    location = await client.open_upload(repository, digest_algorithm=algorithm)
    await client.patch(location, content[:1000])
    finished = await client.finish(location, digest(content, algorithm), content[1000:])
    assert (finished.status, finished.digest) == (201, digest(content, algorithm))
    assert (await client.get(finished.location)).body == content


@in_row_or_storage
@pytest.mark.parametrize("last", [b"", b"ab"], ids=["after-all", "with-the-last"])
async def test_digest_of_another_algorithm_than_announced_is_computed_anew(
    client: Client, repository: str, size: int, last: bytes
) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository, digest_algorithm="sha256")
    await client.patch(location, content)
    finished = await client.finish(location, digest(content + last, "sha512"), last)
    assert finished.status == 201
    assert (await client.get(finished.location)).body == content + last
    wrong = await client.open_upload(repository, digest_algorithm="sha256")
    await client.patch(wrong, content)
    assert (await client.finish(wrong, digest(b"other", "sha512"), last)).codes == ["DIGEST_INVALID"]
    assert (await client.get(wrong)).status == 404


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "SHA256", "../sha256", ""])
async def test_unknown_digest_algorithm_is_refused(client: Client, repository: str, algorithm: str) -> None:
    answer = await client.start_upload(repository, digest_algorithm=algorithm)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    "wrong",
    [
        "", "sha256:", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256:" + "0" * 65,
        "sha256:../../etc/passwd",
        "0" * 64, "sha512:" + "0" * 64, "sha256:" + "g" * 64, "sha256:" + "0" * 63 + "\u0661",
    ],
)  # fmt: skip
async def test_malformed_digest_is_refused_before_anything_else_and_the_session_lives(
    client: Client, repository: str, wrong: str
) -> None:
    location = await client.open_upload(repository)
    await client.patch(location, b"abc")
    answer = await client.finish(location, wrong, b"def")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.finish(location, digest(b"abcdef"), b"def")).status == 201


@in_row_or_storage
@pytest.mark.parametrize("chunked", [True, False], ids=["after-patch", "at-once"])
async def test_wrong_digest_is_refused_ends_the_session_and_nothing_is_stored(
    client: Client, repository: str, chunked: bool, size: int
) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository)
    if chunked:
        await client.patch(location, content)
    answer = await client.finish(location, digest(b"other"), b"" if chunked else content)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.get(location)).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert (await client.get_blob(repository, digest(b"other"))).status == 404
    assert (await client.get_blob(repository, digest(content))).status == 404


@in_row_or_storage
async def test_digest_of_the_last_piece_alone_is_refused(client: Client, repository: str, size: int) -> None:
    location = await client.open_upload(repository)
    await client.patch(location, os.urandom(size))
    answer = await client.finish(location, digest(b"the last piece"), b"the last piece")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.get_blob(repository, digest(b"the last piece"))).status == 404


@in_row_or_storage
async def test_wrong_digest_in_a_single_post_is_refused(
    client: Client, repository: str, shared_gateway: RunningGateway, size: int
) -> None:
    answer = await client.start_upload(repository, body=os.urandom(size), digest=digest(b"other"))
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    sessions = (
        "SELECT u.id FROM gateway.uploads u JOIN gateway.repositories r ON r.id = u.repository_id WHERE r.name = $1"
    )
    assert not await run_sql(shared_gateway.database_url, sessions, repository)


@pytest.mark.parametrize("upload_id", ["1", "../x", "%00", str(uuid.uuid4()), "x" * 3000])
async def test_unknown_session_is_not_found(client: Client, repository: str, upload_id: str) -> None:
    await client.push_blob(repository, b"so that the repository exists")
    answer = await client.patch(f"/v2/{repository}/blobs/uploads/{upload_id}", b"x")
    assert answer.status == 404 or (upload_id == "../x" and answer.status in (400, 404, 405))


async def test_session_of_another_user_is_not_found(client: Client, bob: Client, repository: str) -> None:
    location = await client.open_upload(repository)
    await client.patch(location, b"abc")
    for answer in (
        await bob.get(location),
        await bob.patch(location, b"def"),
        await bob.finish(location, digest(b"abc")),
        await bob.delete(location),
    ):
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert (await client.finish(location, digest(b"abc"))).status == 201


async def test_session_is_not_found_through_another_repository(
    client: Client, repository: str, other_repository: str
) -> None:
    location = await client.open_upload(repository)
    await client.open_upload(other_repository)
    elsewhere = location.replace(repository, other_repository)
    for answer in (
        await client.get(elsewhere),
        await client.patch(elsewhere, b"def"),
        await client.finish(elsewhere, digest(b"")),
        await client.delete(elsewhere),
    ):
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert (await client.get(location)).status == 204


@pytest.mark.parametrize("size", [KIB, 5 * KIB, 512 * KIB], ids=["in-its-row", "out-of-its-row", "in-storage"])
async def test_concurrent_patches_never_interleave(client: Client, repository: str, size: int) -> None:
    """Of many writers to one offset exactly one wins; the others are told where the session stands."""
    location = await client.open_upload(repository)
    content = b""
    for _round in range(4):
        bodies = [bytes([letter]) * size for letter in range(4)]
        span = f"{len(content)}-{len(content) + size - 1}"
        answers = await asyncio.gather(*(client.patch(location, body, content_range=span) for body in bodies))
        won = [body for body, answer in zip(bodies, answers, strict=True) if answer.status == 202]
        assert len(won) == 1
        assert all(answer.status == 416 for answer in answers if answer.status != 202)
        content += won[0]
    assert (await client.finish(location, digest(content))).status == 201
    assert (await client.get_blob(repository, digest(content))).body == content


async def test_two_uploads_of_the_same_blob_at_once_both_succeed(
    client: Client, repository: str, other_repository: str
) -> None:
    content = os.urandom(200 * KIB)
    await asyncio.gather(
        *(client.push_blob(name, content) for name in (repository, other_repository, repository, other_repository))
    )
    for name in (repository, other_repository):
        assert (await client.get_blob(name, digest(content))).body == content


cut_off = pytest.mark.parametrize(
    ("size", "sent"),
    [(10 * KIB, 4321), (40 * KIB, 10 * KIB), (40 * KIB, 30 * KIB), (2 * MIB, MIB + 123)],
    ids=["of-a-row", "early", "late", "large"],
)


@cut_off
async def test_body_cut_off_midway_keeps_what_came_and_can_be_resumed(
    client: Client, repository: str, size: int, sent: int
) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository)
    await send_and_vanish(client, "PATCH", location, content, announce=len(content), sent=sent)
    offset = await committed_offset(client, location)
    assert 0 <= offset <= sent
    rest = await client.patch(location, content[offset:], content_range=f"{offset}-{len(content) - 1}")
    assert rest.status == 202
    assert (await client.finish(location, digest(content))).status == 201
    assert (await client.get_blob(repository, digest(content))).body == content


@cut_off
async def test_put_cut_off_midway_stores_no_blob_and_can_be_resumed(
    client: Client, repository: str, size: int, sent: int
) -> None:
    content = os.urandom(size)
    location = await client.open_upload(repository)
    path = f"{location}?digest={digest(content)}"
    await send_and_vanish(client, "PUT", path, content, announce=len(content), sent=sent)
    offset = await committed_offset(client, location)
    assert (await client.get_blob(repository, digest(content))).status == 404
    assert (await client.finish(location, digest(content), content[offset:])).status == 201


@cut_off
async def test_single_post_cut_off_midway_leaves_nothing(
    client: Client, repository: str, shared_gateway: RunningGateway, size: int, sent: int
) -> None:
    content = os.urandom(size)
    await client.open_upload(repository)
    path = f"/v2/{repository}/blobs/uploads/?digest={digest(content)}"
    await send_and_vanish(client, "POST", path, content, announce=len(content), sent=sent)
    sessions = (
        "SELECT u.id FROM gateway.uploads u JOIN gateway.repositories r ON r.id = u.repository_id WHERE r.name = $1"
    )
    for _ in range(50):
        if len(await run_sql(shared_gateway.database_url, sessions, repository)) == 1:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the session of a request that can never be continued stayed")


async def test_another_gateway_continues_a_session_byte_exact(database_url: str) -> None:
    content = os.urandom(3 * MIB)
    async with (
        running_gateway(database_url) as one,
        running_gateway(database_url, folder=one.folder, name="two") as two,
        open_client(one.url) as client,
    ):
        location = await client.open_upload("acme/app")
        await client.patch(location, content[:MIB])
        elsewhere = client.at(two.url)
        assert (await elsewhere.get(location)).headers["Range"] == f"0-{MIB - 1}"
        assert (await elsewhere.patch(location, content[MIB : 2 * MIB])).status == 202
        assert (await client.finish(location, digest(content), content[2 * MIB :])).status == 201
        assert (await elsewhere.get_blob("acme/app", digest(content))).body == content


async def test_bytes_that_were_never_committed_are_cut_off(database_url: str) -> None:
    """A process that died mid-way leaves more bytes in the file than the database knows of."""
    content = os.urandom(MIB)
    async with running_gateway(database_url) as gateway, open_client(gateway.url) as client:
        location = await client.open_upload("acme/app")
        await client.patch(location, content[:20_000])
        rows = await run_sql(database_url, "SELECT storage_key FROM gateway.uploads")
        with (gateway.objects / rows[0]["storage_key"]).open("ab") as file:
            file.write(b"never acknowledged")
        assert (await client.finish(location, digest(content), content[20_000:])).status == 201
        assert (await client.get_blob("acme/app", digest(content))).body == content


async def test_bytes_that_vanished_from_storage_end_in_no_blob(database_url: str) -> None:
    async with running_gateway(database_url) as gateway, open_client(gateway.url) as client:
        location = await client.open_upload("acme/app")
        await client.patch(location, b"x" * 200_000)
        rows = await run_sql(database_url, "SELECT storage_key FROM gateway.uploads")
        (gateway.objects / rows[0]["storage_key"]).unlink()
        answer = await client.finish(location, digest(b"x" * 200_000 + b"y"), b"y")
        assert answer.status in (404, 503)
        assert (await client.get_blob("acme/app", digest(b"x" * 200_000 + b"y"))).status == 404


async def test_large_blob_is_hashed_over_what_was_stored(client: Client, repository: str) -> None:
    content = os.urandom(8 * MIB)
    location = await client.open_upload(repository)
    await client.patch(location, content[: 5 * MIB])
    assert (await client.finish(location, digest(content), content[5 * MIB :])).status == 201
    pulled = await client.get_blob(repository, digest(content))
    assert hashlib.sha256(pulled.body).hexdigest() == digest(content).partition(":")[2]


async def send_and_vanish(client: Client, method: str, path: str, content: bytes, *, announce: int, sent: int) -> None:
    """Announce a body, send a part of it, and close the connection."""
    host, _, port = client.url.removeprefix("http://").partition(":")
    _reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {client.authorization}\r\n"
        f"Content-Length: {announce}\r\n\r\n"
    )
    writer.write(head.encode() + content[:sent])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def committed_offset(client: Client, location: str) -> int:
    """Where the session stands once the request that broke has been noticed."""
    for _ in range(100):
        status = await client.get(location)
        assert status.status == 204
        answer = await client.patch(location, b"", content_range=None)
        if answer.status == 202:
            last = int(answer.headers["Range"].partition("-")[2])
            return last + 1 if last else 0
        await asyncio.sleep(0.05)
    raise AssertionError("the session stayed locked by a request that is gone")

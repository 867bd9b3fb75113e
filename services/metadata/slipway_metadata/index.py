"""Use case: keep the image index as the events say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from slipway_common.database.pool import Database, database_errors
from slipway_common.events import positions
from slipway_common.events.event import Event, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.events.positions import Start
from slipway_metadata import store
from slipway_metadata.describer import Describer
from slipway_metadata.events import Changes, Push, TagTarget, fold
from slipway_metadata.gateway import GatewayClient, SnapshotPage
from slipway_metadata.spool import Spool

if TYPE_CHECKING:
    from slipway_common.events.log import Connection

_log = structlog.get_logger()
_REPOSITORY_STREAM = re.compile(r"repository/(\d{1,18})")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The net effect of some events, and the manifests that they name, read and described."""

    changes: Changes
    manifests: Spool


class ImageIndexer:
    """The consumer `metadata`: turns pushes and deletions into rows that can be asked.

    What a user pushed never makes it fail, however wrong: such an image is indexed with its problem in words. It fails
    with Unavailable while the gateway or the database is away.
    """

    name: str = "metadata"
    start: Start = "snapshot"

    def __init__(self, database: Database, gateway: GatewayClient) -> None:
        self._pool = database.pool
        self._gateway = gateway
        self._describer = Describer(gateway)
        self._log_reader = EventLog()

    async def prepare(self, events: Sequence[Event], /) -> Prepared:
        """Read and describe every manifest that `events` pushed and that is still there."""
        changes = fold(events)
        manifests = Spool()
        if changes.repository is not None:
            await self._describe(changes.repository.id, changes.pushed, manifests)
            await self._complete_tags(changes)
        return Prepared(changes, manifests)

    async def apply(self, connection: Connection, events: Sequence[Event], prepared: Prepared, /) -> None:
        """Write what prepare() made of the same events, in the transaction of the position."""
        changes = prepared.changes
        if changes.repository is None:
            return
        if changes.gone:
            await store.forget_repository(connection, changes.repository.id)
            return
        await store.write_changes(
            connection,
            changes.repository.id,
            changes.repository.name,
            changes,
            manifests=prepared.manifests.chunks(),
        )

    async def reload(self, stream: str, /) -> int:
        """Put the gateway's snapshot in the place of what is known of the stream's repository; return its seq.

        Everything is read first, then replaced in one transaction with the position: until then the old index answers.
        """
        # Before the snapshot: where there is none, whatever follows this seq is still to be applied.
        head = await self._log_reader.head(self._pool, stream)
        repository_id = _find_repository_id(stream)
        page = None if repository_id is None else await self._gateway.get_snapshot_page(repository_id)
        if page is None:
            return await self._forget(stream, repository_id, head)
        manifests = Spool()
        async for pushed in self._iterate_pushes(page):
            await self._describe(page.repository.id, pushed, manifests)
        tags = {tag.name: TagTarget(tag.digest, tag.updated_at) for tag in page.tags}
        with database_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                # The position's row first: whoever applies events of this stream meanwhile waits, or is waited for.
                await positions.set_position(connection, self.name, stream, page.seq)
                await store.replace_repository(
                    connection, page.repository.id, page.repository.name, tags, manifests=manifests.chunks()
                )
        return page.seq

    async def rebuild(self, progress: Progress | None = None) -> int:
        """Reload every repository, one after the other, while the index goes on answering; return how many.

        `progress` is told how many of how many are done. Raises Unavailable when the gateway or the database goes away;
        what was reloaded until then stays.
        """
        with database_errors():
            known = await store.list_repository_ids(self._pool)
        ids = sorted(known | {repository.id async for repository in self._gateway.list_repositories()})
        for done, repository_id in enumerate(ids, start=1):
            stream = repository_stream(repository_id)
            await self.reload(stream)
            await positions.notify_changed(self._pool, [(self.name, stream)])
            if progress is not None:
                progress(done, len(ids))
        _log.info("index_rebuilt", repositories=len(ids))
        return len(ids)

    async def _describe(self, repository_id: int, pushed: Mapping[str, Push], manifests: Spool) -> None:
        async def describe(digest: str, push: Push) -> None:
            description = await self._describer.describe(repository_id, digest)
            if description is None:
                return  # deleted since: the event of that is on its way
            if description.problem is not None:
                _log.info("image_inconsistent", repository_id=repository_id, digest=digest, why=description.problem)
            manifests.add(digest, push, description)

        await self._describer.prefetch(repository_id, pushed)
        await _run_together(describe(digest, push) for digest, push in pushed.items())

    async def _complete_tags(self, changes: Changes) -> None:
        """Ask for the tags that an event had no room for.

        The snapshot is younger than the event; a tag that names the digest by now was set by it, or by an event that is
        still to come and will say the same.
        """
        if changes.repository is None or not changes.cut_tags:
            return
        page = await self._gateway.get_snapshot_page(changes.repository.id)
        for tag in page.tags if page else []:
            if tag.digest in changes.cut_tags and tag.name not in changes.tags:
                changes.tags[tag.name] = TagTarget(tag.digest, tag.updated_at)
                changes.deleted_tags.discard(tag.name)

    async def _iterate_pushes(self, page: SnapshotPage) -> AsyncIterator[Mapping[str, Push]]:
        following: SnapshotPage | None = page
        while following is not None:
            yield {manifest.digest: Push(manifest.pushed_at, manifest.pushed_by) for manifest in following.manifests}
            if following.next is None:
                return
            following = await self._gateway.get_snapshot_page(page.repository.id, after=following.next)

    async def _forget(self, stream: str, repository_id: int | None, seq: int) -> int:
        """Settle a stream without snapshot: of a repository that is gone, or of no repository."""
        with database_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await positions.set_position(connection, self.name, stream, seq)
                if repository_id is not None:
                    await store.forget_repository(connection, repository_id)
        return seq


def _find_repository_id(stream: str) -> int | None:
    match = _REPOSITORY_STREAM.fullmatch(stream)
    return int(match[1]) if match else None


async def _run_together(tasks: Iterable[Coroutine[None, None, None]]) -> None:
    """Run `tasks`; when one fails, end the others and raise its error as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task, name="describe-manifest")
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None

"""The commands by which an operator looks at the event log and helps its consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from slipway_common.errors import NotFound
from slipway_common.events import positions
from slipway_common.events.asyncapi import asyncapi_document
from slipway_common.events.event import Event, repository_stream, to_cloudevent_json
from slipway_common.events.log import EventLog

if TYPE_CHECKING:
    import asyncpg

ConnectFactory = Callable[[], AbstractAsyncContextManager["asyncpg.Pool"]]
T = TypeVar("T")

_PAGE: Final = 200
_FOLLOW_PAUSE_S: Final = 0.5

StreamOption = Annotated[str | None, typer.Option("--stream", help="A stream, such as repository/17 or system.")]
RepositoryOption = Annotated[int | None, typer.Option("--repository", help="A repository's id: short for its stream.")]


def build_events_cli(connect: ConnectFactory) -> typer.Typer:
    """Return the `events` command group; `connect` opens the database that the settings name."""
    app = typer.Typer(name="events", help="Look at the event log and help its consumers.", no_args_is_help=True)
    parked = typer.Typer(help="Streams that stand still because an event keeps failing.", no_args_is_help=True)
    app.add_typer(parked, name="parked")
    _add_reading(app, connect)
    _add_steering(app, connect)
    _add_parked(parked, connect)
    return app


def _add_reading(app: typer.Typer, connect: ConnectFactory) -> None:
    @app.command()
    def tail(
        stream: StreamOption = None,
        repository: RepositoryOption = None,
        after: Annotated[int | None, typer.Option(help="Begin after this seq (default: with what comes).")] = None,
        follow: Annotated[bool, typer.Option(help="Go on as events come; --no-follow ends with the last.")] = True,
        json: Annotated[bool, typer.Option("--json", help="One CloudEvent per line.")] = False,
    ) -> None:
        """Print events, of one stream or of all."""
        names = _streams_named(stream, repository)
        show = _print_json if json else _print_line

        async def run(pool: asyncpg.Pool) -> None:
            async for event in _read_on(pool, names, after, follow):
                show(event)

        _run(connect, run)

    @app.command()
    def consumers() -> None:
        """List consumers, how far they are behind and what is parked."""
        found = _run(connect, positions.list_consumers)
        table = Table("consumer", "starts from", "behind", "parked", "to reload", "registered")
        for each in found:
            counts = (str(each.behind), str(each.parked), str(each.reloading))
            table.add_row(each.name, each.start, *counts, f"{each.registered_at:%Y-%m-%d %H:%M}")
        Console().print(table)

    @app.command()
    def asyncapi() -> None:
        """Print the AsyncAPI document of all events."""
        typer.echo(orjson.dumps(asyncapi_document(), option=orjson.OPT_INDENT_2).decode())


def _add_steering(app: typer.Typer, connect: ConnectFactory) -> None:
    @app.command()
    def replay(
        consumer: str,
        stream: StreamOption = None,
        repository: RepositoryOption = None,
        to: Annotated[int | None, typer.Option(help="Apply again what follows this seq.")] = None,
        since: Annotated[datetime | None, typer.Option(help="Apply again what came since this time (UTC).")] = None,
    ) -> None:
        """Rewind a consumer, on one stream or on all; it may be running."""
        if (to is None) == (since is None):
            raise typer.BadParameter("say either --to SEQ or --since TIME")
        moment = since.replace(tzinfo=UTC) if since and since.tzinfo is None else since
        count = _run(connect, lambda pool: _rewind(pool, consumer, _streams_named(stream, repository), to, moment))
        typer.echo(f"{consumer}: {count} stream(s) rewound")

    @app.command()
    def unregister(consumer: str) -> None:
        """Forget a consumer and its positions, so that retention no longer waits for it."""
        _run(connect, lambda pool: positions.unregister(pool, consumer))
        typer.echo(f"{consumer}: forgotten")

    @app.command(name="raise-epoch")
    def raise_epoch(
        reason: Annotated[str, typer.Option(help="Kept with the new epoch, for those who ask later.")],
    ) -> None:
        """Begin a new epoch: after a restore, or a fail-over that may have lost commits."""
        epoch = _run(connect, lambda pool: EventLog().raise_epoch(pool, reason=reason))
        typer.echo(f"epoch {epoch}")


def _add_parked(app: typer.Typer, connect: ConnectFactory) -> None:
    @app.command(name="list")
    def list_(consumer: Annotated[str | None, typer.Argument()] = None) -> None:
        """List parked streams with the reason."""
        table = Table("consumer", "stream", "seq", "type", "since", "waiting", "reason")
        for each in _run(connect, lambda pool: positions.list_parked(pool, consumer)):
            facts = (each.consumer, each.stream, str(each.seq), each.type or "(gone from the log)")
            table.add_row(*facts, f"{each.parked_at:%Y-%m-%d %H:%M}", str(each.waiting), each.reason)
        Console().print(table)

    @app.command()
    def retry(consumer: str, stream: str) -> None:
        """Try the parked event again, once its cause is gone."""
        _run(connect, lambda pool: positions.retry_parked(pool, consumer, stream))
        typer.echo(f"{consumer}: trying {stream} again")

    @app.command()
    def skip(consumer: str, stream: str) -> None:
        """Leave the parked event out for ever and go on behind it."""
        _run(connect, lambda pool: positions.skip_parked(pool, consumer, stream))
        typer.echo(f"{consumer}: going on behind the parked event of {stream}")


def _run(connect: ConnectFactory, work: Callable[[asyncpg.Pool], Awaitable[T]]) -> T:
    async def main() -> T:
        async with connect() as pool:
            return await work(pool)

    try:
        return asyncio.run(main())
    except NotFound as exc:
        typer.echo(f"{exc.message}: {' '.join(str(fact) for fact in exc.facts.values())}", err=True)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _streams_named(stream: str | None, repository: int | None) -> list[str] | None:
    """Return the one stream that was asked for, or None for all."""
    if repository is not None:
        return [repository_stream(repository)]
    return [stream] if stream is not None else None


async def _read_on(
    pool: asyncpg.Pool, names: list[str] | None, after: int | None, follow: bool
) -> AsyncIterator[Event]:
    """Yield events of the streams named, or of all; streams that come to be meanwhile are read from their first."""
    log = EventLog()
    snapshot = await log.snapshot(pool)
    heads = await log.heads(pool)
    places = {name: heads.get(name, 0) if after is None else after for name in names or heads}
    news = list(places)
    while True:
        for name in news:
            while events := await log.read(pool, name, after=places.setdefault(name, 0), limit=_PAGE):
                for event in events:
                    yield event
                places[name] = events[-1].seq
        if not follow:
            return
        await asyncio.sleep(_FOLLOW_PAUSE_S)
        snapshot, changed = await log.sweep(pool, snapshot)
        news = [name for name in changed if names is None or name in names]


async def _rewind(
    pool: asyncpg.Pool, consumer: str, names: list[str] | None, to: int | None, since: datetime | None
) -> int:
    log = EventLog()
    streams = names or list(await log.heads(pool))
    for stream in streams:
        seq = to if since is None else await log.find_seq_at(pool, stream, since)
        await positions.rewind(pool, consumer, stream, to=seq or 0)
    return len(streams)


def _print_json(event: Event) -> None:
    typer.echo(to_cloudevent_json(event))


def _print_line(event: Event) -> None:
    about = event.subject or event.data.get("digest", "")
    typer.echo(
        f"{event.time:%Y-%m-%d %H:%M:%S} {event.stream}#{event.seq} {event.type} {about} {event.actor or ''}".rstrip()
    )

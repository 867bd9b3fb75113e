"""What a service tells the launcher, and what the launcher gives a service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Needed by annotations only: every command of `slipway` reads this module, and most need none of these.
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from slipway_common.bus.port import EventBus
    from slipway_common.database.pool import Database
    from slipway_common.events.announcer import Announcer
    from slipway_common.security.master_key import SecretBox
    from slipway_common.security.service_tokens import ServiceTokens
    from slipway_common.settings import CommonSettings
    from slipway_common.web.health import Health
    from slipway_common.web.routes import Route

ENTRY_POINTS = "slipway.services"


@dataclass(slots=True)
class Runtime:
    """The parts that every service of a process shares. `settings` is of the service's own model."""

    settings: Any
    database: Database
    bus: EventBus
    announcer: Announcer
    box: SecretBox
    tokens: ServiceTokens
    health: Health
    runtime_folder: Path
    sockets: dict[str, socket.socket]
    api: tuple[Route, ...]
    announce: Callable[[str], None] = field(default=print)


@dataclass(frozen=True, slots=True)
class Service:
    """One service of Slipway. Its part of the command line is declared beside it: see `launcher.commands`.

    run         its lifespan: serves while the context is open, drains when it closes
    migrations  (package, schema)
    routes      its part of the management API
    scales      whether several copies may serve the same listening socket (`--workers`)
    repeatable  whether its consumers only write rows: a crash of PostgreSQL then undoes them together with the position, and
                they are made again; so their commits need not wait for the disk
    """

    name: str
    settings: type[CommonSettings]
    migrations: tuple[str, str]
    run: Callable[[Runtime], AbstractAsyncContextManager[None]]
    routes: tuple[Route, ...] = ()
    listens: Callable[[Any], dict[str, str]] = field(default=lambda settings: {})
    scales: bool = False
    repeatable: bool = False


def installed_services() -> dict[str, Service]:
    """Every service that is installed, by name, in the order in which they start."""
    found = {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
    return {name: found[name] for name in sorted(found)}


def load_installed_settings(
    models: Sequence[type[CommonSettings]],
    *,
    config: Path | None = None,
    overrides: Mapping[str, str | Path | None] | None = None,
) -> list[CommonSettings]:
    """The settings of `models`; a name that no installed service knows is a mistake. Raises Misconfigured."""
    from slipway_common.settings import CommonSettings, load_settings

    known: list[type[CommonSettings]] = [
        CommonSettings,
        *(service.settings for service in installed_services().values()),
    ]
    return load_settings(models, known=known, config=config, overrides=overrides)

"""The command line as a table: what is below `slipway`, with its code imported only once it is called.

The launcher has its own commands (`launcher.cli`). A service `slipway_x.app` that brings some lists them as `COMMANDS` in the
package `slipway_x.commands`, which imports nothing but this module: so `slipway --help` answers in an instant, and a command pays
for what it uses, not for the services that are installed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from slipway_common.client.exits import report
from slipway_common.errors import SlipwayError
from slipway_common.launcher.service import ENTRY_POINTS

if TYPE_CHECKING:
    import asyncpg

# Opens the database of the Slipway that the settings describe.
Connect = Callable[[], AbstractAsyncContextManager["asyncpg.Pool"]]

ON_THIS_MACHINE: Final = "Run Slipway on this machine"
FROM_ANYWHERE: Final = "Use a registry, from any machine"


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `slipway`.

    summary   what `slipway --help` says of it
    source    `package.module:function`: the command itself, or for a group what builds its typer.Typer
    panel     the heading under which it is listed
    group     whether commands follow it
    database  whether a group's builder takes a Connect, since its commands work on the database itself
    """

    name: str
    summary: str
    source: str
    panel: str = FROM_ANYWHERE
    group: bool = True
    database: bool = False

    def load(self) -> Any:
        """Import the code behind it."""
        function = _resolve(self.source)
        loaded = self._load_group(function) if self.group else _single_command(self.name, function)
        loaded.name = self.name
        return loaded

    def _load_group(self, build: Callable[..., typer.Typer]) -> TyperGroup:
        if not self.database:
            return typer.main.get_group(build())
        from slipway_common.launcher.database import connect

        return typer.main.get_group(build(connect))


EVENTS = Command(
    "events",
    "Look at the event log and help its consumers.",
    "slipway_common.events.cli:build_events_cli",
    panel=ON_THIS_MACHINE,
    database=True,
)


def installed_commands() -> list[Command]:
    """What follows `slipway`, but for the launcher's own commands."""
    packages = sorted(f"{point.module.rpartition('.')[0]}.commands" for point in entry_points(group=ENTRY_POINTS))
    tables = [import_module(package).COMMANDS for package in packages if find_spec(package) is not None]
    return [EVENTS, *(command for table in tables for command in table)]


def new_group(summary: str) -> typer.Typer:
    """A group of commands, as the builders of services begin one."""
    return typer.Typer(help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class CommandLine(TyperGroup):
    """The `slipway` command: the commands it was made with, and those that are installed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._installed = {command.name: command for command in installed_commands()}
        for name, command in self._installed.items():
            self.commands[name] = TyperCommand(name, help=command.summary, rich_help_panel=command.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called; until here only its name and summary were known."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, self._installed[name].load() if name in self._installed else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run it. What we raise on purpose is a sentence for whoever called, and an exit code; not a trace."""
        try:
            return super().invoke(ctx)
        except SlipwayError as exc:
            raise typer.Exit(report(exc)) from exc


def _resolve(source: str) -> Callable[..., Any]:
    module, _, name = source.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _single_command(name: str, function: Callable[..., Any]) -> Any:
    holder = typer.Typer(add_completion=False)
    holder.command(name)(function)
    return typer.main.get_command(holder)

"""The `slipway` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway_common import __version__
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import ON_THIS_MACHINE, CommandLine
from slipway_common.launcher.service import installed_services, load_installed_settings

if TYPE_CHECKING:
    from slipway_common.launcher.service import Service

app = typer.Typer(
    name="slipway",
    cls=CommandLine,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Slipway, a container registry that takes an image from source code to a running cluster.\n\n"
    "[bold]slipway serve[/] starts everything on this machine: an embedded PostgreSQL, files, and all services. "
    "It prints the address and, the first time, the login of the account [bold]admin[/]. Then:\n\n"
    "  docker login localhost:5000\n\n"
    "  docker tag hello localhost:5000/acme/hello:1\n\n"
    "  docker push localhost:5000/acme/hello:1\n\n"
    "[bold]slipway login[/] lets this command line manage a registry, here or elsewhere; then, for instance:\n\n"
    "  slipway grant add user:alice writer acme/hello\n\n"
    "Every setting is explained by [bold]slipway settings[/], every command by its [bold]--help[/].",
)
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings (or SLIPWAY_CONFIG).")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder for everything kept on this machine.")]


@app.command(rich_help_panel=ON_THIS_MACHINE)
def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVICE]...", help="Services to run in this process; all by default."),
    ] = None,
    listen: Annotated[str | None, typer.Option(help="Where clients reach the registry, as HOST:PORT.")] = None,
    data: Data = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Gateway processes that share the address.")] = 1,
    config: Config = None,
) -> None:
    """Run Slipway, whole or some of its services, until it is told to stop (Ctrl-C).

    One process is fastest on few cores, because it alone may answer from memory; more workers use more cores, and ask the
    database each time.
    """
    from slipway_common.logging import configure_logging

    services = _choose(names or [])
    overrides = {"listen": listen, "data": data}
    loaded = load_installed_settings([service.settings for service in services], config=config, overrides=overrides)
    label = services[0].name if len(services) == 1 else "slipway"
    configure_logging(log_format=loaded[0].log_format, level=loaded[0].log_level, service=label)
    _export(overrides, config)
    if workers > 1:
        from slipway_common.launcher.supervisor import supervise

        _run(supervise(services, loaded, workers, _announce))
    else:
        from slipway_common.launcher.serving import serve_services

        _run(serve_services(services, loaded, _announce))


def _export(overrides: dict[str, str | Path | None], config: Path | None) -> None:
    """What was said on the command line also holds for worker processes."""
    for name, value in {**overrides, "config": config}.items():
        if value is not None:
            os.environ[f"SLIPWAY_{name.upper()}"] = str(value)


@app.command(rich_help_panel=ON_THIS_MACHINE)
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/settings.md.")] = False,
) -> None:
    """Explain every setting: its variable, default, unit, and danger."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from slipway_common.settings import describe

    rows = describe(service.settings for service in installed_services().values())
    if markdown:
        sys.stdout.write(settings_markdown(rows))
        return
    table = Table(show_lines=True)
    for title in ("variable", "default", "what it is"):
        table.add_column(title, overflow="fold")
    for row in rows:
        text = escape(row["description"]) + (f"\n[red]Danger:[/] {escape(row['danger'])}" if row["danger"] else "")
        table.add_row(row["variable"], escape(f"{row['default']} {row['unit']}".strip()), text)
    Console().print(table)


def settings_markdown(rows: Sequence[dict[str, str]]) -> str:
    """The table of docs/settings.md."""
    lines = ["| variable | default | unit | what it is | danger |", "|---|---|---|---|---|"]
    for row in rows:
        default = f"`{row['default']}`" if row["default"] else ""
        cells = (f"`{row['variable']}`", default, row["unit"], row["description"], row["danger"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


@app.command(rich_help_panel=ON_THIS_MACHINE)
def openapi() -> None:
    """Print the OpenAPI document of the management API."""
    import orjson

    from slipway_common.web.routes import openapi_document

    routes = tuple(route for service in installed_services().values() for route in service.routes)
    document = openapi_document(routes, version=__version__)
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


@app.command(rich_help_panel=ON_THIS_MACHINE)
def version() -> None:
    """Print the version."""
    print(__version__)


def _choose(names: Sequence[str]) -> list[Service]:
    installed = installed_services()
    unknown = [name for name in names if name not in installed]
    if unknown:
        raise InvalidInput(f"no service named {', '.join(unknown)}; there are {', '.join(installed)}")
    return [installed[name] for name in dict.fromkeys(names)] if names else list(installed.values())


def _announce(text: str) -> None:
    print(text, flush=True)


def _run(work: Coroutine[Any, Any, None]) -> None:
    import asyncio

    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def main() -> None:
    """Entry point of the `slipway` command."""
    app()

"""Commands about engines that are not part of this environment: engines list, install, check, remove."""

from __future__ import annotations

import json as json_
from typing import Annotated

import typer

from harness.cli.help import Group
from harness.cli.options import Json
from harness.errors import CellbenchError, ChecksFailedError

app = typer.Typer()
group = typer.Typer(cls=Group, no_args_is_help=True, help="Install and check engines, such as Cellpose 4.")
app.add_typer(group, name="engines")

Name = Annotated[str, typer.Argument(help="Name of the engine, such as cellpose4.")]


@group.command("list")
def list_(json: Json = False) -> None:
    """List the engines, their versions and locations."""
    from harness.engines import environments, registry

    rows = [
        {
            "engine": name,
            "models": [each.name for each in registry.engine(name).models],
            "version": registry.version(name),
            "where": environments.find(name).where,
        }
        for name in registry.names()
    ]
    if json:
        typer.echo(json_.dumps(rows, indent=2))
        return
    from harness.terminal.table_printer import Column, print_columns

    columns = [
        Column("engine", is_whole=True),
        Column("version"),
        Column("models"),
        Column("environment", order=1, is_whole=True),
    ]
    cells = [[r["engine"], r["version"] or "not installed", ", ".join(r["models"]), r["where"]] for r in rows]
    print_columns(columns, cells)


@group.command()
def install(
    name: Annotated[str | None, typer.Argument(help="Name of the engine, such as cellpose4.")] = None,
    models: Annotated[str | None, typer.Option(help="Install what these models need and is missing.")] = None,
) -> None:
    """Install an engine into a folder of its own.

    It shares torch and numpy with this environment.
    """
    from harness.engines import overlays
    from harness.plan import config

    if (name is None) == (models is None):
        raise CellbenchError("name an engine, or models", "engines install", "cellbench engines install cellpose4")
    if name is None:
        overlays.install_for(config.split(models) or (), lambda text: typer.echo(text, err=True))
        return
    folder = overlays.install(name, lambda text: typer.echo(text, err=True))
    typer.echo(f"{name} is installed in {folder}")


@group.command()
def check(name: Name) -> None:
    """Start an engine as a measurement does, and check it.

    Prints the version that answers and what it can use.
    """
    from harness.engines import environments, overlays, registry
    from harness.machine import checks
    from harness.machine.checks import OK, WARN, Check
    from harness.measure import parent
    from harness.terminal import checks_view

    engine, found = registry.engine(name), []
    devices = parent.devices(name)  # rejects an engine that cannot be measured
    where = environments.find(name).where
    found.append(Check("engine", OK, f"{name} {registry.version(name)} in {where}"))
    found.append(Check("devices", OK, ", ".join(f"{each.id} ({each.name})" for each in devices)))
    if overlays.has_placeholder(name):
        text = "torchvision is a placeholder, since no build fits this torch; only training needs it"
        found.append(Check("torchvision", WARN, text, "nothing, unless you train in this environment"))
    shown = checks_view.show([*found, *(engine.check(each.name) for each in engine.models)])
    if failed := [each.name for each in shown if each.verdict == checks.FAIL]:
        raise ChecksFailedError(f"{len(failed)} checks failed: {', '.join(failed)}", where, "see the fix of each above")


@group.command()
def remove(name: Name) -> None:
    """Remove an engine that was installed with `install`."""
    from harness.engines import overlays

    typer.echo(f"{name} was removed" if overlays.remove(name) else f"{name} has no folder of its own here")

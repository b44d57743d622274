"""The commands: parse, call, print, exit code; everything else is imported when it is needed.

Each module here is a group of commands; `options` is what they share.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated

import typer

from harness.cli import (
    ab,
    cellpose,
    charts,
    checkup,
    cloud,
    compare,
    engines,
    estimate,
    measure,
    node,
    results,
    schedule,
    site,
    slurm,
    submissions,
    surroundings,
    tuning,
)
from harness.cli.help import Group
from harness.errors import CellbenchError, StoreWarning
from harness.machine import packages

_formatted = warnings.formatwarning

app = typer.Typer(
    name="cellbench",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how fast Cellpose is on this hardware: devices, image sizes, models, and faster ways to run it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (
    measure,
    checkup,
    results,
    estimate,
    charts,
    compare,
    tuning,
    cellpose,
    ab,
    engines,
    node,
    cloud,
    schedule,
    site,
    slurm,
    submissions,
):
    app.add_typer(group.app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the versions of cellbench, its engines, torch and Python.")
    ] = False,
) -> None:
    if version:
        from harness.cli import greeting

        typer.echo(greeting.versions())
    elif context.invoked_subcommand is None:
        from harness.cli import greeting

        typer.echo(greeting.text())


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning for the command line: those about results in plain words, others as Python prints them."""
    if issubclass(category, StoreWarning):
        return f"cellbench: {message}\n"
    return _formatted(message, category, filename, lineno, line)


def run() -> None:
    """Run the command that was typed; errors that a user can cause are printed without a traceback."""
    interrupted = []

    def interrupt(*_: object) -> None:  # a run prints more, see measuring
        interrupted.append(True)
        sys.exit(130)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = _unraisable
    warnings.simplefilter("always", StoreWarning)
    warnings.formatwarning = _warning
    try:
        surroundings.prepare(sys.argv[1:])
        app(standalone_mode=True)
    except CellbenchError as error:
        if not interrupted:
            typer.echo(f"cellbench: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if packages.may_cause(error):  # a package is broken, or another one hides it
            typer.echo(f"cellbench: {CellbenchError(*packages.explained(error))}", err=True)
            sys.exit(2)
        if refused := surroundings.refused_by_system(error):
            typer.echo(f"cellbench: {refused}", err=True)
            sys.exit(2)
        if not interrupted:  # a fault of this program: the user gets one line and a file to attach
            typer.echo(f"cellbench: {_reported(error)}", err=True)
        sys.exit(70)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to do; Python's own end prints nothing
        if interrupted:  # in any case: DuckDB turns it into its own error, a finalizer swallows it
            sys.exit(130)


def _reported(error: Exception) -> str:
    """One line about an error that no rule foresaw; its traceback goes into a file."""
    import platform
    import tempfile
    import traceback

    from harness import __version__

    what = f"internal error, {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cellbench-error-", suffix=".txt", delete=False) as file:
            file.write(f"cellbench {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
            file.write(f"command: {sys.argv}\n\n{traceback.format_exc()}")
    except OSError:
        return f"{what}\n  fix:   report it with what is above"
    return f"{what}\n  where: {file.name}\n  fix:   report it, with that file attached"


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Show errors that no caller can catch, except Ctrl-C within a finalizer."""
    if not isinstance(what.exc_value, SystemExit):
        sys.__unraisablehook__(what)

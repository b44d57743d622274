"""The commands: parse, call, print, exit code; everything else is imported when it is needed.

Each module here is a group of commands; `options` is what they share.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated

import typer

from harness.cli import charts, compare, measure, node, results, schedule, tuning
from harness.errors import CellbenchError, StoreWarning

_formatted = warnings.formatwarning

app = typer.Typer(
    name="cellbench",
    help="How fast is Cellpose on this hardware, what does a GPU buy, and from which image size on?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (measure, results, charts, compare, tuning, node, schedule):
    app.add_typer(group.app)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from harness import __version__

        typer.echo(__version__)
        raise typer.Exit


def _told(message: Warning | str, category: type[Warning], *where: object, **more: object) -> str:
    """A warning as the command line shows it: those about results in plain words, others as ever."""
    if issubclass(category, StoreWarning):
        return f"cellbench: {message}\n"
    return _formatted(message, category, *where, **more)


def run() -> None:
    """Run the command that was typed; errors that a user can cause are printed without a traceback."""
    interrupted = []

    def interrupt(*_: object) -> None:  # a run says more, see measuring
        interrupted.append(True)
        sys.exit(130)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = _unraisable
    warnings.simplefilter("always", StoreWarning)
    warnings.formatwarning = _told
    try:
        app(standalone_mode=True)
    except CellbenchError as error:
        if not interrupted:
            typer.echo(f"cellbench: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to do; Python's own end is not to be told
        if interrupted:  # whatever became of it: DuckDB makes an error of its own out of it, a finalizer swallows it
            sys.exit(130)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Errors that nobody can catch are shown, but Ctrl-C within a finalizer is none."""
    if not isinstance(what.exc_value, SystemExit):
        sys.__unraisablehook__(what)

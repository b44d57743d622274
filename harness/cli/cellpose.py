"""The command that runs Cellpose's own command line or GUI faster: cellpose."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

app = typer.Typer()


@app.command("cellpose", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def cellpose_(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENTS", help="Arguments of python -m cellpose; without any, its GUI opens."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engine from cellbench engines install; cellpose4 for Cellpose-SAM.")
    ] = "",
) -> None:
    """Run Cellpose's command line or GUI, accelerated; masks stay the same.

    All arguments go to python -m cellpose, after -- also --help. The exit code is that of Cellpose.
    """
    from harness.engines import environments, registry
    from harness.engines.cellpose import command_line

    spec = environments.find(registry.engine(engine).name if engine else "cellpose")
    words = environments.command(spec.python, command_line.__name__, *(arguments or ()))
    sys.stdout.flush()
    os.execve(spec.python, words, {**os.environ, **spec.environ()})

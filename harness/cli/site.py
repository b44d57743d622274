"""Command that publishes the reference set: site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import CellbenchError

app = typer.Typer()


@app.command("site")
def site_(
    to: Annotated[Path, typer.Option("--to", help="Folder to write: a new one, or a site that is replaced.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the submissions; the reference set if not given.")
    ] = None,
) -> None:
    """Write a static site of all submissions of the reference set.

    It has times by hardware, comparisons and the data. It loads nothing from other servers.
    """
    from harness.site import writing
    from harness.store import reference
    from harness.submissions import collection

    source = folder or reference.FOLDER
    if not source.is_dir():
        raise CellbenchError("there is no such folder", str(source), "name a folder of submissions")
    n_pages = writing.write(collection.load(source), to)
    typer.echo(f"{n_pages} pages in {to}", err=True)
    typer.echo(to / "index.html")

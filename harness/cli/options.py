"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from harness import settings
from harness.errors import CellbenchError

RESULTS = Path(settings.DEFAULT_OUT)


def _results_folder(context: typer.Context, param: typer.CallbackParam, value: Path | str) -> Path | str:
    """The value of --out, or what the user's settings hold in its place; of the same type."""
    source = context.get_parameter_source(param.name or "")
    is_default = source is not None and source.name == "DEFAULT"
    found = type(value)(settings.results_folder().path) if is_default and not context.resilient_parsing else value
    if isinstance(found, Path) and re.match(r"[a-z][a-z0-9+.-]+:/", str(found)):  # a Path has made // one slash
        where = f"--out {found}".replace(":/", "://", 1)
        raise CellbenchError("this command needs a folder on this machine", where, "name a folder, or mount the store")
    return found


def _folder_to_write(context: typer.Context, param: typer.CallbackParam, value: Path) -> Path | str:
    """The folder, after a check that results can be written there: before a command prints or measures anything."""
    found = _results_folder(context, param, value)
    if not context.resilient_parsing:
        check_writable(found)
    return found


def check_writable(out: Path | str) -> None:
    """StorageError where no results can be written, CellbenchError for the reference set."""
    from harness.store import Store

    Store.check(out)


FOLDER, URI = "Folder of the results.", "Folder of the results, or a URI: s3://BUCKET/results."
Out = Annotated[Path, typer.Option("--out", envvar=settings.OUT, callback=_results_folder, help=FOLDER)]
Place = Annotated[str, typer.Option("--out", envvar=settings.OUT, callback=_results_folder, help=URI)]
# Of commands that write results.
OutToWrite = Annotated[Path, typer.Option("--out", envvar=settings.OUT, callback=_folder_to_write, help=FOLDER)]
Plane = Annotated[int | None, typer.Option(help="Plane of a stack, from 0.")]
Channel = Annotated[int | None, typer.Option(help="Channel of a multi-channel image, from 0.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, also on a narrow terminal.")]
Markdown = Annotated[bool, typer.Option("--md", help="Print a Markdown table.")]
Trust = Annotated[
    str | None,
    typer.Option("--trust", help="SHA-256 of your own size models. Loading one can run code, since it is a pickle."),
]
Run = Annotated[str | None, typer.Option("--run", help="Run to use; the latest if not given.")]
Published = Annotated[bool, typer.Option(help="Draw what others measured, too: the article and the reference set.")]


def form(json: bool, csv: bool, md: bool, wide: bool = False) -> str:
    """The one output format that the flags request: table, wide, json, csv or md."""
    chosen = [name for name, wanted in (("json", json), ("csv", csv), ("md", md), ("wide", wide)) if wanted]
    if len(chosen) > 1:
        raise CellbenchError("more than one output format", " ".join(f"--{name}" for name in chosen), "choose one")
    return chosen[0] if chosen else "table"


def prices(texts: list[str], example: str) -> dict[str, float]:
    """The prices of an hour by name, from texts such as the example."""
    found = {}
    for text in texts:
        name, _, amount = text.rpartition("=")
        if not name or not re.fullmatch(r"\d+(\.\d+)?", amount):
            raise CellbenchError(f"{text!r} is no price", "--price", f"write it like {example}, in one currency")
        found[name] = float(amount)
    return found


def duration_s(text: str, flag: str) -> float:
    """A duration such as 90s, 10m or 1h in s; CellbenchError that names the flag for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not found or not float(found[1]):
        raise CellbenchError(f"{text!r} is no duration", flag, "write it like 90s, 10m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]

"""Commands that publish results: submit, collect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import RESULTS, Csv, Json, Markdown, Out, Wide, form
from harness.errors import CellbenchError

REPOSITORY = "https://github.com/cellbench/cellbench"
FLAGGED, REJECTED = 1, 2  # exit codes
FEW = 6  # different values of a column that are printed

app = typer.Typer()


@app.command("submit")
def submit_(
    run: Annotated[str | None, typer.Argument(help="Run to publish; the latest if not given.")] = None,
    out: Out = RESULTS,
    to: Annotated[Path, typer.Option("--to", help="Folder for the files.")] = Path("submission"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files; write nothing.")] = False,
) -> None:
    """Make files of a run to publish in the reference set.

    They contain no name, path, id or time of day, and all of their content is printed. Nothing is sent.
    """
    from harness import files
    from harness.query import Session, which_run
    from harness.store import Store, reference
    from harness.submissions import checks, submit

    session = Session(Store.at(out))
    folder = files.expanded(to)
    if folder.is_dir() and any(folder.iterdir()):
        raise CellbenchError("this folder is not empty", str(to), "name a new one: --to DIR")
    made = submit.make(session, which_run(session, run), checks.known(reference.FOLDER))
    for each in made:
        typer.echo(f"{each.slug}/{each.stem}.json\n{each.text}\n{each.slug}/{each.stem}.parquet")
        for name, values in each.columns().items():
            shown = values if len(values) <= FEW else (*values[:2], "…", values[-1])
            typer.echo(f"  {name}: {', '.join(map(str, shown))}")
        for reason in each.reasons:
            typer.echo(f"cellbench: {reason.verdict}: {reason.text}", err=True)
    if dry_run:
        return
    for each in made:
        each.write(folder)
    typer.echo(_commands(folder, made[0].stem), err=True)


def _commands(folder: Path, name: str) -> str:
    clone = "cellbench-results"
    return f"""
The files are in {folder}. Publishing them places them under CC0 1.0: anyone may use them without conditions.
Read what is printed above, then send a pull request with Git and the GitHub CLI:

  gh repo fork {REPOSITORY} --clone -- {clone} && cp -r {folder.resolve()}/* {clone}/results/reference/
  cd {clone} && git checkout -b {name} && git add results/reference && git commit -m "Results {name}"
  gh pr create --fill"""


@app.command("collect")
def collect_(
    folders: Annotated[list[Path], typer.Argument(help="Folders of submissions, such as results/reference.")],
    reference_: Annotated[
        Path | None, typer.Option("--reference", help="Accepted submissions to compare with; those of this program.")
    ] = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
    wide: Wide = False,
) -> None:
    """Check submissions, and print a verdict for each file.

    A verdict is ok, pending, flagged or rejected. The exit code is 1 where one is flagged and 2 where one is rejected.
    """
    import pyarrow as pa

    from harness.store import reference
    from harness.submissions import checks
    from harness.submissions.collection import Verdict
    from harness.terminal import run_tables

    accepted = reference_ or reference.FOLDER
    known = checks.known(accepted)
    rows: list[dict[str, Any]] = []
    for folder in folders:
        if not folder.is_dir():
            raise CellbenchError("there is no such folder", str(folder), "name a folder that has a folder per hardware")
        for path, verdict, reasons in (*checks.missing(folder, accepted), *checks.validate(folder, known)):
            name = "".join(letter if letter.isprintable() else "?" for letter in str(path.relative_to(folder)))
            rows.append({"file": name, "verdict": verdict, "reasons": "; ".join(reason.text for reason in reasons)})
    columns = pa.schema([(name, pa.string()) for name in ("file", "verdict", "reasons")])
    run_tables.print_table(pa.Table.from_pylist(rows, columns), form(json, csv, md, wide))
    verdicts = {row["verdict"] for row in rows}
    if code := REJECTED if Verdict.REJECTED in verdicts else FLAGGED if Verdict.FLAGGED in verdicts else 0:
        raise typer.Exit(code)

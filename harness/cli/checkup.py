"""The command checkup: everything that is needed to judge a new kind of hardware, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Out
from harness.errors import CasesFailedError

if TYPE_CHECKING:
    from harness.doctor.checkup import Step

app = typer.Typer()


@app.command()
def checkup(
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("cellbench-checkup.zip"),
    model: Annotated[str | None, typer.Option(help="Model to run; cellbench models lists them.")] = None,
    out: Out = RESULTS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps and their durations, and stop.")] = False,
) -> None:
    """Test a new kind of hardware in ten minutes.

    Writes one file to attach to a report. It contains no names, paths, identifiers or times of day.
    """
    from harness import files
    from harness.cli.stopping import interruptible
    from harness.doctor.checkup import FAILED, INTERRUPTED, Checkup
    from harness.engines import registry
    from harness.fleet import driver
    from harness.results.formatting import count, duration
    from harness.terminal.progress import remaining

    def say(text: str) -> None:
        typer.echo(text, err=True)

    engine = registry.engine_of(model or registry.default_model())
    with driver.opened(use_ray=False, engines=(engine.name,)) as here:
        plan = Checkup(model, here, out, lambda text: say(f"     {text}"))
        if dry_run:
            for step in plan.steps:
                typer.echo(f"{step.name}: about {duration(step.estimate_s)}")
        say(f"{count(len(plan.steps), 'step')}; {remaining(sum(step.estimate_s for step in plan.steps))}")
        if dry_run:
            return
        with interruptible():
            plan.run(lambda step: say(_line(step, f"{plan.steps.index(step) + 1}/{len(plan.steps)}")))
        files.write(to, plan.archive(), what="the checkup")
    say(f"attach this file to a report; it contains no private facts: {to}")
    if any(step.status == INTERRUPTED for step in plan.steps):
        raise typer.Exit(130)
    if failed := [step.name for step in plan.steps if step.status == FAILED]:
        what = f"{len(failed)} of {count(len(plan.steps), 'step')} failed: {'; '.join(failed)}"
        raise CasesFailedError(what, str(to), "attach the file all the same: it contains the reasons")


def _line(step: Step, place: str) -> str:
    """A line before a step and a line after it."""
    from harness.results.formatting import duration

    if step.elapsed_s is None:
        return f"{place}  {step.name}: about {duration(step.estimate_s)}"
    reason = f"; {step.reason}" if step.reason else ""
    return f"     {step.status}, {duration(step.elapsed_s)}{reason}"

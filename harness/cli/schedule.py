"""The command `schedule`: install, show, remove, run-now."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import files
from harness.cli.help import Group
from harness.cli.options import RESULTS, Json, Out, OutToWrite

if TYPE_CHECKING:
    from harness.schedule.definition import Schedule
    from harness.services.units import Unit

app = typer.Typer()
_schedule = typer.Typer(cls=Group, no_args_is_help=True, help="Measure every night and report regressions.")
app.add_typer(_schedule, name="schedule")

Name = Annotated[str, typer.Argument(help="Name of the schedule.")]


@_schedule.command("install")
def install_(
    name: Name = "nightly",
    profile: Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")] = "quick",
    at: Annotated[str, typer.Option(help="Local time of day, HH:MM.")] = "04:30",
    days: Annotated[
        str | None, typer.Option(help="Days such as mon,tue,wed,thu,fri,sat,sun; every day if not given.")
    ] = None,
    out: OutToWrite = RESULTS,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of the fleet's head, or auto.")] = None,
    run_flags: Annotated[str, typer.Option(help="Further flags of cellbench run, as one text.")] = "",
    via: Annotated[str, typer.Option(help="auto, systemd, systemd-user, launchd or cron.")] = "auto",
    timeout_h: Annotated[float, typer.Option(help="Hours after which a run is stopped.")] = 8.0,
    cool_down_s: Annotated[
        float, typer.Option(help="Seconds to wait before suspicious cases are measured again.")
    ] = 300.0,
    keep_logs: Annotated[int, typer.Option(help="Number of nightly logs that are kept.")] = 60,
    notify: Annotated[str, typer.Option(help="news: only alarms and failures; or always.")] = "news",
    command: Annotated[str | None, typer.Option(help="Shell command that reads the news as JSON on stdin.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that receives the news as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File that always contains the current state.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be installed, and stop.")] = False,
) -> None:
    """Schedule nightly runs with regression alerts."""
    from harness.plan import config
    from harness.schedule import definition, install
    from harness.services import manager

    config.load(profile)
    is_file = not (config.PROFILES / f"{profile}.toml").is_file()
    schedule = definition.make(
        name=name,
        profile=str(files.expanded(profile).resolve()) if is_file else profile,
        out=str(files.expanded(out).resolve()),
        folder=str(Path.cwd()),
        at=at,
        days=config.split(days) or (),
        address=address,
        run_flags=tuple(shlex.split(run_flags)),
        timeout_h=timeout_h,
        cool_down_s=cool_down_s,
        keep_logs=keep_logs,
        notify=notify,
        command=command,
        webhook=webhook,
        markdown=str(files.expanded(markdown).resolve()) if markdown else None,
    )
    machine = manager.this_machine()
    kind = install.choose(via, machine)
    now = datetime.now().astimezone()
    if dry_run:
        made = install.unit(schedule, kind, machine, install.variables(schedule, machine))
    else:
        made = install.install(schedule, kind, machine)
    _print(made, texts=dry_run)
    typer.echo(f"{schedule.file}: profile {Path(profile).stem}, {_when(schedule)}, through {kind}", err=True)
    for line in [*_starts(schedule, kind, now), *made.job.environment.lines()]:
        typer.echo(f"  {line}", err=True)
    for hint in install.hints(schedule, kind, machine, now):
        typer.echo(hint, err=True)


@_schedule.command("show")
def show_(name: Annotated[str | None, typer.Argument()] = None, out: Out = RESULTS, json: Json = False) -> None:
    """Show the schedules and how the last night ended.

    Includes the state of the operating system's scheduler.
    """
    from json import dumps

    from harness.schedule import definition, install, state
    from harness.services import manager

    found = [definition.read(out, each) for each in ([name] if name else definition.names(out))]
    now = datetime.now().astimezone()
    if json:
        rows = [
            each.model_dump(mode="json")
            | {"state": state.read(each), "next": [start.at.isoformat() for start in each.times.following(now, 3)]}
            for each in found
        ]
        typer.echo(dumps(rows, indent=2))
        return
    if not found:
        typer.echo("there is no schedule for these results; make one: cellbench schedule install", err=True)
    machine = manager.this_machine()
    for each in found:
        known = state.read(each)
        where = f" on {each.address}" if each.address else ""
        typer.echo(f"{each.name}: profile {Path(each.profile).stem}{where}, {_when(each)}, into {each.out}")
        kind, night = known.get("kind"), known.get("night")
        last = (
            f"{known.get('ended_at')}: {night['status']}, run {', '.join(night['runs']) or 'none'}" if night else None
        )
        lines = [
            *_starts(each, kind or "", now),
            f"last night {last or 'none'}",
            f"logs {each.home / 'logs'}",
        ]
        lines += state.environment(each).lines()
        if kind:
            _, answer = machine.call(install.unit(each, kind, machine).status, "")
            lines += [f"{kind}: {line}" for line in answer.strip().splitlines()[:3]]
        typer.echo("\n".join(f"  {line}" for line in lines))
        if warning := state.clock_was_ahead(each, now):
            typer.echo(f"cellbench: {warning}", err=True)


@_schedule.command("remove")
def remove_(name: Name = "nightly", out: Out = RESULTS) -> None:
    """Remove a schedule; results, reports and logs stay."""
    from harness.schedule import definition, install, state
    from harness.services import manager

    schedule = definition.read(out, name)
    machine = manager.this_machine()
    kind = state.read(schedule).get("kind") or install.choose("auto", machine)
    install.remove(schedule, kind, machine)
    typer.echo(f"{name} is removed; its results and logs stay in {schedule.out}", err=True)


@_schedule.command("run-now")
def run_now_(
    name: Name = "nightly",
    out: OutToWrite = RESULTS,
    if_due: Annotated[bool, typer.Option("--if-due", help="Run only if a start was missed or is due now.")] = False,
) -> None:
    """Run the nightly benchmark now.

    Exit codes: 0 no alarm, 1 a new alarm, 3 incomplete, 4 fleet not reachable.
    """
    import signal

    from harness.schedule import definition, nightly, state

    schedule = definition.read(out, name)
    now = datetime.now().astimezone()
    if warning := state.clock_was_ahead(schedule, now):
        typer.echo(f"cellbench: {warning}", err=True)
    if if_due and not state.is_due(schedule, now):
        typer.echo("not due", err=True)
        return
    # When a scheduler stops this command, the current measurement is stopped in order, and a message is printed.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        night = nightly.run_now(schedule)
    except KeyboardInterrupt:
        typer.echo(f"cellbench: stopped; what was measured is saved in {schedule.out}", err=True)
        raise typer.Exit(130) from None
    typer.echo(nightly.message(schedule, night)["text"])
    raise typer.Exit(night.exit_code)


def _starts(schedule: Schedule, kind: str, now: datetime) -> list[str]:
    from harness.schedule import install

    return [f"starts {start}" for start in install.starts(schedule, kind, now)]


def _print(unit: Unit, texts: bool = True) -> None:
    for path, text in unit.files.items():
        typer.echo(f"# {path}\n{text}" if texts else path)
    for line in unit.crontab:
        typer.echo(line)
    if texts:
        for command in unit.start:
            typer.echo("# then: " + shlex.join(command))


def _when(schedule: Schedule) -> str:
    return f"{' '.join(schedule.days) or 'every day'} at {schedule.at}"

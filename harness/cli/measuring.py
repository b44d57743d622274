"""Commands that measure or examine this machine: run, env, doctor."""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Json, Out
from harness.errors import CasesFailedError, ChecksFailedError

app = typer.Typer()


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")] = "quick",
    image: Annotated[str | None, typer.Option(help="sparse, dense, or a 2-D TIFF file.")] = None,
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 0.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel of a multi-channel image, from 0.")] = None,
    crops: Annotated[str | None, typer.Option(help="Sides of centred squares in px, and full: 224,448,full.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, or some of cpu, mps, cuda, cuda:N.")] = None,
    protocol: Annotated[str | None, typer.Option(help="standard, article, or both: standard,article.")] = None,
    weights: Annotated[str | None, typer.Option(help="auto, cyto3, standin, or a path.")] = None,
    warmups: Annotated[int | None, typer.Option(help="Warm-up calls before each case's repetitions.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed repetitions of each case.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Repeat until the mean is known this well: 0.02 is ±2 %.")
    ] = None,
    passes: Annotated[str | None, typer.Option(help="Besides times: some of stages, memory, energy, masks.")] = None,
    blocks: Annotated[int | None, typer.Option(help="Fresh processes per device.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the libraries; the cores if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order of cases.")] = None,
    out: Out = RESULTS,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Measure without Ray; the rows are the same.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table of results.")] = False,
) -> None:
    """Measure this machine: crops × devices, every repetition kept."""
    from harness import bench, config
    from harness.show import progress, screen

    flags = {
        "image": image, "plane": plane, "channel": channel, "warmups": warmups, "repeats": repeats,
        "blocks": blocks, "threads": threads, "seed": seed, "weights": weights, "crops": config.split(crops),
        "devices": config.split(devices), "protocols": config.split(protocol),
        "precision": precision, "passes": config.split(passes),
    }  # fmt: skip
    prepared = bench.prepare(config.load(profile, flags))
    shown = progress.Progress(prepared, quiet)
    shown.begin()
    if dry_run:
        return
    try:
        with shown:
            result = bench.run(prepared, out, use_ray=not no_ray, on_sample=shown.sample)
    except KeyboardInterrupt:
        typer.echo(f"cellbench: stopped; what was measured is saved in {out}", err=True)
        raise typer.Exit(130) from None
    shown.end(result)
    if result.n_timed:
        screen.print_cases(screen.cases(result.store, result.run_id))
    if result.n_failed:
        raise CasesFailedError(
            f"{result.n_failed} of {prepared.n_tasks} measurements failed; everything else is saved",
            f"{out}, run {result.run_id}",
            f'see why: cellbench query --out {out} "SELECT device, crop, status, error_message FROM failures"',
        )


@app.command("env")
def env_(
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto", json: Json = False
) -> None:
    """The facts about this machine that are stored with every block: hardware, power, system, libraries."""
    from harness.show import environment

    told = environment.ask(device)
    typer.echo(dumps(told, indent=2) if json else environment.text(told))


@app.command("doctor")
def doctor_(
    out: Out = RESULTS,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of Ray's head; RAY_ADDRESS if not given.")] = None,
    json: Json = False,
) -> None:
    """Check this machine in seconds: devices, clock, threads, versions, weights, load, power, room, Ray."""
    from harness import diagnosis, doctor

    checks = diagnosis.show(doctor.examine(out, address), json)
    if failed := [check.name for check in checks if check.verdict == diagnosis.FAIL]:
        what = f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}"
        raise ChecksFailedError(what, "this machine", "see the fix of each above")


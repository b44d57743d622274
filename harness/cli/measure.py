"""Commands that measure or examine machines: run, resume, env, models, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness import files, settings
from harness.cli.options import RESULTS, Channel, Json, Out, OutToWrite, Plane, Trust
from harness.cli.stopping import resumable
from harness.errors import CasesFailedError, CellbenchError, ChecksFailedError, command

if TYPE_CHECKING:
    from harness.plan.cases import Block
    from harness.run.bench import Result
    from harness.terminal.progress import Progress

app = typer.Typer()

Rent = Annotated[
    str | None, typer.Option(help="Measure on nodes of these types, which the cluster's autoscaler starts: t4,l4.")
]
WaitFor = Annotated[int, typer.Option(min=0, help="Wait until this many nodes have joined, for an hour at most.")]


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")] = "quick",
    image: Annotated[str | None, typer.Option(help="sparse, dense, or a 2-D TIFF file.")] = None,
    plane: Plane = None,
    channel: Channel = None,
    crops: Annotated[str | None, typer.Option(help="Sides of centred squares in px, or full: 224,448,full.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, or some of cpu, mps, cuda, cuda:1, rocm, xpu.")] = None,
    protocol: Annotated[str | None, typer.Option(help="standard, article, or both: standard,article.")] = None,
    variants: Annotated[
        str | None, typer.Option(help="How the model is executed: stock, or names joined by +: stock,lossless+plain.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Models to run; cellbench models lists them.")] = None,
    dtypes: Annotated[str | None, typer.Option(help="Precisions to load the models with: bfloat16,float32.")] = None,
    weights: Annotated[str | None, typer.Option(help="auto, published, standin, or a path.")] = None,
    trust: Trust = None,
    warmups: Annotated[int | None, typer.Option(help="Warm-up calls before each case's repetitions.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed repetitions of each case.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Repeat until the 95 % CI of the mean is this narrow: 0.02 is ±2 %.")
    ] = None,
    passes: Annotated[
        str | None, typer.Option(help="Measurements in addition to times: stages, memory, energy, masks.")
    ] = None,
    blocks: Annotated[int | None, typer.Option(help="Fresh processes per device.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the libraries; one for each core if not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order in which cases are measured.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Only these cases, as NODE/DEVICE/CROP with wildcards: desk1/cuda:0/448,*/cpu/*")
    ] = None,
    engine_python: Annotated[
        str | None, typer.Option(help="Python interpreter that has the engine; that of cellbench if not given.")
    ] = None,
    out: OutToWrite = RESULTS,
    address: Annotated[
        str | None, typer.Option(help="Measure on the nodes of this Ray cluster: auto, or the head's HOST:PORT.")
    ] = None,
    nodes: Annotated[str | None, typer.Option(help="Measure only on these nodes: desk1,mac2.")] = None,
    wait_for: WaitFor = 0,
    rent: Rent = None,
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Measure nodes with other versions of engine or cellbench, too."),
    ] = False,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Measure without Ray; the rows are the same.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be measured, and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table of results.")] = False,
) -> None:
    """Measure this machine, or every node of a fleet.

    Measures each crop on each device and stores every repetition.
    """
    from harness.fleet import driver
    from harness.plan import config
    from harness.run import bench
    from harness.store import new_run_id
    from harness.terminal import progress

    flags = {
        "image": image, "plane": plane, "channel": channel, "warmups": warmups, "repeats": repeats,
        "blocks": blocks, "threads": threads, "seed": seed, "weights": weights, "trust": config.split(trust),
        "engine_python": engine_python, "models": config.split(models),
        "dtypes": config.split(dtypes),
        "crops": config.split(crops),
        "devices": config.split(devices), "protocols": config.split(protocol),
        "precision": precision, "passes": config.split(passes),
        "variants": config.split(variants), "only": config.split(only),
    }  # fmt: skip
    if wait_for and not address:
        raise CellbenchError("--wait-for needs a fleet", "--wait-for", "name it: --address HOST:PORT")
    if nodes and not address:
        raise CellbenchError("--nodes needs a fleet", "--nodes", "name it: --address HOST:PORT")
    _check_rent(rent, address, nodes, wait_for)
    if rent and dry_run:
        raise CellbenchError("--dry-run would rent machines", "--rent", "see what they cost: cellbench cloud plan FILE")
    if no_ray and address:
        raise CellbenchError("a cluster cannot be used without Ray", "--no-ray --address", "choose one")
    material = bench.gather(config.load(profile, flags))
    console = progress.console(quiet)
    use_ray = not no_ray and (bool(address) or not dry_run)  # to look at this machine, none has to be started
    run_id = new_run_id(time())
    with (
        resumable(run_id, out),
        driver.opened(
            address,
            use_ray,
            config.split(nodes) or (),
            progress.waiting(console),
            wait_for,
            material.engines,
            material.config.engine_python,
            config.split(rent) or (),
        ) as machines,
    ):
        prepared = bench.prepare(material, machines.members, allow_mixed)
        shown = progress.Progress(prepared, console)
        shown.begin(machines.absent)
        if dry_run:
            return
        with shown:
            result = bench.run(prepared, machines, out, shown.sample, run_id)
    _end(shown, result, prepared.blocks)


@app.command("resume")
def resume_(
    run: Annotated[str | None, typer.Argument(help="Run to continue; the latest if not given.")] = None,
    out: OutToWrite = RESULTS,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure failed cases again.")] = False,
    address: Annotated[str | None, typer.Option(help="Another address of the fleet: auto, or HOST:PORT.")] = None,
    wait_for: WaitFor = 0,
    rent: Rent = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table of results.")] = False,
) -> None:
    """Continue a run that was stopped or killed.

    Only cases that are not finished are measured.
    """
    from harness.fleet import driver
    from harness.fleet.driver import artifacts
    from harness.plan import config
    from harness.run import bench, resume
    from harness.store import Store
    from harness.terminal import progress

    store = Store.at(out)
    run_id = run or resume.latest(store)
    manifest = resume.read(store, run_id)
    _check_rent(rent, address or manifest.address, None, wait_for)
    if manifest.command == "ab":
        from harness.cli import ab

        ab.go_on(run_id, out)
        return
    if manifest.command != "run":
        what = f"{run_id} is of cellbench {manifest.command}, which is not resumed"
        raise CellbenchError(what, str(out), f"run cellbench {manifest.command} again")
    todo = resume.left(store, manifest, retry_failed)
    if not todo:
        artifacts.forget_killed()  # it may have been killed after its last repetition
        typer.echo(f"run {run_id} is complete: nothing is left to measure", err=True)
        return
    try:
        material = bench.gather(manifest.config)
    except CellbenchError as error:  # whose fix may be a flag that only a new run has
        fix = "restore image and weights, or measure again: cellbench run"
        raise CellbenchError(error.what, error.where, fix) from error
    console = progress.console(quiet)
    with (
        resumable(run_id, out),
        driver.opened(
            address or manifest.address,
            manifest.use_ray,
            (),
            progress.waiting(console),
            wait_for,
            material.engines,
            material.config.engine_python,
            config.split(rent) or (),
        ) as machines,
    ):
        prepared = bench.again(material, manifest, machines.members, todo)
        shown = progress.Progress(prepared, console)
        shown.begin(machines.absent)
        with shown:
            result = bench.run(prepared, machines, out, shown.sample, run_id)
    _end(shown, result, manifest.blocks)


def _check_rent(rent: str | None, address: str | None, nodes: str | None, wait_for: int) -> None:
    if rent and not address:
        raise CellbenchError("--rent needs a cluster with an autoscaler", "--rent", "name it: --address auto")
    if rent and (nodes or wait_for):
        raise CellbenchError("--rent uses only the nodes that it starts", "--rent", "leave out --nodes and --wait-for")


def _end(shown: Progress, result: Result, planned: Sequence[Block]) -> None:
    """Report the end of the run; a case that failed or is missing has its own exit code."""
    from harness.terminal import coverage, run_tables

    shown.end(result)
    covered = coverage.table(result.store, result.run_id, planned)
    bad = coverage.bad(covered)
    if bad or len({block.node for block in planned}) > 1:
        coverage.show(shown.console, covered)
    if result.n_timed:
        table = run_tables.cases(result.store, result.run_id)
        run_tables.print_cases(table)
        for text in run_tables.closing(table):
            shown.console.print(text, markup=False)
    if bad or result.n_failed:
        raise CasesFailedError(
            f"{result.n_failed} measurements failed, {bad} of {len(covered)} cases are not done; the rest is saved",
            f"{result.store.root}, run {result.run_id}",
            "try them again: " + command("resume", result.run_id, "--retry-failed", "--out", result.store.root),
        )


@app.command("env")
def env_(
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda:N, rocm:N or xpu:N.")] = "auto", json: Json = False
) -> None:
    """Print the facts that are stored about this machine.

    They cover hardware, power, operating system and libraries.
    """
    from harness.doctor.environment import ask as find_environment
    from harness.terminal import environment

    facts, out = find_environment(device), settings.results_folder()
    text = f"{environment.text(facts)}\nresults folder: {files.expanded(out.path).absolute()} ({out.origin})"
    typer.echo(dumps(facts, indent=2) if json else text)


@app.command("models")
def models_(
    engine_python: Annotated[str | None, typer.Option(help="Python interpreter that has the engines.")] = None,
    json: Json = False,
) -> None:
    """List the models that can be measured.

    The list has their engines, versions, locations and weights.
    """
    from dataclasses import asdict

    from harness.doctor import models

    found = list(models.listed(engine_python))
    typer.echo(dumps([asdict(each) for each in found], indent=2) if json else models.text(found))


@app.command("doctor")
def doctor_(
    out: Out = RESULTS,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of Ray's head; RAY_ADDRESS if not given.")] = None,
    python: Annotated[
        str | None, typer.Option(help="Check whether the GPU is used by this other Python interpreter.")
    ] = None,
    json: Json = False,
) -> None:
    """Check this machine in seconds, before you measure.

    Examines devices, clock, threads, versions, weights, load, power, disk and Ray.
    """
    from harness.doctor import machine_checks
    from harness.machine import checks
    from harness.terminal import checks_view

    looks = machine_checks.another_environment(python) if python else machine_checks.examine(out, address)
    shown = checks_view.show(looks, json)
    if failed := [check.name for check in shown if check.verdict == checks.FAIL]:
        what = f"{len(failed)} of {len(shown)} checks failed: {', '.join(failed)}"
        raise ChecksFailedError(what, "this machine", "see the fix of each above")

"""The command `slurm`: submit, and the parts of a job that its scripts call."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from harness import files
from harness.cli.help import Group
from harness.cli.options import RESULTS, OutToWrite, duration_s
from harness.errors import CasesFailedError, CellbenchError, command

app = typer.Typer()
_slurm = typer.Typer(cls=Group, no_args_is_help=True, help="Measure the nodes of a SLURM cluster.")
app.add_typer(_slurm, name="slurm")

Profile = Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")]
Weights = Annotated[str, typer.Option(help="auto, published, standin, or a path.")]
To = Annotated[Path, typer.Option("--to", help="Store of the job in the shared folder.")]


@_slurm.command("submit")
def submit_(
    partitions: Annotated[
        str, typer.Option(help="Partitions to measure, each with a GRES type or not: cpu,gpu/gpu:a100.")
    ],
    profile: Profile = "quick",
    out: OutToWrite = RESULTS,
    time_limit: Annotated[
        str | None, typer.Option("--time", help="Time limit of each job, such as 4h; from the estimate if not given.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Apptainer image that contains cellbench; the installed one if not given.")
    ] = None,
    sbatch: Annotated[str, typer.Option(help="Further options of sbatch as one text, such as --account=lab.")] = "",
    merge_partition: Annotated[
        str | None, typer.Option(help="Partition of the job that merges; the last of --partitions if not given.")
    ] = None,
    as_fleet: Annotated[
        bool, typer.Option("--as-fleet", help="One job with a Ray cluster of all nodes, to measure them in parallel.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts, and stop.")] = False,
) -> None:
    """Submit a job for each partition, and one that merges their results.

    Each job has its node alone, resumes after preemption and copies its samples to --out.
    """
    from harness.plan import config
    from harness.run import bench
    from harness.slurm import cluster, limits, scripts, shared
    from harness.store import new_run_id

    chosen = scripts.targets(partitions)
    extra = scripts.options(sbatch)
    last = merge_partition or chosen[-1].partition
    scripts.targets(last)
    requested_min = duration_s(time_limit, "--time") / 60 if time_limit else None
    where, found_image = files.expanded(out).resolve(), _image(image)
    known = None
    if cluster.is_here() or not dry_run:
        known = cluster.partitions()
        cluster.check(chosen, last, known)
        shared.check(where)
    # A node may have no network: image and weights are found, or fetched, here.
    material = bench.gather(config.load(profile))
    if known:
        size = material.image.pixels.shape
        minutes = tuple(
            limits.minutes(material.config, size, each, known[each.partition], requested_min) for each in chosen
        )
    else:
        typer.echo("cellbench: there is no sbatch here: partitions and time limits are not checked", err=True)
        minutes = (math.ceil(requested_min or limits.LEAST_MIN),) * len(chosen)
    folder = where / "slurm" / new_run_id(time.time())
    is_file = not (config.PROFILES / f"{profile}.toml").is_file()
    own = folder / Path(profile).name
    # A node that lacks published weights must not measure stand-ins in their place.
    kinds = {each.kind for each in material.models}
    weights = "published" if kinds == {"published"} else material.config.weights
    plan = scripts.Batch(
        folder, where, str(own) if is_file else profile, weights, chosen, minutes, last,
        (sys.executable, "-m", "harness"), found_image, extra,
    )  # fmt: skip
    texts = scripts.texts(plan, as_fleet)
    if dry_run:
        typer.echo("\n".join(f"# {plan.script(name)}\n{text}" for name, text in texts.items()), nl=False)
        return
    files.make_folder(plan.folder / "stores")
    for notice in shared.notices(where):
        typer.echo(f"cellbench: {notice}", err=True)
    if is_file:
        files.write(own, files.expanded(profile).read_bytes())
    if as_fleet:
        files.write(plan.token, secrets.token_hex(32), mode=0o600)
    for name, text in texts.items():
        files.write(plan.script(name), text)
    *jobs, merge = map(plan.script, texts)
    try:
        ids = cluster.submit(jobs, merge)
    except BaseException:
        shutil.rmtree(plan.folder, ignore_errors=True)
        raise
    for name, job in zip(texts, ids, strict=True):
        typer.echo(f"job {job}: {name}, log {plan.log(name)}")
    read = dict.fromkeys(path.parent for each in material.models for path in each.paths)
    typer.echo(f"the jobs read {', '.join(map(str, [sys.prefix, *read]))}: every node needs them there", err=True)
    typer.echo(f"see: squeue --me; afterwards: {command('report', '--out', where)}", err=True)


@_slurm.command("measure", hidden=True)
def measure_(to: To, profile: Profile = "quick", weights: Weights = "auto") -> None:
    """Measure this node within a job, or continue its run."""
    from harness.slurm import job

    raise typer.Exit(job.measure(("--profile", profile, "--weights", weights), to, _log))


@_slurm.command("fleet", hidden=True)
def fleet_(
    to: To,
    head: Annotated[str, typer.Option(help="Host of the cluster's head.")],
    nodes: Annotated[int, typer.Option(min=1, help="Number of nodes.")],
    profile: Profile = "quick",
    weights: Weights = "auto",
) -> None:
    """Be a node of a Ray cluster within a job; the first one measures all of them."""
    from harness.slurm import job

    is_head = os.environ.get("SLURM_PROCID", "0") == "0"
    work = ("--profile", profile, "--weights", weights)
    raise typer.Exit(job.drive(work, to, nodes, _log) if is_head else job.join(head, to, _log))


@_slurm.command("merge", hidden=True)
def merge_(
    folder: Annotated[Path, typer.Argument(help="Shared folder of the batch.")],
    names: Annotated[list[str], typer.Argument(help="Names of its jobs.")],
    out: OutToWrite = RESULTS,
) -> None:
    """Merge the results of the jobs of a batch."""
    from harness.slurm import job

    stored = list(job.merge(folder, names, out))
    for each in stored:
        _log(each.line())
    if bad := [each.name for each in stored if not each.is_complete]:
        raise CasesFailedError(
            f"{len(bad)} of {len(stored)} jobs have cases that failed or are not done: {', '.join(bad)}",
            str(folder), "see the logs there; continue with: scontrol requeue JOB, then sbatch merge.sh",
        )  # fmt: skip


def _log(line: str) -> None:
    typer.echo(f"cellbench: {line}", err=True)


def _image(text: str | None) -> Path | None:
    """The Apptainer image as a file; a node may be unable to pull one."""
    if text is None:
        return None
    found = files.expanded(text).resolve()
    if not found.exists():
        fix = "name a file or a folder that every node can read; make it with: apptainer pull"
        raise CellbenchError("there is no such image", text, fix)
    return found

"""The sbatch scripts of a batch of jobs as texts. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CellbenchError

GRACE_S = 120  # from SLURM's warning to the time limit: enough to save what was measured
MERGE_MIN = 15
LEAVE_S = 120  # a fleet's other nodes leave within this time after its head
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
TARGET = re.compile(rf"({NAME})(?:/({NAME}(?::{NAME}){{0,2}}))?")
OPTION = re.compile(r"--[a-z][a-z0-9-]*(=[^\n\r\0]*)?|-[A-Za-z][^\n\r\0]*")
OURS = ("array", "dependency", "job-name", "nodes", "ntasks", "output", "parsable", "signal", "wrap")
SCRATCH = "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"


@dataclass(frozen=True)
class Target:
    """A kind of node: a partition, or one GRES type of it such as gpu:a100."""

    partition: str
    gres: str | None = None

    @property
    def name(self) -> str:
        """A name for files and jobs: gpu-a100, gpu-gpu-a100-1."""
        return "-".join([self.partition, *([self.gres.replace(":", "-")] if self.gres else [])])


@dataclass(frozen=True)
class Batch:
    """Jobs that belong together. command: starts this program; minutes: the time limit of each target's job.

    folder: the shared folder of their scripts, logs and stores; out: the results folder that receives all samples.
    image: an Apptainer image that has this program in its PATH; options: further ones of sbatch.
    """

    folder: Path
    out: Path
    profile: str
    weights: str
    targets: tuple[Target, ...]
    minutes: tuple[int, ...]
    merge_partition: str
    command: tuple[str, ...]
    image: Path | None = None
    options: tuple[str, ...] = ()

    def store(self, name: str) -> Path:
        """The store of one job in the shared folder."""
        return self.folder / "stores" / name

    @property
    def token(self) -> Path:
        """The file with the secret of a fleet's nodes."""
        return self.folder / "token"

    def script(self, name: str) -> Path:
        return self.folder / f"{name}.sh"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def targets(text: str) -> tuple[Target, ...]:
    """Read --partitions: names separated by commas, each with /GRES or not."""
    words = [word.strip() for word in text.split(",")]
    found = []
    for word in words:
        match = TARGET.fullmatch(word)
        if not match:
            fix = "write names separated by commas, each with a GRES type or not: cpu,gpu/gpu:a100"
            raise CellbenchError(f"{word!r} is not the name of a partition", "--partitions", fix)
        found.append(Target(match[1], match[2]))
    if twice := [target.name for i, target in enumerate(found) if target.name in {each.name for each in found[:i]}]:
        raise CellbenchError(f"{twice[0]} is listed twice", "--partitions", "list each partition once")
    return tuple(found)


def options(text: str) -> tuple[str, ...]:
    """Read --sbatch: further options of sbatch, as one text."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise CellbenchError(f"the options cannot be read: {error}", "--sbatch", "close the quotation marks") from error
    for word in words:
        if not OPTION.fullmatch(word):
            fix = "write each as one word: --sbatch '--account=lab --qos=gpu'"
            raise CellbenchError(f"{word!r} is not an option of sbatch", "--sbatch", fix)
        if word.lstrip("-").partition("=")[0] in OURS:
            raise CellbenchError(f"{word} would replace an option that the jobs need", "--sbatch", "leave it out")
    return words


def measuring(plan: Batch, target: Target, minutes: int) -> str:
    """The job that measures one node. A requeued job resumes from its store in the shared folder."""
    header = [
        *_header(plan, target.name, target.partition, minutes),
        *_whole_node(target),
        "--requeue",
        f"--signal=TERM@{GRACE_S}",
    ]
    words = ["slurm", "measure", *_work(plan, target.name)]
    return _script([(header, plan.options)], plan, _step(words))


def fleet(plan: Batch) -> str:
    """One job with a node of each target: a Ray cluster, driven from its first node."""
    parts = [
        ([*_header(plan, "fleet", target.partition, max(plan.minutes)), *_whole_node(target)], plan.options)
        for target in plan.targets
    ]
    n = len(plan.targets)
    words = ["slurm", "fleet", *_work(plan, "fleet"), "--nodes", str(n)]
    groups = f"--het-group=0-{n - 1} " if n > 1 else ""
    nodes = "${SLURM_JOB_NODELIST_HET_GROUP_0:-$SLURM_JOB_NODELIST}"
    lines = [
        f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={shlex.quote(str(plan.token))}",
        f'head=$(scontrol show hostnames "{nodes}" | head -n 1)',
        f'{_step(words, f"{groups}--kill-on-bad-exit=1 --wait={LEAVE_S} ")} --head "$head"',
    ]
    return _script(parts, plan, "\n".join(lines))


def merging(plan: Batch, names: Iterable[str]) -> str:
    """The job that starts when those of these names have ended, successful or not, and merges their samples."""
    header = [*_header(plan, "merge", plan.merge_partition, MERGE_MIN), "--ntasks=1", "--requeue"]
    words = ["slurm", "merge", str(plan.folder), *names, "--out", str(plan.out)]
    return _script([(header, plan.options)], plan, _call(words))


def texts(plan: Batch, as_fleet: bool = False) -> dict[str, str]:
    """Every script by the name of its job, the merge last."""
    if as_fleet:
        jobs = {"fleet": fleet(plan)}
    else:
        each = zip(plan.targets, plan.minutes, strict=True)
        jobs = {target.name: measuring(plan, target, minutes) for target, minutes in each}
    return {**jobs, "merge": merging(plan, jobs)}


def _header(plan: Batch, name: str, partition: str, minutes: int) -> list[str]:
    log = str(plan.log(name)).replace("%", "%%")
    return [
        f"--job-name=cellbench-{name}", f"--partition={partition}", f"--time={minutes}", f"--output={log}",
        "--open-mode=append",
    ]  # fmt: skip


def _whole_node(target: Target) -> list[str]:
    return ["--nodes=1", "--ntasks=1", "--exclusive", "--mem=0", *([f"--gres={target.gres}"] if target.gres else [])]


def _work(plan: Batch, name: str) -> list[str]:
    return ["--profile", plan.profile, "--weights", plan.weights, "--to", str(plan.store(name))]


def _step(words: Sequence[str], options: str = "") -> str:
    """Lines of bash that run this program as a step: only steps receive SLURM's signal.

    Without --cpus-per-task, which implies --exact, a step has all processors of the node. A program that ends by the
    signal while it starts would end the job, which is then not requeued: it ignores the signal until it measures.
    """
    return (
        "trap '' TERM  # the step saves its samples, and SLURM ends the job\n"
        f"srun {options}--ntasks-per-node=1 --cpu-bind=none "
        f'sh -c \'trap "" TERM; exec "$@"\' sh {_call(words)}'
    )


def _call(words: Sequence[str]) -> str:
    return f'"${{cellbench[@]}}" {shlex.join(words)}'


def _script(parts: Iterable[tuple[Sequence[str], Sequence[str]]], plan: Batch, body: str) -> str:
    """A script of bash; parts: the options of each component of the job."""
    components = ["\n".join(f"#SBATCH {_quoted(option)}" for option in (*ours, *more)) for ours, more in parts]
    return "\n".join(["#!/bin/bash", "\n#SBATCH hetjob\n".join(components), *_program(plan), body, ""])


def _program(plan: Batch) -> list[str]:
    """Lines of bash: how this program is started."""
    lines = [f"cellbench=({shlex.join(plan.command)})"]
    if plan.image:
        image, out = shlex.quote(str(plan.image)), shlex.quote(str(plan.out))
        lines = [
            "gpu=()",
            "if [ -e /dev/nvidiactl ]; then gpu+=(--nv); fi",
            "if [ -e /dev/kfd ]; then gpu+=(--rocm); fi",
            f'cellbench=(apptainer exec "${{gpu[@]}}" --bind "{SCRATCH}" --bind {out} {image} cellbench)',
        ]
    return lines


def _quoted(option: str) -> str:
    """An option as sbatch reads it from a script: quotation marks as in a shell."""
    name, equals, value = option.partition("=")
    return name + equals + (shlex.quote(value) if value else "")

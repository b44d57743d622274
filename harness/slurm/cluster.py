"""The cluster as sinfo and sbatch show it: its partitions, and jobs submitted all or none."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import CellbenchError
from harness.slurm.scripts import Target

TIMEOUT_S = 60.0
FORMAT = "%R|%l|%c|%G|%a"  # name, time limit, processors of a node, GRES, whether it is up
PLACE = "submit on a login node of the cluster; elsewhere --dry-run prints the scripts"


@dataclass
class Partition:
    """A partition. limit_min: inf where it has none; cpus: of its smallest node."""

    name: str
    limit_min: float
    cpus: int
    is_up: bool
    gres: set[str] = field(default_factory=set)

    def has(self, gres: str) -> bool:
        """Whether a node offers this GRES type; its number is left to sbatch."""
        kind = re.sub(r":\d+$", "", gres)
        return any(each == kind or each.startswith(kind + ":") for each in self.gres)

    @property
    def has_gpu(self) -> bool:
        return self.has("gpu")


def is_here() -> bool:
    """Whether this machine can submit jobs."""
    return bool(shutil.which("sbatch") and shutil.which("sinfo"))


def partitions() -> dict[str, Partition]:
    """Every partition of the cluster by name; CellbenchError where no cluster answers."""
    if not is_here():
        raise CellbenchError("this machine has no sbatch", "PATH", PLACE)
    return read(_output(["sinfo", "--noheader", f"--format={FORMAT}"], "the cluster does not answer"))


def read(text: str) -> dict[str, Partition]:
    """Read the output of sinfo, which has a line for each kind of node in a partition."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, limit, cpus, gres, state = line.strip().split("|")
        n_cpus = int(re.sub(r"\D.*", "", cpus) or 1)
        each = found.setdefault(name, Partition(name, minutes(limit), n_cpus, state == "up"))
        each.cpus = min(each.cpus, n_cpus)
        each.gres |= {re.sub(r"(:\d+)?(\(.*)?$", "", part) for part in re.split(r",(?![^(]*\))", gres)} - {""}
    return found


def minutes(text: str) -> float:
    """A time limit of SLURM in minutes: 1-00:00:00, 2:00:00, 30:00, infinite."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return math.inf
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def check(targets: Sequence[Target], merge_partition: str, known: Mapping[str, Partition]) -> None:
    """Raise CellbenchError for a partition that is missing or down, and for a GRES type that it lacks."""
    for target in (*targets, Target(merge_partition)):
        partition = known.get(target.partition)
        if partition is None:
            fix = f"sinfo lists: {', '.join(sorted(known)) or 'none'}"
            raise CellbenchError(f"this cluster has no partition {target.partition}", "--partitions", fix)
        if not partition.is_up:
            fix = "choose another partition, or wait: sinfo shows its state"
            raise CellbenchError(f"partition {target.partition} is down", "--partitions", fix)
        if target.gres and not partition.has(target.gres):
            fix = f"it has: {', '.join(sorted(partition.gres)) or 'none'}"
            raise CellbenchError(f"partition {target.partition} has no GRES {target.gres}", "--partitions", fix)


def submit(scripts: Sequence[Path], last: Path) -> list[str]:
    """Submit jobs, and one that starts when all of them have ended; returns their ids. All of them or none."""
    ids: list[str] = []
    try:
        for script in scripts:
            ids.append(_submitted(script))
        return [*ids, _submitted(last, f"--dependency=afterany:{':'.join(ids)}")]
    except BaseException:
        if ids:
            subprocess.run(["scancel", *ids], check=False, timeout=TIMEOUT_S)
        raise


def _submitted(script: Path, *options: str) -> str:
    answer = _output(
        ["sbatch", "--parsable", *options, str(script)], f"sbatch rejects the job {script.stem}",
        "change --partitions, --time or --sbatch",
    )  # fmt: skip
    return answer.strip().splitlines()[-1].partition(";")[0]


def _output(command: Sequence[str], what: str, fix: str = "see whether sinfo works here") -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CellbenchError(f"{what}: {error}", command[0], fix) from error
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise CellbenchError(f"{what}: {reason}", shlex.join(command), fix)
    return done.stdout

"""The time limit of a job from the profile's estimate, the partition's limit and the user's request. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.errors import CellbenchError
from harness.machine.accelerators import Device
from harness.plan import blocks, estimate
from harness.plan.cases import Node
from harness.plan.config import Config
from harness.slurm.cluster import Partition
from harness.slurm.scripts import GRACE_S, Target

SPREAD = 3.0  # an estimate is good to this factor
LEAST_MIN = 10


def minutes(
    config: Config, size: Sequence[int], target: Target, partition: Partition, requested_min: float | None = None
) -> int:
    """The limit of a job: the requested one, or three times the estimate where the partition allows that.

    size: height and width of the image in px. Raises CellbenchError where the estimate alone is longer, or where the
    partition does not allow the request.
    """
    where = f"partition {target.partition}: {duration(partition.limit_min)} at most"
    if requested_min is not None and requested_min > partition.limit_min:
        what = f"--time is {duration(requested_min)}, longer than the partition allows"
        raise CellbenchError(what, where, "give a shorter --time")
    expected_min = estimate_min(config, size, target, partition)
    limit_min = partition.limit_min if requested_min is None else requested_min
    if expected_min + GRACE_S / 60 > limit_min:
        what = f"the profile takes about {duration(expected_min)} there, and the job may run {duration(limit_min)}"
        fix = "choose a shorter profile (--profile quick) or another partition"
        raise CellbenchError(what, where, fix if requested_min is None else f"give a longer --time; or {fix}")
    return math.ceil(min(max(LEAST_MIN, SPREAD * expected_min), limit_min) if requested_min is None else limit_min)


def estimate_min(config: Config, size: Sequence[int], target: Target, partition: Partition) -> float:
    """Estimate the duration in minutes on a node of which only kinds of devices and processors are listed."""
    has_gpu = target.gres.startswith("gpu") if target.gres else partition.has_gpu
    devices = (*((Device("cuda", 0, "GPU"),) if has_gpu else ()), Device("cpu", 0, "CPU"))
    nodes = blocks.choose_on(config.devices, [Node(target.name, devices, partition.cpus)])
    height_px, width_px = size
    return estimate.estimate_s(blocks.blocks(config, height_px, width_px, nodes)) / 60


def duration(minutes: float) -> str:
    """A duration in words: 45 min, 3.5 h, any time."""
    if math.isinf(minutes):
        return "any time"
    return f"{math.ceil(minutes)} min" if minutes < 120 else f"{minutes / 60:.1f} h"

"""The words that distinguish rows: roles, phases and statuses; and the passes, each of which has a role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The kind of measurement of a case that a row contains."""

    COLD = "cold"
    WARMUP = "warmup"
    TIMED = "timed"
    CONTROL = "control"
    STAGES = "stages"
    CEILING = "ceiling"
    MEMORY = "memory"
    ENERGY = "energy"
    MASKS = "masks"
    TUNE = "tune"
    THROUGHPUT = "throughput"


class Phase(StrEnum):
    """The part of its role that a row contains."""

    CALL = "call"
    IMPORT = "import"
    DEVICE_START = "device_start"
    MODEL_LOAD = "model_load"
    STAGE = "stage"
    MATMUL = "matmul"
    CONVOLUTION = "convolution"
    COPY = "copy"


class Status(StrEnum):
    """The end of a measurement."""

    OK = "ok"
    SKIPPED = "skipped"
    OOM_HOST = "oom_host"
    OOM_DEVICE = "oom_device"
    TIMEOUT = "timeout"
    CRASH = "crash"
    DEVICE_FALLBACK = "device_fallback"
    NODE_LOST = "node_lost"
    VARIANT_FALLBACK = "variant_fallback"


FINE = (Status.OK, Status.SKIPPED)  # statuses that are not failures


@dataclass(frozen=True)
class Pass:
    """A measurement of a case other than its time: a role and a line here, a module of that name in measure/passes.

    n_calls: approximate number of calls of the model. n_rows: number of its last rows, without the parts of a call.
    follows: the pass after which it is made, once a block; empty for one that a profile names.
    """

    role: Role
    meaning: str
    n_calls: int
    n_rows: int
    follows: str = ""


# Masks: twice on the device, once on the CPU. Energy repeats for seconds.
PASSES: dict[str, Pass] = {
    each.role: each
    for each in (
        Pass(Role.STAGES, "where the time of one call goes", 3, 3),
        Pass(Role.CEILING, "the best rates of the device: products, convolutions, copies", 2, 3, follows=Role.STAGES),
        Pass(Role.MEMORY, "peak memory of one call", 1, 1),
        Pass(Role.ENERGY, "energy of repeated calls", 3, 3),
        Pass(Role.MASKS, "agreement with the stock model on the CPU", 3, 2),
    )
}
CHOSEN_PASSES = tuple(role for role, each in PASSES.items() if not each.follows)

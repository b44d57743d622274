"""The words that rows are told apart by: roles, phases and statuses."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What kind of look at a case a row is."""

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
    """Which part of its role a row is."""

    CALL = "call"
    IMPORT = "import"
    DEVICE_START = "device_start"
    MODEL_LOAD = "model_load"
    STAGE = "stage"
    MATMUL = "matmul"
    CONVOLUTION = "convolution"
    COPY = "copy"


class Status(StrEnum):
    """How a measurement ended."""

    OK = "ok"
    SKIPPED = "skipped"
    OOM_HOST = "oom_host"
    OOM_DEVICE = "oom_device"
    TIMEOUT = "timeout"
    CRASH = "crash"
    DEVICE_FALLBACK = "device_fallback"
    NODE_LOST = "node_lost"
    VARIANT_FALLBACK = "variant_fallback"


FINE = (Status.OK, Status.SKIPPED)  # statuses that are no failure
PASSES = (Role.STAGES, Role.MEMORY, Role.ENERGY, Role.MASKS)  # what is measured of a case besides its time

"""Rows of the results from measurements."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from harness import images, schema
from harness.engines import registry
from harness.engines.base import Segmentation
from harness.machine import probe
from harness.measure.timing import Repetition
from harness.measure.wire import Order
from harness.plan.cases import Task
from harness.schema import Sample

PROTOCOL_VERSION = 1  # the extent of the timed region


def base_columns(order: Order, facts: dict[str, Any] | None = None) -> Sample:
    """The columns that every sample of the block shares; facts are this machine's unless given."""
    block, engine = order.block, registry.engine(order.block.engine)
    return {
        **(facts or probe.facts()),
        **engine.columns,
        **order.constants,
        "workload": "simulated" if engine.name == "simulated" else "cellpose",
        "engine": engine.name,
        "model": block.model,
        "dtype": block.dtype,
        "block": block.index,
        "backend": block.device.backend,
        "device": block.device.id,
        "device_name": block.device.name,
        "protocol_version": PROTOCOL_VERSION,
        "openmp_threads": str(block.threads),
    }


def row_of(base: Sample, task: Task) -> Sample:
    """The columns that every sample of a task shares."""
    engine, variant = registry.engine(base["engine"]), task.case.variant
    # The columns that a variant sets are known before it runs, so the row of a variant that never ran has them as well.
    row = {**base, **asdict(task.case), **engine.in_force(engine.variant(variant))}
    row |= {"result_variant": registry.result_variant(engine.name, variant)}
    row |= {"position": task.position, "role": task.role, "attempt": task.attempt}
    if task.case.is_control:
        from harness.images import synthetic

        pixels = synthetic.control()
        row |= {"image": "control", "image_sha256": images.hash_pixels(pixels), "image_is_synthetic": True}
    return row


def good(row: Sample, done: Repetition[Any], phase: str) -> Sample:
    """The sample of one successful repetition."""
    found = done.outcome if isinstance(done.outcome, Segmentation) else None
    check = {"n_cells": found.n_cells, "diameter_px": found.diameter_px, "mask_sha256": found.sha256} if found else {}
    return identified(
        {
            **row,
            **check,
            **done.observed,
            "role": done.role,
            "phase": phase,
            "repetition": done.index,
            "started_at": done.started_at_unix_s,
            "elapsed_s": done.elapsed_s,
            "stop_reason": done.stop_reason if done.role != "cold" else None,
            "precision": done.precision,
            "status": "ok",
        }
    )


def bad(row: Sample, repetition: int, status: str, kind: str | None, text: str) -> Sample:
    """The sample of a task that failed."""
    failed = {"phase": "call", "repetition": repetition, "started_at": time.time(), "status": status}
    return identified({**row, **failed, "elapsed_s": None, "error_type": kind, "error_message": text[-2000:]})


def identified(row: Sample) -> Sample:
    """The row with the names of its case and its series."""
    return schema.sample(**row)

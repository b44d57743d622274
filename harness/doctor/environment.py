"""The facts about this machine, found as a measurement would find them."""

from __future__ import annotations

from typing import Any

from harness import plan
from harness.machine import facts
from harness.measure import worker
from harness.plan import Device


def ask(device: str = "auto") -> dict[str, Any]:
    """Every fact about this machine and one of its devices, found in a process of its own; null where unknown.

    device: cpu, mps, cuda or cuda:N; auto takes the fastest kind. CellbenchError if this machine lacks it.
    """
    chosen = plan.choose((device,), [Device(**found) for found in worker.devices()])[0]
    told = worker.ask("environment", device=chosen.id)
    return {fact.name: told.get(fact.name) for fact in facts.FACTS}

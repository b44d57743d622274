"""The facts about this machine, found as in a measurement."""

from __future__ import annotations

from typing import Any

from harness.machine import facts
from harness.measure import parent
from harness.measure.wire import EnvironmentRequest
from harness.plan import blocks


def ask(device: str = "auto") -> dict[str, Any]:
    """Find every fact about this machine and one of its devices in a separate process; null where unknown.

    device: its id or backend, cuda:0 or cuda; auto takes the fastest kind. CellbenchError if this machine lacks it.
    """
    chosen = blocks.choose((device,), parent.devices())[0]
    answer = parent.ask(EnvironmentRequest(chosen.id))
    return {fact.name: answer.get(fact.name) for fact in facts.FACTS}

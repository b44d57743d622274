"""What `cellbench env` shows: the facts about this machine that go into the results with every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import plan
from harness.node import facts
from harness.node.facts import Fact
from harness.plan import Device


def ask(device: str = "auto") -> dict[str, Any]:
    """Every fact about this machine and one of its devices, found in a process of its own; null where unknown.

    device: cpu, mps, cuda or cuda:N; auto takes the fastest kind. CellbenchError if this machine lacks it.
    """
    from harness.measure import worker  # brings what measures, for which a report must not wait

    chosen = plan.choose((device,), [Device(**found) for found in worker.devices()])[0]
    told = worker.ask("environment", device=chosen.id)
    return {fact.name: told.get(fact.name) for fact in facts.FACTS}


def text(told: Mapping[str, Any]) -> str:
    """The facts in groups, one a line, with units; the last line names what is stable of them."""
    width = max(len(fact.name) for fact in facts.FACTS)
    lines = []
    for title, group in facts.GROUPS.items():
        lines += [title, *(f"  {fact.name:<{width}}  {shown(fact, told.get(fact.name))}" for fact in group), ""]
    return "\n".join([*lines, f"stable key: {facts.stable_key(told)}"])


def shown(fact: Fact, value: Any) -> str:
    """One value as people read it: '32 KiB', '4000 MHz', 'yes', 'unknown'."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if fact.unit == "bytes":
        return _size(value)
    written = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{written} {fact.unit}" if fact.unit else written


def _size(n_bytes: int) -> str:
    """Binary units, as memory and caches are made: '1.5 MiB'."""
    size, units = float(n_bytes), ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while size >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop()
    return f"{size:.4g} {units[-1]}"

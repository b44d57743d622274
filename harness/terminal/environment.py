"""The text of `cellbench env`: the facts about this machine that are stored with every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.machine import facts
from harness.results.formatting import fact_text


def text(values: Mapping[str, Any]) -> str:
    """The facts in groups, one a line, with units; the last line is the key of the stable ones."""
    width = max(len(fact.name) for fact in facts.FACTS)
    lines = []
    for title, group in facts.GROUPS.items():
        lines += [title, *(f"  {fact.name:<{width}}  {fact_text(fact, values.get(fact.name))}" for fact in group), ""]
    return "\n".join([*lines, f"stable key: {facts.stable_key(values)}"])

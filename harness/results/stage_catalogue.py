"""The stages of a call for figures and tables; the only module of this package that reads the engines' lists.

A stage or pass that no engine has comes last, in a group of its own, and is also shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.engines import registry

UNKNOWN = "unknown stages"  # the group of stages that no engine has
LABELS = {"qc": "quality control"}


def in_order(stages: Iterable[str]) -> list[str]:
    """Stages in the order in which they run."""
    return _in_order(stages, (stage.name for stage in registry.stages().stages))


def passes_in_order(passes: Iterable[str]) -> list[str]:
    """Network passes in the order in which they run."""
    return _in_order(passes, registry.stages().passes)


def groups() -> dict[str, str]:
    """The colour group of each stage, by its name."""
    return {stage.name: stage.group for stage in registry.stages().stages}


def on_host() -> set[str]:
    """The stages that only the processor computes, on every device."""
    return {stage.name for stage in registry.stages().stages if stage.on_host}


def meanings() -> dict[str, str]:
    """The description of each stage, by its label."""
    return {label(stage.name): stage.meaning for stage in registry.stages().stages}


def label(stage: str) -> str:
    """The name of a stage in tables and figures."""
    return LABELS.get(stage, stage.replace("_", " "))


def _in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    found = dict.fromkeys(names)
    first = [name for name in known if name in found]
    return first + [name for name in found if name not in first]

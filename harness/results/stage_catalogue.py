"""The stages of a call as figures and tables take them: order, groups, meanings; only this module knows the engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.engines.cellpose3 import catalogue as cellpose3

NETWORK, DYNAMICS, QUALITY, HOST, UNCLAIMED, UNKNOWN = (
    "network", "dynamics and seeds", "quality control", "images, tiles and masks on the processor", "not attributed",
    "unknown stages",
)  # fmt: skip
GROUPS = (NETWORK, DYNAMICS, QUALITY, HOST, UNCLAIMED, UNKNOWN)  # in the order in which bars stack them


@dataclass(frozen=True)
class StageCatalogue:
    """What one engine's calls are made of.

    passes: over the image, in their order. stages: in the order in which they run, with what each does. groups: what is
    coloured alike; a stage that is in none is the processor's work. on_host: the stages that only the processor works
    on, whatever the device. A stage or pass that is not here is unknown: it comes last, and is shown all the same.
    """

    passes: Sequence[str] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    on_host: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def in_order(self, stages: Iterable[str]) -> list[str]:
        """Stages in the order in which they run."""
        return _in_order(stages, self.stages)

    def passes_in_order(self, passes: Iterable[str]) -> list[str]:
        """Passes in the order in which they run."""
        return _in_order(passes, self.passes)

    def group(self, stage: str) -> str:
        """Which of GROUPS a stage belongs to."""
        return self.groups.get(stage, HOST) if stage in self.stages else UNKNOWN

    def label(self, stage: str) -> str:
        """A stage as it is written in tables and figures."""
        return self.labels.get(stage, stage.replace("_", " "))


CELLPOSE3 = StageCatalogue(
    cellpose3.PASSES,
    cellpose3.STAGES,
    {"network": NETWORK, "dynamics": DYNAMICS, "seeds": DYNAMICS, "qc": QUALITY, "other": UNCLAIMED},
    frozenset({"convert", "normalize", "resize", "tile", "stitch", "cleanup", "flow_image", "diameter", "other"}),
    {"qc": "quality control"},
)


CATALOGUES = {"cellpose3": CELLPOSE3}


def of(row: Mapping[str, Any]) -> StageCatalogue:
    """The catalogue of the engine that made a row; every stage of an engine that has none is unknown."""
    return CATALOGUES.get(row.get("engine") or "cellpose3", StageCatalogue())


def _in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    found = dict.fromkeys(names)
    first = [name for name in known if name in found]
    return first + [name for name in found if name not in first]

"""The stage pass: the time of each part of one call, by hooks of the engine that only time.

Waiting for the device at every border costs time, so this is a separate pass, and its total is compared with the
timed repetitions.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from harness.engines.base import LoadedModel, Segmentation, StageCatalogue
from harness.measure import rows
from harness.measure.block import Bench
from harness.measure.timing import Repetition
from harness.plan.cases import Task
from harness.schema import PASSES, Sample

Clock = Callable[[], int]
Sync = Callable[[], None]


@dataclass(frozen=True)
class Part:
    """The time of one stage in one network pass, without the stages inside it; work for the network only."""

    stage_pass: str
    stage: str
    elapsed_s: float
    n_tiles: int | None = None
    work_gflop: float | None = None
    work_gb: float | None = None


@dataclass
class _Tally:
    """The time of one stage so far."""

    elapsed_ns: int = 0
    n_tiles: int = 0
    gflop: float = 0.0
    gb: float = 0.0


class Recorder:
    """The clock of one call's stages: time is always assigned to the innermost open stage only."""

    def __init__(self, catalogue: StageCatalogue, sync: Sync, clock_ns: Clock = time.perf_counter_ns) -> None:
        self._catalogue, self._sync, self._clock_ns = catalogue, sync, clock_ns
        self._tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
        self._open: list[tuple[str, str]] = []
        self._since_ns = 0
        self._pass = self._outside = list(catalogue.passes)[-1]

    def parts(self, total_s: float) -> list[Part]:
        """The stages that ran, in the catalogue's order; the last one is the rest of total_s."""
        *stages, other = [stage.name for stage in self._catalogue.stages]
        keys = [(each, stage) for each in self._catalogue.passes for stage in stages if (each, stage) in self._tallies]
        found = [self._part(*key) for key in keys]
        return [*found, Part(self._outside, other, total_s - sum(part.elapsed_s for part in found))]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage; if it raises, the whole call is lost and so are its times."""
        self._border()
        self._open.append((self._pass, name))
        yield
        self._border()
        self._open.pop()

    @contextmanager
    def network(self, n_tiles: int, gflop: float, gb: float) -> Iterator[None]:
        """Record tiles that go through the network, with their work in GFLOP and their memory traffic in GB."""
        tally = self._tallies[self._pass, "network"]
        tally.n_tiles += n_tiles
        tally.gflop += gflop
        tally.gb += gb
        with self.stage("network"):
            yield

    def enter_pass(self, name: str) -> None:
        """Assign the stages that follow to this network pass, until another begins."""
        self._pass = name

    def _border(self) -> None:
        # The open stage queued the work that the device still does, so waiting is part of it.
        self._sync()
        now_ns = self._clock_ns()
        if self._open:
            self._tallies[self._open[-1]].elapsed_ns += now_ns - self._since_ns
        self._since_ns = now_ns

    def _part(self, stage_pass: str, stage: str) -> Part:
        tally = self._tallies[stage_pass, stage]
        if not tally.n_tiles:
            return Part(stage_pass, stage, tally.elapsed_ns / 1e9)
        return Part(stage_pass, stage, tally.elapsed_ns / 1e9, tally.n_tiles, tally.gflop, tally.gb)


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Profile calls, one row a part.

    The whole call's row comes last, and marks the repetition as complete.
    """
    work = bench.call(task.case)
    work()  # the first call of the hooks costs time that is not a stage
    for index in range(len(task.earlier_s), PASSES["stages"].n_rows):
        at = time.time()
        found, total_s, parts = measure(work, bench.model, bench.engine.stages, bench.sync)
        for part in parts:
            yield rows.good(row | asdict(part), Repetition("stages", index, at, part.elapsed_s, None), "stage")
        yield rows.good(row, Repetition("stages", index, at, total_s, found), "call")


def measure(
    call: Callable[[], Segmentation],
    model: LoadedModel,
    catalogue: StageCatalogue,
    sync: Sync,
    clock_ns: Clock = time.perf_counter_ns,
) -> tuple[Segmentation, float, list[Part]]:
    """Call once with the engine's hooks in place; returns the result, seconds in all, and the parts."""
    recorder = Recorder(catalogue, sync, clock_ns)
    with model.recorded(recorder):
        sync()
        begin_ns = clock_ns()
        outcome = call()
        sync()
        total_s = (clock_ns() - begin_ns) / 1e9
    return outcome, total_s, recorder.parts(total_s)

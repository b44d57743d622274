"""Search for the fastest variants with the same masks: greedy over groups, each group raced in a fresh process.

A single race overestimates: the fastest of several is often the fastest by chance. So the end is a race of several
processes, in which each part of the result must show an effect.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import schema
from harness.engines import registry
from harness.engines.base import STOCK, Engine
from harness.errors import CasesFailedError, CellbenchError
from harness.fleet import driver
from harness.measure.wire import RaceOrder
from harness.plan import config, estimate
from harness.plan.cases import Block, Case, Effort, Task
from harness.run import bench, resume
from harness.run.bench import Prepared
from harness.schema import Sample
from harness.stats import selection
from harness.store import Store, new_run_id

WORTH = 1.02  # the minimum speed-up of a step; else it is left out
ROUNDS = 3
FINAL_PROCESSES, FINAL_ROUNDS = 5, 3
RANK = {"identical": 0, "equivalent": 1, "close": 2, "different": 3}


@dataclass(frozen=True)
class Outcome:
    """One variant in one race. agreement: the worst verdict over crops and diameters.

    speedup: to stock; low and high: its 95 % CI, None with fewer than three processes. n: calls.
    """

    variant: str
    agreement: str | None
    speedup: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""

    def passes(self, gate: str) -> bool:
        """Whether nothing failed, masks are at least as good as the gate, and a time is known."""
        if self.note or self.speedup is None or self.agreement is None:
            return False
        return is_accepted(self.agreement, gate)


@dataclass(frozen=True)
class Tuning:
    """The result of a search. steps: every race's outcomes; identical, equivalent: the winners' final race or None."""

    run_id: str
    model: str
    steps: tuple[Outcome, ...]
    identical: Outcome | None
    equivalent: Outcome | None
    left_out: tuple[str, ...]


def outcomes(rows: Sequence[Sample]) -> list[Outcome]:
    """A race's rows as one outcome for each variant, stock first, without the rows of its process's start-up."""
    times = durations(rows)
    verdicts: dict[str, list[str]] = defaultdict(list)
    notes: dict[str, str] = {}
    for row in rows:
        if row["role"] == "cold":
            continue
        if row["status"] != "ok":
            notes[row["variant"]] = f"{row['status']}: {row.get('error_message')}"
        elif row["role"] == "masks":
            verdicts[row["variant"]] += [row["agreement"]] if row["agreement"] else []
    found = []
    for name in dict.fromkeys([*verdicts, *times, *notes]):
        worst = max(verdicts[name], key=RANK.__getitem__, default=None)
        both = STOCK in times and name in times
        gain = selection.gain(times[name], times[STOCK]) if both else None
        known = (gain.times, gain.low, gain.high) if gain else (None, None, None)
        n = int(np.isfinite(times[name]).sum()) if name in times else 0
        found.append(Outcome(name, worst, known[0], known[1], known[2], n, notes.get(name, "")))
    return found


def durations(rows: Sequence[Sample]) -> dict[str, np.ndarray]:
    """The calls of a race in s for each variant, processes × rounds; NaN where one is missing."""
    calls = [row for row in rows if row["role"] == "tune" and row["status"] == "ok"]
    processes = {process: i for i, process in enumerate(sorted({row["block"] for row in calls}))}
    rounds = 1 + max((row["repetition"] for row in calls), default=0)
    found: dict[str, np.ndarray] = {}
    for row in calls:
        grid = found.setdefault(row["variant"], np.full((len(processes), rounds), np.nan))
        grid[processes[row["block"]], row["repetition"]] = row["elapsed_s"]
    return found


def check_cells(rows: Sequence[Sample]) -> None:
    """Reject comparisons of masks without a single cell as proof of equal masks."""
    compared = [row for row in rows if row["role"] == "masks" and row["status"] == "ok"]
    if compared and not any(row["agreement"] for row in compared):
        raise CasesFailedError(
            "no cells were found, so the comparison of masks proves nothing",
            f"image {compared[0]['image']}, crop {compared[-1]['crop']}",
            "give an --image or a --crop with cells",
        )


def search(
    prepared: Prepared, here: driver.Fleet, out: Path, gate: str, budget_s: float, say: Callable[[str], None]
) -> Tuning:
    """Race groups within budget_s (one race may take longer), then prove the winners; every row is stored."""
    if len(prepared.blocks) != 1 or len(prepared.blocks[0].cases) != 1:
        raise CellbenchError("tuning needs one device and one crop", "--device, --crop", "name one of each")
    block, case = prepared.blocks[0], prepared.blocks[0].cases[0]
    engine = registry.engine(block.engine)
    store, run_id, until_s = Store.make(out), new_run_id(time.time()), time.monotonic() + budget_s
    resume.write(store, bench.manifest_of(prepared, here, run_id, "tune"))
    places = here.deliver(prepared.material.parcels())
    best = {"identical": STOCK, "equivalent": STOCK}
    steps: list[Outcome] = []
    left_out: list[str] = []
    index = itertools.count()
    with store.journal(run_id) as journal:

        def run(names: Sequence[str], rounds: int, n_processes: int = 1) -> list[Sample]:
            say(f"racing {', '.join(names)}" + (f" in {n_processes} processes" if n_processes > 1 else ""))
            blocks = tuple(race_block(block, case, names, rounds, next(index)) for _ in range(n_processes))
            orders = races(replace(prepared, blocks=blocks), run_id, places)
            orders[1:] = [replace(order, compares_masks=False) for order in orders[1:]]
            with closing(here.batches(orders)) as batches:
                rows = list(journal.record(batches))
            check_cells(rows)
            return rows

        for group in engine.searched:
            if time.monotonic() > until_s:
                left_out.append(f"{', '.join(group)}: the budget is spent")
                continue
            tried, rejected = possible(engine, group, set(best.values()), block.device.backend)
            left_out += rejected
            if not tried:
                continue
            found = outcomes(run([STOCK, *dict.fromkeys([*(b for b in best.values() if b != STOCK), *tried])], ROUNDS))
            steps += [each for each in found if each.variant in tried]
            best = {level: _better(best[level], found, level) for level in best}
        levels = ("identical", "equivalent") if gate == "equivalent" else ("identical",)
        proofs = {name: _prove(engine, name, run) for name in dict.fromkeys(best[level] for level in levels)}
    answers = {level: proofs[best[level]] for level in levels}
    answers = {level: each if each and each.passes(level) else None for level, each in answers.items()}
    return Tuning(run_id, block.model, tuple(steps), answers["identical"], answers.get("equivalent"), tuple(left_out))


def _prove(engine: Engine, variant: str, run: Callable[[Sequence[str], int, int], list[Sample]]) -> Outcome | None:
    """The rest of a variant when each part must have an effect, as it was raced last; None where stock is fastest."""
    while variant != STOCK:
        without = without_parts(engine, variant)
        rows = run(list(dict.fromkeys([STOCK, variant, *without.values()])), FINAL_ROUNDS, FINAL_PROCESSES)
        times = durations(rows)
        if STOCK not in times or variant not in times:
            return None
        rivals = {part: times[other] for part, other in without.items() if other in times}
        choice = selection.choose(times[variant], times[STOCK], rivals or {variant: times[STOCK]})
        if choice.drop is None:
            [found] = [each for each in outcomes(rows) if each.variant == variant]
            return found if choice.is_answer else None
        variant = without.get(choice.drop, STOCK)
    return None


def without_parts(engine: Engine, variant: str) -> dict[str, str]:
    """A variant without each of its parts, which are the steps of the search; parts that others need are left out."""
    names = engine.variant(variant).names
    steps = [engine.variant(step).names for group in engine.searched for step in group]
    found: dict[str, str] = {}
    left = list(names)
    for step in [*sorted((step for step in steps if {*step} <= {*names}), key=len), *([name] for name in names)]:
        part = [name for name in step if name in left]
        left = [name for name in left if name not in part]
        with suppress(CellbenchError):
            other = str(engine.variant("+".join(name for name in names if name not in part) or STOCK))
            if part and other != variant:
                found["+".join(part)] = other
    return found or {variant: STOCK}


def verify(prepared: Prepared, here: driver.Fleet, out: Path, variant: str) -> Iterator[Sample]:
    """Compare the masks of one variant with stock's on the CPU, per crop and diameter; rows are stored."""
    store, run_id = Store.make(out), new_run_id(time.time())
    resume.write(store, bench.manifest_of(prepared, here, run_id, "verify-masks"))
    places = here.deliver(prepared.material.parcels())
    blocks = tuple(race_block(block, case, [STOCK, variant], 1, i)
                   for i, (block, case) in enumerate((b, c) for b in prepared.blocks for c in b.cases))  # fmt: skip
    with (
        store.journal(run_id) as journal,
        closing(here.batches(races(replace(prepared, blocks=blocks), run_id, places))) as batches,
    ):
        for row in journal.record(batches):
            if row.get("variant") == variant and (row["role"] == "masks" or row["status"] not in schema.FINE):
                yield row


def prepare(
    here: driver.Fleet, crop: str, device: str, model: str | None = None, trust: str | None = None, **options: object
) -> Prepared:
    """Plan races of one case on one device; options: of the image and the weights, as in a profile."""
    flags = {
        "crops": config.split(crop), "devices": (device.replace("auto", "fastest"),),
        "models": (model,) if model else None, "blocks": 1, "control": False, "passes": (), "protocols": ("standard",),
        "trust": config.split(trust), **options,
    }  # fmt: skip
    return bench.prepare(bench.gather(config.load("quick", flags)), here.members)


def search_s(prepared: Prepared, budget_s: float) -> float:
    """A first guess of how long search takes: its budget, and one proof."""
    return budget_s + FINAL_PROCESSES * verify_s(prepared)


def is_accepted(agreement: str, gate: str) -> bool:
    """Whether masks agree at least as well as the gate requires."""
    return RANK[agreement] <= RANK[gate]


def verify_s(prepared: Prepared) -> float:
    """Estimate the duration of verify in s."""
    n_calls = estimate.OTHER_CALLS["tune"]
    return sum(
        estimate.START_S + n_calls * estimate.call_s(case, block.device, block.threads)
        for block in prepared.blocks
        for case in block.cases
    )


def races(prepared: Prepared, run_id: str, places: Mapping[str, str]) -> list[RaceOrder]:
    """The orders of the processes: each block's tasks against each other."""
    return [RaceOrder(**vars(order)) for order in bench.orders(prepared, run_id, places)]


def race_block(block: Block, case: Case, names: Sequence[str], rounds: int, index: int) -> Block:
    """A block that races these variants of one case; the first is stock."""
    tasks = tuple(Task("tune", replace(case, variant=name), i) for i, name in enumerate(names))
    effort = Effort(warmups=0, warmups_max=0, repeats=rounds, repeats_max=rounds, precision=None, seconds_max=0)
    return replace(block, index=index, tasks=tasks, effort=effort)


def possible(engine: Engine, group: Sequence[str], bests: set[str], backend: str) -> tuple[list[str], list[str]]:
    """The steps of a group that can be added to the bests on this backend, and the reasons why the others cannot."""
    tried, rejected = [], []
    for step in group:
        for best in sorted(bests):
            name = _together(engine, best, step)
            try:
                tried.append(str(engine.variant(name, backend)))
            except CellbenchError as error:
                rejected.append(f"{name}: {error.what}")
    return tried, rejected


def _together(engine: Engine, best: str, step: str) -> str:
    """The step, added to those parts of the best that can be used with it."""
    kept = [name for name in engine.variant(best).names if _agree(engine, name, step)]
    return "+".join([*kept, step])


def _agree(engine: Engine, one: str, other: str) -> bool:
    try:
        engine.variant(f"{one}+{other}")
    except CellbenchError:
        return False
    return True


def _better(best: str, found: Sequence[Outcome], gate: str) -> str:
    """The fastest variant that passes, if it beats the best so far in the same race by enough."""
    passing = {each.variant: each.speedup or 0.0 for each in found if each.passes(gate)}
    fastest = max(passing, key=lambda name: passing[name], default=best)
    return fastest if passing.get(fastest, 0) > WORTH * passing.get(best, 1.0) else best

"""Search for the fastest variants whose masks stay: greedy over groups, each group raced in a fresh process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from harness import schema
from harness.engines import registry
from harness.engines.base import STOCK, Engine
from harness.errors import CasesFailedError, CellbenchError
from harness.fleet import driver
from harness.measure.wire import RaceOrder
from harness.plan.cases import Block, Case, Effort, Task
from harness.run import bench, resume
from harness.run.bench import Prepared
from harness.schema import Sample
from harness.stats import ratio
from harness.store import Store, new_run_id

WORTH = 1.02  # a step must buy this much, or it is left out
ROUNDS, FINAL_ROUNDS = 3, 5
RANK = {"identical": 0, "equivalent": 1, "close": 2, "different": 3}


@dataclass(frozen=True)
class Outcome:
    """One variant in one race. agreement: the worst verdict over crops and diameters; speedups are to stock."""

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
        return RANK[self.agreement] <= RANK[gate]


@dataclass(frozen=True)
class Tuned:
    """What the search found. steps: every race's outcomes; identical, equivalent: the winners' final race or None."""

    run_id: str
    model: str
    steps: tuple[Outcome, ...]
    identical: Outcome | None
    equivalent: Outcome | None
    left_out: tuple[str, ...]


def outcomes(rows: Sequence[Sample]) -> list[Outcome]:
    """A race's rows as one outcome a variant, stock first; what the start of its process wrote is about none."""
    times: dict[str, list[float]] = defaultdict(list)
    verdicts: dict[str, list[str]] = defaultdict(list)
    notes: dict[str, str] = {}
    for row in rows:
        if row["role"] == "cold":
            continue
        name = row["variant"]
        if row["status"] != "ok":
            notes[name] = f"{row['status']}: {row.get('error_message')}"
        elif row["role"] == "tune":
            times[name].append(row["elapsed_s"])
        elif row["role"] == "masks":
            verdicts[name] += [row["agreement"]] if row["agreement"] else []
    found = []
    for name in dict.fromkeys([*verdicts, *times, *notes]):
        worst = max(verdicts[name], key=RANK.__getitem__, default=None)
        pairs = list(zip(times[STOCK], times[name], strict=False))  # what was raced no further has fewer
        known = ratio.in_turn(pairs) if pairs else (None,) * 3
        found.append(Outcome(name, worst, known[0], known[1], known[2], len(times[name]), notes.get(name, "")))
    return found


def check_cells(rows: Sequence[Sample]) -> None:
    """Refuse comparisons of masks without a single cell as proof that masks stay."""
    compared = [row for row in rows if row["role"] == "masks" and row["status"] == "ok"]
    if compared and not any(row["agreement"] for row in compared):
        raise CasesFailedError(
            "no cells were found, so the comparison of masks proves nothing",
            f"image {compared[0]['image']}, crop {compared[-1]['crop']}",
            "give an --image or a --crop with cells",
        )


def search(
    prepared: Prepared, here: driver.Fleet, out: Path, gate: str, budget_s: float, say: Callable[[str], None]
) -> Tuned:
    """Race group after group within budget_s (one race may run over), then the winners; every row is stored."""
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
    with store.journal(run_id) as journal:

        def run(names: Sequence[str], rounds: int) -> list[Outcome]:
            say(f"racing {', '.join(names)}")
            planned = replace(prepared, blocks=(race_block(block, case, names, rounds, len(steps)),))
            with closing(here.samples(races(planned, run_id, places))) as samples:
                rows = [journaled(row) for row in samples]
            check_cells(rows)
            return outcomes(rows)

        def journaled(row: Sample) -> Sample:
            journal.append(row)
            return row

        for group in engine.searched:
            if time.monotonic() > until_s:
                left_out.append(f"{', '.join(group)}: the budget is spent")
                continue
            tried, refused = _possible(engine, group, set(best.values()), block.device.backend)
            left_out += refused
            if not tried:
                continue
            found = run([STOCK, *dict.fromkeys([*(b for b in best.values() if b != STOCK), *tried])], ROUNDS)
            steps += [each for each in found if each.variant in tried]
            best = {level: _better(best[level], found, level) for level in best}
        wanted = [best["identical"]] + ([best["equivalent"]] if gate == "equivalent" else [])
        names = [name for name in dict.fromkeys(wanted) if name != STOCK]
        last = {each.variant: each for each in (run([STOCK, *names], FINAL_ROUNDS) if names else [])}
    answers = {level: last.get(name) for level, name in best.items()}
    answers = {level: each if each and each.passes(level) else None for level, each in answers.items()}
    equivalent = answers["equivalent"] if gate == "equivalent" else None
    return Tuned(run_id, block.model, tuple(steps), answers["identical"], equivalent, tuple(left_out))


def verify(prepared: Prepared, here: driver.Fleet, out: Path, variant: str) -> Iterator[Sample]:
    """The gate alone: masks of one variant beside stock's on the CPU, per crop and diameter; rows are stored."""
    store, run_id = Store.make(out), new_run_id(time.time())
    resume.write(store, bench.manifest_of(prepared, here, run_id, "verify-masks"))
    places = here.deliver(prepared.material.parcels())
    blocks = tuple(race_block(block, case, [STOCK, variant], 1, i)
                   for i, (block, case) in enumerate((b, c) for b in prepared.blocks for c in b.cases))  # fmt: skip
    with (
        store.journal(run_id) as journal,
        closing(here.samples(races(replace(prepared, blocks=blocks), run_id, places))) as samples,
    ):
        for row in samples:
            journal.append(row)
            if row.get("variant") == variant and (row["role"] == "masks" or row["status"] not in schema.FINE):
                yield row


def races(prepared: Prepared, run_id: str, places: Mapping[str, str]) -> list[RaceOrder]:
    """What the processes are asked for: each block's tasks against each other."""
    return [RaceOrder(**vars(order)) for order in bench.orders(prepared, run_id, places)]


def race_block(block: Block, case: Case, names: Sequence[str], rounds: int, index: int) -> Block:
    """A block that races these variants of one case; the first is stock."""
    tasks = tuple(Task("tune", replace(case, variant=name), i) for i, name in enumerate(names))
    effort = Effort(warmups=0, warmups_max=0, repeats=rounds, repeats_max=rounds, precision=None, seconds_max=0)
    return replace(block, index=index, tasks=tasks, effort=effort)


def _possible(engine: Engine, group: Sequence[str], bests: set[str], backend: str) -> tuple[list[str], list[str]]:
    """What of a group can be tried on top of the bests on this backend, and why the rest cannot."""
    tried, refused = [], []
    for step in group:
        for best in sorted(bests):
            name = _together(engine, best, step)
            try:
                tried.append(str(engine.variant(name, backend)))
            except CellbenchError as error:
                refused.append(f"{name}: {error.what}")
    return tried, refused


def _together(engine: Engine, best: str, step: str) -> str:
    """The step on top of what of the best can be used with it."""
    kept = [name for name in engine.variant(best).names if _agree(engine, name, step)]
    return "+".join([*kept, step])


def _agree(engine: Engine, one: str, other: str) -> bool:
    try:
        engine.variant(f"{one}+{other}")
    except CellbenchError:
        return False
    return True


def _better(best: str, found: Sequence[Outcome], gate: str) -> str:
    """The fastest that passes, if it beats the best so far in the same race by enough."""
    passing = {each.variant: each.speedup or 0.0 for each in found if each.passes(gate)}
    fastest = max(passing, key=lambda name: passing[name], default=best)
    return fastest if passing.get(fastest, 0) > WORTH * passing.get(best, 1.0) else best

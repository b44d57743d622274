"""Conclusions from a stage pass: the shares of time, the network's rate against the device's best, advice; pure.

Rows are those of the views `stages` and `ceilings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.results import stage_catalogue
from harness.results.findings import Attributed, Finding, Network, Part, Share
from harness.results.formatting import size_label
from harness.results.tables import Tables
from harness.schema import Row, identity

# The minimum share of a part that is worth a reader's time.
WORTH = {Part.ESTIMATION: 0.5, Part.HOST: 0.5, Part.QC: 0.2, Part.NETWORK: 0.8}
N_ADVISED = 2
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Line:
    """One stage of a call: seconds in each network pass that has it, in all, and as a share of the call."""

    stage: str
    label: str
    by_pass_s: dict[str, float]
    total_s: float
    share: float


@dataclass(frozen=True)
class Efficiency:
    """The shortest time that the device's ceilings allow over the time taken, and the ceiling that limits it."""

    fraction: float
    bound: str  # arithmetic or memory


def by_case(stages: Iterable[Row]) -> list[list[Row]]:
    """The rows of each case, in the order of the cases; rows without a name are one part, called unknown."""
    cases: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in stages:
        if row["share"] is not None:
            names = {name: row[name] or UNKNOWN for name in ("stage_pass", "stage")}
            parts = cases.setdefault((row["run_id"], row["case_id"]), {})
            same = parts.get((key := (names["stage_pass"], names["stage"])), {})
            parts[key] = row | names | {name: row[name] + same.get(name, 0.0) for name in ("median_s", "share")}
    return [list(parts.values()) for parts in cases.values()]


def lines(case: Sequence[Row]) -> list[Line]:
    """A case's stages in the order in which they run, each with its network passes."""
    found, parts = [], shares(case)
    for stage in stage_catalogue.in_order(row["stage"] for row in case):
        by_pass_s = {row["stage_pass"]: row["median_s"] for row in case if row["stage"] == stage}
        share = sum(parts[name, stage] for name in by_pass_s)
        found.append(Line(stage, stage_catalogue.label(stage), by_pass_s, sum(by_pass_s.values()), share))
    return found


def passes(case: Sequence[Row]) -> list[str]:
    """The network passes of a case, in the order in which they run."""
    return stage_catalogue.passes_in_order(row["stage_pass"] for row in case)


def shares(case: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The share of each part in its call; they add up to 1."""
    return {(row["stage_pass"], row["stage"]): row["share"] for row in case}


def remarks(tables: Tables) -> dict[str, tuple[list[Share], list[Finding]]]:
    """Advice and findings from the stage pass for each series, at the largest image that it segmented."""
    best = best_rates(tables.ceilings.to_pylist())
    found = {}
    for title, cases in by_series(tables).items():
        case = cases[-1]
        found[f"{title}, {size_label(case[0])}"] = (advise(case), findings(case, best.get(place(case[0]))))
    return found


def best_rates(ceilings: Iterable[Row]) -> dict[tuple[object, ...], Row]:
    """The ceilings by their place; a network has none where its precision was not measured."""
    return {place(row): row for row in ceilings}


def place(row: Row) -> tuple[object, ...]:
    """The run, device and precision that a stage and its ceiling share."""
    return identity.values(row, ("run_id", "node", "device", "dtype"))


def by_series(tables: Tables) -> dict[str, list[list[Row]]]:
    """The cases of each series, the largest image last."""
    found = identity.grouped(by_case(tables.stages.to_pylist()), lambda case: tables.name(case[0]))
    return {title: sorted(cases, key=lambda case: case[0]["n_pixels"]) for title, cases in found.items()}


def findings(case: Sequence[Row], ceiling: Row | None) -> list[Finding]:
    """The network's rate compared with the device's best, and the sum of the parts compared with the call."""
    network, attributed = _network(case, ceiling), _attributed(case)
    return [network, attributed] if network else [attributed]


def advise(case: Sequence[Row]) -> list[Share]:
    """The shares, at most two, that are worth a change."""
    backend, parts = case[0]["backend"] or "", shares(case)
    found = {
        Part.ESTIMATION: sum(share for (name, _), share in parts.items() if name in ("style", "size")),
        Part.HOST: sum(share for (name, stage), share in parts.items() if _on_host(backend, name, stage)),
        Part.QC: sum(share for (_, stage), share in parts.items() if stage == "qc"),
        Part.NETWORK: sum(share for (_, stage), share in parts.items() if stage == "network"),
    }
    applies = {Part.ESTIMATION: True, Part.HOST: backend != "cpu", Part.QC: True, Part.NETWORK: backend == "cpu"}
    worth = (part for part, share in found.items() if applies[part] and share > WORTH[part])
    return [Share((_key(case),), part, found[part], case[0]["n"]) for part in islice(worth, N_ADVISED)]


def efficiency(
    elapsed_s: float, work_gflop: float | None, work_gb: float | None, ceiling: Row | None
) -> Efficiency | None:
    """The share of the roofline that a piece of work reached: the larger of work over rate, divided by the time taken.

    The traffic is that of the unfused network, so the share can be above 1 where a library fuses or caches well. None
    without ceilings.
    """
    gflop_s, gb_s = (ceiling["matmul_gflop_s"], ceiling["copy_gb_s"]) if ceiling else (None, None)
    if not (elapsed_s and work_gflop and work_gb and gflop_s and gb_s):
        return None
    floors_s = {"arithmetic": work_gflop / gflop_s, "memory": work_gb / gb_s}
    bound = max(floors_s, key=floors_s.__getitem__)
    return Efficiency(floors_s[bound] / elapsed_s, bound)


def _network(case: Sequence[Row], ceiling: Row | None) -> Network | None:
    rows = [row for row in case if row["stage"] == "network" and row["work_gflop"] and row["median_s"]]
    if not rows:
        return None
    elapsed_s, gflop, gb, n_tiles = (
        sum(row[column] or 0 for row in rows) for column in ("median_s", "work_gflop", "work_gb", "n_tiles")
    )
    reached = efficiency(elapsed_s, gflop, gb, ceiling)
    fraction, bound = (reached.fraction, reached.bound) if reached else (None, "")
    return Network((_key(case),), int(n_tiles), gflop / elapsed_s, fraction, bound)


def _attributed(case: Sequence[Row]) -> Attributed:
    timed_s = case[0]["timed_median_s"]
    share = 1 - shares(case).get(("none", "other"), 0.0)
    return Attributed((_key(case),), share, case[0]["total_s"] / timed_s - 1 if timed_s else None)


def _key(case: Sequence[Row]) -> tuple[str, str]:
    return case[0]["run_id"], case[0]["case_id"]


def _on_host(backend: str, stage_pass: str, stage: str) -> bool:
    # Numba follows the size pass's flows on the processor, since that pass does not interpolate; on MPS cellpose finds
    # the seeds there.
    exceptions = (stage_pass, stage) == ("size", "dynamics") or (backend, stage) == ("mps", "seeds")
    return exceptions or stage in stage_catalogue.on_host()

"""What a stage pass tells: where the time goes, how near the network is to the device's best, what to change; pure.

Rows are those of the views `stages` and `ceilings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.results import stage_catalogue
from harness.results.formatting import number, percent
from harness.schema import Row

Shares = Mapping[tuple[str, str], float]  # pass, stage → share of the call

# From which share on a remark is worth a reader's time.
ESTIMATION_SHARE = HOST_SHARE = 0.5
QC_SHARE = 0.2
NETWORK_SHARE = 0.8
N_SENTENCES = 2


@dataclass(frozen=True)
class Line:
    """One stage of a call: seconds in each pass that has it, in all, and as a share of the call."""

    stage: str
    label: str
    by_pass_s: dict[str, float]
    total_s: float
    share: float


@dataclass(frozen=True)
class Efficiency:
    """The shortest time that the device's ceilings allow over the time taken, and which ceiling it is."""

    fraction: float
    bound: str  # arithmetic or memory


def by_case(stages: Iterable[Row]) -> list[list[Row]]:
    """The rows of each case, cases in the order in which they come; what has no name is called unknown."""
    cases: dict[tuple[str, str], list[Row]] = {}
    for row in stages:
        if row["share"] is not None:
            named = {name: row[name] or "unknown" for name in ("stage_pass", "stage")}
            cases.setdefault((row["run_id"], row["case_id"]), []).append(row | named)
    return list(cases.values())


def lines(case: Sequence[Row]) -> list[Line]:
    """A case's stages in the order in which they run, each with its passes."""
    found, parts = [], shares(case)
    for stage in stage_catalogue.in_order(row["stage"] for row in case):
        by_pass_s = {row["stage_pass"]: row["median_s"] for row in case if row["stage"] == stage}
        share = sum(parts[name, stage] for name in by_pass_s)
        found.append(Line(stage, stage_catalogue.label(stage), by_pass_s, sum(by_pass_s.values()), share))
    return found


def passes(case: Sequence[Row]) -> list[str]:
    """The passes that a case has, in the order in which they run."""
    return stage_catalogue.passes_in_order(row["stage_pass"] for row in case)


def shares(case: Sequence[Row]) -> dict[tuple[str, str], float]:
    """What each part is of its call; they add up to 1."""
    return {(row["stage_pass"], row["stage"]): row["share"] for row in case}


def findings(case: Sequence[Row], ceiling: Row | None) -> list[str]:
    """The network's rate beside the device's best, and whether the parts add up, in plain sentences."""
    return [text for text in (_network(case, ceiling), _check(case)) if text]


def advise(backend: str, parts: Shares) -> list[str]:
    """At most two sentences on what would make this device faster without changing the masks."""
    estimation, host, qc, network = (
        sum(share for (stage_pass, _), share in parts.items() if stage_pass in ("style", "size")),
        sum(share for (stage_pass, stage), share in parts.items() if _on_host(backend, stage_pass, stage)),
        sum(share for (_, stage), share in parts.items() if stage == "qc"),
        sum(share for (_, stage), share in parts.items() if stage == "network"),
    )
    remarks = (
        (
            estimation > ESTIMATION_SHARE,
            f"Give the diameter if you know it: estimating it takes {percent(estimation)} of the call.",
        ),
        (
            backend != "cpu" and host > HOST_SHARE,
            f"Work on several images at once: {percent(host)} of the call is the processor’s work, which a "
            "faster GPU will not shorten.",
        ),
        (
            qc > QC_SHARE,
            f"Quality control of the masks takes {percent(qc)}, as it does with large or confluent cells; leaving it "
            "out would keep bad masks.",
        ),
        (
            backend == "cpu" and network > NETWORK_SHARE,
            f"The network takes {percent(network)}: give it every physical core, try the channels-last memory layout, "
            "or use a GPU.",
        ),
    )
    return list(islice((text for applies, text in remarks if applies), N_SENTENCES))


def efficiency(
    elapsed_s: float, work_gflop: float | None, work_gb: float | None, ceiling: Row | None
) -> Efficiency | None:
    """How near a piece of work came to the roofline: the larger of work over rate, divided by the time it took.

    The traffic is that of the unfused network, so a library that fuses or caches well can pass 1. None without
    ceilings.
    """
    gflop_s, gb_s = (ceiling["matmul_gflop_s"], ceiling["copy_gb_s"]) if ceiling else (None, None)
    if not (elapsed_s and work_gflop and work_gb and gflop_s and gb_s):
        return None
    floors_s = {"arithmetic": work_gflop / gflop_s, "memory": work_gb / gb_s}
    bound = max(floors_s, key=floors_s.__getitem__)
    return Efficiency(floors_s[bound] / elapsed_s, bound)


def _network(case: Sequence[Row], ceiling: Row | None) -> str | None:
    rows = [row for row in case if row["stage"] == "network" and row["work_gflop"] and row["median_s"]]
    if not rows:
        return None
    elapsed_s, gflop, gb, n_tiles = (
        sum(row[column] or 0 for row in rows) for column in ("median_s", "work_gflop", "work_gb", "n_tiles")
    )
    text = f"Network: {n_tiles} tiles at {number(gflop / elapsed_s)} GFLOP/s"
    reached = efficiency(elapsed_s, gflop, gb, ceiling)
    if reached is None:
        return f"{text}."
    return f"{text}, {percent(reached.fraction)} of the best that this device’s {reached.bound} allows."


def _check(case: Sequence[Row]) -> str:
    unclaimed = shares(case).get(("none", "other"), 0.0)
    text = f"Attributed {percent(1 - unclaimed, 1)} of the call"
    timed_s = case[0]["timed_median_s"]
    if not timed_s:
        return f"{text}."
    more = case[0]["total_s"] / timed_s - 1
    than = f"{percent(abs(more), 1)} {'longer' if more >= 0 else 'less'} than the timed median"
    return f"{text}; the stage pass took {than}."


def _on_host(backend: str, stage_pass: str, stage: str) -> bool:
    # Numba follows the size pass's flows on the processor, since that pass does not interpolate; on MPS cellpose finds
    # the seeds there.
    exceptions = (stage_pass, stage) == ("size", "dynamics") or (backend, stage) == ("mps", "seeds")
    return exceptions or stage in stage_catalogue.on_host()

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import schema
from harness.cli.app import app
from harness.errors import CellbenchError
from harness.judge import annotations, selection
from harness.judge.compare import Comparison, compare
from tests import nights

CALM = (1.00, 1.01, 0.99)
A, B, C = (nights.run_id(night) for night in range(3))


def compared(folder: Path, samples: list[schema.Sample], a: str = A, b: str = B, margin: float = 0.05) -> Comparison:
    nights.store(folder, samples)
    return compare(selection.select(folder, a), selection.select(folder, b), margin)


def both(factor: float = 1.0, **columns: Any) -> list[schema.Sample]:
    return nights.timed(A, CALM, **columns) + nights.timed(B, [factor * s for s in CALM], **columns)


def history(levels: Sequence[float], first: int = 2, **columns: Any) -> list[schema.Sample]:
    """Other runs of the series, a night each."""
    nightly = [nights.timed(nights.run_id(first + i), [x * s for s in CALM], **columns) for i, x in enumerate(levels)]
    return [row for night in nightly for row in night]


QUIET = (1.00, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99, 1.0, 1.0)
APART = tuple(x**4 for x in QUIET)  # nights that differ for no reason


def test_verdicts_of_single_runs_whose_series_are_known(tmp_path: Path) -> None:
    verdicts = {1.0: "SAME", 1.3: "SLOWER", 0.7: "FASTER"}
    crops = {factor: {"crop": str(100 + i)} for i, factor in enumerate(verdicts)}
    samples = [row for factor, crop in crops.items() for row in both(factor, **crop) + history(QUIET, **crop)]
    found = compared(tmp_path, samples)
    assert [case.verdict for case in found.cases] == list(verdicts.values())
    assert [case.found.ratio for case in found.cases] == pytest.approx(list(verdicts))
    assert [(case.a_s, case.b_s) for case in found.cases] == [pytest.approx((1.0, factor)) for factor in verdicts]
    assert {(case.found.unit, case.found.n_before) for case in found.cases} == {("days", 1)}
    assert {case.same_masks for case in found.cases} == {True}
    assert found.overall.ratio == pytest.approx((1.3 * 0.7) ** (1 / 3))


@pytest.mark.parametrize(
    ("factor", "estimate"), [(1.25, "about 25 % slower"), (0.75, "about 25 % faster"), (1.0, "about equal")]
)
def test_one_run_against_one_is_an_estimate_and_the_way_to_a_verdict(
    tmp_path: Path, factor: float, estimate: str
) -> None:
    [case] = compared(tmp_path, both(factor)).cases
    assert (case.verdict, case.found.low) == ("INCONCLUSIVE", None)
    assert (case.estimate, "measure both sides with cellbench ab" in case.why) == (estimate, True)


def test_what_days_differ_by_anyway_is_counted(tmp_path: Path) -> None:
    few = compared(tmp_path / "few", both(1.1) + history(QUIET[:9]))
    assert few.cases[0].verdict == "INCONCLUSIVE"
    quiet, apart = (
        compared(tmp_path / name, both(1.1) + history(levels)) for name, levels in (("q", QUIET), ("a", APART))
    )
    assert [found.cases[0].verdict for found in (quiet, apart)] == ["SLOWER", "INCONCLUSIVE"]
    assert apart.cases[0].found.spread == pytest.approx(np.log(APART).std(ddof=1))
    assert "more days per side" in apart.cases[0].why
    assert compared(tmp_path / "much", both(1.5) + history(APART)).cases[0].verdict == "SLOWER"


def test_the_spread_is_that_since_the_last_accepted_change(tmp_path: Path) -> None:
    samples = both(1.1) + history([*APART, *(2 * x for x in QUIET)])
    store = nights.store(tmp_path, samples)
    key = selection.select(tmp_path, A).blocks[0]["series_key"]
    annotations.add(store.root, [annotations.new("accepted", nights.run_id(12), series_key=key, metric="time")])
    assert compared(tmp_path, samples).cases[0].found.spread < 0.01


def test_a_step_in_the_history_is_no_spread(tmp_path: Path) -> None:
    """Runs in alarm are no part of what is usual, whether accepted or not."""
    [case] = compared(tmp_path, both(1.3) + history([*QUIET, *[1.4] * 9])).cases
    assert (case.verdict, case.found.spread < 0.01) == ("SLOWER", True)


def test_two_variants_of_one_run_share_their_hour(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM) + nights.timed(A, [1.06 * s for s in CALM], variant="bf16")
    found = compared(tmp_path, samples + history(APART), f"run={A},variant=stock", f"run={A},variant=bf16")
    assert (found.cases[0].verdict, found.cases[0].found.unit) == ("SLOWER", "pairs of processes")
    two = nights.timed(A, CALM[:2]) + nights.timed(A, [1.06 * s for s in CALM[:2]], variant="bf16")
    [case] = compared(tmp_path / "two", two, f"run={A},variant=stock", f"run={A},variant=bf16").cases
    assert (case.verdict, "measure both sides with --blocks 3 or more" in case.why) == ("INCONCLUSIVE", True)


def test_a_process_that_failed_shifts_no_other(tmp_path: Path) -> None:
    """Processes that differ by more than the variants do."""
    level = (1.0, 2.0, 4.0, 8.0, 16.0)
    samples = nights.timed(A, level) + nights.timed(A, [1.2 * s for s in level], variant="bf16")
    lacking = [row for row in samples if (row["variant"], row["block"]) != ("stock", 1)]
    [case] = compared(tmp_path, lacking, f"run={A},variant=stock", f"run={A},variant=bf16").cases
    assert (case.verdict, case.found.n_before, case.found.ratio) == ("SLOWER", 4, pytest.approx(1.2))


def test_two_runs_of_interleaved_processes_are_pairs(tmp_path: Path) -> None:
    """As cellbench ab leaves them."""
    level = (1.0, 1.3, 0.9, 1.2, 1.1)
    rows = [*nights.timed(A, level), *nights.timed(nights.run_id(0, 1), [1.1 * s for s in level])]
    begin = nights.FIRST_NIGHT
    samples = [row | {"started_at": begin + timedelta(minutes=2 * row["block"] + (row["run_id"] != A))} for row in rows]
    [case] = compared(tmp_path, samples, A, nights.run_id(0, 1)).cases
    assert (case.verdict, case.found.unit) == ("SLOWER", "pairs of processes")


def test_interleaved_runs_are_pairs_and_runs_in_a_row_are_none(tmp_path: Path) -> None:
    def found(order: str) -> Any:
        runs = {side: [nights.run_id(0, 10 * i) for i, each in enumerate(order) if each == side] for side in "AB"}
        sides = (("A", 1.0, "stock"), ("B", 1.2, "bf16"))
        samples = [row for side, factor, variant in sides for run in runs[side]
                   for row in nights.timed(run, [factor * s for s in CALM], variant=variant)]  # fmt: skip
        [case] = compared(tmp_path / order, samples, "variant=stock", "variant=bf16").cases
        return case.verdict, case.found.unit

    assert found("ABBAAB") == ("SLOWER", "pairs of runs")
    assert found("AAABBB") == ("INCONCLUSIVE", "days")


def test_many_processes_of_a_day_prove_nothing(tmp_path: Path) -> None:
    """Days that differ by 20 % for no reason; within each, processes agree to 1 %."""
    level = (1.0, 1.2, 0.9, 1.25, 1.1, 1.3)
    samples = [row for i, x in enumerate(level) for row in nights.timed(nights.run_id(i), [x * s for s in CALM * 4])]
    found = compared(tmp_path, samples, "date=2026-01-01..2026-01-03", "date=2026-01-04..2026-01-06")
    assert (found.cases[0].found.n_before, found.cases[0].verdict) == (3, "INCONCLUSIVE")


def test_missing_and_failed_cases_are_named(tmp_path: Path) -> None:
    samples = both() + history(QUIET) + nights.timed(A, CALM, crop="448") + nights.timed(A, CALM, crop="896")
    samples.append(nights.make_sample(run_id=B, crop="896", elapsed_s=None, status="oom_device"))
    found = compared(tmp_path, samples)
    assert [(case.case[2], case.verdict, case.why) for case in found.cases] == [
        ("224", "SAME", ""),
        ("448", "MISSING", "not measured in B"),
        ("896", "FAILED", "failed in B: oom_device"),
    ]
    assert found.overall is None  # of a single case


def test_different_work_is_not_compared(tmp_path: Path) -> None:
    reasons: dict[str, dict[str, Any]] = {
        "weights standin and published": {"weights": "published"},
        "weights file 00000000 and aaaaaaaa": {"weights_sha256": "a" * 64},
        "image pixels 11111111 and bbbbbbbb": {"image_sha256": "b" * 64},
        "protocol version 1 and 2": {"protocol_version": 2},
        "workload simulated and cellpose": {"workload": "cellpose"},
        "diameter 0 and 30; batch size 8 and 4": {"batch_size": 4, "diameter_asked_px": 30.0},
    }
    samples = []
    for i, columns in enumerate(reasons.values()):
        crop = {"crop": str(100 + i)}
        samples += nights.timed(A, CALM, **crop) + nights.timed(B, CALM, **crop, **columns)
    found = compared(tmp_path, samples)
    assert [(case.verdict, case.why) for case in found.cases] == [("NOT COMPARABLE", why) for why in reasons]
    assert found.overall is None


@pytest.mark.slow
@pytest.mark.parallel
def test_masks_that_differ_are_said(tmp_path: Path) -> None:
    [case] = compared(
        tmp_path, nights.timed(A, CALM) + nights.timed(B, CALM, mask_sha256="3" * 64) + history(QUIET)
    ).cases
    assert (case.verdict, case.same_masks) == ("SAME", False)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({}, {}, True),
        ({"n_cells": 0}, {"n_cells": 0}, None),
        ({"n_cells": None}, {"n_cells": None}, True),
        ({}, {"n_cells": 0, "mask_sha256": "0" * 64}, False),
        ({"mask_sha256": None}, {"mask_sha256": None}, None),
    ],
)
def test_equal_masks_without_cells_prove_nothing(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], same: bool | None
) -> None:
    samples = nights.timed(A, CALM, **before) + nights.timed(B, CALM, **after)
    assert [case.same_masks for case in compared(tmp_path, samples).cases] == [same]
    gated = CliRunner().invoke(app, ["compare", A, B, "--fail-on", "masks", "--out", str(tmp_path)])
    assert gated.exit_code == 5 - 4 * (same is True), "1: one run of each cannot be judged"
    assert ("no masks with cells" in gated.stdout) == (same is None)


def test_a_side_whose_every_repetition_is_flagged_is_named(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM, flags="load") + nights.timed(B, CALM[:2], flags="load")
    for last, sides in (({"flags": "load"}, ("A", "B")), ({}, ("A",))):
        last_process = [row | {"block": 2} for row in nights.timed(B, CALM[2:], **last)]
        [case] = compared(tmp_path / str(len(sides)), samples + last_process).cases
        assert case.all_flagged == sides


def test_two_nodes_are_compared_with_each_other(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM, node="desk") + nights.timed(A, [2 * s for s in CALM], node="mac", device="mps")
    found = compared(tmp_path, samples, "desk", "mac")
    assert found.varied == {"node": ("desk", "mac"), "device": ("cpu", "mps")}
    assert [(case.case, case.verdict) for case in found.cases] == [(("224", "standard", "stock"), "INCONCLUSIVE")]
    assert found.cases[0].found.ratio == pytest.approx(2)
    desk, mac = (history(QUIET, node=node, device=device) for node, device in (("desk", "cpu"), ("mac", "mps")))
    words = (f"run={A},node=desk", f"run={A},node=mac")
    [one] = compared(tmp_path / "one", samples + desk, *words).cases
    [two] = compared(tmp_path / "two", samples + desk + mac, *words).cases
    assert (one.verdict, two.verdict) == ("INCONCLUSIVE", "SLOWER")


def test_what_else_differs_is_listed_and_threads_are_no_obstacle(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM, {"torch_version": "2.12", "uptime_s": 5.0, "torch_threads": 2})
    samples += nights.timed(B, [1.8 * s for s in CALM], {"torch_version": "2.13", "uptime_s": 9.0, "torch_threads": 1})
    found = compared(tmp_path, samples)
    assert found.cases[0].found.ratio == pytest.approx(1.8)
    assert set(found.differences) == {("desk", "torch_version", "2.12", "2.13"), ("desk", "torch_threads", "2", "1")}


@pytest.mark.slow
@pytest.mark.parallel
def test_results_are_not_compared_with_themselves(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="same measurements"):
        compared(tmp_path, both(), A, "node=desk")


@pytest.mark.slow
@pytest.mark.parallel
def test_every_way_to_choose(tmp_path: Path) -> None:
    store = nights.store(tmp_path / "here", [row for run in (A, B, C) for row in nights.timed(run, CALM)])
    annotations.add(store.root, [annotations.new("tag", B, name="good")])
    one_file = next((tmp_path / "here/samples").glob("*.parquet"))
    chosen = {
        A: (A,), B[:10]: (B,), "latest": (C,), "previous": (B,), "2026-01-02": (B,), "good": (B,), "desk": (C,),
        "2026-01-01..2026-01-02": (A, B), "tag=good,node=desk": (B,), "run=latest,crop=224": (C,),
        "threads=8": (A, B, C), str(tmp_path / "here"): (A, B, C), str(one_file): (A, B, C),
    }  # fmt: skip
    for request, runs in chosen.items():
        assert selection.select(tmp_path / "here", request).runs == runs, request


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize(
    ("choice", "output"),
    [
        ("nothing", "no run, date, tag, node or file"),
        ("2026-01", "no run, date"),
        ("2026", "begins the name of several runs"),
        ("date=yesterday", "not a valid date"),
        ("colour=red", "colour"),
        ("node=nowhere", "nothing was timed"),
        ("2031-01-01", "nothing was timed"),
        ("x.parquet", "no such file"),
        ("'; DROP VIEW timed; --", "no run, date"),
    ],
)
def test_a_choice_that_chooses_nothing_says_so(tmp_path: Path, choice: str, output: str) -> None:
    nights.store(tmp_path, both())
    with pytest.raises(CellbenchError, match=output):
        selection.select(tmp_path, choice)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import schema
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


def test_two_runs_of_three_blocks(tmp_path: Path) -> None:
    verdicts = {1.0: "SAME", 1.3: "SLOWER", 0.7: "FASTER"}
    samples = [row for i, factor in enumerate(verdicts) for row in both(factor, crop=str(100 + i))]
    found = compared(tmp_path, samples)
    assert [case.verdict for case in found.cases] == list(verdicts.values())
    assert [case.ratio.ratio for case in found.cases] == pytest.approx(list(verdicts))
    assert [(case.a_s, case.b_s) for case in found.cases] == [pytest.approx((1.0, factor)) for factor in verdicts]
    assert {case.same_masks for case in found.cases} == {True}
    assert found.unit == "block"
    assert found.overall.ratio == pytest.approx((1.3 * 0.7) ** (1 / 3))


def test_one_block_is_no_evidence_however_many_repetitions(tmp_path: Path) -> None:
    [case] = compared(tmp_path, nights.timed(A, [1.0]) + nights.timed(B, [3.0])).cases
    assert case.verdict == "UNCLEAR"
    assert case.why == "no verdict from 1 block: at least 2 more blocks a side"


def history(levels: Sequence[float], **columns: Any) -> list[schema.Sample]:
    """Other runs of the series, after A and B."""
    each_night = [nights.timed(nights.run_id(i), [x * s for s in CALM], **columns) for i, x in enumerate(levels, 2)]
    return [row for night in each_night for row in night]


APART = (1.00, 1.05, 0.96, 1.03, 0.97, 1.04, 1.00, 0.95)  # runs that differ for no reason


def test_what_runs_differ_by_anyway_is_counted_where_other_runs_tell_it(tmp_path: Path) -> None:
    few = compared(tmp_path / "few", both(1.08) + history(APART[:4]))
    assert (few.cases[0].verdict, few.cases[0].ratio.spread, few.is_apart) == ("SLOWER", None, True)
    enough = compared(tmp_path / "enough", both(1.08) + history(APART))
    [case] = enough.cases
    assert (case.verdict, case.why) == ("UNCLEAR", "about 4 more runs a side")
    assert case.ratio.spread.sd == pytest.approx(np.log(APART).std(ddof=1))
    assert (enough.overall.verdict, enough.overall.spread.sd) == ("UNCLEAR", pytest.approx(case.ratio.spread.sd))
    assert compared(tmp_path / "much", both(1.5) + history(APART)).cases[0].verdict == "SLOWER"


def test_the_spread_is_that_since_the_last_accepted_change(tmp_path: Path) -> None:
    samples = both(1.08) + history([1.0, *APART, *(2 * x for x in (1.00, 1.01, 0.99, 1.00, 1.01))])
    store = nights.store(tmp_path, samples)
    key = selection.select(tmp_path, A).blocks[0]["series_key"]
    annotations.add(store.root, [annotations.said("accepted", nights.run_id(11), series_key=key, metric="time")])
    assert compared(tmp_path, samples).cases[0].ratio.spread.sd < 0.01


def test_a_step_in_the_history_is_no_spread(tmp_path: Path) -> None:
    """Runs in alarm are no part of the baseline, whether accepted or not."""
    [case] = compared(tmp_path, both(1.3) + history([1.0, 1.01, 0.99, 1.0, 1.01, 1.0, *[1.4] * 9])).cases
    assert (case.verdict, case.ratio.spread.sd < 0.01) == ("SLOWER", True)


def test_two_variants_of_one_run_share_their_hour(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM) + nights.timed(A, [1.06 * s for s in CALM], variant="bf16")
    found = compared(tmp_path, samples + history(APART), f"run={A},variant=stock", f"run={A},variant=bf16")
    assert (found.is_apart, found.cases[0].verdict, found.overall.verdict) == (False, "SLOWER", "SLOWER")


def test_the_mean_of_one_run_a_side_is_judged_beyond_the_margin_only(tmp_path: Path) -> None:
    found = compared(tmp_path, both(1.06))
    assert (found.cases[0].verdict, found.overall.verdict) == ("SLOWER", "UNCLEAR")
    assert compared(tmp_path, both(1.2)).overall.verdict == "SLOWER"


def test_where_there_are_several_runs_only_their_spread_counts(tmp_path: Path) -> None:
    """Runs that differ by 20 % for no reason; within each, blocks agree to 1 %."""
    level = (1.0, 1.2, 0.9, 1.25, 1.1, 1.3)
    samples = [row for i, x in enumerate(level) for row in nights.timed(nights.run_id(i), [x * s for s in CALM])]
    found = compared(tmp_path, samples, "date=2026-01-01..2026-01-03", "date=2026-01-04..2026-01-06")
    assert (found.unit, found.cases[0].ratio.n_a, found.cases[0].verdict) == ("run", 3, "UNCLEAR")


def test_missing_and_failed_cases_are_named(tmp_path: Path) -> None:
    samples = both() + nights.timed(A, CALM, crop="448") + nights.timed(A, CALM, crop="896")
    samples.append(nights.make_sample(run_id=B, crop="896", elapsed_s=None, status="oom_device"))
    found = compared(tmp_path, samples)
    assert [(case.case[2], case.verdict, case.why) for case in found.cases] == [
        ("224", "SAME", ""),
        ("448", "MISSING", "not measured in B"),
        ("896", "FAILED", "failed in B: oom_device"),
    ]
    assert found.overall.ratio == pytest.approx(1.0)


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
def test_masks_that_differ_are_said(tmp_path: Path) -> None:
    [case] = compared(tmp_path, nights.timed(A, CALM) + nights.timed(B, CALM, mask_sha256="3" * 64)).cases
    assert (case.verdict, case.same_masks) == ("SAME", False)


def test_two_nodes_are_compared_with_each_other(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM, node="desk") + nights.timed(A, [2 * s for s in CALM], node="mac", device="mps")
    found = compared(tmp_path, samples, "desk", "mac")
    assert found.varied == {"node": ("desk", "mac"), "device": ("cpu", "mps")}
    assert [(case.case, case.verdict) for case in found.cases] == [(("224", "standard", "stock"), "SLOWER")]


def test_what_else_differs_is_listed_and_threads_are_no_obstacle(tmp_path: Path) -> None:
    samples = nights.timed(A, CALM, {"torch_version": "2.12", "uptime_s": 5.0, "torch_threads": 2})
    samples += nights.timed(B, [1.8 * s for s in CALM], {"torch_version": "2.13", "uptime_s": 9.0, "torch_threads": 1})
    found = compared(tmp_path, samples)
    assert found.cases[0].verdict == "SLOWER"
    assert set(found.differences) == {("desk", "torch_version", "2.12", "2.13"), ("desk", "torch_threads", "2", "1")}


@pytest.mark.slow
def test_results_are_not_compared_with_themselves(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="same measurements"):
        compared(tmp_path, both(), A, "node=desk")


@pytest.mark.slow
def test_every_way_to_choose(tmp_path: Path) -> None:
    store = nights.store(tmp_path / "here", [row for run in (A, B, C) for row in nights.timed(run, CALM)])
    annotations.add(store.root, [annotations.said("tag", B, name="good")])
    one_file = next((tmp_path / "here/samples").glob("*.parquet"))
    chosen = {
        A: (A,), B[:10]: (B,), "latest": (C,), "previous": (B,), "2026-01-02": (B,), "good": (B,), "desk": (C,),
        "2026-01-01..2026-01-02": (A, B), "tag=good,node=desk": (B,), "run=latest,crop=224": (C,),
        "threads=8": (A, B, C), str(tmp_path / "here"): (A, B, C), str(one_file): (A, B, C),
    }  # fmt: skip
    for asked, runs in chosen.items():
        assert selection.select(tmp_path / "here", asked).runs == runs, asked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nothing", "no run, date, tag, node or file"),
        ("2026-01", "no run, date"),
        ("2026", "begins the name of several runs"),
        ("date=yesterday", "no date"),
        ("colour=red", "colour"),
        ("node=nowhere", "nothing was timed"),
        ("2031-01-01", "nothing was timed"),
        ("x.parquet", "no such file"),
        ("'; DROP VIEW timed; --", "no run, date"),
    ],
)
def test_a_choice_that_chooses_nothing_says_so(tmp_path: Path, asked: str, said: str) -> None:
    nights.store(tmp_path, both())
    with pytest.raises(CellbenchError, match=said):
        selection.select(tmp_path, asked)

"""What a stage pass tells, on rows of the real views over made-up samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.query import Session
from harness.results import advice
from harness.results.findings import Finding
from harness.results.sentences import sentence
from tests.conftest import CPU, CUDA, make_sample, make_store
from tests.staged import ON_CPU, ON_GPU, Shares, stage_samples

DESK = {key: value for key, value in CPU.items() if key != "seconds"}
CARD = {key: value for key, value in CUDA.items() if key != "seconds"}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A CPU and a GPU with a stage pass each; only the CPU was timed as well."""
    timed = [make_sample(**DESK, repetition=i, elapsed_s=10 / 1.02) for i in range(3)]
    passes = [*stage_samples(ON_CPU, {"224": 10.0}, **DESK), *stage_samples(ON_GPU, {"224": 1.0}, **CARD)]
    return Session(make_store(tmp_path, timed + passes))


def cases(session: Session) -> list[list[advice.Row]]:
    return advice.by_case(session.table("SELECT * FROM stages ORDER BY backend DESC").to_pylist())


def texts(found: Sequence[Finding]) -> list[str]:
    return [sentence(each).replace("\u00a0", " ") for each in found]


def test_the_view_has_medians_and_shares_of_the_stage_pass(session: Session) -> None:
    on_gpu, on_cpu = sorted(cases(session), key=lambda case: case[0]["total_s"])
    assert advice.shares(on_cpu) == pytest.approx(ON_CPU)
    assert advice.shares(on_gpu) == pytest.approx(ON_GPU)
    assert on_cpu[0]["total_s"] == 10.0
    assert on_cpu[0]["timed_median_s"] == pytest.approx(10 / 1.02)
    assert on_gpu[0]["timed_median_s"] is None


def test_the_ceiling_is_the_best_repetition_of_the_best_kind(session: Session) -> None:
    for row in session.table("SELECT * FROM ceilings").to_pylist():
        assert (row["matmul_gflop_s"], row["copy_gb_s"]) == (200.0, 50.0)


@pytest.mark.parametrize("column", ["run_id", "node", "device", "dtype"])
def test_a_ceiling_of_another_run_device_or_precision_bounds_nothing(session: Session, column: str) -> None:
    stage = max(cases(session), key=lambda case: case[0]["total_s"])[0]
    ceilings = session.table("SELECT * FROM ceilings").to_pylist()
    assert advice.place(stage) in advice.best_rates(ceilings)
    assert advice.place(stage) not in advice.best_rates([row | {column: "other"} for row in ceilings])


def test_lines_add_up_to_the_call_in_the_order_of_the_stages(session: Session) -> None:
    on_cpu = max(cases(session), key=lambda case: case[0]["total_s"])
    lines = advice.lines(on_cpu)
    assert [line.stage for line in lines] == ["network", "dynamics", "qc", "cleanup", "flow_image", "other"]
    assert lines[0].by_pass_s == pytest.approx({"style": 6.0, "size": 1.4, "mask": 1.4})
    assert (lines[0].total_s, lines[0].share) == (pytest.approx(8.8), pytest.approx(0.88))
    assert sum(line.total_s for line in lines) == pytest.approx(10.0)
    assert advice.passes(on_cpu) == ["style", "size", "mask", "none"]


def test_findings_tell_the_rate_the_ceiling_and_the_sum(session: Session) -> None:
    on_cpu = max(cases(session), key=lambda case: case[0]["total_s"])
    ceiling = {"matmul_gflop_s": 200.0, "copy_gb_s": 50.0}
    network, check = texts(advice.findings(on_cpu, ceiling))
    # 930 GFLOP in 8.8 s, where 200 GFLOP/s would allow 4.65 s.
    assert network == "Network: 30 tiles at 106 GFLOP/s, 53 % of the rate of products and convolutions on this device."
    assert check == "Attributed 99.0 % of the call; the stage pass took 2.0 % longer than the timed median."
    assert texts(advice.findings(on_cpu, None))[0] == "Network: 30 tiles at 106 GFLOP/s."


def test_a_stage_pass_alone_has_nothing_to_compare_with(session: Session) -> None:
    on_gpu = min(cases(session), key=lambda case: case[0]["total_s"])
    assert texts(advice.findings(on_gpu, None))[1] == "Attributed 98.0 % of the call."


@pytest.mark.parametrize(
    ("backend", "shares", "starts"),
    [
        ("cpu", ON_CPU, ["Give the diameter if you know it: estimating it takes 75 % ", "The network takes 88 %"]),
        ("cuda", ON_GPU, ["The processor takes 70 % "]),
        ("mps", ON_GPU, ["The processor takes 74 % "]),  # there the seeds are found on the processor
        ("cpu", ON_GPU, []),
        ("cuda", {("mask", "qc"): 0.3, ("mask", "network"): 0.7}, ["Quality control of the masks takes 30 %"]),
        ("cuda", {("mask", "network"): 0.95, ("none", "other"): 0.05}, []),
        # Just at a threshold is not beyond it.
        ("cpu", {("style", "network"): 0.5, ("mask", "network"): 0.3, ("mask", "qc"): 0.2}, []),
        # Never more than two, the most useful ones.
        (
            "cpu",
            {("style", "network"): 0.6, ("style", "qc"): 0.25, ("mask", "network"): 0.9},
            ["Give the diameter", "Quality control"],
        ),
        ("cuda", {}, []),
    ],
)
def test_advice(backend: str, shares: Shares, starts: list[str]) -> None:
    case = [
        {"run_id": "", "case_id": "", "backend": backend, "stage_pass": name, "stage": stage, "share": share, "n": 3}
        for (name, stage), share in (shares or {("mask", "qc"): 0.0}).items()
    ]
    found = texts(advice.advise(case))
    assert len(found) == len(starts)
    assert all(text.startswith(start) for text, start in zip(found, starts, strict=True))
    assert all(text.endswith("(stage pass, n = 3)") for text in found)


@pytest.mark.parametrize(
    ("elapsed_s", "expected"),
    # 100 GFLOP and 10 GB: arithmetic allows 1 s, memory 2 s.
    [(4.0, advice.Efficiency(0.5, "memory")), (1.0, advice.Efficiency(2.0, "memory"))],
)
def test_efficiency_is_the_share_of_the_slower_ceiling(elapsed_s: float, expected: advice.Efficiency) -> None:
    assert advice.efficiency(elapsed_s, 100.0, 10.0, {"matmul_gflop_s": 100.0, "copy_gb_s": 5.0}) == expected


@pytest.mark.parametrize("ceiling", [None, {"matmul_gflop_s": None, "copy_gb_s": 5.0}])
def test_efficiency_is_unknown_without_ceilings(ceiling: advice.Row | None) -> None:
    assert advice.efficiency(1.0, 100.0, 10.0, ceiling) is None
    assert advice.efficiency(1.0, None, None, {"matmul_gflop_s": 1.0, "copy_gb_s": 5.0}) is None

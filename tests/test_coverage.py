import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.plan.cases import Block, Task
from harness.terminal import coverage
from tests.conftest import CPU_DEVICE, RUN_ID, TWICE, case, make_sample, make_store

BLOCK = Block(
    0, CPU_DEVICE, tuple(Task("timed", case(side), i) for i, side in enumerate((64, 96, 128))), TWICE, node="desk"
)
LOST = {"status": "node_lost", "error_message": "The [node] died.", "elapsed_s": None}


def test_every_planned_case_has_a_verdict(tmp_path: Path) -> None:
    samples = [
        make_sample(crop="64"), make_sample(crop="64", repetition=1),
        make_sample(crop="96"), make_sample(crop="96", repetition=1, flags="load"),
        make_sample(crop="64", node="mac", **LOST),
    ]  # fmt: skip
    store = make_store(tmp_path, samples)
    covered = coverage.table(store, RUN_ID, [BLOCK, replace(BLOCK, node="mac")])
    verdicts = {(row["node"], row["crop"]): row["verdict"] for row in covered.to_pylist()}
    assert verdicts == {
        ("desk", "64"): "done", ("desk", "96"): "flagged", ("desk", "128"): "missing",
        ("mac", "64"): "failed", ("mac", "96"): "missing", ("mac", "128"): "missing",
    }  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    coverage.show(console, covered)
    shown = console.export_text()
    assert "2 (1 flagged)" in shown
    assert "node_lost: The [node] died." in shown
    assert shown.index("64") < shown.index("96") < shown.index("128")


def test_a_variant_that_was_not_measured_is_missing(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample(crop="64")])
    both = (Task("timed", case(64), 0), Task("timed", replace(case(64), variant="lossless"), 1))
    covered = coverage.table(store, RUN_ID, [replace(BLOCK, tasks=both)])
    assert [(row["variant"], row["verdict"]) for row in covered.to_pylist()] == [
        ("stock", "done"),
        ("lossless", "missing"),
    ]
    assert coverage.bad(covered) == 1


def test_what_a_later_attempt_made_good_is_done(tmp_path: Path) -> None:
    failed = make_sample(crop="64", status="crash", error_message="gone", elapsed_s=None, attempt=0)
    store = make_store(tmp_path, [failed, make_sample(crop="64", attempt=1)])
    [row] = coverage.table(store, RUN_ID, [replace(BLOCK, tasks=BLOCK.tasks[:1])]).to_pylist()
    assert row["verdict"] == "done"

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.plan import Block, Task
from harness.show import coverage
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

"""What is left of a run, from its plan and its rows."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness import schema
from harness.errors import CellbenchError
from harness.plan import config
from harness.plan.cases import Block, Task, control
from harness.run import resume
from harness.run.resume import Manifest
from harness.schema import PASSES
from harness.store import Store
from tests.conftest import CPU_DEVICE, RUN_ID, TWICE, case, make_sample, make_store

CONTROL = control(case(64))
TASKS = (
    Task("control", CONTROL, -1), Task("timed", case(64), 0), Task("timed", case(96), 1), Task("control", CONTROL, 2),
    Task("stages", case(64), 0), Task("masks", case(64), 0),
)  # fmt: skip
BLOCK = Block(0, CPU_DEVICE, TASKS, TWICE, node="desk")


def manifest_of(*blocks: Block) -> Manifest:
    files = {"cyto3": {"weights": "standin", "weights_sha256": "2" * 64}}
    versions = {"desk": {"torch": "2.13.0", "ray": None}}
    return Manifest(RUN_ID, "run", config.load("quick"), "1" * 64, files, versions, "auto", True, blocks)


def row(role: str, position: int, elapsed_s: float | None = 1.0, **columns: object) -> dict[str, object]:
    where = {"node": "desk", "device": "cpu", "block": 0, "role": role, "position": position}
    return {**where, "elapsed_s": elapsed_s, "status": "ok", "stop_reason": None, "attempt": 0, **columns}


def left(rows: list[dict[str, object]], retry_failed: bool = False) -> list[tuple[str, str, int]]:
    blocks = resume.remaining([BLOCK], rows, retry_failed)
    return [(task.role, task.case.crop, len(task.earlier_s)) for block in blocks for task in block.tasks]


def test_nothing_was_done() -> None:
    assert left([]) == [(task.role, task.case.crop, 0) for task in TASKS]


def test_a_task_is_over_when_it_said_so_and_keeps_its_repetitions_when_not() -> None:
    rows = [
        row("control", -1), row("control", -1, stop_reason="fixed_n"),
        row("timed", 0), row("timed", 0, stop_reason="fixed_n"),
        row("timed", 1, 2.5),
    ]  # fmt: skip
    assert left(rows) == [("timed", "96", 1), ("control", "control", 0), ("stages", "64", 0), ("masks", "64", 0)]
    [block] = resume.remaining([BLOCK], rows, False)
    assert (block.tasks[0].earlier_s, block.tasks[0].attempt) == ((2.5,), 1)
    assert block.tasks[1].attempt == 0


def test_a_pass_is_over_when_all_its_rows_are_there() -> None:
    done = [row(t.role, t.position, stop_reason="fixed_n") for t in TASKS[:4]]
    assert left([*done, row("stages", 0), row("stages", 0), row("masks", 0)]) == [
        ("stages", "64", 2),
        ("masks", "64", 1),
    ]
    assert left(done + [row("stages", 0)] * 3 + [row("masks", 0)] * 2) == []


def test_what_ended_badly_is_tried_again_only_if_asked_and_what_cannot_be_measured_never() -> None:
    done = [row(t.role, t.position, stop_reason="fixed_n") for t in TASKS[:3]]
    for status in set(schema.Status) - set(schema.FINE):
        rows = [*done, row("control", 2, None, status=status), row("stages", 0, None, status="skipped")]
        assert left(rows) == [("masks", "64", 0)]
        assert left(rows, retry_failed=True) == [("control", "control", 0), ("masks", "64", 0)]


@pytest.mark.parametrize("other", [{"node": "mac"}, {"device": "cuda:0"}, {"block": 1}, {"role": "stages"}], ids=str)
def test_what_is_not_this_task_does_not_finish_it(other: dict[str, object]) -> None:
    done = row("timed", 0, stop_reason="fixed_n") | other
    assert ("timed", "64", 0) in left([done])


@pytest.mark.parametrize("role", PASSES)
def test_every_pass_is_over_after_as_many_rows_as_it_makes(role: str) -> None:
    block = replace(BLOCK, tasks=(Task(role, case(64), 0),))
    for n in range(PASSES[role].n_rows + 1):
        is_left = bool(resume.remaining([block], [row(role, 0)] * n, False))
        assert is_left == (n < PASSES[role].n_rows)


def test_a_manifest_comes_back_as_it_was_and_is_written_once(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    planned = (replace(BLOCK, tasks=(*TASKS, replace(TASKS[1], earlier_s=(1.5,), attempt=2))),)
    manifest = manifest_of(*planned)
    resume.write(store, manifest)
    resume.write(store, replace(manifest, address="elsewhere"))
    assert resume.read(store, RUN_ID) == manifest
    assert resume.latest(store) == RUN_ID


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (None, "not in this store"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 1}', "another version of cellbench"),
        ('{"version": 2}', "cannot be read"),
    ],
)
def test_a_manifest_that_is_not_there_or_broken(tmp_path: Path, text: str | None, output: str) -> None:
    store = Store.make(tmp_path)
    if text:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / f"{RUN_ID}.json").write_text(text)
    with pytest.raises(CellbenchError, match=output):
        resume.read(store, RUN_ID)


@pytest.mark.parametrize("command", ["tune", "throughput", "verify-masks"])
def test_what_cannot_be_resumed_is_not_the_latest_run(tmp_path: Path, command: str) -> None:
    store, later = Store.make(tmp_path), RUN_ID.replace("20260102", "20260203")
    resume.write(store, replace(manifest_of(BLOCK), run_id=later, command=command))
    with pytest.raises(CellbenchError, match="no run was begun"):
        resume.latest(store)
    resume.write(store, manifest_of(BLOCK))
    assert resume.latest(store) == RUN_ID


def test_a_run_that_another_command_has_gone_on_with_is_left_to_it(tmp_path: Path) -> None:
    block = Block(0, CPU_DEVICE, (Task("timed", case(224), 0),), TWICE, node="desk")
    store = make_store(tmp_path, [make_sample(repetition=0, stop_reason=None)])
    manifest = manifest_of(block)
    assert resume.write(store, manifest)
    todo = resume.left(store, manifest)
    resume.check_left(store, RUN_ID, todo)
    store.add(schema.table([make_sample(repetition=1, attempt=1)]))
    with pytest.raises(CellbenchError, match="another command has resumed"):
        resume.check_left(store, RUN_ID, todo)

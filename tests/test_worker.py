"""The worker: real blocks with the real cellpose, each in a process of its own."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import plan, schema
from harness.engines.cellpose3 import weights
from harness.errors import CellbenchError
from harness.machine import probe
from harness.measure import parent
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.plan import CONTROL
from harness.plan.cases import Task
from tests.conftest import RUN_ID, case


@pytest.mark.parametrize("setting", ["1", None])
def test_threads_are_ours_whatever_ray_exports(monkeypatch: pytest.MonkeyPatch, setting: str | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting) if setting else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = parent.environment(6)
    assert {env[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")} == {"6"}


def test_a_child_that_dies_before_it_is_spoken_to_says_why() -> None:
    with parent._Child({"task": "devices", "arguments": {}}, {"PYTHONHOME": "/nowhere"}) as child:
        child._process.wait()
        assert list(child.lines(lambda: 60.0)) == []
    assert child.returncode == 1
    assert "encodings" in child.error_text


SILENT = """
import json, sys, time
sys.stdin.readline()
print(json.dumps("first"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker's process says one thing and then nothing any more."""
    script = tmp_path / "silent"
    script.write_text(f"#!{sys.executable}\n{SILENT}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.mark.usefixtures("silent")
def test_a_child_that_falls_silent_is_killed() -> None:
    limits_s = iter([60.0, 0.2])
    with parent._Child({"task": "devices", "arguments": {}}, dict(os.environ)) as child:
        assert list(child.lines(lambda: next(limits_s))) == ["first"]
    assert child.gave_up
    assert child.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("silent")
def test_a_question_to_a_hung_device_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ANSWER_S", 1.0)
    with pytest.raises(CellbenchError, match="took more than 1 s"):
        parent.ask("devices")


@pytest.mark.usefixtures("silent")
def test_a_task_that_falls_silent_is_a_row_and_the_others_are_tried(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "patience_s", lambda _block, _task: 0.2)
    monkeypatch.setattr(worker, "from_wire", lambda row: row)
    said = [row for row in parent.perform(order(case(96), case(128))) if isinstance(row, dict)]
    assert [(row["status"], row["crop"]) for row in said] == [("timeout", "96"), ("timeout", "128")]
    assert "no sign of life for 0 s" in said[0]["error_message"]


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # which is what is played here
@pytest.mark.usefixtures("silent")
def test_a_process_that_nobody_can_kill_ends_the_block(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    spared, really = [], os.killpg
    monkeypatch.setattr(plan, "patience_s", lambda _block, _task: 0.2)
    monkeypatch.setattr(worker, "DEATH_S", 0.2)
    monkeypatch.setattr(worker, "from_wire", lambda row: row)
    monkeypatch.setattr(parent.os, "killpg", lambda pid, _: spared.append(pid))
    try:
        said = [row for row in parent.perform(order(case(96), case(128))) if isinstance(row, dict)]
    finally:
        really(spared[0], signal.SIGKILL)
    assert [(row["status"], row["crop"]) for row in said] == [("timeout", "96"), ("timeout", "128")]
    assert all("restart the machine" in row["error_message"] for row in said)
    assert len(set(spared)) == 1  # no other process was started on that device


# ------------------------------------------------------------------ the real cellpose, in its own process


@pytest.fixture
def real(order: Callable[..., Order]) -> Order:
    found = weights.resolve("standin")
    constants = {
        "schema_version": schema.VERSION, "source": "measured", "run_id": RUN_ID, "workload": "cellpose",
        "weights": found.kind, "weights_sha256": found.net_sha256,
    }  # fmt: skip
    made = order(case(96), case(128, "article"), folder=found.folder, constants=constants)
    return dataclasses.replace(made, block=dataclasses.replace(made.block, threads=probe.n_cores()))


def samples_of(order: Order) -> list[schema.Sample]:
    return [said for said in parent.perform(order) if not isinstance(said, Finished)]


@pytest.mark.slow
def test_real_block(real: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray exports it
    samples = samples_of(real)
    assert {s["status"] for s in samples} == {"ok"}
    assert sum(s["role"] == "timed" for s in samples) == 4
    for sample in samples[1:]:
        assert sample["torch_threads"] == real.block.threads == sample["opencv_threads"]
        assert sample["openmp_threads"] == str(real.block.threads)
    timed = [s for s in samples if s["role"] == "timed"]
    assert {s["device_used"] for s in timed} == {"cpu"}
    assert {s["diam_labels_px"] for s in timed} == {30.0}
    for crop in ("96", "128"):
        assert len({s["mask_sha256"] for s in timed if s["crop"] == crop}) == 1
    schema.table(samples)


@pytest.mark.slow
def test_real_passes(real: Order) -> None:
    roles = ("control", "ceiling", "stages", "memory", "masks")
    todo = tuple(Task(role, CONTROL if role in ("control", "ceiling") else case(96), 0) for role in roles)
    samples = samples_of(dataclasses.replace(real, block=dataclasses.replace(real.block, tasks=todo)))
    assert {s["status"] for s in samples} == {"ok"}, [s["error_message"] for s in samples if s["status"] != "ok"]
    by_role = {role: [s for s in samples if s["role"] == role] for role in roles}
    assert all(by_role.values())
    assert {s["agreement"] for s in by_role["masks"]} == {"identical"}
    [*parts, total] = [s for s in by_role["stages"] if s["repetition"] == 0]
    claimed_s = sum(part["elapsed_s"] for part in parts if part["stage"] != "other")
    assert 0.97 * total["elapsed_s"] <= claimed_s <= total["elapsed_s"]
    assert by_role["memory"][0]["peak_rss_bytes"] > 100_000_000
    assert {s["n_cells"] for s in by_role["control"]} != {0}
    schema.table(samples)


@pytest.mark.slow
def test_a_killed_process_is_a_row_and_the_others_go_on(real: Order) -> None:
    samples = []
    running = parent.perform(real)
    for sample in running:
        if isinstance(sample, Finished):
            continue
        samples.append(sample)
        if sample["phase"] == "model_load" and len(samples) < 5:
            os.kill(_only_child(), signal.SIGKILL)
    dead, good = samples[3], [s for s in samples if s["role"] == "timed" and s["status"] == "ok"]
    assert (dead["status"], dead["error_type"], dead["crop"]) == ("crash", "SIGKILL", "96")
    assert {s["crop"] for s in good} == {"128"}
    assert len(good) == 2
    schema.table(samples)


@pytest.mark.slow
def test_an_abandoned_block_leaves_no_process(real: Order) -> None:
    running = parent.perform(real)
    next(running)
    child = _only_child()
    running.close()
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.slow
def test_this_machine_has_at_least_its_cpu() -> None:
    assert parent.devices()[-1] == {"backend": "cpu", "index": 0, "name": probe.cpu_model()}


def _only_child() -> int:
    import psutil

    [child] = [c for c in psutil.Process().children() if "harness.measure.parent" in " ".join(c.cmdline())]
    return child.pid

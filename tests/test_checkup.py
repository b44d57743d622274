"""The checkup ends in one file, with what worked and why the rest did not, and without private facts."""

from __future__ import annotations

import getpass
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.doctor import checkup, environment
from harness.doctor.checkup import FAILED, INTERRUPTED, NOT_RUN, OK, Checkup
from harness.errors import CellbenchError
from harness.fleet import driver
from harness.machine import facts, machine_id
from harness.machine.checks import Check
from harness.store import Store, anonymous
from tests.conftest import REPOSITORY, make_sample, make_store

# Private words in the places where the parts of a checkup find them.
PRIVATE = {"gpu_uuid": "GPU-0123-4567", "booted_at": "2026-01-01T23:59:58+00:00"}
HOST, USER, ID = "kolibri7.uni.example", "alice", "feedfacecafe0123"
SECRETS = (HOST, "kolibri7", USER, "/home/alice", "/Users/Alice B", "B/models", ID, *PRIVATE.values(), "03:04:05")
TEXTS = (
    "no cyto3 in /home/alice/.cellpose/models, nor in (/home/alice/x)",
    'File "/Users/Alice B/models/x.py", line 3, in load',
    f"node {HOST}: 4 threads; kolibri7 of alice, alice@uni.example",
    f"OMP_NUM_THREADS=2 HOME=/home/alice id {ID} {PRIVATE['gpu_uuid']}",
)


@pytest.fixture(autouse=True)
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"call_s": 0.001}))
    monkeypatch.setenv("CELLBENCH_SIMULATED", str(tmp_path))
    monkeypatch.setattr(anonymous, "own_names", lambda: [HOST, "kolibri7", USER, USER])
    monkeypatch.setattr(machine_id, "columns", lambda: {"machine_id": ID})
    monkeypatch.setattr(environment, "ask", lambda: dict.fromkeys([each.name for each in facts.FACTS], 1) | PRIVATE)
    monkeypatch.chdir(tmp_path)


def planned(monkeypatch: pytest.MonkeyPatch, **broken: BaseException) -> Checkup:
    """A checkup whose steps find private things in no time, or raise what is given."""

    def examine(self: Checkup, _: Path) -> None:
        self._contents["doctor.json"] = [{"name": "weights", "evidence": text} for text in TEXTS]

    def measure(self: Checkup, folder: Path) -> None:
        columns = {"node": HOST, "machine_id": ID, "os": f"Debian of {USER}", "error_message": TEXTS[0]}
        make_store(folder, [make_sample(**columns, repetition=i) for i in range(3)])

    def search(self: Checkup, _: Path) -> None:
        self._contents["tune.txt"] = "\n".join(TEXTS)

    steps = {"_examine": examine, "_measure": measure, "_verify": lambda *_: None, "_search": search}
    for name, step in steps.items():
        monkeypatch.setattr(Checkup, name, raiser(broken[name]) if name in broken else step)
    monkeypatch.setattr(checkup, "_guess_s", lambda _: 1.0)
    with driver.opened(use_ray=False, engines=("simulated",)) as here:
        return Checkup("sleep", here, Path("results"), lambda _: None)


def raiser(error: BaseException) -> Any:
    def step(*_: object) -> None:
        raise error

    return step


def opened(data: bytes, folder: Path) -> str:
    """All that a reader of the archive finds: names, texts, and every cell of every table."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
        assert {entry.date_time for entry in archive.infolist()} == {checkup.WHEN}
    texts = [path.read_text("utf-8") for path in folder.rglob("*") if path.suffix in (".txt", ".json")]
    cells = Store.at(folder / "results").table().to_pylist() if (folder / "results").is_dir() else []
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return json.dumps([*names, *texts, cells], default=str, ensure_ascii=False)


def test_nothing_private_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(monkeypatch, _verify=CellbenchError(" and ".join(TEXTS)), _search=RuntimeError(" and ".join(TEXTS)))
    plan.run(lambda _: None)
    found = opened(plan.archive(), tmp_path / "opened")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "opened").rglob("*") if path.is_file())
    for word in SECRETS:
        assert word.lower() not in found.lower(), word
        assert word.encode() not in raw
    assert {each.name for each in facts.FACTS if each.private} >= PRIVATE.keys()
    assert not any(f'\\"{each.name}\\"' in found for each in facts.FACTS if each.private)
    assert "OMP_NUM_THREADS=2" in found and "line 3, in load" in found  # what is useful stays
    assert found.count('"role": "timed"') == 3


@pytest.mark.parametrize("nth", [1, 2, 3, 6])
def test_ctrl_c_between_the_steps_is_recorded(nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, n_lines = planned(monkeypatch), 0

    def on_step(_: checkup.Step) -> None:
        nonlocal n_lines
        n_lines += 1
        if n_lines == nth:
            raise KeyboardInterrupt

    plan.run(on_step)
    at = (nth - 1) // 2
    assert [step.status for step in plan.steps] == [OK] * at + [INTERRUPTED] + [NOT_RUN] * (4 - at)
    assert plan.archive()


ERRORS = {
    "user": CellbenchError("the weights are damaged", "here", "fetch them"),
    "program": ZeroDivisionError("a fault"),
    "memory": MemoryError("too little"),
    "stop": KeyboardInterrupt(),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("broken", ["_examine", "_measure", "_verify", "_search"])
def test_a_step_that_fails_is_in_the_file_with_its_reason(
    broken: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(monkeypatch, **{broken: ERRORS[kind]})
    shown: list[checkup.Step] = []
    plan.run(shown.append)
    at = ["_look_up", "_examine", "_measure", "_verify", "_search"].index(broken)
    n_run = at + 1 if kind == "stop" else 5
    assert [id(step) for step in shown] == [id(step) for step in plan.steps[:n_run] for _ in range(2)]
    opened(plan.archive(), tmp_path / "opened")
    steps = json.loads((tmp_path / "opened/steps.json").read_text())["steps"]
    status = INTERRUPTED if kind == "stop" else FAILED
    after = NOT_RUN if kind == "stop" else OK
    assert [step["status"] for step in steps] == [OK] * at + [status] + [after] * (4 - at)
    assert all(word in steps[at]["reason"] for word in str(ERRORS[kind]).split("\n")[0].split())
    assert ("Traceback" in (steps[at]["trace"] or "")) == (kind in ("program", "memory"))


def test_a_failed_step_has_an_exit_code_and_the_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(monkeypatch, _measure=RuntimeError("no"))
    done = CliRunner().invoke(app, ["checkup", "--model", "sleep", "--to", "x.zip"])
    assert getattr(done.exception, "exit_code", None) == 3
    assert "1 of 5 steps failed: quick run" in str(done.exception)
    assert (tmp_path / "x.zip").is_file()
    assert "failed" in done.stderr and "RuntimeError: no" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_a_dry_run_lists_the_steps_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(monkeypatch)
    done = CliRunner().invoke(app, ["checkup", "--model", "sleep", "--dry-run"])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 5)
    assert all(re.search(r": about \d", line) for line in done.stdout.splitlines())
    assert "5 steps; about" in done.stderr
    assert not list(tmp_path.glob("*.zip"))


def test_a_look_at_this_machine_keeps_no_evidence_of_private_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check(name, "ok", "evidence", "fix") for name in (*checkup.PRIVATE_CHECKS, "clock")]
    monkeypatch.setattr(checkup.machine_checks, "examine", lambda _: checks)
    with driver.opened(use_ray=False, engines=("simulated",)) as here:
        monkeypatch.setattr(checkup, "_guess_s", lambda _: 1.0)
        plan = Checkup("sleep", here, Path("results"), lambda _: None)
    plan._examine(Path())
    kept = {check["name"] for check in plan._contents["doctor.json"] if check["evidence"]}
    assert kept == {"clock"}


def real(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", "checkup", "--model", "sleep", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ())


def environ() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.slow
def test_a_real_checkup_of_this_machine(tmp_path: Path) -> None:
    process = real()
    _, text = process.communicate(timeout=900)
    found = opened((tmp_path / "cellbench-checkup.zip").read_bytes(), tmp_path / "opened")
    steps = json.loads((tmp_path / "opened/steps.json").read_text())["steps"]
    assert process.returncode == (3 if any(step["status"] == FAILED for step in steps) else 0)
    assert [step["status"] for step in steps if step["name"] != "doctor"] == [OK] * 4, text
    own = {socket.gethostname(), getpass.getuser(), str(Path.home()), str(tmp_path)}
    for word in (name for name in own if len(name) > 3):
        assert word.lower() not in found.lower(), word
    assert {path.name for path in (tmp_path / "opened").iterdir()} == {
        "README.txt", "steps.json", "environment.json", "doctor.json", "masks.json", "tune.txt", "results",
    }  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_leaves_a_file_that_names_the_step(tmp_path: Path) -> None:
    process = real()
    assert process.stderr
    for line in process.stderr:
        if line.startswith("2/5"):
            break
    process.send_signal(signal.SIGINT)
    begin_s = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - begin_s < 60
    opened((tmp_path / "cellbench-checkup.zip").read_bytes(), tmp_path / "opened")
    steps = json.loads((tmp_path / "opened/steps.json").read_text())["steps"]
    assert [step["status"] for step in steps] == [OK, INTERRUPTED, NOT_RUN, NOT_RUN, NOT_RUN]
    assert process.returncode == 130

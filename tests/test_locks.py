"""Locks: held by another, not to be had, or hanging; and every command that takes one."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import locks
from harness.cli.app import app
from harness.errors import BusyError, CellbenchError, StorageError
from harness.fleet.driver import artifacts
from harness.schedule import definition
from harness.store import Journal, Store
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store
from tests.test_schedule_definition import make as make_schedule

# What file systems answer that have no locks, or whose lock service is away.
WITHOUT = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF, errno.EIO, errno.ESTALE]
HELD = sorted(locks.HELD)


@contextmanager
def flock(monkeypatch: pytest.MonkeyPatch, number: int) -> Any:
    """Every lock is answered with this error; lists what was asked for."""
    request: list[int] = []

    def answer(_file: object, how: int) -> None:
        request.append(how)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", answer)
        yield request


@pytest.mark.parametrize("number", [*WITHOUT, *HELD], ids=errno.errorcode.get)
def test_a_lock_that_is_held_is_told_from_one_that_is_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kind = BusyError if number in HELD else StorageError
    with flock(monkeypatch, number), pytest.raises(kind) as refused, locks.locked(tmp_path / "lock", "somebody writes"):
        pytest.fail("nobody has the lock")
    assert refused.value.where == str(tmp_path / "lock")
    if number in HELD:
        assert refused.value.what == "somebody writes"
    else:
        assert os.strerror(number) in refused.value.what
        assert "local disk" in refused.value.fix
        assert not (tmp_path / "lock").exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    with (
        locks.locked(tmp_path / "lock", "somebody writes"),
        pytest.raises(BusyError, match="somebody writes"),
        locks.locked(tmp_path / "lock", "somebody writes"),
    ):
        pytest.fail("both have it")
    with locks.locked(tmp_path / "lock", "somebody writes"):
        pass


def test_readers_share(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open("rb") as one, (tmp_path / "lock").open("rb") as other:
        for file in (one, other):
            locks.lock(file, tmp_path / "lock", "somebody writes", shared=True)


def test_who_waits_says_for_what_and_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "NOTICE_S", 0.0)
    holder = (tmp_path / "lock").open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)
    real = locks.wait

    def wait(futures: list[Any], timeout: float) -> Any:
        if timeout:  # the notice was given
            holder.close()
        return real(futures, timeout)

    monkeypatch.setattr(locks, "wait", wait)
    with locks.locked(tmp_path / "lock", "somebody writes", waits=True):
        assert holder.closed
    assert capsys.readouterr().err == f"cellbench: waiting for a lock: somebody writes ({tmp_path / 'lock'})\n"


@pytest.mark.parametrize(("waits", "kind"), [(True, BusyError), (False, StorageError)])
def test_a_lock_that_hangs_is_said_and_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], waits: bool, kind: type
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(fcntl, "flock", lambda *_: answered.wait(60))
    monkeypatch.setattr(locks, "NOTICE_S", 0.01)
    monkeypatch.setattr(locks, "PATIENCE_S", 0.01)
    with pytest.raises(kind) as refused, locks.locked(tmp_path / "lock", "somebody writes", waits=waits):
        pytest.fail("nobody has the lock")
    answered.set()
    assert "waiting for a lock: somebody writes" in capsys.readouterr().err
    assert refused.value.fix


# ------------------------------------------------------------------ the commands


def night(out: Path) -> list[str]:
    definition.write(make_schedule(out))
    return ["schedule", "run-now", "--out", str(out)]


def merge(out: Path) -> list[str]:
    make_store(out.with_name("other"), [make_sample(node="mac")])
    return ["merge", str(out.with_name("other")), "--out", str(out)]


def import_(out: Path) -> list[str]:
    out.with_name("a.csv").write_text("device,height_px,width_px,elapsed_s,n_cells,node\ncpu,224,224,1.5,3,desk\n")
    return ["import", str(out.with_name("a.csv")), "--date", "2024-08-31", "--out", str(out)]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "compact": lambda out: ["compact", "--out", str(out)],
    "merge": merge,
    "import": import_,
    "tag": lambda out: ["tag", "latest", "before", "--out", str(out)],
    "night": night,
}


def listing(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_locks_ends_with_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    make_store(tmp_path / "results", [make_sample(node=node) for node in ("a", "b")])
    words = COMMANDS[name](tmp_path / "results")
    before = listing(tmp_path)
    with flock(monkeypatch, number) as request:
        done = CliRunner().invoke(app, words)
    assert request
    assert isinstance(done.exception, StorageError)
    assert done.exception.exit_code == 2
    assert "cannot be locked" in done.exception.what
    assert listing(tmp_path) == before


@pytest.mark.parametrize("words", [["show"], ["list"], ["alarms", "--json"]], ids=lambda words: words[0])
def test_reading_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    make_store(tmp_path, [make_sample()])
    with flock(monkeypatch, errno.ENOLCK):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert (done.exit_code, done.exception) == (0, None)


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_a_killed_runs_journal_waits_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = Store.make(tmp_path)
    journal = Journal(tmp_path / "journal" / f"{RUN_ID}.arrows")
    journal.append([make_sample()])
    journal.close()
    with flock(monkeypatch, number), pytest.warns(UserWarning, match="samples of a run wait in"):
        assert Store.at(tmp_path).table().num_rows == 0
    assert Store.at(tmp_path).table().num_rows == 1
    assert store.root == tmp_path


@pytest.mark.parametrize("number", [*WITHOUT, *HELD], ids=errno.errorcode.get)
def test_a_journal_without_a_lock_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store = Store.make(tmp_path)
    with flock(monkeypatch, number), pytest.raises(CellbenchError), store.journal(RUN_ID):
        pytest.fail("measured without a lock")
    assert listing(tmp_path) == []
    with store.journal(RUN_ID) as journal:  # and nobody is said to be measuring
        journal.append([make_sample()])


def test_a_journal_that_another_command_takes_for_a_dead_runs_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real, n_locks = Store.make(tmp_path), fcntl.flock, []

    def flock(file: int, how: int) -> None:
        if not n_locks:  # between the journal's making and its lock
            next((tmp_path / "journal").iterdir()).unlink()
        n_locks.append(how)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with store.journal(RUN_ID) as journal:
        journal.append([make_sample()])
    assert store.table().num_rows == 1


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_a_home_without_locks_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path))
    with flock(monkeypatch, number):
        with pytest.raises(StorageError, match="cannot be locked") as refused, artifacts.scratch():
            pytest.fail("measured without a lock")
        artifacts.forget_killed()  # which is only tidying
    assert "CELLBENCH_HOME" in refused.value.fix
    assert listing(tmp_path) == []
    assert list((tmp_path / "scratch").iterdir()) == []


WITHOUT_LOCKS = """
import errno, fcntl, os
def flock(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
from harness.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["run", "--no-ray", "--models", "sleep", "--crops", "64", "--devices", "cpu"],
        ["tune", "--model", "sleep", "--crop", "64"],
        ["throughput", "--model", "sleep", "--crop", "64"],
    ],
    ids=lambda words: words[0],
)
def test_a_measurement_without_locks_ends_before_it_begins(tmp_path: Path, words: list[str]) -> None:
    out = tmp_path / "results"
    for _ in range(2):  # nobody is said to be measuring the second time
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_LOCKS, *words, "--out", str(out)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("cannot be locked") == 1
    assert listing(out) == []

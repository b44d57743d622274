"""Results that may not be written or read: every command ends with one error that names the place, or does its work.

Two ways, both real: this process takes another user's rights (root only), and a mount that is read-only (a process in
a namespace of its own, root only).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError, StorageError, StoreWarning, warn_once
from harness.judge import annotations
from harness.schedule import definition
from harness.store import Journal, Store
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store
from tests.test_schedule_definition import make as make_schedule

NOBODY = 65_534
WRITERS: dict[str, list[str]] = {
    "report": ["report", "--out", "OUT"],
    "bundle": ["report", "--bundle", "--out", "OUT"],
    "history": ["history", "--out", "OUT"],
    "index": ["index", "--out", "OUT"],
    "chart": ["chart", "time", "--to", "OUT/x.json", "--out", "OUT"],
    "export-csv": ["export", "--to", "OUT/x.csv", "--out", "OUT"],
    "export-parquet": ["export", "--to", "OUT/x.parquet", "--out", "OUT"],
    "query": ["query", "SELECT 1", "--parquet", "OUT/x.parquet", "--out", "OUT"],
    "compact": ["compact", "--out", "OUT"],
    "merge": ["merge", "OTHER", "--out", "OUT"],
    "import": ["import", "OTHER/a.csv", "--date", "2024-08-31", "--out", "OUT"],
    "tag": ["tag", "latest", "before", "--out", "OUT"],
    "schedule-install": ["schedule", "install", "other", "--via", "cron", "--out", "OUT"],
    "schedule-run-now": ["schedule", "run-now", "--out", "OUT"],
    "schedule-remove": ["schedule", "remove", "--out", "OUT"],
}
READERS: dict[str, list[str]] = {
    "show": ["show", "--out", "OUT"],
    "list": ["list", "--out", "OUT"],
    "query": ["query", "SELECT count(*) FROM samples", "--out", "OUT"],
    "alarms": ["alarms", "--out", "OUT"],
    "compare": ["compare", "node=a", "node=b", "--out", "OUT"],
    "report": ["report", "--md", "--out", "OUT"],
    "schedule": ["schedule", "show", "--out", "OUT"],
    "schedule-json": ["schedule", "show", "--json", "--out", "OUT"],
    "resume": ["resume", "--out", "OUT"],
}
# What of a results folder may belong to somebody else alone, and which commands can do without it.
PARTS = {
    ".": (),
    "samples": ("schedule", "schedule-json"),
    "journal": tuple(name for name in READERS if name != "resume"),
    "samples/month=2026-01": ("schedule", "schedule-json"),
    f"samples/month=2026-01/{RUN_ID}-a.parquet": ("schedule", "schedule-json"),
    "annotations.jsonl": ("report", "show", "list", "query", "schedule", "schedule-json"),
    "runs": ("show", "list", "query", "alarms", "compare", "report", "schedule", "schedule-json"),
    "schedule": ("show", "list", "query", "alarms", "compare", "report"),
    "schedule/nightly.toml": ("show", "list", "query", "alarms", "compare", "report"),
    "schedule/nightly": ("show", "list", "query", "alarms", "compare", "report", "schedule", "schedule-json"),
}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's rights")


def build(root: Path) -> None:
    """Results with a bit of everything, and others to take in."""
    out, other = root / "results", root / "other"
    make_store(out, [make_sample(node=node, repetition=i) for node in "ab" for i in range(3)])
    make_store(other, [make_sample(node="mac")])
    annotations.add(out, [annotations.new("tag", RUN_ID, name="first")])
    (out / "schedule" / "nightly").mkdir(parents=True)
    (out / "runs").mkdir()
    (out / "runs" / f"{RUN_ID}.json").write_text("{}")  # which no version can resume
    (other / "a.csv").write_text("device,height_px,width_px,elapsed_s,n_cells,node\ncpu,224,224,1.5,3,desk\n")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    build(folder)
    return folder


@contextmanager
def copied(template: Path) -> Iterator[Path]:
    """A copy in a folder that everybody reaches, which those of pytest are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(template, folder, dirs_exist_ok=True)
        folder.chmod(0o755)
        definition.write(make_schedule(folder / "results")).chmod(0o644)  # it names its folder
        yield folder


@pytest.fixture
def root(template: Path) -> Iterator[Path]:
    with copied(template) as folder:
        yield folder


@contextmanager
def nobody() -> Iterator[None]:
    """The rights of a user who owns nothing."""
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def invoke(root: Path, words: list[str]) -> Any:
    filled = [word.replace("OUT", str(root / "results")).replace("OTHER", str(root / "other")) for word in words]
    warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        return CliRunner().invoke(app, filled)


@pytest.fixture(scope="module")
def loaded(template: Path) -> None:
    """All modules that a command imports: another user may not read them where root keeps them."""
    for words in (*WRITERS.values(), *READERS.values()):
        if words[:2] != ["schedule", "run-now"]:
            with copied(template) as folder:
                invoke(folder, words)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_mode, path.read_bytes()) for path in files}


def refused(done: Any, out: Path) -> CellbenchError:
    """The one error that a command ended with, which names a place in the folder."""
    if isinstance(done.exception, SystemExit):  # the command line looks at some paths itself
        assert (done.exception.code, "is not readable" in done.stderr) == (2, True)
        return CellbenchError("not readable", str(out))
    assert isinstance(done.exception, CellbenchError), repr(done.exception)
    assert done.exception.exit_code == 2
    assert str(out) in (done.exception.where or "")
    assert done.exception.fix
    return done.exception


@as_root
@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_another_user_is_said_by_whoever_writes(root: Path, name: str) -> None:
    before = everything(root)
    with nobody():
        done = invoke(root, WRITERS[name])
    error = refused(done, root / "results")
    assert "Permission denied" in error.what
    assert everything(root) == before


@as_root
@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", [name for name in READERS if name != "resume"])
def test_a_folder_of_another_user_is_read(root: Path, name: str) -> None:
    before = everything(root)
    with nobody():
        done = invoke(root, READERS[name])
    assert done.exception is None, repr(done.exception)
    assert everything(root) == before


@as_root
@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("part", PARTS)
def test_what_may_not_be_read_is_said_by_whoever_needs_it(root: Path, part: str) -> None:
    path = root / "results" / part
    path.chmod(0o700 if path.is_dir() else 0o600)
    for name, words in READERS.items():
        with nobody():
            done = invoke(root, words)
        if name in PARTS[part]:
            assert done.exception is None, (name, done.exception)
        else:
            refused(done, root / "results")


@as_root
@pytest.mark.usefixtures("loaded")
def test_a_killed_runs_journal_in_a_folder_of_another_user_waits(root: Path) -> None:
    journal = Journal(root / "results" / "journal" / "20260105T000000Z-bbbbbb.arrows")
    journal.append([make_sample(run_id="20260105T000000Z-bbbbbb")])
    journal.close()
    os.utime(journal.path, (1e9, 1e9))
    warn_once.cache_clear()
    with nobody(), pytest.warns(StoreWarning, match="samples of a run wait in"):
        assert Store.at(root / "results").table().num_rows == 6
    assert Store.at(root / "results").table().num_rows == 7


@as_root
@pytest.mark.usefixtures("loaded")
def test_a_run_is_refused_before_it_begins(root: Path) -> None:
    out = root / "results"
    with nobody():
        for what in (Store.make, lambda folder: Store.at(folder).journal("x").__enter__()):
            with pytest.raises(StorageError, match="Permission denied"):
                what(out)


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from tests import test_permissions as tests
root = Path(sys.argv[1])
out = root / "results"
before = tests.everything(root)
subprocess.run(["mount", "--bind", out, out], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", out], check=True)
for name, words in tests.WRITERS.items():
    error = tests.refused(tests.invoke(root, words), out)
    assert "Read-only file system" in error.what, (name, error)
for name, words in tests.READERS.items():
    done = tests.invoke(root, words)
    assert name == "resume" or done.exception is None, (name, done.exception)
for what in (tests.Store.make, tests.Store.check):
    try:
        what(out)
    except tests.StorageError as error:
        assert "Read-only file system" in error.what
    else:
        raise AssertionError(what)
assert tests.everything(root) == before
print("done")
"""


@as_root
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="needs Linux's namespaces")
def test_a_read_only_file_system_is_said_by_every_command(root: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", READ_ONLY, root],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stdout.endswith("done\n"), done.stderr

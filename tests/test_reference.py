"""The reference set is a store of its own: readable by its folder, written by no command, never one's own results."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError, NoResultsError
from harness.judge import annotations
from harness.query import Session
from harness.results import scope
from harness.store import Store, reference
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store

RUN = ["--no-ray", "--models", "sleep", "--crops", "64"]
# Every command with --out is a writer or a reader; of a writer, one call or several.
WRITERS = {
    "run": [["run", *RUN], ["run", *RUN, "--dry-run"]],
    "resume": [["resume"]],
    "ab": [["ab", "stock", "lossless", "--crop", "64", "--weights", "standin"]],
    "tune": [["tune", "--crop", "64", "--weights", "standin"]],
    "verify-masks": [["verify-masks", "--variant", "lossless", "--weights", "standin"]],
    "throughput": [["throughput", "--crop", "64", "--weights", "standin"]],
    "compact": [["compact"]],
    "merge": [["merge", "OTHER"]],
    "import": [["import", "OTHER/a.csv", "--node", "desk", "--date", "2024-08-31"]],
    "tag": [["tag", "latest", "before"]],
    "accept": [["accept", "all", "--why", "a change"]],
    "schedule install": [["schedule", "install", "other", "--via", "cron", "--dry-run"]],
    "schedule run-now": [["schedule", "run-now"]],
    "slurm merge": [["slurm", "merge", "OTHER", "cpu"]],
    "slurm submit": [["slurm", "submit", "--partitions", "cpu"]],
    "report": [["report"], ["report", "--bundle"]],
    "history": [["history"]],
    "index": [["index"]],
}
READERS = {
    "alarms", "anonymise", "chart", "checkup", "compare", "doctor", "estimate", "export", "list", "query",
    "schedule remove", "schedule show", "show", "submit",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the set that takes its place."""
    copy = tmp_path / "clone" / "results" / "reference"
    shutil.copytree(reference.FOLDER / "samples", copy / "samples")
    monkeypatch.setattr(reference, "FOLDER", copy)
    monkeypatch.chdir(tmp_path / "clone")
    return copy


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_with_a_results_folder_is_a_writer_or_a_reader() -> None:
    every = commands(typer.main.get_command(app))
    with_out = {name for name, command in every if any("--out" in each.opts for each in command.params)}
    assert with_out == WRITERS.keys() | READERS
    assert not WRITERS.keys() & READERS


@pytest.mark.parametrize("words", [words for calls in WRITERS.values() for words in calls], ids=" ".join)
def test_no_command_writes_to_it_nor_begins_to(words: list[str], folder: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "other", [make_sample()])
    (tmp_path / "other" / "a.csv").write_text("device,height_px,width_px,elapsed_s\ncpu,224,224,1.5\n")
    words = [word.replace("OTHER", str(tmp_path / "other")) for word in words]
    before = files_of(folder)
    done = CliRunner().invoke(app, [*words, "--out", str(folder)])
    assert isinstance(done.exception, CellbenchError)
    assert done.exception.what == "the reference set is read-only"
    assert done.output == ""
    assert files_of(folder) == before


def test_a_note_about_it_is_rejected(folder: Path) -> None:
    with pytest.raises(CellbenchError, match="read-only"):
        annotations.add(folder, [annotations.new("tag", "x", name="y")])


def test_a_clone_has_no_results_of_its_own_and_names_the_set(folder: Path) -> None:
    with pytest.raises(NoResultsError) as error:
        Store.at("results")
    assert error.value.fix is not None
    assert "cellbench run" in error.value.fix
    assert "cellbench list --out results/reference" in error.value.fix
    assert CliRunner().invoke(app, ["list", "--out", "results/reference"]).exit_code == 0
    assert "results/reference" in CliRunner().invoke(app, []).stdout


def test_without_the_set_none_is_named(folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(NoResultsError) as error:
        Store.at("results")
    assert "reference" not in str(error.value.fix)


def test_ones_own_results_hold_nothing_of_it(folder: Path) -> None:
    make_store(Path("results"), [make_sample()])
    session = Session(Store.at("results"))
    assert session.table("SELECT DISTINCT node FROM samples")["node"].to_pylist() == ["desk"]
    assert scope.resolve(session, since="1970-01-01").runs == (RUN_ID,)


def test_a_folder_of_an_older_checkout_stays_readable(tmp_path: Path) -> None:
    """There the shipped files lay among one's own."""
    make_store(tmp_path, [make_sample()])
    shutil.copytree(reference.FOLDER / "samples", tmp_path / "samples", dirs_exist_ok=True)
    runs = Session(Store.at(tmp_path)).table("SELECT run_id FROM runs")["run_id"].to_pylist()
    assert len(runs) == 1 + len(list(reference.FOLDER.glob("samples/*/*.parquet")))


def test_it_is_where_the_repository_has_it() -> None:
    assert reference.FOLDER == REPOSITORY / "results" / "reference"
    assert reference.exists()

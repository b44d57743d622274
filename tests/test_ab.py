"""Two sides in interleaved processes of the simulated engine, to a verdict or the end of the time."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import query
from harness.cli.app import app
from harness.errors import CellbenchError
from harness.run import resume
from harness.store import Store

FLAGS = ["--model", "sleep", "--crop", "64", "--repeats", "2"]


@pytest.fixture(autouse=True)
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"call_s": 0.03}))
    monkeypatch.setenv("CELLBENCH_SIMULATED", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def ab(*words: str) -> object:
    return CliRunner().invoke(app, ["ab", *words, *FLAGS])


@pytest.mark.slow
def test_a_side_that_takes_twice_as_long_is_found_and_every_process_is_stored() -> None:
    done = ab("stock", "slow", "--json")
    found = json.loads(done.stdout)
    assert found["decision"]["verdict"] == "SLOWER"
    assert found["decision"]["low"] > 1.05
    rows = query.Session(Store.at(Path("results"))).table(
        "SELECT run_id, variant, count(DISTINCT block) AS n FROM samples WHERE role = 'timed' GROUP BY ALL "
        "ORDER BY variant"
    )
    assert rows["variant"].to_pylist() == ["slow", "stock"]
    assert rows["n"].to_pylist() == [found["decision"]["n"]] * 2
    assert rows["run_id"].to_pylist() == [found["run_b"], found["run_a"]]


@pytest.mark.slow
def test_what_the_budget_left_open_is_resumed_and_nothing_is_measured_twice() -> None:
    first = json.loads(ab("stock", "batch=2", "--budget", "1s", "--json").stdout)
    assert (first["decision"]["verdict"], first["decision"]["n"]) == ("INCONCLUSIVE", 1)
    path = Path("results/runs") / f"{first['run_a']}.json"
    assert resume.read(Store.at(Path("results")), first["run_a"]).pairing.runs == (first["run_a"], first["run_b"])
    path.write_text(path.read_text().replace('"budget_s":1.0', '"budget_s":6.0'))
    again = CliRunner().invoke(app, ["resume", first["run_b"]])
    assert again.exit_code == 0
    sql = "SELECT run_id, count(*) AS n, count(DISTINCT block) AS blocks FROM samples WHERE role = 'timed' GROUP BY ALL"
    for row in query.Session(Store.at(Path("results"))).table(sql).to_pylist():
        assert row["n"] == 2 * row["blocks"]
        assert row["blocks"] > 1


@pytest.mark.parametrize("words", [("stock", "diameter=25"), ("diameter=25", "diameter=30")])
def test_other_work_is_not_compared(words: tuple[str, str]) -> None:
    done = ab(*words)
    assert isinstance(done.exception, CellbenchError)
    assert "different work" in done.exception.what


@pytest.mark.parametrize("flags", [("--budget", "soon"), ("--fail-on", "slow"), ("--crop", "64,96")])
def test_bad_flags_are_named(flags: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["ab", "stock", "slow", "--model", "sleep", *flags])
    assert isinstance(done.exception, CellbenchError)
    assert not Path("results").exists() or not list(Path("results/runs").glob("*"))

from pathlib import Path

import numpy as np
import pytest

from harness import schema
from harness.errors import CellbenchError
from harness.query import VIEWS, Session, which_run
from harness.store import Store
from tests.conftest import RUN_ID, make_sample, make_store

CPU_S, CUDA_S = [4.0, 5.0, 9.0], [0.5, 0.4, 0.6]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    cpu = [make_sample(repetition=i, elapsed_s=s) for i, s in enumerate(CPU_S)]
    cuda = [
        make_sample(repetition=i, elapsed_s=s, backend="cuda", device="cuda:0", device_name="G")
        for i, s in enumerate(CUDA_S)
    ]
    others = [
        make_sample(role="warmup", elapsed_s=99.0),
        make_sample(role="cold", phase="import", elapsed_s=99.0, crop=None),
        make_sample(crop="448", elapsed_s=None, status="crash", error_type="SIGKILL"),
    ]
    return Session(make_store(tmp_path, cpu + cuda + others))


def test_medians_are_those_of_the_timed_repetitions(session: Session) -> None:
    [row] = session.table("SELECT * FROM medians WHERE device = $device", device="cpu").to_pylist()
    assert row["n"] == 3
    assert row["median_s"] == np.median(CPU_S)
    assert [row["q1_s"], row["q3_s"]] == list(np.quantile(CPU_S, [0.25, 0.75]))
    assert row["mean_s"] == pytest.approx(np.mean(CPU_S))
    assert row["sd_s"] == pytest.approx(np.std(CPU_S, ddof=1))
    assert row["length_px"] == 224


def test_a_speedup_is_a_ratio_of_medians_on_one_node(session: Session) -> None:
    [row] = session.table("SELECT * FROM speedups").to_pylist()
    assert (row["device"], row["speedup"], row["percent_of_cpu"]) == ("cuda:0", 10.0, 10.0)


def test_nothing_is_compared_across_nodes_runs_or_workloads(tmp_path: Path) -> None:
    gpu = {"backend": "cuda", "device": "cuda:0"}
    strangers = [{"node": "mac"}, {"crop": "448", "height_px": 448}, {"weights": "published"}, {"protocol": "article"}]
    samples = [make_sample(), *(make_sample(**gpu, **stranger) for stranger in strangers)]
    samples.append(make_sample(**gpu, run_id="20260102T030405Z-other0"))
    assert Session(make_store(tmp_path, samples)).table("SELECT * FROM speedups").num_rows == 0


def test_failures_are_rows(session: Session) -> None:
    assert session.table("SELECT crop, status, error_type FROM failures").to_pylist() == [
        {"crop": "448", "status": "crash", "error_type": "SIGKILL"}
    ]
    [run] = session.table("SELECT n_cases, n_timed, n_failed FROM runs").to_pylist()
    assert run == {"n_cases": 3, "n_timed": 6, "n_failed": 1}  # the import phase is no case


@pytest.mark.parametrize("view", ["samples", *VIEWS])
def test_every_view_works_on_an_empty_store(tmp_path: Path, view: str) -> None:
    assert Session(Store.make(tmp_path)).table(f"SELECT * FROM {view}").num_rows == 0


def test_columns_explain_themselves(session: Session) -> None:
    said = session.table("SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'samples'").to_pylist()
    assert {row["column_name"] for row in said if row["comment"]} == {c.name for c in schema.SAMPLES}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY samples TO '/tmp/cellbench-stolen.csv'",
        "CREATE TABLE mine AS SELECT 1",
        "DROP VIEW samples",
        "SET enable_external_access = true",
        "ATTACH '/tmp/cellbench-other.db'",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
        "SELEC",
        "SELECT nothing FROM samples",
    ],
)
def test_only_reading_the_samples_is_allowed(session: Session, sql: str) -> None:
    with pytest.raises(CellbenchError) as caught:
        session.table(sql)
    assert caught.value.exit_code == 2
    assert session.table("SELECT count(*) AS n FROM samples").to_pylist() == [{"n": 9}]


def test_python_variables_are_out_of_reach(session: Session) -> None:
    secret = make_sample  # a name in this frame
    assert secret
    with pytest.raises(CellbenchError):
        session.table("SELECT * FROM secret")


def test_an_endless_query_is_stopped(tmp_path: Path) -> None:
    session = Session(make_store(tmp_path, [make_sample()]), time_limit_s=0.3)
    with pytest.raises(CellbenchError, match="took longer"):
        session.table("SELECT sum(a.range) FROM range(10000000000) a")


def test_which_run(session: Session, tmp_path: Path) -> None:
    assert which_run(session, None) == RUN_ID
    assert which_run(session, RUN_ID) == RUN_ID
    with pytest.raises(CellbenchError, match=RUN_ID):
        which_run(session, "nope")
    with pytest.raises(CellbenchError, match="no results"):
        which_run(Session(Store.make(tmp_path / "empty")), None)

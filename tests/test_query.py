from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from harness import schema
from harness.errors import CellbenchError, StoreWarning
from harness.query import VIEWS, Session, which_run
from harness.query import session as session_module
from harness.schema import Sample
from harness.store import Store, scan
from tests.conftest import RUN_ID, make_sample, make_store
from tests.staged import ON_CPU, stage_samples

CPU_S, CUDA_S = [4.0, 5.0, 9.0], [0.5, 0.4, 0.6]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
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
    return make_store(tmp_path_factory.mktemp("store"), cpu + cuda + others)


@pytest.fixture
def session(store: Store) -> Session:
    """A connection of its own for each test: what one asks of it is nothing to the next."""
    return Session(store)


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


def test_flags_are_counted_and_never_dropped(tmp_path: Path) -> None:
    flags = ["", "load", "load throttled", ""]
    session = Session(make_store(tmp_path, [make_sample(repetition=i, flags=f) for i, f in enumerate(flags)]))
    [row] = session.table("SELECT n, n_flagged, flags FROM medians").to_pylist()
    assert row == {"n": 4, "n_flagged": 2, "flags": "load throttled"}


def test_drift_of_the_control_case_flags_its_block(tmp_path: Path) -> None:
    control = [
        make_sample(role="control", crop="control", block=block, position=position, repetition=i, elapsed_s=elapsed_s)
        for block, last_s in enumerate((1.04, 1.06))
        for position, elapsed_s in ((-1, 1.0), (1, last_s))
        for i in range(3)
    ]
    timed = [make_sample(block=block, flags="load") for block in range(2)]
    session = Session(make_store(tmp_path, control + timed))
    drifts = session.table("SELECT round(drift, 3) AS drift, drifted FROM blocks ORDER BY block").to_pylist()
    assert drifts == [{"drift": 0.04, "drifted": False}, {"drift": 0.06, "drifted": True}]
    assert session.table("SELECT flags FROM timed ORDER BY block")["flags"].to_pylist() == ["load", "load drift"]
    assert session.table("SELECT n FROM medians")["n"].to_pylist() == [2]  # the control is no case


@pytest.mark.parametrize("processes", [1, 2])
def test_few_processes_do_not_say_how_well_a_mean_is_known(processes: int, tmp_path: Path) -> None:
    """However narrow the interval of each process is."""
    samples = [
        make_sample(precision=0.01, stop_reason="precision", repetition=i, block=block, elapsed_s=1 + block / 100)
        for block in range(processes) for i in range(10)
    ]  # fmt: skip
    [row] = Session(make_store(tmp_path, samples)).table("SELECT * FROM medians").to_pylist()
    assert (row["precision"], row["stop_reason"], row["n_blocks"]) == (None, "precision", processes)


def test_where_there_are_several_processes_their_means_tell_how_well(tmp_path: Path) -> None:
    means_s = [1.0, 1.1, 1.05]
    samples = [
        make_sample(block=block, repetition=i, elapsed_s=mean_s + offset, precision=0.001, stop_reason="time_cap")
        for block, mean_s in enumerate(means_s)
        for i, offset in enumerate((-0.01, 0.01))
    ]
    [row] = Session(make_store(tmp_path, samples)).table("SELECT * FROM medians").to_pylist()
    low, high = stats.t.interval(0.97, 2, loc=np.mean(means_s), scale=stats.sem(means_s))
    assert row["precision"] == pytest.approx((high - low) / 2 / np.mean(means_s), rel=1e-4)
    assert (row["stop_reason"], row["n_blocks"], row["n"]) == ("time_cap", 3, 6)


def test_stages_are_shares_of_the_whole_call(tmp_path: Path) -> None:
    samples = [make_sample(elapsed_s=0.9)]
    for i in range(3):
        samples.append(make_sample(role="stages", repetition=i, elapsed_s=1.0))
        for stage_pass, stage, elapsed_s in (
            ("style", "network", 0.6),
            ("mask", "network", 0.3),
            ("none", "other", 0.1),
        ):
            work = {"n_tiles": 2, "work_gflop": 62.0, "work_gb": 2.1} if stage == "network" else {}
            part = {"stage_pass": stage_pass, "stage": stage, "elapsed_s": elapsed_s}
            samples.append(make_sample(role="stages", phase="stage", repetition=i, **part, **work))
    rows = Session(make_store(tmp_path, samples)).table("SELECT * FROM stages ORDER BY share DESC").to_pylist()
    assert [(r["stage_pass"], r["stage"], r["n_tiles"], r["n"]) for r in rows] == [
        ("style", "network", 2, 3), ("mask", "network", 2, 3), ("none", "other", None, 3),
    ]  # fmt: skip
    # Sums of floats depend in their last bit on the order in which threads add them up.
    assert [r["share"] for r in rows] == pytest.approx([0.6, 0.3, 0.1])
    assert [(r["total_s"], r["timed_median_s"]) for r in rows] == [pytest.approx((1.0, 0.9))] * 3


def test_shares_add_up_where_medians_do_not(tmp_path: Path) -> None:
    samples = []
    for i, (network_s, other_s) in enumerate([(6.0, 4.0), (9.0, 1.0), (6.0, 1.0)]):
        samples.append(make_sample(role="stages", repetition=i, elapsed_s=network_s + other_s))
        for stage, elapsed_s in (("network", network_s), ("other", other_s)):
            samples.append(make_sample(role="stages", phase="stage", repetition=i, stage=stage, elapsed_s=elapsed_s))
    rows = Session(make_store(tmp_path, samples)).table("SELECT stage, share FROM stages ORDER BY stage").to_pylist()
    assert {row["stage"]: row["share"] for row in rows} == pytest.approx({"network": 6 / 7, "other": 1 / 7})


def test_the_environment_is_columns(tmp_path: Path) -> None:
    environment = (
        '{"cpu_model": "Some CPU", "ram_bytes": 17179869184, "smt": true, "load_1min": 0.5, "numa_nodes": null}'
    )
    session = Session(make_store(tmp_path, [make_sample(role="cold", phase="device_start", environment=environment)]))
    sql = "SELECT cpu_model, ram_bytes, smt, load_1min, numa_nodes FROM environments"
    assert session.table(sql).to_pylist() == [
        {"cpu_model": "Some CPU", "ram_bytes": 2**34, "smt": True, "load_1min": 0.5, "numa_nodes": None}
    ]


def test_what_cannot_be_measured_here_is_no_failure(tmp_path: Path) -> None:
    session = Session(make_store(tmp_path, [make_sample(), make_sample(role="energy", status="skipped")]))
    assert session.table("SELECT * FROM failures").num_rows == 0
    assert session.table("SELECT n_failed FROM runs")["n_failed"].to_pylist() == [0]


def window(gross_j: float | None, net_j: float | None, **columns: object) -> Sample:
    """A window of ten calls; net_j is the energy above idle."""
    found = {
        "energy_gross_j": gross_j, "energy_j": net_j, "n_calls": 10, "idle_power_w": 75.0, "elapsed_s": 5.0,
        "energy_class": "sensor", "energy_method": "nvml gpu",
    }  # fmt: skip
    return make_sample(role="energy", **found | columns)


def energies(folder: Path, *windows: Sample) -> list[dict[str, object]]:
    return Session(make_store(folder, list(windows))).table("SELECT * FROM energy").to_pylist()


def test_energy_is_told_gross_with_its_range_and_above_idle(tmp_path: Path) -> None:
    [row] = energies(tmp_path, window(300.0, 100.0), window(420.0, 160.0, n_calls=12), window(280.0, 90.0))
    assert (row["gross_per_call_j"], row["energy_per_call_j"]) == (pytest.approx(1000 / 32), pytest.approx(350 / 32))
    assert (row["gross_low_j"], row["gross_high_j"]) == (28.0, 35.0)
    assert (row["n_windows"], row["n_calls"], row["window_s"], row["idle_power_w"]) == (3, 32, 5.0, 75.0)


@pytest.mark.parametrize(("gross_j", "net_j", "answer"), [
    (300.0, None, (30.0, 10.0)),  # idle was not known for this window
    (None, None, (30.0, 10.0)),  # a counter did not tell
])  # fmt: skip
def test_a_window_without_joules_takes_no_part_in_them(
    tmp_path: Path, gross_j: float | None, net_j: float | None, answer: tuple[float, float]
) -> None:
    [row] = energies(tmp_path, window(300.0, 100.0), window(gross_j, net_j))
    assert (row["gross_per_call_j"], row["energy_per_call_j"]) == answer


def test_two_cases_and_two_methods_are_rows_of_their_own(tmp_path: Path) -> None:
    other = window(300.0, 100.0, energy_method="rapl package-0", device="cpu"), window(500.0, 200.0, crop="448")
    assert len(energies(tmp_path, window(300.0, 100.0, device="cuda:0"), *other)) == 3


def test_failures_are_rows(session: Session) -> None:
    assert session.table("SELECT crop, status, error_type FROM failures").to_pylist() == [
        {"crop": "448", "status": "crash", "error_type": "SIGKILL"}
    ]
    [run] = session.table("SELECT n_cases, n_timed, n_failed FROM runs").to_pylist()
    assert run == {"n_cases": 3, "n_timed": 6, "n_failed": 1}  # the import phase is no case


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(Store.make(tmp_path_factory.mktemp("empty")))


@pytest.mark.parametrize("view", ["samples", *VIEWS])
def test_every_view_works_on_an_empty_store(empty: Session, view: str) -> None:
    assert empty.table(f"SELECT * FROM {view}").num_rows == (40 if view == "published" else 0)


def test_columns_explain_themselves(session: Session) -> None:
    output = session.table("SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'samples'").to_pylist()
    assert {row["column_name"] for row in output if row["comment"]} == {c.name for c in schema.SAMPLES}


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


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM enable_logging(storage='file', storage_config={'path': '/tmp/escaped-sql-log'})",
        "SELECT * FROM enable_profiling(format:='json', save_location:='/tmp/escaped-sql-profile')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT getenv('HOME')",
        "FROM '/etc/passwd'",
        "EXPLAIN ANALYZE COPY samples TO '/tmp/escaped-sql.csv'",
        "PREPARE p AS SELECT 1",
        "CALL pragma_version()",
    ],
)
def test_ways_around_the_lock_are_closed(session: Session, sql: str) -> None:
    with pytest.raises(CellbenchError):
        session.table(sql)
    assert not list(Path("/tmp").glob("escaped-sql*"))


def test_a_billion_rows_come_in_batches_or_not_at_all(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ANSWER_BYTES", 10**6)
    with pytest.raises(CellbenchError, match="larger than"):
        session.table("SELECT * FROM range(1000000000)")
    with session.stream("SELECT * FROM range(1000000000)") as answer:
        assert next(answer.batches).num_rows > 1000
    assert session.table("SELECT 1 AS x").to_pylist() == [{"x": 1}]  # the next question is answered


def test_memory_has_a_limit(tmp_path: Path) -> None:
    small = Session(make_store(tmp_path, [make_sample()]), memory_limit_bytes=50_000_000)
    with pytest.raises(CellbenchError, match=r"more memory than 0\.05 GB"):
        small.table("SELECT list(range) FROM range(100000000)")


def test_parameters_are_all_there_and_no_more(session: Session) -> None:
    sql = "SELECT count(*) AS n FROM samples WHERE elapsed_s > $s AND crop = $crop"
    assert session.table(sql, s="4.5", crop="224")["n"].to_pylist() == [3]  # text from a command line will do
    with pytest.raises(CellbenchError, match="missing: --param crop"):
        session.table(sql, s=1)
    with pytest.raises(CellbenchError, match="no parameter x"):
        session.table("SELECT 1", x=2)


def test_two_runs_are_compared_series_by_series(tmp_path: Path) -> None:
    later = "20260202T000000Z-ffffff"
    samples = [make_sample(elapsed_s=2.0), make_sample(run_id=later, elapsed_s=3.0, torch_version="9")]
    samples[1]["started_at"] += timedelta(days=30)
    samples.append(make_sample(run_id=later, crop="448"))
    found = Session(make_store(tmp_path, samples))
    rows = found.table("SELECT crop, ratio FROM compare($a, $b)", a=RUN_ID, b=later).to_pylist()
    assert rows == [{"crop": "224", "ratio": 1.5}, {"crop": "448", "ratio": None}]
    [key] = set(found.table("SELECT series_key FROM latest WHERE crop = '224'")["series_key"].to_pylist())
    assert found.table("SELECT median_s FROM history($key)", key=key)["median_s"].to_pylist() == [2.0, 3.0]
    assert found.table("SELECT median_s FROM latest WHERE crop = '224'")["median_s"].to_pylist() == [3.0]


def test_two_devices_are_compared_on_the_same_work(session: Session) -> None:
    rows = session.table("SELECT crop, ratio FROM compare_devices('cuda:0', 'cpu')").to_pylist()
    assert rows == [{"crop": "224", "ratio": 10.0}]


def test_coverage_names_what_is_missing(tmp_path: Path) -> None:
    samples = [make_sample(crop=crop, device=device) for device in ("cpu", "cuda:0") for crop in ("224", "448")]
    samples[3] |= {"status": "crash", "elapsed_s": None, "error_message": "dead"}
    samples += [make_sample(crop="full"), make_sample(crop="224", role="memory")]
    rows = Session(make_store(tmp_path, samples)).table("SELECT * FROM coverage ORDER BY device, crop").to_pylist()
    assert [(row["device"], row["crop"], row["covered"], row["passes"]) for row in rows] == [
        ("cpu", "224", "measured", "memory"), ("cpu", "448", "measured", ""), ("cpu", "full", "measured", ""),
        ("cuda:0", "224", "measured", ""), ("cuda:0", "448", "failed", ""), ("cuda:0", "full", "missing", ""),
    ]  # fmt: skip


@pytest.mark.slow
def test_every_column_of_every_view_has_a_meaning(session: Session) -> None:
    output = session.table(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    ).to_pylist()
    assert {row["table_name"] for row in output} >= {"samples", *VIEWS}
    assert [
        row for row in output if not row["comment"] and row["table_name"] not in ("stored_samples", "published_means")
    ] == []


def test_which_run(session: Session, tmp_path: Path) -> None:
    assert which_run(session, None) == RUN_ID
    assert which_run(session, RUN_ID) == RUN_ID
    with pytest.raises(CellbenchError, match=RUN_ID):
        which_run(session, "nope")
    with pytest.raises(CellbenchError, match="no results"):
        which_run(Session(Store.make(tmp_path / "empty")), None)


# ------------------------------------------------------------------ one run of many, and many rows

OLDER, NEWER = "20260101T000000Z-aaaaaa", "20260401T000000Z-bbbbbb"


def turn_a_bit(file: Path, column: str) -> None:
    """Damage one page within a file, which its footer does not tell."""
    found = pq.ParquetFile(file).metadata.row_group(0).column(schema.ARROW.names.index(column))
    content = bytearray(file.read_bytes())
    content[found.data_page_offset + found.total_compressed_size - 3] ^= 1
    file.write_bytes(content)


@pytest.fixture
def two_runs(tmp_path: Path) -> Store:
    return make_store(tmp_path, [make_sample(run_id=run, elapsed_s=s) for run, s in ((OLDER, 1.0), (NEWER, 2.0))])


@pytest.mark.parametrize("choice", [OLDER, NEWER, None])
def test_a_session_of_one_run_leaves_the_others_unread(two_runs: Store, choice: str | None) -> None:
    session, run = Session.of_run(two_runs, choice)
    assert run == (choice or NEWER)
    assert session.table("SELECT DISTINCT run_id FROM samples")["run_id"].to_pylist() == [run]


def test_a_session_of_one_run_finds_it_in_a_compacted_file(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample(run_id=run) for run in (OLDER, RUN_ID, NEWER)])
    assert [month.n_files for month in store.compact()] == [2]
    assert scan.runs(store.opened()) == {OLDER, RUN_ID, NEWER}
    session, run = Session.of_run(store, RUN_ID)
    assert session.table("SELECT n FROM medians WHERE run_id = $run", run=run)["n"].to_pylist() == [1]
    with pytest.raises(CellbenchError, match="there is no run nope"):
        Session.of_run(store, "nope")


def test_runs_are_known_without_statistics(two_runs: Store) -> None:
    for file in two_runs.files():
        pq.write_table(pq.ParquetFile(file).read(), file, write_statistics=False)
    assert scan.runs(two_runs.opened()) == {OLDER, NEWER}
    session, run = Session.of_run(two_runs, OLDER)
    assert session.table("SELECT elapsed_s FROM samples WHERE run_id = $run", run=run)["elapsed_s"].to_pylist() == [1.0]


@pytest.mark.parametrize("column", ["run_id", "elapsed_s"])
def test_where_the_latest_run_is_damaged_the_one_before_is_the_latest(two_runs: Store, column: str) -> None:
    turn_a_bit(Path(two_runs.files()[1]), column)
    with pytest.warns(StoreWarning, match="not what was written"):
        session, run = Session.of_run(two_runs, None)
    assert run == OLDER
    assert session.table("SELECT run_id FROM samples")["run_id"].to_pylist() == [OLDER]


def test_damage_in_another_run_is_left_for_whoever_reads_that(two_runs: Store) -> None:
    turn_a_bit(Path(two_runs.files()[0]), "elapsed_s")
    assert Session.of_run(two_runs, None)[1] == NEWER
    assert len(two_runs.files()) == 2


def test_a_large_store_passes_by_files_whose_footers_exclude_what_is_asked(two_runs: Store) -> None:
    files = two_runs.opened()
    both, samples = scan.streamed(files), scan.dataset(files).to_table()
    assert len(list(both.get_fragments(filter=pc.field("run_id") == OLDER))) == 1
    last = max(samples["started_at"].to_pylist())
    assert len(list(both.get_fragments(filter=pc.field("started_at") <= last))) == 2
    assert list(both.get_fragments(filter=pc.field("started_at") > last)) == []
    unsaid = pq.ParquetFile(files[0].path).read()
    pq.write_table(unsaid, files[0].path, write_statistics=False)
    assert len(list(scan.streamed(two_runs.opened()).get_fragments(filter=pc.field("run_id") == NEWER))) == 2


@pytest.mark.parametrize("view", ["samples", *VIEWS])
def test_a_large_store_is_streamed_and_answers_the_same(
    view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = {"backend": "cuda", "device": "cuda:0", "device_name": "GPU"}
    samples = [make_sample(repetition=i, elapsed_s=s, **on) for i, s in enumerate(CPU_S) for on in ({}, gpu)]
    samples += [make_sample(elapsed_s=None, status="crash", run_id=NEWER), *stage_samples(ON_CPU, {"224": 1.0})]
    store = make_store(tmp_path, samples)
    sql = f"SELECT * FROM {view} ORDER BY ALL"
    held = Session(store).table(sql)
    monkeypatch.setattr(session_module, "HELD_ROWS", -1)
    streamed = Session(store).table(sql)
    assert streamed.equals(held)


def test_a_view_that_is_held_is_narrow_and_whole_again_afterwards(tmp_path: Path) -> None:
    found = Session(make_store(tmp_path, [make_sample(run_id=RUN_ID), make_sample(run_id=f"{RUN_ID}2", elapsed_s=2.0)]))
    everything = found.table("SELECT * FROM medians ORDER BY run_id")
    with found.holding("medians", f"run_id = '{RUN_ID}'"):
        assert found.table("SELECT * FROM medians") == everything.slice(0, 1)
        assert found.table("SELECT * FROM latest")["run_id"].to_pylist() == [RUN_ID]
    assert found.table("SELECT * FROM medians ORDER BY run_id") == everything
    assert found.table("SELECT * FROM latest")["run_id"].to_pylist() == [f"{RUN_ID}2"]

"""The named queries and the query command, on a real store."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError
from harness.query import Session
from harness.query.named import QUERIES, find
from harness.store import Store
from harness.terminal import prompt
from tests.conftest import RUN_ID, make_sample, make_store
from tests.staged import ON_CPU, stage_samples

LATER = "20260202T000000Z-ffffff"
GPU = {"backend": "cuda", "device": "cuda:0", "device_name": "GPU", "mask_sha256": "3" * 64, "n_cells": 4}


def case(side_px: int, elapsed_s: float, **columns: object) -> dict[str, object]:
    return make_sample(crop=str(side_px), height_px=side_px, width_px=side_px, elapsed_s=elapsed_s, **columns)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs of a CPU and a GPU, the second one slower and with a newer torch, a failure and every pass."""
    samples = [case(side, s, repetition=i) for side, s in ((224, 1.0), (448, 4.0), (896, 16.0)) for i in range(3)]
    samples += [case(side, s, **GPU) for side, s in ((224, 2.0), (448, 2.0))]
    samples += [case(896, 0.0, **GPU) | {"elapsed_s": None, "status": "oom_device", "error_type": "OutOfMemory"}]
    samples += [make_sample(role="cold", phase="import", elapsed_s=5.0, crop=None)]
    samples += [case(224, 1.5, repetition=3, flags="load")]
    samples += stage_samples(ON_CPU, {"224": 1.0})
    samples += [case(224, 1.0, role="memory", peak_rss_bytes=2 * 10**9, rss_method="VmHWM")]
    again = [sample | {"run_id": LATER} for sample in samples]
    for sample in again:
        sample |= {"torch_version": "9.0", "started_at": sample["started_at"].replace(month=2)}
        if sample["elapsed_s"] and sample["device"] == "cpu":
            sample["elapsed_s"] *= 2
    return make_store(tmp_path_factory.mktemp("store"), samples + again)


EXPECTED = {
    "fastest-device": {"crop": "448", "device": "cuda:0", "times_the_least": 1.0, "n_processes": 1},
    "gpu-break-even": {"device": "cuda:0", "slower_up_to_px": None, "faster_from_px": 224.0, "n_processes": 1},
    "slowest-stage": {"crop": "224", "place": 1, "stage": "network", "share": 0.88},
    "version-effect": {"crop": "224", "device": "cpu", "torch_version": "9.0", "ratio_to_before": 2.0},
    "noisiest-cases": {"crop": "224", "device": "cpu", "n": 4, "n_flagged": 1},
    "start-up": {"phase": "import", "median_s": 10.0},
    "flag-effect": {"flags": "load", "n": 1, "median_ratio": 1.5},
    "mask-differences": {"crop": "224", "n_different_masks": 2, "least_cells": 3, "most_cells": 4},
    "failure-causes": {"status": "oom_device", "error_type": "OutOfMemory", "n": 2},
    "missing-cases": {"device": "cuda:0", "crop": "896", "covered": "failed"},
    "throughput": {"device": "cuda:0", "crop": "448", "images_per_hour": 1800.0},
    "memory-need": {"crop": "224", "method": "resident, VmHWM", "peak_gb": 2.0, "bytes_per_pixel": None},
    "slower-than-before": {"device": "cpu", "crop": "224", "ratio": 2.0, "newest_run": LATER},
}


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("name", QUERIES)
def test_a_named_query_answers(store: Store, name: str) -> None:
    named = QUERIES[name]
    rows = Session(store).table(named.sql, **dict(named.defaults)).to_pylist()
    assert [row for row in rows if EXPECTED[name].items() <= row.items()], rows


@pytest.mark.parametrize(
    ("cpu_s", "ends"),  # the accelerator takes 2 s at 224, 448 and 896 px
    [
        ((1.0, 4.0, 16.0), (224.0, 448.0)),
        ((4.0, 4.0, 4.0), (None, 224.0)),
        ((1.0, 1.0, 1.0), (896.0, None)),
        ((1.6, 2.6, 1.8), (896.0, None)),
        ((4.0, 1.0, 4.0), (448.0, 896.0)),
    ],
)
def test_the_break_even_is_a_measured_size(
    tmp_path: Path, cpu_s: tuple[float, float, float], ends: tuple[float | None, float | None]
) -> None:
    sides = (224, 448, 896)
    samples = [case(side, s) for side, s in zip(sides, cpu_s, strict=True)] + [case(side, 2.0, **GPU) for side in sides]
    [row] = Session(make_store(tmp_path, samples)).table(QUERIES["gpu-break-even"].sql, run=RUN_ID).to_pylist()
    assert (row["slower_up_to_px"], row["faster_from_px"]) == ends


def test_memory_is_a_slope_over_the_sizes_of_each_method(tmp_path: Path) -> None:
    samples = [
        case(side, 1.0, role="memory", peak_rss_bytes=2 * 10**9 + 100 * side**2, rss_method="VmHWM",
             cuda_reserved_bytes=10**8 + 900 * side**2, **GPU)
        for side in (224, 448, 896)
    ]  # fmt: skip
    rows = Session(make_store(tmp_path, samples)).table(QUERIES["memory-need"].sql, run=RUN_ID).to_pylist()
    assert {(row["method"], row["bytes_per_pixel"], row["fixed_gb"]) for row in rows} == {
        ("resident, VmHWM", 100, 2.0), ("CUDA, reserved by torch", 900, 0.1)
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("name", QUERIES)
def test_a_named_query_works_on_an_empty_store(tmp_path: Path, name: str) -> None:
    named = QUERIES[name]
    assert Session(Store.make(tmp_path)).table(named.sql, **dict(named.defaults)).num_rows == 0


def test_one_word_is_a_name_and_everything_else_is_sql() -> None:
    assert find("throughput") is QUERIES["throughput"]
    assert find(" failures\n").sql == "SELECT * FROM failures"
    assert find("SELECT 1").sql == "SELECT 1"
    with pytest.raises(CellbenchError, match="no query or view 'fastest'"):
        find("fastest")


# ------------------------------------------------------------------ the command


def query(store: Store, *words: object, stdin: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["query", *map(str, words), "--out", str(store.root)], input=stdin)
    if isinstance(done.exception, CellbenchError):
        return 2, done.stdout, str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_lists_prints_and_asks(store: Store, tmp_path: Path) -> None:
    listed = json.loads(query(store, "--list", "--json")[1])
    assert [row["query"] for row in listed] == list(QUERIES)
    assert query(store, "throughput", "--sql")[1].strip() == QUERIES["throughput"].sql
    assert json.loads(query(store, "start-up", "--json", "--param", f"run={RUN_ID}")[1])[0]["median_s"] == 5.0
    assert json.loads(query(store, "-", "--json", stdin="SELECT 1 AS x")[1]) == [{"x": 1}]
    assert query(store, "SELECT sum(1) AS n, [1, 2] AS l", "--csv")[1] == '"n","l"\n1,"[1, 2]"\n'
    code, shown, output = query(store, "FROM range(1000)", "--limit", "2")
    assert (code, shown.split(), "first 2 rows" in output) == (0, ["range", "0", "1"], True)
    assert len(query(store, "FROM range(1000)", "--csv")[1].splitlines()) == 1001
    assert query(store, "SELECT crop FROM medians", "--parquet", tmp_path / "x.parquet")[0] == 0
    assert pq.read_table(tmp_path / "x.parquet").column_names == ["crop"]


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ([], "there is no query"),
        (["nope"], "no query or view"),
        (["SELECT $x"], "missing: --param x"),
        (["start-up", "--param", "run=nope"], "there is no run nope"),
        (["SELECT * FROM read_text('/etc/hostname')"], "reads the results and nothing else"),
        (["SELECT 1", "--param", "x"], "name=value"),
        (["SELECT 1", "--json", "--csv"], "more than one output format"),
        (["SELECT sum(a.range) FROM range(10000000000) a", "--time-limit", "0.2"], "took longer"),
        (["SELECT 1", "--parquet", "/nowhere/x.parquet"], "cannot be written"),
    ],
)
def test_what_cannot_be_answered(store: Store, words: list[str], output: str) -> None:
    code, shown, error = query(store, *words)
    assert (code, shown, output in error) == (2, "", True), error


# ------------------------------------------------------------------ the prompt


def test_the_prompt_goes_on_after_a_mistake_and_remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    request, facts = [], []

    def answer(text: str) -> None:
        request.append(text)
        if text == "bad":
            raise CellbenchError("that was wrong")

    with create_pipe_input() as typed:
        typed.send_text("bad\nSELECT 1;\n\nexit\n")
        prompt.ask(answer, facts.append, typed, DummyOutput())
    assert request == ["bad", "SELECT 1"]
    assert facts == [prompt.GREETING, "that was wrong"]
    assert "SELECT 1" in (tmp_path / "cellbench" / "query-history").read_text()


def test_the_prompt_completes_views_and_columns() -> None:
    found = {c.text for c in prompt.completer().get_completions(Document("SELECT med"), None)}  # type: ignore[arg-type]
    assert {"median(", "median_s", "medians"} <= found

"""Out of a store and into one: export, and timings that others took."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError
from harness.query import Session
from harness.store import Store, csv_import
from harness.store.csv_import import Origin
from tests.conftest import RUN_ID, SEED_DATA, make_sample, make_store

THEN = datetime(2024, 8, 31, tzinfo=UTC)
# Numbers that were made up, in the format of the article's script.
ARTICLE = """Processor,Iteration,Area,Model,Diameter,Masks,Calculation_Time,Length
CPU,my_image_0224,50176,cyto3,60.5,4,1.25,224.0
CPU,my_image_2160,5529600,cyto3,61.5,101,50.0,2351.5
GPU,my_image_0224,50176,cyto3,60.5,4,0.5,224.0
GPU,my_image_0224,50176,cyto3,60.5,4,0.25,224.0
"""
SIMPLE = """device,height_px,width_px,elapsed_s,n_cells,node
cpu,224,224,1.5,3,desk
cpu,224,224,1.25,3,desk
cuda:0,2160,2560,2.5,160,desk
"""
REQUEST = Origin("desktop", THEN, "cuda", {"device_name": "RTX 4070"})


def written(folder: Path, text: str) -> Path:
    path = folder / "timings.csv"
    path.write_text(text)
    return path


def run(*words: object) -> tuple[int, str, str]:
    """The command in this process: its exit code, stdout, and what it says of a mistake."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, CellbenchError):
        return done.exception.exit_code, done.stdout, str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def test_the_articles_file_becomes_samples(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "store")
    store.add(csv_import.read(written(tmp_path, ARTICLE), REQUEST))
    rows = Session(store).table("SELECT * FROM samples ORDER BY elapsed_s").to_pylist()
    assert [(r["device"], r["crop"], r["height_px"], r["width_px"], r["n_cells"], r["repetition"]) for r in rows] == [
        ("cuda:0", "224", 224, 224, 3, 1), ("cuda:0", "224", 224, 224, 3, 0), ("cpu", "224", 224, 224, 3, 0),
        ("cpu", "full", 2160, 2560, 100, 0),
    ]  # fmt: skip
    assert {(r["source"], r["protocol"], r["weights"], r["node"], r["device_name"]) for r in rows} == {
        ("imported", "article", "published", "desktop", "RTX 4070")
    }
    assert {r["started_at"] for r in rows} == {THEN}
    assert rows[0]["run_id"].startswith("20240831T000000Z-")
    [gain] = Session(store).table("SELECT * FROM speedups").to_pylist()
    assert gain["speedup"] == 1.25 / 0.375


def test_a_simple_file_becomes_samples_and_nothing_is_invented(tmp_path: Path) -> None:
    rows = csv_import.read(written(tmp_path, SIMPLE), Origin(measured_at=THEN)).to_pylist()
    assert [(r["device"], r["backend"], r["crop"], r["elapsed_s"], r["repetition"]) for r in rows] == [
        ("cpu", "cpu", "224", 1.5, 0), ("cpu", "cpu", "224", 1.25, 1), ("cuda:0", "cuda", "full", 2.5, 0),
    ]  # fmt: skip
    assert {(r["node"], r["source"], r["weights"], r["torch_version"], r["diameter_px"]) for r in rows} == {
        ("desk", "imported", None, None, None)
    }
    assert rows[0]["series_key"] == rows[1]["series_key"] != rows[2]["series_key"]


def test_imported_timings_are_never_in_a_series_with_measured_ones(tmp_path: Path) -> None:
    mine = make_sample(node="desk")
    output = {"device_name": "Some CPU", "cpu_model": "Some CPU"}
    [theirs, *_] = csv_import.read(written(tmp_path, SIMPLE), Origin(measured_at=THEN, columns=output)).to_pylist()
    assert theirs["series_key"] != mine["series_key"]


def test_the_same_file_again_is_no_harm(tmp_path: Path) -> None:
    words = ["import", written(tmp_path, SIMPLE), "--date", "2024-08-31", "--out", tmp_path / "store"]
    assert run(*words)[0] == 0
    code, _, output = run(*words)
    assert (code, "imported before" in output) == (0, True)
    assert Store.at(tmp_path / "store").dataset().count_rows() == 3


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("", "columns are missing: device"),
        ("device,height_px\ncpu,3\n", "columns are missing: elapsed_s, width_px"),
        (ARTICLE.replace("Masks", "Cells"), "columns are missing: Masks"),
        (SIMPLE.replace("n_cells", "cells"), "unknown columns: cells"),
        (SIMPLE.replace("1.25", "-1"), "timings.csv:3: elapsed_s is -1"),
        (SIMPLE.replace("1.25", "nan"), "must be above 0 and finite"),
        (SIMPLE.replace("1.25", "inf"), "must be above 0 and finite"),
        (SIMPLE.replace("1.25", "0"), "must be above 0"),
        (SIMPLE.replace("1.25", "fast"), "not a number"),
        (SIMPLE.replace("1.25", ""), "elapsed_s is empty"),
        (SIMPLE.replace("cuda:0", "tpu"), "'tpu'"),
        (SIMPLE.replace("2160", "21.6"), "whole number"),
        (SIMPLE.replace("desk", ""), "--node NAME"),
        (SIMPLE + "cpu,224\n", "number of fields"),
        (SIMPLE.splitlines()[0], "no rows"),
        (ARTICLE.replace("50176", "50177"), "not a multiple"),
        (ARTICLE.replace(",4,", ",0,"), "Masks is 0"),
        (ARTICLE.replace("GPU", "TPU"), "neither CPU nor GPU"),
    ],
)
def test_a_file_that_makes_no_sense_changes_nothing(tmp_path: Path, text: str, output: str) -> None:
    words = ["import", written(tmp_path, text), "--date", "2024-08-31", "--gpu", "cuda"]
    words += ["--node", "x"] if text.startswith("Proc") else []
    code, _, error = run(*words, "--out", tmp_path / "store")
    assert (code, output in error) == (2, True), error
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["--date", "yesterday"], "not a date like"),
        (["--date", "2024-08-31", "--gpu", "tpu"], "known are cuda, rocm, mps, xpu"),
        (["--date", "2024-08-31", "--set", "run_id=1"], "cannot be given"),
        (["--date", "2024-08-31", "--set", "node"], "name=value"),
        ([], "--date 2024-08-31"),
    ],
)
def test_flags_that_make_no_sense(tmp_path: Path, words: list[str], output: str) -> None:
    code, _, error = run("import", written(tmp_path, SIMPLE), *words, "--out", tmp_path / "store")
    assert (code, output in error) == (2, True), error
    assert not (tmp_path / "store").exists()


def test_files_that_are_no_csv(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00", b'device,height_px,width_px,elapsed_s\n"cpu'):
        (tmp_path / "x.csv").write_bytes(content)
        assert run("import", tmp_path / "x.csv", "--date", "2024-08-31", "--out", tmp_path / "s")[0] == 2
    assert run("import", tmp_path / "none.csv", "--date", "2024-08-31", "--out", tmp_path / "s")[0] == 2
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(not (SEED_DATA / "published_single_run.csv").is_file(), reason="the author's file is not here")
def test_the_authors_own_file(tmp_path: Path) -> None:
    rows = csv_import.read(SEED_DATA / "published_single_run.csv", REQUEST).to_pylist()
    assert len(rows) == 20
    assert {row["crop"] for row in rows} >= {"224", "2016", "full"}
    full = [row for row in rows if row["crop"] == "full"]
    assert {(row["height_px"], row["width_px"]) for row in full} == {(2160, 2560)}


# ------------------------------------------------------------------ export


@pytest.fixture
def store(tmp_path: Path) -> Path:
    samples = [make_sample(repetition=i, elapsed_s=1 + i / 3, error_message='a "b", c\nü') for i in range(3)]
    make_store(tmp_path / "store", [*samples, make_sample(run_id="20260202T000000Z-ffffff")])
    return tmp_path / "store"


def test_an_exported_parquet_file_is_a_store_again(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "other" / "samples" / "x.parquet"
    target.parent.mkdir(parents=True)
    assert run("export", "--out", store, "--to", target)[0] == 0
    assert Store.at(tmp_path / "other").dataset().to_table().equals(Store.at(store).dataset().to_table())


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.arrow", "x.parquet"])
def test_every_format_holds_the_same(store: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert run("export", "--out", store, "--run", RUN_ID, "--to", path)[0] == 0
    read = {
        "csv": lambda: pyarrow.csv.read_csv(
            path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
        ).to_pylist(),
        "json": lambda: json.loads(path.read_text()),
        "arrow": lambda: pyarrow.ipc.open_file(path).read_all().to_pylist(),
        "parquet": lambda: pq.read_table(path).to_pylist(),
    }[path.suffix[1:]]
    rows = read()
    assert [(row["repetition"], row["elapsed_s"]) for row in rows] == [(i, 1 + i / 3) for i in range(3)]
    assert {row["error_message"] for row in rows} == {'a "b", c\nü'}
    assert rows[0]["precision"] in (None, "")
    assert [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_exports_that_cannot_be(store: Path, tmp_path: Path) -> None:
    for words, output in (
        (["--to", tmp_path / "x.xls"], "unknown format"),
        (["--to", tmp_path / "x.csv", "--run", "nope"], "no run nope"),
        (["--to", tmp_path / "none" / "x.csv"], "cannot be written"),
    ):
        code, _, error = run("export", "--out", store, *words)
        assert (code, output in error) == (2, True), error
    assert os.listdir(tmp_path) == ["store"]

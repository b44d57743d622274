"""The reference set next to one's own results: equal work on equal hardware is compared, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from harness.charts import catalogue, rendering
from harness.cli.app import app
from harness.query import Session
from harness.report import html_report, markdown
from harness.results import answers, others, reference_set, scope, sentences, tables
from harness.results.findings import SameHardware
from harness.results.tables import Tables
from harness.schema import Sample
from harness.store import reference
from harness.submissions import form
from tests import refute, submitted
from tests.conftest import make_sample, make_store

GPU = {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA H200", "workload": "cellpose"}
CPU = {"backend": "cpu", "device": "cpu", "device_name": "AMD EPYC", "workload": "cellpose"}
FAR = {"run_id": "20250101T000000Z-cccccc", "node": "far", "machine_id": "f" * 16}
# A value that makes another work of the same sample; every column of KIND has one.
OTHER_WORK = {
    "workload": "simulated", "engine": "cellpose4", "model": "cyto2", "weights": "custom", "weights_sha256": "b" * 64,
    "size_model_sha256": "b" * 64, "image_sha256": "b" * 64, "diameter_asked_px": 55.0, "result_variant": "overlap=0.5",
    "protocol": "article", "protocol_version": 99, "variant": "lossless", "batch_size": 3, "dtype": "bfloat16",
}  # fmt: skip
OTHER_HARDWARE = {
    "another card": (GPU, {"device_name": "NVIDIA H100"}),
    "another backend": (GPU, {"backend": "rocm"}),
    "more threads": (CPU, {"torch_threads": 64}),
    "more cores": (CPU, {"n_cores": 64}),
    "other instructions": (CPU, {"instruction_set": "AVX2"}),
    "unknown instructions": (CPU, {"instruction_set": None}),
    "unknown cores": (CPU, {"n_cores": None}),
    "unknown threads": (CPU, {"torch_threads": None}),
}


def calls(seconds: float, sides: tuple[int, ...] = (224, 448), processes: int = 2, **columns: Any) -> list[Sample]:
    return [
        make_sample(**{
            "crop": str(side), "height_px": side, "width_px": side, "block": block, "repetition": i,
            "elapsed_s": seconds * (side / 224) ** 2 * (1 + 0.1 * block + 0.01 * i), "instruction_set": "AVX512",
            **columns,
        })
        for side in sides for block in range(processes) for i in range(3)
    ]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stores of one's own rows and of the set's, as tables."""

    def of(mine: list[Sample], theirs: list[Sample]) -> Tables:
        make_store(tmp_path / "reference", theirs)
        for module, name in ((reference, "FOLDER"), (refute, "REFERENCE")):
            monkeypatch.setattr(module, name, tmp_path / "reference")
        session = Session(make_store(tmp_path / "own", mine))
        return tables.load(session, scope.resolve(session))

    return of


def test_equal_work_on_equal_hardware_is_compared_in_one_sentence(own: Any, tmp_path: Path) -> None:
    later = FAR | {"run_id": "20250202T000000Z-dddddd"}
    data = own(calls(1.0, **GPU), calls(1.2, **GPU, **FAR) + calls(3.0, (448,), **GPU, **later))
    [found] = answers.same_hardware(data)
    assert (found.hardware, found.size, found.n, found.n_runs, found.own_n) == ("NVIDIA H200", "448 px", 12, 2, 6)
    assert found.own_s == pytest.approx(4 * 1.06, rel=0.01)
    assert (found.least_s, found.most_s) == (pytest.approx(4 * 1.2), pytest.approx(4 * 3.0 * 1.12))
    text = sentences.sentence(found)
    assert text.startswith("Reference set, another machine with this hardware (NVIDIA H200): ")
    assert "n = 12 in 2 runs of 1 submitter)" in text
    assert "interval" not in text
    assert refute.refuted(refute.Raw.of(tmp_path / "own"), found, text) == []


def test_a_wrong_comparison_is_refuted(own: Any, tmp_path: Path) -> None:
    data = own(calls(1.0, **CPU), calls(1.2, **CPU, **FAR))
    [found] = answers.same_hardware(data)
    raw = refute.Raw.of(tmp_path / "own")
    assert refute.refuted(raw, found) == []
    for wrong in (
        {"value_s": 9.0},
        {"own_s": 9.0},
        {"n": 7},
        {"n_runs": 2},
        {"n_submitters": 2},
        {"least_s": 0.1},
        {"most_s": 99.0},
    ):
        assert refute.refuted(raw, SameHardware(**vars(found) | wrong)), wrong


def test_the_table_of_other_work_is_complete() -> None:
    assert OTHER_WORK.keys() == set(reference_set.KIND)


@pytest.mark.parametrize("column", reference_set.KIND)
def test_other_work_is_never_compared(column: str, own: Any) -> None:
    data = own(calls(1.0, **GPU), calls(1.2, **GPU | FAR | {column: OTHER_WORK[column]}))
    assert answers.same_hardware(data) == []
    assert data.reference == ()


@pytest.mark.parametrize("kind", OTHER_HARDWARE)
def test_other_hardware_is_not_called_the_same(kind: str, own: Any) -> None:
    device, other = OTHER_HARDWARE[kind]
    data = own(calls(1.0, **device), calls(1.2, **device | FAR | other))
    assert len(data.reference) == 2  # shown, for the work is equal
    assert answers.same_hardware(data) == []


def test_a_size_that_only_one_side_has_is_not_compared(own: Any) -> None:
    assert answers.same_hardware(own(calls(1.0, (224,), **GPU), calls(1.2, (448,), **GPU, **FAR))) == []


@pytest.mark.parametrize("source", ["measured", "imported"])
def test_ones_own_runs_and_imported_ones_are_not_compared_with_the_set(source: str, own: Any) -> None:
    theirs = {} if source == "measured" else FAR
    assert own(calls(1.0, **GPU, source=source), calls(1.0, **GPU | theirs)).reference == ()


def test_figures_show_the_set_as_marked_series_without_rank(own: Any) -> None:
    data = own(calls(1.0, **GPU), calls(1.2, **GPU, **FAR) + calls(9.0, **CPU, **FAR))
    for name in ("time", "throughput"):
        spec = rendering.as_dict(catalogue.figure(name).chart(data))
        shown = {row["series"]: row for row in spec["data"]["values"] if row["series"].startswith("reference: ")}
        assert len(shown) == 2
        assert all(row["published"] and row["dash"] for row in shown.values())
        assert any(others.MARKS[others.REFERENCE] in note for note in spec["usermeta"]["notes"])
    bars = rendering.as_dict(catalogue.figure("ranking").chart(data))["data"]["values"]
    assert [row["rank"] for row in bars if others.REFERENCE in row["title"]] == ["–", "–"]
    captions = catalogue.figure("time").numbers(data)["Time"].groups
    assert "reference: NVIDIA H200 (cuda:0): medians" in captions


def test_a_figure_shows_few_series_of_a_large_set_and_like_hardware_first(own: Any) -> None:
    crowd = [row for n in range(9) for row in calls(0.1 + n, **GPU | FAR | {"device_name": f"Card {n}"})]
    data = own(calls(1.0, **GPU), crowd + calls(99.0, **GPU, **FAR))
    names = list(dict.fromkeys(row["series"] for row in others.times(data) if row["mark"] == others.REFERENCE))
    assert len(names) == others.N_SERIES
    assert "NVIDIA H200" in names[0]
    assert "Card 0" in names[1]


def test_other_work_of_one_store_is_not_ranked_with_the_set(own: Any) -> None:
    lossless = calls(0.5, (224,), **GPU, variant="lossless")
    data = own(calls(1.0, **GPU) + lossless, calls(1.2, **GPU, **FAR) + calls(0.6, **GPU, **FAR, variant="lossless"))
    bars = rendering.as_dict(catalogue.figure("ranking").chart(data))["data"]["values"]
    assert sum(others.REFERENCE in row["title"] for row in bars) == 1


def test_submissions_count_as_submitters_unless_they_are_flagged_or_ones_own(own: Any, tmp_path: Path) -> None:
    mine = submitted.rows(number="f" * 12)
    for i, scale in enumerate((1.1, 1.2, 1.3, 1.4, 1.0)):
        number = submitted.number_of(i)
        rows = [{**row, "elapsed_s": row["elapsed_s"] * scale} for row in submitted.rows(number=number)]
        submitted.write(tmp_path / "reference", pa.Table.from_pylist(rows, form.SCHEMA), number)
    flag = f'[[flag]]\nid = "{submitted.number_of(2)}"\nreason = "x"\ndate = 2026-11-28\n'
    same = f'[[same_submitter]]\nids = ["{submitted.number_of(0)}", "{submitted.number_of(1)}"]\n'
    (tmp_path / "reference" / "flags.toml").write_text(flag + same)
    found = answers.same_hardware(own(mine, calls(1.0, **GPU, **FAR)))[-1]
    assert (found.n_runs, found.n_submitters, found.n) == (3, 2, 18)
    shortest = min(row["elapsed_s"] for row in mine if row["crop"] == "full")
    assert found.least_s == pytest.approx(1.1 * shortest)
    assert "n = 18 in 3 runs of 2 submitters" in sentences.sentence(found)


def test_the_report_and_the_estimate_compare(own: Any, tmp_path: Path) -> None:
    own(calls(1.0, **GPU), calls(1.2, **GPU, **FAR))
    folder = tmp_path / "own"
    session = Session(make_store(tmp_path / "copy", calls(1.0, **GPU)))
    report = markdown.text(html_report.prepare(session, scope.resolve(session)))
    assert "another machine with this hardware (NVIDIA H200)" in report
    without = markdown.text(html_report.prepare(session, scope.resolve(session), with_published=False))
    assert "Reference set, another" not in without
    words = ["estimate", "5", "--size", "224", "--out", str(folder)]
    assert "another machine with this hardware (NVIDIA H200)" in CliRunner().invoke(app, words).stderr
    [same] = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["same_hardware"]
    assert (same["size"], same["n_runs"]) == ("224 px", 1)
    assert "Reference set, another" not in CliRunner().invoke(app, [*words, "--no-reference"]).stderr

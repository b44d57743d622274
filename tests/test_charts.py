"""The figures: structure, honesty, formats. The store behind them is real, its rows are simulated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import charts, published, report
from harness.charts import NAMES, Tables
from harness.errors import CellbenchError
from tests.conftest import CPU, CUDA, HOSTILE, simulated


def _tables(folder: Path, *machines: dict[str, Any], with_published: bool = True) -> Tables:
    return report.tables(simulated(folder, list(machines)), None, with_published)


def _subtitle(spec: dict[str, Any]) -> str:
    return " ".join(spec["title"]["subtitle"])


def _series(spec: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in spec["data"]["values"]))


def _marks(spec: dict[str, Any]) -> list[str]:
    return [layer["mark"]["type"] for layer in spec["layer"]]


def test_time_shows_medians_spread_and_every_repetition(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU, CUDA)
    spec = charts.time_by_length(tables).to_dict()
    assert _marks(spec) == ["line", "point", "rule", "point"]
    assert len(spec["layer"][1]["data"]["values"]) == tables.timed.num_rows == 20
    own = [row for row in spec["data"]["values"] if not row["published"]]
    assert [row["value"] for row in own] == tables.medians["median_s"].to_pylist()
    assert [row["q1"] for row in own] == tables.medians["q1_s"].to_pylist()
    assert own[1]["length"] == pytest.approx(2351.5, abs=0.1)


def test_scale_is_switched_inside_the_chart_and_starts_as_asked(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU)
    values = {name: next(p["value"] for p in charts.draw(name, tables).to_dict()["params"] if p["name"] == "yscale")
              for name in ("time", "time-log")}  # fmt: skip
    assert values == {"time": "linear", "time-log": "log"}


def test_published_series_are_marked_and_can_be_left_out(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU, CUDA)
    for draw in NAMES.values():
        shown = draw(tables).to_dict()
        others = [row for row in shown["data"]["values"] if row["published"]]
        assert {row["series"] for row in others} >= {"NVIDIA RTX 4070, CUDA (published)", "Apple M1, MPS (published)"}
        assert all(row["series"].endswith("(published)") and row["dash"] for row in others)
        assert "show_published" in {param["name"] for param in shown["params"]}
        assert "(published)" not in json.dumps(draw(replace(tables, published=None)).to_dict())


def test_ratios_are_those_of_the_view_with_a_rule_at_the_cpu(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU, CUDA, with_published=False)
    for draw, column, baseline in ((charts.speedup, "speedup", 1), (charts.percent_of_cpu, "percent_of_cpu", 100)):
        spec = draw(tables).to_dict()
        assert [row["value"] for row in spec["data"]["values"]] == tables.speedups[column].to_pylist()
        assert spec["layer"][0]["data"]["values"] == [{"y": baseline}]
        assert spec["layer"][1]["encoding"]["y"]["scale"]["zero"] == {"expr": "true"}


def test_a_series_looks_the_same_in_every_figure(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU, CUDA)
    looks = []
    for draw in (charts.time_by_length, charts.speedup):
        scale = draw(tables).to_dict()["layer"][-1]["encoding"]["shape"]["scale"]
        looks.append(dict(zip(scale["domain"], scale["range"], strict=True)))
    assert looks[1].items() <= looks[0].items()


def test_the_picture_says_what_limits_it(tmp_path: Path) -> None:
    tables = _tables(tmp_path, {**CPU, "repeats": 3}, {**CPU, "protocol": "article"}, {**CUDA, "failed": True})
    said = _subtitle(charts.time_by_length(tables).to_dict())
    for note in ("simulated workload", "stand-in weights", "synthetic image", "few repetitions (n = 3)",
                 "10 failed repetitions excluded", "mixed protocols: article, standard", "without spread",
                 "model construction not included"):  # fmt: skip
        assert note in said.replace("\u00a0", " ")


def test_honest_data_needs_no_caution(tmp_path: Path) -> None:
    real = {**CPU, "workload": "cellpose", "weights": "published", "image": "x.tif", "image_is_synthetic": False}
    assert charts.notes(_tables(tmp_path, real, with_published=False)) == []


def test_series_names_hold_what_differs_and_nothing_else(tmp_path: Path) -> None:
    one = charts.time_by_length(_tables(tmp_path / "1", CPU, CUDA, with_published=False)).to_dict()
    assert _series(one) == ["Intel i7-8086K (cpu, 6 threads)", "NVIDIA RTX 4070 (cuda:0)"]
    both = [CPU, {**CPU, "node": "b"}, {**CPU, "protocol": "article"}]
    several = charts.time_by_length(_tables(tmp_path / "2", *both, with_published=False)).to_dict()
    assert set(_series(several)) == {
        f"{place} · Intel i7-8086K (cpu, 6 threads), {protocol}"
        for place, protocol in (("desktop", "standard"), ("desktop", "article"), ("b", "standard"))
    }


def test_without_an_accelerator_the_figure_says_so(tmp_path: Path) -> None:
    spec = charts.speedup(_tables(tmp_path / "with", CPU)).to_dict()
    assert "no accelerator was measured here" in _subtitle(spec)
    assert len(_series(spec)) == 2
    empty = charts.speedup(_tables(tmp_path / "without", CPU, with_published=False)).to_dict()
    assert _marks(empty) == ["text"]
    assert "no accelerator" in empty["data"]["values"][0]["text"]


def test_only_failures_make_an_empty_figure_with_the_reason(tmp_path: Path) -> None:
    tables = _tables(tmp_path, {**CPU, "failed": True}, with_published=False)
    for draw in NAMES.values():
        spec = draw(tables).to_dict()
        assert _marks(spec) == ["text"]
        assert "10 failed repetitions excluded" in _subtitle(spec).replace("\u00a0", " ")


def test_screen_readers_get_a_description(tmp_path: Path) -> None:
    tables = _tables(tmp_path, CPU, CUDA)
    for draw in NAMES.values():
        assert "NVIDIA RTX 4070 (cuda:0)" in draw(tables).to_dict()["description"]


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.png", b"\x89PNG"), ("a.svg", b"<svg"), ("a.pdf", b"%PDF"), ("a.json", b"{"), ("a.html", b"<!doctype")],
)
def test_save_every_format(tmp_path: Path, name: str, start: bytes) -> None:
    chart = charts.time_by_length(_tables(tmp_path / "store", HOSTILE, CUDA))
    content = charts.save(chart, tmp_path / name).read_bytes()
    assert content.lstrip().startswith(start)
    assert b"cdn.jsdelivr" not in content
    assert b"</script><b>" not in content or name == "a.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "store"])


@pytest.mark.parametrize("name", ["a.gif", "a", "missing/a.svg"])
def test_save_explains_what_it_cannot_write(tmp_path: Path, name: str) -> None:
    chart = charts.time_by_length(_tables(tmp_path / "store", CPU))
    with pytest.raises(CellbenchError, match="cannot be written"):
        charts.save(chart, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_unknown_figure(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="time-log"):
        charts.draw("pie", _tables(tmp_path, CPU))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz", "Intel Core i7-8086K"),
        ("AMD EPYC 9R14 96-Core Processor", "AMD EPYC 9R14"),
        ("NVIDIA GeForce RTX 4070", "NVIDIA GeForce RTX 4070"),
        ("CPU", "CPU"),
        (None, "unknown"),
    ],
)
def test_short_name(name: str | None, short: str) -> None:
    assert charts.short_name(name) == short


def test_published_means_are_the_articles() -> None:
    means = published.means().to_pylist()
    assert len(means) == 40
    full = {row["device_name"]: row["speedup"] for row in published.speedups(published.means()).to_pylist()
            if row["height_px"] == 2160}  # fmt: skip
    assert full == {"NVIDIA RTX 4070": pytest.approx(60.92 / 5.33), "Apple M1": pytest.approx(67.38 / 19.57)}

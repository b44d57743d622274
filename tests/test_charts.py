"""The figures: structure and honesty. The store behind them is real, its rows are simulated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.charts import agreement_chart, catalogue, rendering, stage_chart
from harness.cli.app import app
from harness.errors import CellbenchError
from harness.judge import alarms, annotations
from harness.query import Session, reference_timings
from harness.report import html_report
from harness.results import scope, stage_catalogue
from harness.results import tables as store_tables
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.terminal import run_tables
from tests import nights
from tests.conftest import CPU, CUDA, make_sample, make_store, simulated
from tests.staged import ON_CPU, ON_GPU, stage_samples

LINES = ("time", "percent-of-cpu", "speedup")
LARGER = [make_sample(crop="448", height_px=448, width_px=448, elapsed_s=4.0)]  # a figure has two values at least


@pytest.fixture(scope="module")
def tables_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tables]:
    """The tables of these machines: loaded once, since they are only read."""

    @cache
    def loaded(machines: str) -> Tables:
        return _of(simulated(tmp_path_factory.mktemp("store"), json.loads(machines)), with_published=True)

    @cache
    def without_published(machines: str) -> Tables:
        return replace(loaded(machines), published=None)

    return lambda *machines, with_published=True: (loaded if with_published else without_published)(
        json.dumps(machines)
    )


def _of(session: Session, with_published: bool = False) -> Tables:
    return store_tables.load(session, scope.resolve(session), with_published)


@cache  # drawing and checking against Vega-Lite's grammar takes a third of a second
def _spec(name: str, tables: Tables) -> dict[str, Any]:
    return catalogue.figure(name).chart(tables).to_dict()


def _subtitle(spec: dict[str, Any]) -> str:
    """Everything that stands around a picture: subtitle and notes."""
    meta = spec.get("usermeta", {})
    return " · ".join([*spec["title"]["subtitle"], *meta.get("notes", ()), *meta.get("cautions", ())])


def _series(spec: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in spec["data"]["values"]))


def _dots(spec: dict[str, Any]) -> dict[str, Any]:
    """The layer of the medians."""
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == "point"][-1]


def _marks(spec: dict[str, Any]) -> list[str]:
    return [layer["mark"]["type"] for layer in spec["layer"]]


def test_time_shows_medians_spread_and_every_repetition(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA)
    spec = _spec("time", tables)
    assert _marks(spec) == ["rule", "point", "rule", "point", "text"]
    assert len(spec["layer"][1]["data"]["values"]) == 20
    own = [row for row in spec["data"]["values"] if not row["published"]]
    assert [row["value"] for row in own] == tables.medians["median_s"].to_pylist()
    assert [row["low"] for row in own] == tables.medians["q1_s"].to_pylist()
    assert own[1]["length"] == pytest.approx(2351.5, abs=0.1)


@pytest.mark.parametrize(("full_s", "scale"), [(9.0, "linear"), (12.0, "log")])
def test_the_axis_begins_logarithmic_where_values_span_a_decade(
    full_s: float, scale: str, tables_of: Callable[..., Tables]
) -> None:
    tables = tables_of({**CPU, "seconds": {"224": 1.05, "full": full_s}}, with_published=False)
    assert next(p["value"] for p in _spec("time", tables)["params"] if p["name"] == "yscale") == scale


def test_published_series_are_marked_and_can_be_left_out(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA)
    for name in LINES:
        shown = _spec(name, tables)
        others = [row for row in shown["data"]["values"] if row["published"]]
        assert {row["series"] for row in others} >= {"NVIDIA RTX 4070, CUDA (published)", "Apple M1, MPS (published)"}
        assert all(row["series"].endswith("(published)") and row["dash"] for row in others)
        assert "show_published" in {param["name"] for param in shown["params"]}
        assert "(published)" not in json.dumps(_spec(name, replace(tables, published=None)))


def test_ratios_are_those_of_the_view_with_a_rule_at_the_cpu(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA, with_published=False)
    for name, column, baseline in (("speedup", "speedup", 1), ("percent-of-cpu", "percent_of_cpu", 100)):
        spec = _spec(name, tables)
        assert [row["value"] for row in spec["data"]["values"]] == tables.speedups[column].to_pylist()
        assert spec["layer"][0]["data"]["values"][0]["value"] == baseline


def test_a_series_looks_the_same_in_every_figure(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA)
    looks = []
    for name in ("time", "speedup"):
        scale = _dots(_spec(name, tables))["encoding"]["shape"]["scale"]
        looks.append(dict(zip(scale["domain"], scale["range"], strict=True)))
    assert looks[1].items() <= looks[0].items()


def test_the_picture_says_what_limits_it(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of({**CPU, "repeats": 3}, {**CPU, "protocol": "article"}, {**CUDA, "failed": True})
    output = _subtitle(_spec("time", tables))
    for note in ("simulated workload", "stand-in weights", "synthetic image", "few repetitions (n = 3)",
                 "10 failed repetitions excluded", "mixed protocols: article and standard", "without spread",
                 "model construction not included"):  # fmt: skip
        assert note in output.replace("\u00a0", " ")


def test_honest_data_needs_no_caution(tables_of: Callable[..., Tables]) -> None:
    real = {**CPU, "workload": "cellpose", "weights": "published", "image": "x.tif", "image_is_synthetic": False}
    assert notes(tables_of(real, with_published=False)) == []


def test_series_names_hold_what_differs_and_nothing_else(tables_of: Callable[..., Tables]) -> None:
    one = _spec("time", tables_of(CPU, CUDA, with_published=False))
    assert _series(one) == ["Intel i7-8086K (cpu, 6 threads)", "NVIDIA RTX 4070 (cuda:0)"]
    both = [CPU, {**CPU, "node": "b"}, {**CPU, "protocol": "article"}]
    several = _spec("time", tables_of(*both, with_published=False))
    assert set(_series(several)) == {
        f"{place} · Intel i7-8086K (cpu, 6 threads), {protocol}"
        for place, protocol in (("desktop", "standard"), ("desktop", "article"), ("b", "standard"))
    }


def test_without_an_accelerator_the_figure_says_so(tables_of: Callable[..., Tables]) -> None:
    with pytest.raises(CellbenchError) as error:
        _spec("speedup", tables_of(CPU))
    assert "no accelerator" in str(error.value.where)


def test_only_failures_make_no_figure(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of({**CPU, "failed": True}, with_published=False)
    for figure in catalogue.FIGURES:
        if figure.draw(tables).chart is None:
            with pytest.raises(CellbenchError, match=f"the figure {figure.name} is not drawn"):
                figure.chart(tables)
    assert {each.name for each in catalogue.FIGURES if each.draw(tables).chart} == {"coverage"}


def test_screen_readers_get_a_description(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA)
    for name in LINES:
        assert "NVIDIA RTX 4070 (cuda:0)" in _spec(name, tables)["description"]


def test_unknown_figure() -> None:
    with pytest.raises(CellbenchError, match="percent-of-cpu"):
        catalogue.figure("pie")


def test_published_means_are_the_articles() -> None:
    means = reference_timings.means().to_pylist()
    assert len(means) == 40
    full = {
        row["device_name"]: row["speedup"]
        for row in reference_timings.speedups(reference_timings.means()).to_pylist()
        if row["height_px"] == 2160
    }
    assert full == {"NVIDIA RTX 4070": pytest.approx(60.92 / 5.33), "Apple M1": pytest.approx(67.38 / 19.57)}


def test_flagged_repetitions_are_drawn_and_counted(tmp_path: Path) -> None:
    samples = [make_sample(repetition=i, flags="load drift" if i == 3 else "") for i in range(5)]
    tables = _of(Session(make_store(tmp_path, [*samples, *LARGER])))
    spec = _spec("time", tables)
    assert len(spec["layer"][1]["data"]["values"]) == 6
    assert "1 of 6 repetitions has a flag (drift 1, load 1) and is included" in _subtitle(spec)
    row = spec["data"]["values"][0]
    assert row["flagged"] == "1 of 5: drift load"
    assert {"repetitions", "precision", "flagged"} <= {each["title"] for each in _dots(spec)["encoding"]["tooltip"]}


def test_tooltips_tell_how_well_a_median_is_known(tmp_path: Path) -> None:
    samples = [make_sample(block=i, elapsed_s=1 + i / 100, stop_reason="precision") for i in range(3)]
    spec = _spec("time", _of(Session(make_store(tmp_path, [*samples, *LARGER]))))
    row = spec["data"]["values"][0]
    assert (row["repetitions"], row["precision"]) == ("3 in 3 processes (precision)", "mean ± 3.2 %")


@pytest.mark.parametrize(("n_flagged", "of"), [((5, 0), "1 of 2 cases"), ((5, 5), "2 cases"), ((4, 4), None)])
def test_a_case_whose_every_repetition_is_flagged_gets_a_caution(
    n_flagged: tuple[int, int], of: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [
        make_sample(crop=crop, repetition=i, flags="load" if i < n else "")
        for crop, n in zip(("224", "448"), n_flagged, strict=True) for i in range(5)
    ]  # fmt: skip
    store = make_store(tmp_path, samples)
    run_tables.print_cases(run_tables.cases(store, None))
    figure = _subtitle(_spec("time", _of(Session(store)))).replace("\u00a0", " ")
    assert (f"every repetition of {of} carries a flag (load)" in figure) == bool(of)
    assert capsys.readouterr().err.count("Every repetition carries a flag") == bool(of)


@pytest.mark.parametrize(
    ("cells", "letters"), [((3, 3), {"A"}), ((0, 0), {"–"}), ((3, 0), {"A", "B"}), ((None, None), {"A"})]
)
def test_equal_masks_without_cells_have_no_letter(
    cells: tuple[int | None, int | None], letters: set[str], tmp_path: Path
) -> None:
    samples = [
        make_sample(**device, n_cells=n, mask_sha256="0" * 64 if n == 0 else "3" * 64)
        for device, n in zip(({}, {"backend": "cuda", "device": "cuda:0", "device_name": "G"}), cells, strict=True)
    ]
    found = agreement_chart.cells(_of(Session(make_store(tmp_path, samples))))
    assert {cell.word for cell in found} == letters


# ------------------------------------------------------------------ the stage pass

DESK = {key: value for key, value in CPU.items() if key != "seconds"}
CARD = {key: value for key, value in CUDA.items() if key != "seconds"}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A CPU and a GPU, timed and taken apart at two sizes."""
    seconds = {"224": 10.0, "full": 100.0}
    samples = [*stage_samples(ON_CPU, seconds, **DESK), *stage_samples(ON_GPU, seconds, **CARD)]
    for device in (DESK, CARD):
        samples += [
            make_sample(**device, elapsed_s=10.0),
            make_sample(**device, crop="full", height_px=2160, width_px=2560),
        ]
    return _of(Session(make_store(tmp_path_factory.mktemp("staged"), samples)))


def _values(spec: dict[str, Any], layer: str) -> list[dict[str, Any]]:
    [found] = [each for each in spec["layer"] if each["name"] == layer]
    return found["data"]["values"]


def test_bars_of_the_stage_pass_stack_all_parts_without_gaps(staged: Tables) -> None:
    parts = _values(_spec("stages", staged), "parts")
    bars = {row["row"]: [each for each in parts if each["row"] == row["row"]] for row in parts}
    assert len(bars) == 4
    assert len(parts) == staged.stages.num_rows
    for bar in bars.values():
        assert bar[0]["begin"] == 0
        assert [each["end"] for each in bar[:-1]] == [each["begin"] for each in bar[1:]]
        assert bar[-1]["end"] == pytest.approx(1)
        assert list(dict.fromkeys(each["pass"] for each in bar)) == ["style", "size", "mask", "none"]
    assert {each["group"] for each in parts} == set(stage_chart.STYLES) - {stage_catalogue.UNKNOWN}


def test_each_pass_is_named_and_its_share_told(staged: Tables) -> None:
    spec = _spec("stages", staged)
    first = [row for row in _values(spec, "passes") if row["row"].startswith("1\t")]
    assert [row["long"].replace("\u00a0", " ") for row in first] == [
        "style pass 61 %", "size pass 14 %", "mask pass 24 %", "outside 1 %"
    ]  # fmt: skip
    assert [row["title"] for row in _values(spec, "headings")] == [
        "Intel i7-8086K (cpu, 6 threads)", "NVIDIA RTX 4070 (cuda:0)"
    ]  # fmt: skip


def test_the_axis_names_size_and_duration(staged: Tables) -> None:
    domain = _spec("stages", staged)["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert domain == [
        "0\t",
        "1\t224 px\t10 s",
        "2\tfull image\t100 s",
        "3\t",
        "4\t224 px\t10 s",
        "5\tfull image\t100 s",
    ]


def test_the_largest_crops_are_drawn_and_the_figure_says_so(tmp_path: Path) -> None:
    from tests.staged import SIZES

    seconds = dict.fromkeys(SIZES, 1.0)
    timed = [make_sample(crop=crop, height_px=h, width_px=w) for crop, (h, w) in SIZES.items()]
    session = Session(make_store(tmp_path, timed + stage_samples(ON_CPU, seconds)))
    spec = _spec("stages", _of(session))
    domain = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert [row.split("\t")[1] for row in domain] == ["", "448 px", "896 px", "1344 px", "full image"]
    assert "the 4 largest crops of each device" in _subtitle(spec).replace("\u00a0", " ")


def test_a_stage_figure_carries_the_same_cautions(staged: Tables) -> None:
    output = _subtitle(_spec("stages", staged)).replace("\u00a0", " ")
    for note in ("simulated workload", "stand-in weights", "synthetic image"):
        assert note in output


def test_without_a_stage_pass_the_figure_says_so(tables_of: Callable[..., Tables]) -> None:
    assert "no stage pass was made" in catalogue.figure("stages").draw(tables_of(CPU)).description


def test_a_stage_pass_of_what_was_never_timed_is_not_drawn(tmp_path: Path) -> None:
    session = Session(make_store(tmp_path, stage_samples(ON_CPU, {"224": 1.0})))
    assert _of(session).stages.num_rows == 0


def _past(folder: Path, **chosen: str) -> Tables:
    """Nine series of ten runs: eight calm ones, with other software since the sixth, one slower at the end."""
    samples = []
    for crop in range(9):
        for night in range(10):
            time_s = (1 + crop) * (1 + night % 3 / 100) * (1.3 if crop == 4 and night > 7 else 1)
            version = "2.12.0" if night < 5 else "2.13.0"
            about = {"crop": str(64 * (crop + 1)), "height_px": 64 * (crop + 1), "torch_version": version}
            samples += nights.timed(nights.run_id(night), [time_s], **about)
    session = Session(nights.store(folder, samples))
    return store_tables.load(session, scope.resolve(session, **chosen), with_published=False)


def _states(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return spec["layer"][-1]["data"]["values"]


def test_history_draws_what_needs_a_look_first_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    spec = _spec("history", _past(tmp_path))
    output = _subtitle(spec).replace("\u00a0", " ")
    for note in ("8 of 9 series", "±50 % a strip", "shaded: where a run was expected", "other software"):
        assert note in output
    assert "accepted" not in output
    assert len({row["strip"] for row in _states(spec)}) == 8
    slow = [row for row in _states(spec) if row["strip"].startswith("320 px")]
    assert [row["state"] for row in slow] == ["learning"] * 5 + ["usual"] * 3 + ["suspect", "alarm"]
    assert [row["run"] for row in slow if row["version"]] == [nights.run_id(5)]
    assert not any(row["beyond"] for row in _states(spec))


def test_history_goes_up_to_the_scope_and_shows_its_band(tmp_path: Path) -> None:
    spec = _spec("history", _past(tmp_path, run=nights.run_id(6)))
    rows = [row for row in _states(spec) if row["strip"].startswith("320 px")]
    assert [row["run"] for row in rows] == [nights.run_id(night) for night in range(7)]
    assert [row["y_low"] is not None for row in rows] == [False] * 5 + [True] * 2
    assert all(row["y_low"] < row["y"] < row["y_high"] for row in rows[5:])


def test_an_accepted_change_is_a_mark_and_a_far_value_stands_at_the_edge(tmp_path: Path) -> None:
    samples = [row for i in range(12) for row in nights.timed(nights.run_id(i), [1.0 if i < 6 else 4.0])]
    session = Session(nights.store(tmp_path, samples))
    annotations.add(tmp_path, alarms.accept(alarms.look(session, []), ["all"], "another card"))
    spec = _spec("history", _of(session))
    rows = _states(spec)
    assert [row["run"] for row in rows if row["accepted"]] == [nights.run_id(6)]
    assert "accepted change" in _subtitle(spec)
    far = _spec("history", _of(Session(nights.store(tmp_path / "far", samples))))
    assert "6 beyond the strip are drawn at its edge" in _subtitle(far).replace("\u00a0", " ")


def test_without_a_second_run_history_says_so(tables_of: Callable[..., Tables]) -> None:
    assert "more than one run" in catalogue.figure("history").draw(tables_of(CPU)).description


@pytest.mark.slow
def test_every_name_becomes_every_kind_of_file(tables_of: Callable[..., Tables]) -> None:
    tables = tables_of(CPU, CUDA)
    for figure in catalogue.FIGURES:
        if figure.draw(tables).chart is None:
            continue
        drawn = figure.chart(tables)
        assert drawn.to_dict()["title"]["text"]
        assert rendering.as_dict(drawn) == drawn.to_dict()
        for kind, begin in {"png": b"\x89PNG", "svg": b"<svg", "json": b"{", "pdf": b"%PDF"}.items():
            assert rendering.picture(drawn, kind).startswith(begin), (figure.name, kind)


ONE_VALUE = {
    "time": ("1.00 s (q1 – q3: 1.00 – 1.00) at 224 × 224 px on Some (cpu, 8 threads)", {}),
    "throughput": ("0.0502 megapixels per second", {}),
    "ranking": ("1 s at 224 × 224 px on Some (cpu, 8 threads), the only device", {}),
    "repetitions": ("1 s at 224 px on Some (cpu, 8 threads)", {}),
    "coverage": ("desk · cpu, 224", {}),
    "memory": ("1.23 GB at 224 × 224 px", {"role": "memory", "peak_rss_bytes": 1_234_000_000, "rss_method": "VmHWM"}),
    "energy": ("2.00 J", {"role": "energy", "energy_gross_j": 8.0, "n_calls": 4, "energy_method": "nvml gpu"}),
}


@pytest.mark.parametrize("name", ONE_VALUE)
def test_a_single_value_is_a_sentence_and_no_picture(name: str, tmp_path: Path) -> None:
    text, of_pass = ONE_VALUE[name]
    samples = [make_sample(), *([make_sample(**of_pass)] if of_pass else [])]
    store = make_store(tmp_path / "store", samples)
    drawing = catalogue.figure(name).draw(_of(Session(store)))
    assert drawing.chart is None
    assert text in drawing.description
    page = html_report.html(html_report.prepare(Session(store), scope.resolve(Session(store)), with_published=False))
    assert f'data-chart="{name}"' not in page
    words = ["chart", name, "--to", str(tmp_path / "x.svg"), "--out", str(tmp_path / "store"), "--no-published"]
    done = CliRunner().invoke(app, words)
    assert text in str(done.exception)
    assert not (tmp_path / "x.svg").exists()


@pytest.mark.parametrize("name", ["time", "throughput", "speedup", "percent-of-cpu"])
def test_a_line_is_broken_where_its_series_lacks_a_size_of_the_figure(name: str, tmp_path: Path) -> None:
    cpu, gpu = {"device_name": "A"}, {"backend": "cuda", "device": "cuda:0", "device_name": "B"}
    other = gpu | {"device": "cuda:1", "device_name": "C"}
    sizes = {224: (cpu, gpu, other), 448: (cpu, gpu), 896: (cpu, gpu, other)}
    whole = _of(Session(make_store(tmp_path / "whole", _sized({side: (cpu, gpu) for side in sizes}))))
    gappy = _of(Session(make_store(tmp_path / "gappy", _sized(sizes))))
    note = "the sizes between were not measured"
    assert note not in _subtitle(_spec(name, whole))
    spec = _spec(name, gappy)
    assert note in _subtitle(spec)
    drawn = rendering.picture(catalogue.figure(name).chart(gappy), "svg").decode()
    assert drawn.count('stroke-dasharray="5,4"') == 1
    assert 'stroke-dasharray="5,4"' not in rendering.picture(catalogue.figure(name).chart(whole), "svg").decode()


def test_a_series_of_others_has_no_line_where_it_lacks_a_size(tmp_path: Path) -> None:
    """Its line is dashed everywhere, so dashes would not tell. The article lacks 300 px, which is measured here."""
    dashed = {}
    for name, sides in (("whole", (224, 448)), ("gappy", (224, 300, 448))):
        store = make_store(tmp_path / name, _sized({side: ({},) for side in sides}))
        data = store_tables.load(Session(store), scope.resolve(Session(store)))
        drawn = rendering.picture(catalogue.figure("time").chart(data), "svg").decode()
        dashed[name] = drawn.count("stroke-dasharray=")
    assert data.published is not None
    others = {(row["device_name"], row["backend"]) for row in data.published.to_pylist()}
    assert dashed["whole"] - dashed["gappy"] == len(others) > 1


def _sized(devices: dict[int, tuple[dict[str, str], ...]]) -> list[Any]:
    return [
        make_sample(**device, crop=str(side), height_px=side, width_px=side, elapsed_s=side**2 / 1e5)
        for side, each in devices.items() for device in each
    ]  # fmt: skip

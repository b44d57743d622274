"""Reports of many machines: hardware first, a few lines a figure, and every case in a table."""

import statistics
from pathlib import Path

import pytest

from harness.charts import agreement_chart, time_charts
from harness.charts.heatmap import N_DEVICES, Cell, _folded
from harness.query import Session
from harness.report import html_report
from harness.results import answers, many_machines, scope, sentences, tables
from harness.results.findings import HardwareSpeedup, HardwareTime
from harness.results.tables import Tables
from tests import refute
from tests.fleet import DEVICES, make_fleet

CROPS = {"224": (224, 224), "448": (448, 448)}


def fleet(folder: Path, n_nodes: int) -> tuple[Session, Tables]:
    session = Session(make_fleet(folder, n_nodes, repeats=1, crops=CROPS))
    return session, tables.load(session, scope.resolve(session, None), False)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Tables]:
    return fleet(tmp_path_factory.mktemp("many"), 40)


def test_each_hardware_and_size_has_one_row_of_all_its_machines(many: tuple[Session, Tables]) -> None:
    _, data = many
    found = many_machines.summary(data)
    rows = [row for group in found.groups.values() for row in group]
    assert len(found.groups) == len(DEVICES)
    assert len(rows) == len(DEVICES) * len(CROPS)
    assert sum(int(row[1]) for row in rows) == len(data.cases)
    times = [row["median_s"] for row in data.cases if (row["device"], row["crop"]) == ("cpu", "224")]
    [cpu] = [row for name, group in found.groups.items() if "(cpu)" in name for row in group if row[0] == "224"]
    expected = (min(times), statistics.median(times), max(times))
    assert [float(cell) for cell in cpu[2:5]] == pytest.approx(expected, rel=0.01)


def test_a_figure_has_the_fastest_the_median_and_the_slowest_machine_of_each_hardware(
    many: tuple[Session, Tables],
) -> None:
    _, data = many
    chosen = many_machines.typical(data)
    assert len({data.name(row) for row in chosen}) == 3 * len(DEVICES)
    for device in DEVICES:
        of_all, drawn = (
            [row["median_s"] for row in rows if (row["device"], row["crop"]) == (device, "448")]
            for rows in (data.cases, chosen)
        )
        assert (min(drawn), max(drawn)) == (min(of_all), max(of_all))
    assert "of each hardware" in time_charts.draw_time(data).subtitle


def test_few_machines_are_all_drawn_and_listed(tmp_path: Path) -> None:
    session, data = fleet(tmp_path, many_machines.N_MACHINES)
    assert many_machines.typical(data) == data.cases
    assert "By hardware" not in html_report.html(html_report.prepare(session, scope.resolve(session, None)))


def test_the_report_begins_with_the_hardware_and_has_every_case(many: tuple[Session, Tables]) -> None:
    session, data = many
    page = html_report.html(html_report.prepare(session, scope.resolve(session, None)))
    assert page.index("By hardware") < page.index("All cases of all machines") < page.index("One row per case")
    assert page.count("<details") == page.count("</details>")
    assert len(data.cases) > 100


def test_a_report_of_many_machines_answers_by_hardware(tmp_path: Path) -> None:
    _, data = fleet(tmp_path, many_machines.N_MACHINES + 4)
    raw = refute.Raw.of(tmp_path)
    found = [*answers.how_fast(data), *answers.gain(data)]
    assert [type(each) for each in found] == [HardwareTime] * len(DEVICES) + [HardwareSpeedup] * (len(DEVICES) - 1)
    for each in found:
        text = sentences.sentence(each)
        assert refute.refuted(raw, each, text) == []
        assert not [row["node"] for row in data.cases if row["node"] in text]
        for name, value in vars(each).items():
            if isinstance(value, int | float):
                assert refute.refuted(raw, type(each)(**vars(each) | {name: value * 1.1 + 1}))
    assert all(each.n_machines > many_machines.N_MACHINES for each in found)
    assert not answers.batch(data)


def test_devices_with_equal_rows_share_one(many: tuple[Session, Tables]) -> None:
    cells = [Cell(f"d{i}", crop, "identical", "=" if i % 50 else "≠", "") for i in range(200) for crop in CROPS]
    folded = {cell.device for cell in _folded(cells)}
    assert folded == {"4 devices, such as d0", "196 devices, such as d1"}
    drawing = agreement_chart.draw(many[1])
    assert len({cell.device for cell in agreement_chart.cells(many[1])}) > N_DEVICES
    assert any("share one" in note for note in drawing.notes)

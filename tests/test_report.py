"""The report: honest words, the query's numbers, one file that loads nothing, and a browser that draws it."""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.charts import agreement_chart, catalogue, rendering, stage_chart
from harness.errors import CellbenchError
from harness.query import Session
from harness.report import html_report, markdown, narrative, report_tables
from harness.results import scope, tables
from harness.store import Store
from tests import nights, odd_stores
from tests.browser import ALL_OPEN, DRAWN, browser, needs_browser
from tests.conftest import CPU, CUDA, HOSTILE, REPOSITORY, RUN_ID, make_sample, make_store, simulated
from tests.fleet import make_fleet
from tests.staged import ON_CPU, ON_GPU, ceiling_samples, stage_samples


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """CPU and CUDA on one node; a session only reads."""
    return simulated(tmp_path_factory.mktemp("both"), [CPU, CUDA])


@cache
def _data(session: Session) -> tables.Tables:
    return tables.load(session, scope.resolve(session))


@cache  # a page takes a second, and several tests look at the same one
def _page(session: Session, run: str | None = None, with_published: bool = True) -> str:
    return html_report.html(html_report.prepare(session, scope.resolve(session, run), with_published))


def _specs(html: str) -> dict[str, dict[str, Any]]:
    """The pictures of a page by name."""
    return {name: json.loads(text) for name, text in re.findall(r'data-chart="([^"]+)">(.*?)</script>', html)}


def _headline(session: Session) -> str:
    return narrative.headline(_data(session)).replace("\u00a0", " ")


def _markup(html: str) -> str:
    """The page without its scripts."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_headline_compares_an_accelerator_with_its_cpu(both: Session) -> None:
    assert _headline(both) == (
        "Simulated workload: the NVIDIA RTX 4070 is 8.00 times (range 7.38–8.67, n = 5 in 1 process) as fast "
        "as this machine’s CPU at "
        "the full image, 8.0 s instead of 64 s"
    )


SMALL = "1.0 s at 224 px (range 0.960–1.04, n = 5 in 1 process)"
FULL_SIZE = "64 s at the full image (range 61.4–66.6, n = 5 in 1 process)"


@pytest.mark.parametrize(
    ("machines", "output"),
    [
        ([CPU], f"Simulated workload on Intel i7-8086K (cpu, 6 threads): {SMALL}, {FULL_SIZE}"),
        ([{**CPU, "seconds": {"224": 1.0}}], f"Simulated workload on Intel i7-8086K (cpu, 6 threads): {SMALL}"),
        ([{**CPU, "failed": True}], "Nothing was timed: 10 repetitions failed"),
        (
            [{**CPU, "workload": "cellpose", "weights": "standin"}],
            f"cyto3’s network with stand-in weights on Intel i7-8086K (cpu, 6 threads): {SMALL}, {FULL_SIZE}",
        ),
        (
            [CPU, {**CPU, "node": "b", "seconds": {"full": 32.0}}],
            "Simulated workload on 2 devices of 2 machines: at the full image from 32 s on b · Intel i7-8086K "
            "(cpu, 6 threads) to 64 s on desktop · Intel i7-8086K (cpu, 6 threads)",
        ),
        (
            [CPU, {**CPU, "protocol": "article", "seconds": {"224": 2.0}}],
            f"Simulated workload on Intel i7-8086K (cpu, 6 threads): {SMALL}, {FULL_SIZE} (protocol standard)",
        ),
    ],
)
def test_headline_claims_nothing_beyond_its_rows(tmp_path: Path, machines: list[dict[str, Any]], output: str) -> None:
    assert _headline(simulated(tmp_path, machines)) == output


def test_unknown_and_missing_runs_are_explained(both: Session, tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match=RUN_ID):
        _page(both, "no-such-run")
    with pytest.raises(CellbenchError, match="no results"):
        _page(Session(Store.make(tmp_path / "empty")), None)


def test_banners_say_what_limits_the_numbers(tmp_path: Path) -> None:
    few = simulated(tmp_path, [{**CPU, "repeats": 3}, {**CUDA, "n_cells": 9}, {**CPU, "node": "b", "failed": True}])
    output = "\n".join(narrative.banners(_data(few)))
    for text in ("Simulated", "Stand-in", "Synthetic", "10 repetitions failed", "2 cases with fewer than 5"):
        assert text in output
    assert "different numbers of cells in 2 cases" in output


def test_the_page_loads_nothing(both: Session) -> None:
    html = _page(both)
    assert "default-src &#39;none&#39;" in html
    assert not re.search(r"<link|@import|<(?:script|img|iframe)[^>]+src=|url\(|href=\"http", _markup(html))
    assert "<script src" not in html
    assert html.count("vegaEmbed(box") == 1
    assert "{{" not in _markup(html)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    session = simulated(tmp_path, [HOSTILE, {**HOSTILE, "node": "second"}, {**HOSTILE, "failed": True}])
    html = _page(session, None)
    assert "<script>alert" not in html
    assert "</script><b>" not in html
    assert "&lt;script&gt;alert" in html
    assert any("<script>alert" in json.dumps(spec) for spec in _specs(html).values())


def test_numbers_of_the_figures_are_those_of_the_query(both: Session) -> None:
    specs = _specs(_page(both, with_published=False))
    for name, view, column in (("time", "medians", "median_s"), ("percent-of-cpu", "speedups", "percent_of_cpu"),
                               ("speedup", "speedups", "speedup")):  # fmt: skip
        drawn = sorted(row["value"] for row in specs[name]["data"]["values"])
        assert drawn == sorted(both.table(f"SELECT {column} FROM {view}")[column].to_pylist())


def test_sql_under_a_figure_can_be_run_again(both: Session) -> None:
    html = _page(both)
    texts = [text.replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")
             for text in re.findall(r"<pre><code>(SELECT.*?)</code>", html)]  # fmt: skip
    n_rows = [both.table(text).num_rows for text in texts]
    assert n_rows[:2] == [4, 4]  # the medians, by the ranking and by the times


def test_published_series_can_be_left_out(both: Session) -> None:
    assert "reference timings" in _page(both).lower()
    without = _page(both, with_published=False)
    assert "(published)" not in without
    assert "Benchmarking Cellpose" not in without


def test_failures_only_and_nothing_timed_still_make_a_page(tmp_path: Path) -> None:
    html = _page(simulated(tmp_path, [{**CPU, "failed": True}]), None, with_published=False)
    assert "Nothing was timed" in html
    assert "CUDA out of memory" in html
    assert re.findall(r'data-chart="([^"]+)"', html) == ["coverage"]


def test_command_measures_the_same_again(both: Session, tmp_path: Path) -> None:
    request = "cellbench run --image sparse --weights standin --profile quick --crops 224,full --devices cpu,cuda:0"
    assert f"{request} --protocol standard --blocks 1 --repeats 5" in _page(both)
    many = make_sample(role="throughput", variant="lossless", n_images=12, n_processes=2, n_in_flight=1)
    output = "cellbench throughput --image sparse --weights standin --variants lossless --device cpu --crop 224"
    assert f"{output} --n-images 12" in _page(Session(make_store(tmp_path / "many", [many])))
    failed = make_sample(role="warmup", status="crashed", elapsed_s=None, stop_reason=None)
    assert "--crops 224 --devices cpu" in _page(Session(make_store(tmp_path / "failed", [failed])))
    own = simulated(tmp_path / "own", [{**CPU, "image": "my cells.tif", "image_is_synthetic": False}])
    assert "--image &#39;PATH/my cells.tif&#39;" in _page(own, None)


def test_write_is_whole_or_not_at_all(both: Session, tmp_path: Path) -> None:
    path = html_report.write("<p>é</p>", tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == "<p>é</p>"
    with pytest.raises(CellbenchError, match="cannot be written"):
        html_report.write("", tmp_path / "missing" / "report.html")


DESK = {key: value for key, value in CPU.items() if key != "seconds"}
CARD = {key: value for key, value in CUDA.items() if key != "seconds"}
FULL = {"crop": "full", "height_px": 2160, "width_px": 2560}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """CPU and CUDA, timed and taken apart at two sizes; the names are not to be trusted."""
    seconds = {"224": 10.0, "full": 100.0}
    card = CARD | {"device_name": HOSTILE["device_name"]}
    samples = [*stage_samples(ON_CPU, seconds, **DESK), *stage_samples(ON_GPU, seconds, ceilings=False, **card)]
    for device in (DESK, card):
        samples += [make_sample(**device, elapsed_s=10.0), make_sample(**device, **FULL, elapsed_s=98.0)]
    return Session(make_store(tmp_path_factory.mktemp("staged"), samples))


def test_a_stage_pass_is_a_figure_with_advice_and_its_check(staged: Session) -> None:
    html = _page(staged, with_published=False).replace("\u00a0", " ")
    assert 'id="stages"' in html
    assert "Give the diameter if you know it: estimating it takes 75 % of the call." in html
    assert "The processor takes 70 % of the call" in html
    assert "Attributed 99.0 % of the call; the stage pass took 2.0 % longer than the timed median." in html
    assert "of the rate of products and convolutions on this device" in html
    assert "The stage pass is one of its own" in html
    assert "{{ 7 * 7 }} <img" not in _markup(html)


def test_remarks_are_those_of_the_largest_image(staged: Session) -> None:
    output = stage_chart.remarks(_data(staged))
    assert [title.rsplit(", ", 1)[1] for title in output] == ["full image"] * 2


def test_the_table_of_stages_adds_up(staged: Session) -> None:
    grid = catalogue.figure("stages").numbers(_data(staged))["Stages"]
    assert grid.head == ("stage", "style pass s", "size pass s", "mask pass s", "outside s", "all s", "share")
    rows = grid.groups["Intel i7-8086K (cpu, 6 threads), full image"]
    assert rows[0][:6] == ("network", "60.0", "14.0", "14.0", "", "88.0")
    assert rows[-1][0] == "whole call"
    assert rows[-1][-2] == "100"


def test_without_a_stage_pass_there_is_no_figure_of_it(both: Session) -> None:
    html = _page(both)
    assert 'id="stages"' not in html
    assert "The stage pass is one of its own" not in _markup(html)


def test_flags_are_counted_under_the_table_and_nothing_is_dropped(tmp_path: Path) -> None:
    samples = [make_sample(repetition=i, flags="load" if i < 2 else "") for i in range(5)]
    session = Session(make_store(tmp_path, samples))
    html = _page(session, None, with_published=False)
    assert "2 of 5 repetitions have a flag (load 2) and are included." in html
    assert "2 (load)" in html
    assert report_tables.cases(_data(session)).head[-1] == "flagged"


def test_no_flags_no_column(both: Session) -> None:
    assert "flagged" not in report_tables.cases(_data(both)).head
    assert narrative.case_notes(_data(both)) == []


def test_the_ends_of_repetitions_are_told(tmp_path: Path) -> None:
    samples = [make_sample(repetition=i, stop_reason="precision" if i == 4 else None) for i in range(5)]
    samples += [make_sample(**FULL, repetition=i, block=i // 5, stop_reason=None) for i in range(10)]
    samples[-1]["stop_reason"] = "time_cap"
    notes = narrative.case_notes(_data(Session(make_store(tmp_path, samples))))
    assert "the CI of the process's mean was as narrow as requested; processes may still differ (1 case)" in notes[0]
    assert "the process reached its time limit (1 case)" in notes[0]
    assert notes[1] == "The repetitions of a case come from up to 2 processes."


def test_control_and_ceilings_are_no_part_of_the_facts(both: Session, tmp_path: Path) -> None:
    control = {"crop": "control", "image": "control", "role": "control"}
    own = make_sample(image="a.tif", image_is_synthetic=False)
    samples = [own, make_sample(**control), *ceiling_samples(image="control")]
    session = Session(make_store(tmp_path / "own", samples))
    html = _page(session, None)
    assert "--image PATH/a.tif " in html
    assert "--crops 224 " in html
    assert "control" not in _markup(html).split('id="environment"')[1].split('id="methods"')[0]


HEIGHT = "new Promise((done) => setTimeout(() => done(document.documentElement.scrollHeight), 500))"
PAINTED = """JSON.stringify([...document.querySelectorAll(".scroll, .chart-wrapper")].map((each) =>
  getComputedStyle(each).contentVisibility))"""

MARKED = "'.mark-symbol path, .mark-rect path, .mark-text text'"
MARKS = f"[...document.querySelectorAll('.chart')].map((c) => c.querySelectorAll({MARKED}).length)"

AXIS = "[...document.querySelectorAll('#time .role-axis-label')].map((label) => label.textContent).join()"


# Words of a picture that stand beyond its box, as on a phone that is narrower than what was drawn; and words that lie
# on each other.
MISPLACED = """(() => {
  document.querySelectorAll(".chart-wrapper").forEach((each) => { each.style.contentVisibility = "visible"; });
  return JSON.stringify([...document.querySelectorAll(".chart")].flatMap((chart) => {
    const box = chart.getBoundingClientRect();
    const isHalo = (word) => word.getAttribute("stroke");  // below the same word, to part it from lines
    const seen = (word) => word.textContent.trim() && getComputedStyle(word).opacity !== "0" && !isHalo(word);
    const words = [...chart.querySelectorAll("svg text")].filter(seen)
      .map((word) => [word.textContent, word.getBoundingClientRect()]).filter(([, r]) => r.width);
    const cut = words.filter(([, r]) => r.right > box.right + 1 || r.left < box.left - 1).map(([text]) => text);
    const apart = (r, s) => Math.min(r.right, s.right) - Math.max(r.left, s.left) < 2
      || Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) < 4;
    return cut.concat(words.flatMap(([one, r], i) => words.slice(i + 1).filter(([, s]) => !apart(r, s))
      .map(([other]) => one + " on " + other)));
  }));
})()"""
WORDS = "document.body.innerText + [...document.querySelectorAll('[aria-label]')].map((each) => each.ariaLabel).join()"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("machines", [[CPU, CUDA], [HOSTILE, {**HOSTILE, "node": "b" * 80}], [{**CPU, "failed": True}]])
def test_a_browser_draws_every_figure(tmp_path: Path, machines: list[dict[str, Any]]) -> None:
    page = html_report.write(_page(simulated(tmp_path / "store", machines), None), tmp_path / "report.html")
    with browser(tmp_path / "profile") as chromium:
        chromium.call("Emulation.setDeviceMetricsOverride", width=320, height=800, deviceScaleFactor=1, mobile=True)
        chromium.call("Page.navigate", url=page.as_uri())
        assert chromium.evaluate(DRAWN)
        chromium.evaluate(ALL_OPEN)
        assert chromium.evaluate(DRAWN)
        assert min(chromium.evaluate(MARKS)) > 0
        assert chromium.evaluate("document.documentElement.scrollWidth") <= 320
        assert json.loads(chromium.evaluate(MISPLACED)) == []
        assert odd_stores.leaked(chromium.evaluate(WORDS)) == []
        if machines[0] is CPU:
            before = chromium.evaluate(AXIS)
            chromium.evaluate("document.querySelector('#time input[value=linear]').click()")
            chromium.evaluate("new Promise((done) => setTimeout(done, 200))")
            assert chromium.evaluate(AXIS) != before
        output = [
            event for event in chromium.events if event["method"] in ("Runtime.consoleAPICalled", "Log.entryAdded")
        ]
        assert output == []
        requests = [event["params"]["request"]["url"] for event in chromium.events
                    if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
        assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width_px", [320, 1100])
@pytest.mark.real
def test_a_browser_draws_the_stage_pass(tmp_path: Path, staged: Session, width_px: int) -> None:
    page = html_report.write(_page(staged), tmp_path / "report.html")
    with browser(tmp_path / "profile") as chromium:
        chromium.call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=800, deviceScaleFactor=1, mobile=True
        )
        chromium.call("Page.navigate", url=page.as_uri())
        assert chromium.evaluate(DRAWN)
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
        assert json.loads(chromium.evaluate(MISPLACED)) == []
        words = chromium.evaluate("[...document.querySelectorAll('#stages svg text')].map((text) => text.textContent)")
        assert {"224 px10 s", "full image100 s"} <= set(words)  # two lines each
        assert any(word.startswith("network") for word in words)
        # Words inside a bar or a cell keep their own ink, whatever the page's.
        words = "[...document.querySelectorAll('#stages .inside_marks text')]"
        inks = set(chromium.evaluate(f"{words}.map((text) => getComputedStyle(text).fill)"))
        assert inks == {"rgb(253, 253, 253)", "rgb(0, 0, 0)"}


@pytest.mark.slow
@needs_browser
def test_a_browser_draws_a_large_fleet_whose_figures_are_compressed(tmp_path: Path) -> None:
    page, session = tmp_path / "page.html", Session(make_fleet(tmp_path / "store", 50))
    html_report.write(html_report.html(html_report.prepare(session, scope.resolve(session))), page)
    text = page.read_text()
    packed = [name for name, first in re.findall(r'data-chart="([^"]+)">(.)', text) if first != "{"]
    assert {"speedup", "percent-of-cpu", "repetitions"} <= set(packed)
    assert len(text.encode()) < 2.5e6
    with browser(tmp_path / "profile") as chromium:
        chromium.call("Page.navigate", url=page.as_uri())
        assert chromium.evaluate(DRAWN)
        # What was not painted yet takes about the room that it will have, and none of it is left out on paper.
        guessed_px = chromium.evaluate(HEIGHT)
        chromium.call("Emulation.setEmulatedMedia", media="print")
        assert set(json.loads(chromium.evaluate(PAINTED))) == {"visible"}
        chromium.call("Emulation.setEmulatedMedia", media="screen")
        chromium.call("Emulation.setDeviceMetricsOverride", width=800, height=8_000, deviceScaleFactor=1, mobile=False)
        assert chromium.evaluate(HEIGHT) == pytest.approx(guessed_px, rel=0.05)
        chromium.evaluate(ALL_OPEN)
        assert chromium.evaluate(DRAWN)
        for name in packed:
            assert chromium.evaluate(f"document.querySelectorAll('#{name} svg path').length") > 50
    assert not [event for event in chromium.events if event["method"] == "Runtime.exceptionThrown"]


PAGES_MOST = 5
FOLD = """(() => {
  const chart = document.querySelector(".hero .chart svg").getBoundingClientRect();
  const keys = document.querySelector(".keys").getBoundingClientRect();
  return JSON.stringify([keys.bottom, chart.bottom]);
})()"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("run", ["20261126T050820Z-328f48", "20261123T221437Z-f020f2", None])
def test_what_is_asked_first_is_above_the_fold_and_few_pages_are_printed(tmp_path: Path, run: str | None) -> None:
    """Shipped runs, and a fleet of 20 machines, whose long table stays on the screen."""
    shipped = next(path.parents[2] for path in (REPOSITORY / "results").rglob("*-328f48-h200.parquet"))
    session = Session(Store.at(shipped) if run else make_fleet(tmp_path / "fleet", 20))
    page = html_report.write(_page(session, run), tmp_path / "report.html")
    with browser(tmp_path / "profile") as chromium:
        chromium.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
        chromium.call("Page.navigate", url=page.as_uri())
        assert chromium.evaluate(DRAWN)
        assert max(json.loads(chromium.evaluate(FOLD))) <= 800
        pdf = base64.b64decode(chromium.call("Page.printToPDF", printBackground=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) <= PAGES_MOST


def test_a_dark_screen_has_no_colour_of_a_light_one(both: Session) -> None:
    html, drawn = _page(both), json.dumps(_specs(_page(both)))
    style = html.split("<style>")[1].split("</style>")[0]
    for colour in set(re.findall(r"#[0-9A-Fa-f]{6}\b", drawn)) - {rendering.ON_LIGHT_HUE}:
        assert f'[fill="{colour}" i] {{ fill: {rendering.DARK[colour.upper()]}; }}' in style


def test_figures_without_data_of_this_run_are_named_and_not_drawn(both: Session, tmp_path: Path) -> None:
    html = _page(simulated(tmp_path, [CPU]))
    assert 'data-chart="speedup"' not in html
    [line] = re.findall(r"No data in this run for: (.*?)</p>", html)
    assert "Speed-up over the CPU of the same machine" in line
    assert "Time to segment one image" not in line
    assert 'data-chart="speedup"' in _page(both)


# ------------------------------------------------------------------ what else was measured


def test_races_and_many_images_are_tables_of_the_page_and_of_the_comment(tmp_path: Path) -> None:
    race = [
        make_sample(role="tune", variant=variant, block=block, position=i, repetition=n, elapsed_s=elapsed_s + block)
        for block in range(3)
        for i, (variant, times_s) in enumerate((("stock", (6.0, 6.0, 6.0)), ("lossless+plain", (2.0, 3.0, 4.5))))
        for n, elapsed_s in enumerate(times_s)
    ]
    masks = [
        make_sample(role="masks", variant="lossless+plain", agreement=word) for word in ("identical", "equivalent")
    ]
    many = [
        make_sample(role="throughput", n_images=12, n_processes=2, n_in_flight=1, repetition=n, elapsed_s=60.0 + n)
        for n in range(3)
    ]
    made = html_report.prepare(session := Session(make_store(tmp_path, [*race, *masks, *many])), scope.resolve(session))
    page, comment = _markup(html_report.html(made)), markdown.text(made)
    row = '<th scope="row">lossless+plain<td>3<td>3.00<td>2.00<td>equivalent'
    assert row in re.sub(r"\s*\n", "", page)
    assert "| lossless+plain | 3 | 3.00 | 2.00 | equivalent |" in comment
    assert re.search(r"plain is 1\.\d+ times as fast as stock \(.* 1\.\d+–2\.\d+, 3 processes\), masks eq", comment)
    assert "cellbench tune --image sparse --weights standin --device cpu --crop 224" in comment
    assert "12 images: sparse 224 px" in page
    assert "| stock | 2 | 1 | 8 | 3 | 11.8 | 11.6 – 12.0 | the same each time |" in comment.replace("\u00a0", " ")
    assert "Variants raced" not in html_report.html(_of(tmp_path / "other"))


def test_among_the_newest_of_each_series_a_pass_may_be_older_than_the_times(tmp_path: Path) -> None:
    old, new = "20260101T000000Z-000001", "20260102T000000Z-000002"
    masks = make_sample(run_id=old, **CARD, role="masks", agreement="close", diameter_asked_px=0.0)
    samples = [make_sample(run_id=old, **CARD), *stage_samples(ON_GPU, {"224": 1.0}, run_id=old, **CARD), masks,
               make_sample(run_id=new, **CARD, elapsed_s=2.0)]  # fmt: skip
    session = Session(make_store(tmp_path, samples))
    data = tables.load(session, scope.resolve(session, since="2026-01-01"))
    assert data.medians["median_s"].to_pylist() == [2.0]
    assert set(data.stages["run_id"].to_pylist()) == {old}
    assert [cell.state for cell in agreement_chart.cells(data)] == ["close"]
    assert tables.load(session, scope.resolve(session, new)).stages.num_rows == 0


def test_masks_of_a_variant_do_not_stand_for_those_of_stock(tmp_path: Path) -> None:
    masks = {"role": "masks", "diameter_asked_px": 0.0}
    race = make_sample(**CARD, **masks, case_id="b", variant="bf16", agreement="different")
    stock = [make_sample(**CARD, case_id="a"), make_sample(**CARD, **masks, case_id="a", agreement="identical"), race]
    session = Session(make_store(tmp_path, stock))
    data = tables.load(session, scope.resolve(session))
    assert [cell.state for cell in agreement_chart.cells(data)] == ["identical"]


def _of(folder: Path) -> html_report.Report:
    session = Session(make_store(folder, [make_sample()]))
    return html_report.prepare(session, scope.resolve(session))


def test_a_series_of_several_runs_brings_its_history_with_table_and_sql(tmp_path: Path) -> None:
    levels = [1.0, 1.01, 0.99, 1.0, 1.01, 1.0, 1.3, 1.3]
    session = Session(nights.store(tmp_path, [
        row for night, level in enumerate(levels) for row in nights.timed(nights.run_id(night), [level, level])
    ]))  # fmt: skip
    made = html_report.prepare(session, scope.resolve(session))
    [figure] = [figure for figure in html_report.figures(made) if figure.name == "history"]
    assert session.table(figure.sql(made.scope)[0]).num_rows == len(levels)
    [rows] = figure.numbers(made.data)["History"].groups.values()
    assert [row[4] for row in rows] == ["learning"] * 5 + ["usual", "suspect", "alarm"]
    assert "Judged by the runs before, of 1 series: 1 slower, confirmed in another night." in html_report.html(made)
    first = html_report.prepare(session, scope.resolve(session, nights.run_id(0)))
    assert "history" not in [figure.name for figure in html_report.figures(first)]


@pytest.mark.slow
@needs_browser
def test_a_browser_draws_history_on_a_phone(tmp_path: Path) -> None:
    levels = [1.0, 1.01, 0.99, 1.0, 1.01, 1.0, 1.3, 1.3]
    samples = [row for i, x in enumerate(levels) for row in nights.timed(nights.run_id(i), [x], node=HOSTILE["node"])]
    session = Session(nights.store(tmp_path / "store", samples))
    page = html_report.write(_page(session), tmp_path / "report.html")
    with browser(tmp_path / "profile") as chromium:
        chromium.call("Emulation.setDeviceMetricsOverride", width=320, height=800, deviceScaleFactor=1, mobile=True)
        chromium.call("Page.navigate", url=page.as_uri())
        assert chromium.evaluate(DRAWN)
        assert chromium.evaluate("document.querySelectorAll('#history .mark-symbol path').length") >= len(levels)
        assert chromium.evaluate("document.documentElement.scrollWidth") <= 320
        assert json.loads(chromium.evaluate(MISPLACED)) == []
        assert odd_stores.leaked(chromium.evaluate(WORDS)) == []
        output = [
            event for event in chromium.events if event["method"] in ("Runtime.consoleAPICalled", "Log.entryAdded")
        ]
        assert output == []

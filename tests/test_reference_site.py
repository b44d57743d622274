"""The static site of all submissions: its numbers, the SQL that made them, hostile texts, and its use in a browser."""

from __future__ import annotations

import html
import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from harness.charts import rendering
from harness.errors import CellbenchError
from harness.machine.accelerators import ACCELERATORS
from harness.query import download
from harness.results.formatting import number
from harness.schema import Row
from harness.site import folder, pages, parts, queries, writing
from harness.submissions import collection
from harness.submissions.collection import Collection, Entry, Tier, Verdict
from tests import submitted
from tests.browser import Browser, browser, needs_browser

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }} ${a} 'x"
FIRST_LOAD_BYTES = 300_000
GB = 10**9


def _submission(
    number: str, rows: list[Row], hardware: str = "Card", slug: str = "card", tier: str = "community", by: str = ""
) -> Any:
    """An entry, and its samples as they are in a collection."""
    about = {"submission": number, "submitter": by or number, "slug": slug, "hardware": hardware, "tier": tier}
    backend = rows[0]["backend"]
    entry = Entry(number, slug, hardware, backend, "2026-11", Tier(tier), Verdict.OK, (), Path(f"{slug}/{number}"))
    return entry, [row | about for row in rows]


def _collection(*submissions: Any) -> Collection:
    names = [*submitted.form.COLUMNS, "submission", "submitter", "slug", "hardware", "tier"]
    rows = [{name: row.get(name) for name in names} for _, each in submissions for row in each]
    types = {**{each.name: each.type for each in submitted.form.SCHEMA}}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    return Collection(tuple(entry for entry, _ in submissions), pa.Table.from_pylist(rows, schema))


def _rows(factor: float = 1.0, crops: tuple[str, ...] = ("224", "896"), **columns: Any) -> list[Row]:
    """Samples of these crops, with times multiplied by a factor."""
    found = [row for row in submitted.rows(**columns) if row["crop"] in crops]
    return [row | {"elapsed_s": row["elapsed_s"] and row["elapsed_s"] * factor} for row in found]


def _memory(peak_bytes: int, **columns: Any) -> list[Row]:
    timed = _rows(crops=("224",), **columns)
    return [*timed, timed[0] | {"role": "memory", "cuda_reserved_bytes": peak_bytes}]


def _data(path: Path) -> Row:
    """The data of one kind of hardware."""
    return json.loads(path.read_text().removeprefix("compare(").removesuffix(");\n"))


def _cells(page: str) -> list[list[list[str]]]:
    """The texts of the cells of each figure of a page."""
    tables = re.findall(r'<table class="figure">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    rows = [re.findall(r"<tr>(.*?)</tr>", table) for table in tables]
    return [[[html.unescape(re.sub(r"<.*?>", "", cell)) for cell in re.split(r"<t[hd][^>]*>", row)[1:]] for row in each]
            for each in rows]  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Sixty submissions: each of the made-up kinds of hardware and more."""
    place = tmp_path_factory.mktemp("submissions")
    for _ in submitted.collection(place, 60):
        pass
    return collection.load(place)


@pytest.fixture(scope="module")
def site(loaded: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("made") / "site"
    writing.write(loaded, to)
    return to


# ---------------------------------------------------------------- numbers


def test_the_sql_of_each_table_is_the_sql_that_made_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who runs the text in the folder of all.parquet gets the rows of the table."""
    monkeypatch.chdir(site)
    n_tables = 0
    for path in site.glob("*.html"):
        page = path.read_text()
        texts = [html.unescape(text) for text in re.findall(r"<pre>(WITH.*?)</pre>", page, re.DOTALL)]
        assert len(texts) == len(_cells(page)), path
        for text, cells in zip(texts, _cells(page), strict=True):
            rows = duckdb.sql(text).to_arrow_table().to_pylist()
            assert len(rows) == len(cells) or (not rows and len(cells) == 1), path
            if "mean_ln" in text:
                assert [number(row["median_s"]) for row in rows] == [row[-4] for row in cells]
            n_tables += 1
    assert n_tables > 30
    for path in site.glob("device-*.js"):
        data = _data(path)
        assert [row["median_s"] for row in duckdb.sql(data["sql"]).to_arrow_table().to_pylist()] == [
            row["s"] for row in data["rows"]
        ]


def test_a_median_is_that_of_the_submitters_medians(loaded: Collection, site: Path) -> None:
    data = _data(site / "device-nvidia-h200.js")
    case = next(row for row in data["rows"] if row["key"][4] == "stock")
    weights, image, size, model, variant, dtype = case["key"]
    of_each: dict[str, list[float]] = {}
    for row in loaded.samples.to_pylist():
        same = (row["weights"], row["image"], parts.size(row), row["model"], row["variant"], row["dtype"]) == tuple(
            (weights, image, size, model, variant, dtype)
        )
        if same and row["slug"] == "nvidia-h200" and row["role"] == "timed" and row["tier"] != "flagged":
            of_each.setdefault(row["submitter"], []).append(row["elapsed_s"])
    assert case["s"] == pytest.approx(median(map(median, of_each.values())))
    assert case["n"] == len(of_each)


@pytest.mark.parametrize(
    ("factors", "tiers", "median_factor", "n", "has_range", "has_t"),
    [
        ((1,), ("community",), 1, 1, False, False),
        ((1, 2), ("community",) * 2, 1.5, 2, True, False),
        ((1, 2, 9), ("first-party", "community", "community"), 2, 3, True, True),
        ((1, 2, 900), ("community", "community", "flagged"), 1.5, 2, True, False),
    ],
)
def test_n_range_and_interval(
    tmp_path: Path, factors: tuple[float, ...], tiers: tuple[str, ...], median_factor: float, n: int, has_range: bool,
    has_t: bool,
) -> None:  # fmt: skip
    pairs = enumerate(zip(factors, tiers, strict=True))
    made = [_submission(f"{i}" * 12, _rows(factor), tier=tier) for i, (factor, tier) in pairs]
    writing.write(_collection(*made), tmp_path / "site")
    data = _data(tmp_path / "site/device-card.js")
    one = median(row["elapsed_s"] for row in _rows(crops=("224",)))
    case = data["rows"][0]
    assert case["s"] == pytest.approx(median_factor * one)
    assert (case["n"], case["range"] != "–", case["t"] is not None) == (n, has_range, has_t)


def test_submissions_of_one_submitter_count_once(tmp_path: Path) -> None:
    made = [_submission(f"{i}" * 12, _rows(), by="0" * 12) for i in range(3)]
    writing.write(_collection(*made), tmp_path / "site")
    assert [(row["n"], row["t"]) for row in _data(tmp_path / "site/device-card.js")["rows"]] == [(1, None)] * 2


def test_hardware_that_lacks_a_size_is_counted_as_not_measured(tmp_path: Path) -> None:
    both, one = _rows(hardware=0), _rows(hardware=9, crops=("224",))
    writing.write(
        _collection(_submission("a" * 12, both, "H200", "h200"), _submission("b" * 12, one, "GTX", "gtx")),
        tmp_path / "site",
    )
    counts = _cells((tmp_path / "site/under-1-s.html").read_text())[0]
    assert [row[-1] for row in counts] == ["0", "1"]
    assert {sum(int(row[i]) for i in (-4, -3, -1)) for row in counts} == {2}


def test_kinds_of_work_are_kept_apart(site: Path, loaded: Collection) -> None:
    """A page has one kind of weights, one image and one size; every work has a page."""
    glances = [path.read_text() for path in site.glob("*.html") if "sorted by their median" in path.read_text()]
    works = {(row["weights"], row["height_px"]) for row in loaded.samples.to_pylist()}
    assert len(glances) == len(works) + 1  # the start page is one of them, too
    assert "published weights" in (site / "index.html").read_text()
    assert all("Stand-in weights are" in page for page in glances if "stand-in weights" in page)


def test_failures_are_shown(tmp_path: Path) -> None:
    full = _rows(hardware=9, model="cpsam_v2", crops=("896", "full"))
    small = _rows(hardware=0, model="cpsam_v2", crops=("896", "full"))
    made = _collection(_submission("a" * 12, full, "GTX", "gtx"), _submission("b" * 12, small, "H200", "h200"))
    writing.write(made, tmp_path / "site")
    texts = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    [[fast, slow]] = _cells(texts["index.html"])
    assert (fast[0], fast[-1]) == ("H200", "")
    assert (slow[0], slow[-4:]) == ("GTX", ["–", "–", "0", "out of memory (n = 1)"])
    assert ["GTX", "out of memory"] in [
        [row[0], row[-2].split(": ")[-1]] for row in _cells(texts["fits-in-8-gb.html"])[1]
    ]


@pytest.mark.parametrize(
    ("peaks", "largest", "smallest"),
    [
        ([8 * GB], "224 × 224 px: 8.00 GB", "none"),
        ([8 * GB + 1], "none", "224 × 224 px: 8.00 GB"),
        ([3 * GB, 9 * GB], "none", "224 × 224 px: 3.00 – 9.00 GB"),
        ([], "not measured", "not measured"),
    ],
)
def test_memory_is_what_was_measured(tmp_path: Path, peaks: list[int], largest: str, smallest: str) -> None:
    rows = [_memory(peak) for peak in peaks] or [_rows(crops=("224",))]
    made = _collection(*(_submission(f"{i}" * 12, each) for i, each in enumerate(rows)))
    writing.write(made, tmp_path / "site")
    [row] = _cells((tmp_path / "site/fits-in-8-gb.html").read_text())[1]
    assert row[-3:] == [largest, smallest, str(len(peaks))]


def test_the_cost_of_cellpose_sam_is_a_ratio_on_equal_hardware(tmp_path: Path) -> None:
    crops = ("448",)
    made = _collection(
        _submission("a" * 12, _rows(crops=crops)),
        _submission("b" * 12, _rows(3, crops, model="cpsam_v2")),
        _submission("c" * 12, _rows(5, crops, model="cpsam_v2")),
        _submission("d" * 12, _rows(100, crops, model="cpsam_v2", weights="standin")),
    )
    writing.write(made, tmp_path / "site")
    [row] = _cells((tmp_path / "site/cellpose-sam-or-cyto3.html").read_text())[1]
    sam, cyto = (
        median(each["elapsed_s"] for each in _rows(crops=crops, model=model)) for model in ("cpsam_v2", "cyto3")
    )
    ratio = f"{number(3 * sam / cyto)} – {number(5 * sam / cyto)}"
    assert row[-6:] == ["1", number(4 * sam), "2", number(4 * sam / cyto), ratio, ""]


def test_an_empty_set_has_a_site(tmp_path: Path) -> None:
    assert writing.write(_collection(), tmp_path / "site") == 6
    assert "No times yet" in (tmp_path / "site/index.html").read_text()


def test_the_first_load_is_small_with_many_kinds_of_hardware(tmp_path: Path) -> None:
    works = itertools.product(("cyto3", "cpsam_v2"), ("stock", "lossless"))
    rows = [row for model, variant in works for row in _rows(model=model, variant=variant, crops=("full",))]
    made = _collection(*(_submission(f"{i:012x}", rows, f"NVIDIA GeForce RTX {i} Ti", f"card-{i}") for i in range(300)))
    pyarrow.parquet.write_table(made.samples, tmp_path / "all.parquet")
    with download.asking(tmp_path / "all.parquet") as ask:
        page = dict(itertools.islice(pages.build(made.entries, ask), 2))["index.html"]
    assert len(_cells(page)[0]) == 1200
    assets = sum(len(resources.files(room).joinpath(f"templates/{name}").read_bytes()) for room, name in writing.ASSETS)
    assert len(page.encode()) + assets < FIRST_LOAD_BYTES


# ---------------------------------------------------------------- texts of others, and the folder


def test_texts_of_others_stay_texts(tmp_path: Path) -> None:
    entry, rows = _submission("a" * 12, _rows(), HOSTILE)
    made = _collection((replace(entry, notes=(HOSTILE,), verdict=Verdict.PENDING), rows))
    writing.write(made, tmp_path / "site")
    texts = [path.read_text() for path in (tmp_path / "site").glob("*.html")]
    assert any(html.escape(HOSTILE, quote=False)[:20] in page for page in texts)
    for page in texts:
        assert "<script>" not in page and "<img" not in page and " 49 " not in page
        assert "default-src 'none'; script-src 'self'" in page
        assert not re.search(r"(src|href|action)=\"?(https?:)?//", page)


@pytest.mark.parametrize("slug", ["../up", "a b", 'a"b', "", "A", "a/b", "-a", "a.html"])
def test_a_name_that_is_no_slug_is_rejected(tmp_path: Path, slug: str) -> None:
    with pytest.raises(CellbenchError, match="no valid name"):
        writing.write(_collection(_submission("a" * 12, _rows(), slug=slug)), tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_a_site_replaces_a_site(tmp_path: Path) -> None:
    writing.write(_collection(_submission("a" * 12, _rows(), slug="old")), tmp_path / "site")
    writing.write(_collection(_submission("a" * 12, _rows(), slug="new")), tmp_path / "site")
    assert [path.name for path in (tmp_path / "site").glob("device-*.html")] == ["device-new.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    "others",
    [
        {"thesis.tex": ""},
        {"index.html": "mine"},
        {"site.json": "[]", "CNAME": ""},
        {"site.json": '{"made_by": "cellbench site", "files": []}', ".git": ""},
        {"site.json": '{"files": ["index.html"]}', "index.html": ""},
        {"site.json": "{", "a": ""},
    ],
)
def test_files_of_others_are_never_replaced(tmp_path: Path, others: dict[str, str]) -> None:
    (tmp_path / "site").mkdir()
    for name, text in others.items():
        (tmp_path / "site" / name).write_text(text)
    with pytest.raises(CellbenchError, match="not of a site"):
        writing.write(_collection(_submission("a" * 12, _rows())), tmp_path / "site")
    assert {path.name: path.read_text() for path in (tmp_path / "site").iterdir()} == others
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_an_interrupted_site_leaves_the_old_one(tmp_path: Path) -> None:
    with folder.replacing(tmp_path / "site") as made:
        (made / "index.html").write_text("old")
    with pytest.raises(KeyboardInterrupt), folder.replacing(tmp_path / "site") as made:
        (made / "index.html").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "site/index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_file_at_the_place_of_the_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file")
    with pytest.raises(CellbenchError), folder.replacing(tmp_path / "site"):
        pass
    assert (tmp_path / "site").read_text() == "a file"


def test_colours_are_those_of_the_figures(site: Path) -> None:
    light, dark = re.findall(r":root \{ (--cpu[^}]*)\}", (site / "site.css").read_text())
    hues = {backend: rendering.HUES[kind.hue] for backend, kind in ACCELERATORS.items()}
    assert dict(re.findall(r"--(\w+): (#\w+);", light)) == hues
    assert dict(re.findall(r"--(\w+): (#\w+);", dark)) == {name: rendering.DARK[hue] for name, hue in hues.items()}


# ---------------------------------------------------------------- a browser

SHOWN = "[...document.querySelectorAll('table.figure tbody tr:not([hidden]) th')].map((cell) => cell.textContent)"
STATE = "[location.search, ...[...document.querySelectorAll('form select')].map((select) => select.value)]"
MARKS = "[...document.querySelectorAll('td svg circle')].map((mark) => parseFloat(mark.getAttribute('cx')))"
FOCUS = "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
RESULTS = "[...document.querySelectorAll('tbody td:last-child')].map((cell) => cell.textContent)"
CONSOLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
PAGES = (
    "index.html", "under-1-s.html", "fits-in-8-gb.html", "cellpose-sam-or-cyto3.html", "data.html",
    "compare.html?a=nvidia-l4&b=hostile", "device-hostile.html",
)  # fmt: skip


class Visitor:
    """A person with a browser in a site."""

    def __init__(self, chromium: Browser, to: Path) -> None:
        self.chromium, self._to, self.see = chromium, to, chromium.evaluate

    def visit(self, name: str) -> None:
        self.chromium.call("Page.navigate", url=f"{self._to.as_uri()}/{name}")
        self.until(f"location.href.endsWith({json.dumps(name)}) && document.readyState === 'complete'")

    def until(self, condition: str) -> None:
        """Wait for a condition, which has no answer while a page is replaced by another one."""
        end_s = time.monotonic() + 20
        while time.monotonic() < end_s:
            with suppress(KeyError):
                if self.see(condition) is True:
                    return
        pytest.fail(f"it did not become true: {condition}")

    def choose(self, name: str, value: str) -> None:
        select = f"document.querySelector('#filters [name={name}]')"
        self.see(f"{select}.value = '{value}'; {select}.dispatchEvent(new Event('change', {{bubbles: true}}))")

    def resize(self, width_px: int) -> None:
        about = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 500}
        self.chromium.call("Emulation.setDeviceMetricsOverride", **about)


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory, loaded: Collection) -> Iterator[Visitor]:
    """A site with a hostile submission; what the browser logged and requested is checked at the end."""
    place = tmp_path_factory.mktemp("visited")
    entry, rows = _submission("f" * 12, _rows(crops=("224", "896", "full")), HOSTILE, "hostile")
    hostile = _collection((entry, rows)).samples
    samples = pa.concat_tables([loaded.samples.select(hostile.column_names).cast(hostile.schema), hostile])
    writing.write(Collection((*loaded.entries, entry), samples), place / "site")
    with browser(place / "profile") as chromium:
        yield Visitor(chromium, place / "site")
        assert [event for event in chromium.events if event["method"] in CONSOLE] == []
        sent = [event["params"] for event in chromium.events if event["method"] == "Network.requestWillBeSent"]
        assert {each["request"]["url"].startswith(place.as_uri()) for each in sent} == {True}


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
@pytest.mark.parametrize("width_px", [320, 360, 1280])
def test_no_page_is_wider_than_the_window(visited: Visitor, width_px: int) -> None:
    visited.resize(width_px)
    for path in PAGES:
        visited.visit(path)
        assert visited.see("document.documentElement.scrollWidth") <= width_px, path


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
def test_filters_are_in_the_address(visited: Visitor) -> None:
    visited.visit("index.html")
    everything = visited.see(SHOWN)
    assert HOSTILE in everything
    visited.choose("backend", "mps")
    chosen = visited.see(SHOWN)
    assert chosen and all("Apple" in name for name in chosen)
    visited.choose("model", "cpsam_v2")
    assert visited.see("location.search") == "?backend=mps&model=cpsam_v2"
    assert "backend mps, model cpsam_v2, variant stock" in visited.see("document.querySelector('caption').textContent")
    visited.see("history.back()")
    visited.until(f"location.search === '?backend=mps' && {SHOWN}.join() === {json.dumps(','.join(chosen))}")
    # Another size keeps the choice; a choice that does not exist is none.
    visited.see("document.querySelector('.choices a:not([aria-current])').click()")
    visited.until("!location.pathname.endsWith('index.html') && document.readyState === 'complete'")
    assert visited.see(STATE)[:2] == ["?backend=mps", "mps"]
    assert all("Apple" in name for name in visited.see(SHOWN))
    visited.visit("index.html?backend=nonsense")
    assert visited.see(SHOWN) == everything


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
def test_each_time_is_drawn_within_its_cell(visited: Visitor) -> None:
    visited.visit("index.html")
    marks = visited.see(MARKS)
    assert len(marks) == visited.see("document.querySelectorAll('td[data-s]:not([data-s=\"\"])').length") > 5
    assert all(0 < x < 100 for x in marks)


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
def test_two_kinds_of_hardware_side_by_side(visited: Visitor) -> None:
    visited.visit("compare.html?a=nvidia-l4")
    visited.see("document.querySelector('[name=b]').value = 'hostile'; document.querySelector('#pair').requestSubmit()")
    visited.until("location.search === '?a=nvidia-l4&b=hostile' && !!document.querySelector('#table tbody tr')")
    assert set(visited.see(RESULTS)) == {"not decided"}  # the hostile one has one submission
    assert queries.of_slug("hostile") in visited.see("document.querySelector('#sql').textContent")
    visited.visit("compare.html?a=hostile&b=hostile")
    visited.until("document.querySelector('#answer').textContent.endsWith('no case in common.')")
    visited.visit("compare.html?a=..%2Fetc&b=%3Cscript%3E")
    assert visited.see(STATE)[1:] == ["", ""]


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        ((1.0, 1.01, 1.02), (2.0, 2.01, 2.02), "B is slower"),
        ((2.0, 2.01, 2.02), (1.0, 1.01, 1.02), "B is faster"),
        ((1.0, 1.5, 2.0), (1.4, 1.9, 2.4), "not decided"),
        ((1.0, 1.01), (9.0, 9.01, 9.02), "not decided"),
    ],
)
def test_an_order_is_stated_where_it_is_distinguishable(
    tmp_path: Path, a: tuple[float, ...], b: tuple[float, ...], result: str
) -> None:
    factors = [("a", factor) for factor in a] + [("b", factor) for factor in b]
    made = [_submission(f"{i:012x}", _rows(factor), slug=slug) for i, (slug, factor) in enumerate(factors)]
    writing.write(_collection(*made), tmp_path / "site")
    with browser(tmp_path / "profile") as chromium:
        visitor = Visitor(chromium, tmp_path / "site")
        visitor.visit("compare.html?a=a&b=b")
        visitor.until("!!document.querySelector('#table tbody tr')")
        assert set(visitor.see(RESULTS)) == {result}


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
def test_the_keyboard_reaches_the_filters(visited: Visitor) -> None:
    visited.visit("index.html")
    for _ in range(40):
        for kind in ("keyDown", "keyUp"):
            about = {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
            visited.chromium.call("Input.dispatchKeyEvent", **about)
        tag, outline = visited.see(FOCUS)
        assert outline != "none"
        if tag == "SELECT":
            return
    pytest.fail("the keyboard does not reach the filters")


@pytest.mark.slow
@pytest.mark.parallel
@needs_browser
def test_every_row_is_there_without_javascript(visited: Visitor) -> None:
    visited.chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    visited.chromium.call("Page.navigate", url="about:blank")
    visited.visit("index.html")
    rows = visited.see(SHOWN)
    visited.chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    visited.visit("index.html?model=all&variant=all")
    assert rows == visited.see(SHOWN)


def test_every_link_has_its_file(site: Path) -> None:
    for path in site.glob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)', path.read_text()):
            assert (site / link).is_file(), (path, link)

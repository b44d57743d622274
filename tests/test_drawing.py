"""Figures as files: every format, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import altair as alt
import imagecodecs
import pytest

from harness import __version__
from harness.charts import history_chart, rendering
from harness.errors import CellbenchError
from harness.query import Session
from harness.results import citation, scope, tables
from tests.conftest import make_sample, make_store

HOSTILE = "</script><b>{{ 7 * 7 }}"


@pytest.fixture
def chart() -> alt.LayerChart:
    """A figure with a name in it that would like to be markup."""
    dots = alt.Chart(alt.Data(values=[{"a": 1, "name": HOSTILE}])).mark_point().encode(x="a:Q", shape="name:N")
    return rendering.theme(alt.layer(dots), rendering.heading("Dots", "One line"), "Dots.", notes=["a note", "another"])


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.png", b"\x89PNG"), ("a.svg", b"<svg"), ("a.pdf", b"%PDF"), ("a.json", b"{"), ("a.html", b"<!doctype")],
)
def test_save_every_format(tmp_path: Path, chart: alt.LayerChart, name: str, start: bytes) -> None:
    content = rendering.save(chart, tmp_path / name).read_bytes()
    assert content.lstrip().startswith(start)
    assert b"cdn.jsdelivr" not in content
    assert b"</script><b>" not in content or name == "a.json"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.gif", "a", "missing/a.svg"])
def test_save_explains_what_it_cannot_write(tmp_path: Path, chart: alt.LayerChart, name: str) -> None:
    with pytest.raises(CellbenchError, match="cannot be written"):
        rendering.save(chart, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_notes_stand_below_the_picture_as_sentences(chart: alt.LayerChart) -> None:
    svg = rendering.picture(chart, "svg").decode()
    assert "A note. Another." in svg
    heights = [float(re.findall(r"translate\([^,]+,([-\d.]+)\)", part)[-1]) for part in svg.split(">A note")[:1]]
    assert heights


def test_a_dark_picture_has_other_colours_and_no_light_one(chart: alt.LayerChart) -> None:
    light, dark = (rendering.picture(chart, "svg", dark).decode().upper() for dark in (False, True))
    assert rendering.INK in light
    assert not [colour for colour in rendering.DARK if f'"{colour}"' in dark]


def test_half_transparent_marks_keep_their_colour_in_a_png() -> None:
    rect = alt.Chart(rendering.data([{}])).mark_rect(color="#D55E00", opacity=0.5)
    chart = rendering.theme(alt.layer(rect), alt.TitleParams(""), "", 40)
    pixels = imagecodecs.png_decode(rendering.picture(chart, "png"))
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)
    assert abs(middle[:3] - [0xEA, 0xAE, 0x80]).max() <= 2
    assert list(pixels[0, 0]) == [255, 255, 255, 255][: pixels.shape[2]]  # opaque, so it is the same on any page


def test_the_bundle_is_made_once_and_kept_where_that_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rendering.vl_convert, "javascript_bundle", lambda: "made")
    assert rendering.bundle.__wrapped__() == "made"
    monkeypatch.setattr(rendering.vl_convert, "javascript_bundle", lambda: "made again")
    assert rendering.bundle.__wrapped__() == "made"
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path / "file" / "nowhere"))
    assert rendering.bundle.__wrapped__() == "made again"


def test_the_only_run_of_a_series_has_a_date() -> None:
    row = dict.fromkeys(("low", "high", "version", "accepted", "level")) | {
        "at": "2026-01-02T12:04:05.869+00:00", "run": "r", "value": 1.0, "state": "learning", "text": "1 s",
    }  # fmt: skip
    svg = rendering.picture(history_chart.draw([row], "s"), "svg").decode()
    assert ">Jan 02<" in svg
    assert ".869<" not in svg


@pytest.mark.parametrize("width_mm", [85.0, 174.0])
def test_a_figure_for_paper_has_its_width_and_no_small_or_grey_letter(
    tmp_path: Path, width_mm: float, chart: alt.LayerChart
) -> None:
    paths = rendering.save_for_paper(chart, tmp_path / "a.svg", width_mm, "Measured with …")
    svg = paths[0].read_text()
    assert float(re.search(r'width="([\d.]+)mm"', svg)[1]) == pytest.approx(width_mm, abs=0.5)
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)]
    assert sizes
    assert min(sizes) * 72 / 96 >= 6
    assert set(re.findall(r'<text[^>]*fill="([^"]+)"', svg)) <= {"#000", "#000000"}
    assert paths[1].read_text() == "Dots. One line. A note. Another.\n\nMeasured with …\n"
    content = rendering.save_for_paper(chart, tmp_path / "a.png", width_mm, "")[0].read_bytes()
    assert imagecodecs.png_decode(content).shape[1] == pytest.approx(width_mm / 25.4 * rendering.PAPER_DPI, rel=0.01)


def test_a_citation_does_not_name_this_version_as_the_one_that_measured(tmp_path: Path) -> None:
    session = Session(make_store(tmp_path, [make_sample(harness_version="0.0.7", repetition=n) for n in range(3)]))
    text = citation.sentence(tables.load(session, scope.resolve(session)))
    measured, _, evaluated = text.partition("Evaluated with")
    assert __version__ not in measured
    assert evaluated == f" Cellbench {__version__}."

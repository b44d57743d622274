"""Palette, theme and file formats of all figures. Only `save`, `save_for_paper` and `bundle` write to the disk."""

from __future__ import annotations

import contextlib
import html
import json
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import altair as alt
import vl_convert
from altair.utils import schemapi

from harness import files
from harness.errors import CellbenchError, StorageError
from harness.machine import folders

# Blue, vermillion, green, pink and violet differ in lightness too, so that people with red or green colour blindness
# can distinguish them (tests/test_palette.py computes the distances). Shapes repeat what the hues encode.
HUES = ("#0A7BD0", "#D55E00", "#0B6B3A", "#DC5AC0", "#3A1FB0")
OTHER_HUE = HUES[4]  # of unknown kinds
PAPER, INK, QUIET, GREY = "#FFFFFF", "#1C1E21", "#595D64", "#6F7379"  # GREY: of reference timings and rules
ON_DARK_HUE, ON_LIGHT_HUE = "#FDFDFD", "#000000"  # words inside a bar
INKS = dict(zip(HUES, (ON_LIGHT_HUE, ON_LIGHT_HUE, ON_DARK_HUE, ON_LIGHT_HUE, ON_DARK_HUE), strict=True))
# Each colour of a figure → its replacement on a dark background.
DARK = dict(zip(HUES, ("#2A8AC8", "#FF7F1F", "#7BEFAA", "#E8467A", "#8F6CF5"), strict=True)) | {
    PAPER: "#16181D", INK: "#E3E4E6", QUIET: "#A9AEB6", GREY: "#A0A5AD", ON_DARK_HUE: "#010101",
}  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH_PX, HEIGHT_PX = 640, 340
TITLE_CHARACTERS, NOTE_CHARACTERS = 68, 104  # of a line
MM_PX, POINT_PX = 96 / 25.4, 96 / 72
PAPER_DPI = 600
PAPER_FONT_PX = (6.5 * POINT_PX, 7.5 * POINT_PX)  # the smallest and the largest font of a printed figure
NARROW = "width < 480"  # a figure on a phone, as an expression of Vega
EMBED = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
# The policy blocks all network access. Vega compiles its expressions, which requires unsafe-eval.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)


# The script of pages with figures that wraps titles to the width of the page.
WRAP = """function wrap(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line ? line + " " + word : word;
  }
  return lines;
}
function wrapTitle(spec, width) {
  const room = width - 50;  // the corner of the menu stays free
  spec.title.subtitle = wrap(spec.title.subtitle.join(" "), Math.floor(room / 6.8));
  spec.title.text = wrap(spec.title.text.join(" "), Math.floor(room / 9.5));
  return spec;
}"""

# The types that alt.layer() and methods of layered charts return; altair's types include facets.
Layered = alt.LayerChart | alt.FacetChart


class _Rows:
    """Rows of a figure in a wrapper that altair neither copies nor validates."""

    _schema: ClassVar[dict[str, str]] = {"type": "array"}

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def to_dict(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return list(self._rows)


def data(rows: Sequence[dict[str, Any]]) -> alt.Data:
    """The rows of a figure, wrapped; altair would otherwise traverse them in every step of building a chart."""
    with unchecked():
        return alt.Data(values=_Rows(rows))


def unchecked() -> AbstractContextManager[None]:
    """A context without validation against Vega-Lite's grammar, which takes seconds; the tests validate."""
    return schemapi.debug_mode(False)


def heading(title: str, subtitle: str) -> alt.TitleParams:
    """A title with its subtitle, both wrapped into lines."""
    return alt.TitleParams(textwrap.wrap(title, TITLE_CHARACTERS), subtitle=textwrap.wrap(subtitle, NOTE_CHARACTERS))


def bottom_axis(**options: Any) -> alt.Axis:
    """A horizontal axis with fewer ticks on a narrow screen."""
    return alt.Axis(grid=False, tickCount=alt.ExprRef(f"{NARROW} ? 3 : 6"), **options)


def legend() -> alt.Legend:
    """The legend below a figure, with one column on a narrow screen."""
    return alt.Legend(
        title=None,
        orient="bottom",
        columns=alt.ExprRef(f"{NARROW} ? 1 : 2"),
        labelLimit=alt.ExprRef(f"{NARROW} ? width - 18 : 0.6 * width"),
        labelFontSize=alt.ExprRef(f"{NARROW} ? 10.5 : 12"),
    )


def theme(
    chart: Layered,
    title: alt.TitleParams,
    description: str,
    height: float = HEIGHT_PX,
    notes: Sequence[str] = (),
    cautions: Sequence[str] = (),
) -> Layered:
    """A chart in the common style of all figures.

    description: for screen readers. height: in px. notes: about this figure, shown below it. cautions: about the data;
    a page with several figures shows them once.
    """
    return chart.properties(
        title=title, description=description, width=WIDTH_PX, height=height, config=_look(),
        usermeta={"notes": list(notes), "cautions": list(cautions)},
    )  # fmt: skip


@cache
def _look() -> alt.Config:
    """The style as one configuration, since altair copies the whole chart for each `configure_…`."""
    words = {"labelColor": QUIET, "titleColor": QUIET, "labelFontSize": 12, "titleFontSize": 12}
    return alt.Config(
        background=PAPER,
        font=FONT,
        padding=8,
        view=alt.ViewConfig(stroke=None),
        # A screen reader reads the points; lines and areas between them repeat the same values.
        area=alt.AreaConfig(aria=False),
        line=alt.LineConfig(aria=False),
        rule=alt.MarkConfig(aria=False),
        text=alt.MarkConfig(color=INK),
        axis=alt.AxisConfig(**words, titleFontWeight="normal", domainColor=GREY, tickColor=GREY, gridOpacity=0.2),
        axisY=alt.AxisConfig(gridColor=GREY, titlePadding=10),
        legend=alt.LegendConfig(labelColor=QUIET, symbolSize=70, symbolOpacity=1, rowPadding=4),
        title=alt.TitleConfig(
            anchor="start",
            color=INK,
            fontSize=16,
            subtitleColor=QUIET,
            subtitleFontSize=12,
            offset=14,
            subtitlePadding=5,
        ),
    )


def save(chart: Layered, path: Path | str, dark: bool = False) -> Path:
    """Write a chart atomically as html (works offline), png, svg, pdf or json, by the suffix of the path.

    dark: in the colours for a dark background, except html, which has both. Raises CellbenchError for other suffixes.
    """
    path = Path(path)
    if (kind := _kind(path)) == "html":
        return files.write(path, _html(chart))
    return files.write(path, picture(chart, kind, dark))


def _kind(path: Path) -> str:
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("html", "png", "svg", "pdf", "json"):
        raise CellbenchError(
            f"a chart cannot be written as {path.suffix or 'a file without a suffix'}",
            str(path),
            "end the name with .html, .png, .svg, .pdf or .json",
        )
    return kind


def picture(chart: Layered, kind: str, dark: bool = False) -> bytes:
    """The content of a chart as png, svg, pdf or json, with its notes below it, on an opaque background."""
    text = json.dumps(_with_notes(as_dict(chart)))
    for colour, on_dark in DARK.items() if dark else ():
        text = text.replace(colour, on_dark)
    if kind == "json":
        return text.encode()
    content = _converted(json.loads(text), kind, scale=2)
    return _smaller(content) if kind == "png" else content


def save_for_paper(chart: Layered, path: Path | str, width_mm: float, citation: str) -> tuple[Path, Path]:
    """Write a chart for print without title and notes, and write these into a caption file next to it.

    All text is black and has 6 pt or more at this width. svg, pdf and png have the physical size. Returns both paths.
    Raises CellbenchError for other suffixes.
    """
    path = Path(path)
    if (kind := _kind(path)) not in ("svg", "pdf", "png"):
        raise CellbenchError(f"--for paper writes no .{kind}", str(path), "end the name with .svg, .pdf or .png")
    spec = as_dict(chart)
    title, meta = spec.pop("title"), spec.pop("usermeta")
    least, most = PAPER_FONT_PX
    text = json.dumps(_fonts_within(spec, least, most))
    for colour in (INK, QUIET):
        text = text.replace(colour, "#000000")
    printed: dict[str, Any] = json.loads(text) | {
        "width": width_mm * MM_PX, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 2,
    }  # fmt: skip
    printed["config"] |= {"font": "Arial, Helvetica, 'Liberation Sans', sans-serif"}
    content = _converted(printed, kind, scale=PAPER_DPI / 96 if kind == "png" else 1)
    if kind == "svg":
        content = _physical(content.decode()).encode()
    sentences = [" ".join(title["text"]), " ".join(title["subtitle"]), *meta["notes"], *meta["cautions"]]
    caption = " ".join(sentence(each) for each in sentences if each)
    written = files.write(path, content)
    return written, files.write(path.with_suffix(".caption.txt"), f"{caption}\n\n{citation}\n".encode())


def _fonts_within(spec: Any, least: float, most: float) -> Any:
    """The chart with all font sizes between two limits in px, and with explicit sizes instead of Vega's defaults."""
    if isinstance(spec, dict):
        sizes = {"labelFontSize", "titleFontSize", "fontSize"}
        found = {
            key: most if key in sizes and not isinstance(value, int | float)
            else min(max(value, least), most) if key in sizes
            else value if key == "values"
            else _fonts_within(value, least, most)
            for key, value in spec.items()
        }  # fmt: skip
        return found | {"fontSize": most} if found.get("type") == "text" and "fontSize" not in found else found
    return [_fonts_within(each, least, most) for each in spec] if isinstance(spec, list) else spec


def _physical(svg: str) -> str:
    """The SVG with its size in mm instead of px."""

    def millimetres(found: re.Match[str]) -> str:
        return f'{found[1]}="{float(found[2]) / MM_PX:.2f}mm"'

    begin, end, rest = svg.partition(">")
    return re.sub(r'\b(width|height)="([\d.]+)"', millimetres, begin) + end + rest


def _with_notes(spec: dict[str, Any]) -> dict[str, Any]:
    """The chart with its notes as a footnote: the title, at the bottom, of an outer chart around it."""
    meta = spec.get("usermeta", {})
    notes = [sentence(each) for each in (*meta.get("notes", ()), *meta.get("cautions", ()))]
    if not notes:
        return spec
    outer = {key: spec[key] for key in ("$schema", "config", "description") if key in spec}
    outer["params"] = [each for each in spec.get("params", ()) if "select" not in each]
    kept = [each for each in spec.get("params", ()) if "select" in each]
    inner = {key: value for key, value in spec.items() if key not in (*outer, "usermeta", "params")}
    footnote = {
        "text": textwrap.wrap(" ".join(notes), NOTE_CHARACTERS + 8), "orient": "bottom", "anchor": "start",
        "fontSize": 11, "fontWeight": "normal", "color": QUIET, "offset": 12,
    }  # fmt: skip
    return outer | {"title": footnote, "vconcat": [inner | ({"params": kept} if kept else {})]}


def sentence(note: str) -> str:
    """A note as a sentence: a capital first, a full stop last."""
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def _smaller(png: bytes) -> bytes:
    """The same picture in a third of the bytes, without the alpha channel, since it is opaque."""
    import imagecodecs
    import numpy as np

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(imagecodecs.png_decode(png)[..., :3]), level=9))


def _converted(spec: dict[str, Any], kind: str, scale: float) -> bytes:
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    match kind:
        case "svg":
            return vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
        case "pdf":
            return vl_convert.vegalite_to_pdf(spec, vl_version=version)
        case _:
            # The function multiplies the scale by ppi / 72; 96 px are an inch.
            return vl_convert.vegalite_to_png(spec, vl_version=version, scale=72 / 96, ppi=96 * scale)


def as_dict(chart: Layered) -> dict[str, Any]:
    """The chart in Vega-Lite, not validated, since validation takes seconds for many points."""
    return chart.to_dict(validate=False)


def script_json(value: Any) -> str:
    """JSON for a script element, without "<", so that no text ends the element or opens a comment."""
    return json.dumps(value).replace("<", "\\u003c")


@cache
def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which defines vegaEmbed.

    Cached on disk, since building takes seconds.
    """
    kept = folders.home() / "scripts" / f"vega-{metadata.version('vl-convert-python')}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  # its stub requires a snippet
    with contextlib.suppress(StorageError):  # without a writable cache, each process builds it again
        files.write(kept, script, make_folder=True)
    return script


def dark_style() -> str:
    """CSS that recolours drawn figures on a dark screen; printed pages keep the light colours."""
    rules = "\n".join(
        f'  .chart svg [{part}="{colour}" i] {{ {part}: {on_dark}; }}'
        for colour, on_dark in DARK.items()
        for part in ("fill", "stroke")
    )
    rules += "\n  .chart svg { background: none !important; }"
    return f"@media screen and (prefers-color-scheme: dark) {{\n{rules}\n}}"


def _html(chart: Layered) -> str:
    """An HTML page of one chart, as wide as its window; altair's own page does not escape names."""
    spec: dict[str, Any] = as_dict(chart) | {"width": "container"}
    meta = spec.pop("usermeta", {})
    notes = " ".join(sentence(each) for each in (*meta.get("notes", ()), *meta.get("cautions", ())))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">
<title>{html.escape(" ".join(spec["title"]["text"]))}</title>
<style>
body {{ margin: 1rem; font: 0.8rem/1.5 {FONT}; background: {PAPER}; color: {QUIET}; }}
.chart {{ width: 100%; max-width: 60rem; }}
@media screen and (prefers-color-scheme: dark) {{ body {{ background: {DARK[PAPER]}; color: {DARK[QUIET]}; }} }}
{dark_style()}
</style>
<div class="chart" id="chart"></div>
<p>{html.escape(notes)}</p>
<script>{bundle()}</script>
<script>{WRAP}
const box = document.getElementById("chart"), spec = {script_json(spec)};
vegaEmbed(box, wrapTitle(spec, box.clientWidth), {script_json(EMBED)})
  .then(() => {{ box.dataset.drawn = "yes"; }}, console.error);
</script>
"""

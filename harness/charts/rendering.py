"""What all figures share: palette, theme, how a figure becomes a file. Only `save` and `bundle` touch the disk."""

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

# Blue, vermillion, green, pink and violet differ in lightness too, so that people who see no red or no green can tell
# them apart (tests/test_palette.py computes how far). Shapes are the second code.
HUES = ("#0A7BD0", "#D55E00", "#0B6B3A", "#DC5AC0", "#3A1FB0")
OTHER_HUE = HUES[4]  # for what this version does not know
PAPER, INK, QUIET, GREY = "#FFFFFF", "#1C1E21", "#595D64", "#6F7379"  # grey: of reference timings and rules
ON_DARK_HUE, ON_LIGHT_HUE = "#FDFDFD", "#000000"  # words inside a bar
INKS = dict(zip(HUES, (ON_LIGHT_HUE, ON_LIGHT_HUE, ON_DARK_HUE, ON_LIGHT_HUE, ON_DARK_HUE), strict=True))
# Each colour of a figure and what stands for it on a dark background.
DARK = dict(zip(HUES, ("#2A8AC8", "#FF7F1F", "#7BEFAA", "#E8467A", "#8F6CF5"), strict=True)) | {
    PAPER: "#16181D", INK: "#E3E4E6", QUIET: "#A9AEB6", GREY: "#A0A5AD", ON_DARK_HUE: "#010101",
}  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH_PX, HEIGHT_PX, EMPTY_HEIGHT_PX = 640, 340, 120
TITLE_CHARACTERS, NOTE_CHARACTERS = 68, 104  # of a line
MM_PX, POINT_PX = 96 / 25.4, 96 / 72
PAPER_DPI = 600
PAPER_FONT_PX = (6.5 * POINT_PX, 7.5 * POINT_PX)  # the smallest and the largest letters of a printed figure
NARROW = "width < 480"  # a phone's figure, in the language of Vega
EMBED = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
# Nothing from the network, enforced; Vega compiles its expressions, which needs unsafe-eval.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)


# Script of pages with figures: the title is wrapped to the width of the page.
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

# What alt.layer() and layered charts give; facets are a kind of them to altair's types.
Layered = alt.LayerChart | alt.FacetChart


class _Rows:
    """Rows of a figure as altair takes what is no class of its own: it neither copies nor looks into them."""

    _schema: ClassVar[dict[str, str]] = {"type": "array"}

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def to_dict(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return list(self._rows)


def data(rows: Sequence[dict[str, Any]]) -> alt.Data:
    """The rows of a figure. Altair walks through them at every step of building a chart unless they are wrapped."""
    with unchecked():
        return alt.Data(values=_Rows(rows))


def unchecked() -> AbstractContextManager[None]:
    """While it lasts, charts are not held against Vega-Lite’s grammar, which takes seconds; the tests do that."""
    return schemapi.debug_mode(False)


def heading(title: str, subtitle: str) -> alt.TitleParams:
    """A title with one line about what is drawn."""
    return alt.TitleParams(textwrap.wrap(title, TITLE_CHARACTERS), subtitle=textwrap.wrap(subtitle, NOTE_CHARACTERS))


def bottom_axis(**options: Any) -> alt.Axis:
    """An axis with as many ticks as there is room for, also on a phone."""
    return alt.Axis(grid=False, tickCount=alt.ExprRef(f"{NARROW} ? 3 : 6"), **options)


def legend() -> alt.Legend:
    """The legend below a figure, narrow enough for a phone."""
    return alt.Legend(
        title=None,
        orient="bottom",
        columns=alt.ExprRef(f"{NARROW} ? 1 : 2"),
        labelLimit=alt.ExprRef(f"{NARROW} ? width - 18 : 0.6 * width"),
        labelFontSize=alt.ExprRef(f"{NARROW} ? 10.5 : 12"),
    )


def empty(title: alt.TitleParams, text: str, cautions: Sequence[str] = ()) -> Layered:
    """A figure that says why there is nothing to see."""
    words = alt.Chart(data([{"text": text}])).mark_text(size=15).encode(text="text:N")
    return theme(alt.layer(words), title, f"{' '.join(title.text)}. Empty: {text}.", EMPTY_HEIGHT_PX, cautions=cautions)


def theme(
    chart: Layered,
    title: alt.TitleParams,
    description: str,
    height: float = HEIGHT_PX,
    notes: Sequence[str] = (),
    cautions: Sequence[str] = (),
) -> Layered:
    """A chart in the look of all figures; the description is for screen readers.

    notes: about this figure, for below it. cautions: about the data, which a page with several figures shows once.
    """
    return chart.properties(
        title=title, description=description, width=WIDTH_PX, height=height, config=_look(),
        usermeta={"notes": list(notes), "cautions": list(cautions)},
    )  # fmt: skip


@cache
def _look() -> alt.Config:
    """The look; in one piece, since altair copies the whole chart for each `configure_…`."""
    words = {"labelColor": QUIET, "titleColor": QUIET, "labelFontSize": 12, "titleFontSize": 12}
    return alt.Config(
        background=PAPER,
        font=FONT,
        padding=8,
        view=alt.ViewConfig(stroke=None),
        # A screen reader reads the points; what lies between them has nothing to add.
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
    """Write a chart as html (works offline), png, svg, pdf or json, by the suffix of the path; whole or not at all."""
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
    """A chart as png, svg, pdf or json, with its notes below it, on an opaque background."""
    text = json.dumps(_with_notes(as_dict(chart)))
    for colour, on_dark in DARK.items() if dark else ():
        text = text.replace(colour, on_dark)
    if kind == "json":
        return text.encode()
    content = _converted(json.loads(text), kind, scale=2)
    return _smaller(content) if kind == "png" else content


def save_for_paper(chart: Layered, path: Path | str, width_mm: float, citation: str) -> tuple[Path, Path]:
    """Write a chart as it is printed, without title and notes, and these as a caption next to it.

    All letters are black and have 6 pt or more at this width. svg, pdf and png have the physical size.
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
    caption = " ".join(_sentence(each) for each in sentences if each)
    written = files.write(path, content)
    return written, files.write(path.with_suffix(".caption.txt"), f"{caption}\n\n{citation}\n".encode())


def _fonts_within(spec: Any, least: float, most: float) -> Any:
    """The same with all sizes of letters between two ends, and with sizes where Vega's own would be used."""
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
    """An SVG whose size is in mm."""

    def millimetres(found: re.Match[str]) -> str:
        return f'{found[1]}="{float(found[2]) / MM_PX:.2f}mm"'

    begin, end, rest = svg.partition(">")
    return re.sub(r'\b(width|height)="([\d.]+)"', millimetres, begin) + end + rest


def _with_notes(spec: dict[str, Any]) -> dict[str, Any]:
    """The picture with its notes as a footnote: a title below a frame around it, since Vega gives each frame one."""
    meta = spec.get("usermeta", {})
    notes = [_sentence(each) for each in (*meta.get("notes", ()), *meta.get("cautions", ()))]
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


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def _smaller(png: bytes) -> bytes:
    """The same picture in a third of the bytes, without a channel for transparency: it is opaque."""
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
            # It multiplies the scale by ppi / 72; 96 px are an inch.
            return vl_convert.vegalite_to_png(spec, vl_version=version, scale=72 / 96, ppi=96 * scale)


def as_dict(chart: Layered) -> dict[str, Any]:
    """The chart in Vega-Lite; not held against its grammar, which takes seconds where there are many points."""
    return chart.to_dict(validate=False)


def script_json(value: Any) -> str:
    """JSON for a script element: without any "<", nothing in it can end the element or open a comment."""
    return json.dumps(value).replace("<", "\\u003c")


@cache
def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script; it defines vegaEmbed. Kept once made, since that takes seconds."""
    kept = folders.home() / "scripts" / f"vega-{metadata.version('vl-convert-python')}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  # its stub asks for a snippet
    with contextlib.suppress(StorageError):  # where nothing can be kept, it is made anew each time
        files.write(kept, script, make_folder=True)
    return script


def dark_style() -> str:
    """CSS that gives drawn figures their colours on a dark screen; on paper they keep those of a light one."""
    rules = "\n".join(
        f'  .chart svg [{part}="{colour}" i] {{ {part}: {on_dark}; }}'
        for colour, on_dark in DARK.items()
        for part in ("fill", "stroke")
    )
    rules += "\n  .chart svg { background: none !important; }"
    return f"@media screen and (prefers-color-scheme: dark) {{\n{rules}\n}}"


def _html(chart: Layered) -> str:
    """A page of one chart, as wide as its window; altair's own does not escape the names in it."""
    spec: dict[str, Any] = as_dict(chart) | {"width": "container"}
    meta = spec.pop("usermeta", {})
    notes = " ".join(_sentence(each) for each in (*meta.get("notes", ()), *meta.get("cautions", ())))
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

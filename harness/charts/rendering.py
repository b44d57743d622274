"""What all figures share: palette, theme, how a figure becomes a file. Only `save` and `bundle` touch the disk."""

from __future__ import annotations

import contextlib
import io
import json
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal

import altair as alt
import numpy as np
import vl_convert
from altair.utils import schemapi

from harness import files
from harness.errors import CellbenchError, StorageError
from harness.machine import folders

# The four Okabe-Ito hues that keep a contrast of 3:1 on white and on near-black; shapes are the second code.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
OTHER_HUE = "#8A6A3F"  # for what this version does not know; keeps the same contrast
# Readable on both backgrounds, so one transparent picture serves light and dark.
GREY = "#777777"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH_PX, HEIGHT_PX, EMPTY_HEIGHT_PX = 640, 340, 120
NOTE_CHARACTERS = 100
NARROW = "width < 480"  # a phone's figure, in the language of Vega
EMBED = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
# Nothing from the network, enforced; Vega compiles its expressions, which needs unsafe-eval.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)


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


def heading(title: str, notes: Iterable[str]) -> alt.TitleParams:
    """A title with the notes that travel with the picture."""
    # The separator sticks to the word before it, so that no line starts with one.
    return alt.TitleParams(title, subtitle=textwrap.wrap("\u00a0· ".join(notes), NOTE_CHARACTERS))


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


def empty(title: alt.TitleParams, text: str) -> Layered:
    """A figure that says why there is nothing to see."""
    words = alt.Chart(data([{"text": text}])).mark_text(size=15, color=GREY).encode(text="text:N")
    return theme(alt.layer(words), title, f"{title.text}. Empty: {text}.", EMPTY_HEIGHT_PX)


def theme(chart: Layered, title: alt.TitleParams, description: str, height: float = HEIGHT_PX) -> Layered:
    """A chart in the house's look; the description is for screen readers."""
    return chart.properties(title=title, description=description, width=WIDTH_PX, height=height, config=_look())


@cache
def _look() -> alt.Config:
    """The house's look; in one piece, since altair copies the whole chart for each `configure_…`."""
    words = {"labelColor": GREY, "titleColor": GREY, "labelFontSize": 12, "titleFontSize": 12}
    return alt.Config(
        background="transparent",
        font=FONT,
        padding=8,
        view=alt.ViewConfig(stroke=None),
        # A screen reader reads the points; what lies between them has nothing to add.
        area=alt.AreaConfig(aria=False),
        line=alt.LineConfig(aria=False),
        rule=alt.MarkConfig(aria=False),
        axis=alt.AxisConfig(**words, titleFontWeight="normal", domainColor=GREY, tickColor=GREY, gridOpacity=0.2),
        axisY=alt.AxisConfig(gridColor=GREY, titlePadding=10),
        legend=alt.LegendConfig(labelColor=GREY, symbolSize=70, symbolOpacity=1, rowPadding=4),
        title=alt.TitleConfig(
            anchor="start", color=GREY, fontSize=16, subtitleColor=GREY, subtitleFontSize=12, offset=16
        ),
    )


def save(chart: Layered, path: Path | str) -> Path:
    """Write a chart as html (works offline), png, svg, pdf or json, by the suffix of the path; whole or not at all."""
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("html", "png", "svg", "pdf", "json"):
        raise CellbenchError(
            f"a chart cannot be written as {path.suffix or 'a file without a suffix'}",
            str(path),
            "end the name with .html, .png, .svg, .pdf or .json",
        )
    if kind == "html":
        return files.write(path, _html(chart))
    return files.write(path, picture(chart, kind))


def picture(chart: Layered, kind: Literal["png", "svg", "pdf", "json"]) -> bytes:
    """A chart as png, svg, pdf or json."""
    if kind == "png":
        return _png(chart)
    buffer = io.BytesIO() if kind == "pdf" else io.StringIO()
    chart.save(buffer, format=kind)
    content = buffer.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def _png(chart: Layered) -> bytes:
    """A transparent picture, twice the size."""
    import imagecodecs

    # vl-convert gives half-transparent marks a wrong colour where there is nothing behind them. Drawn on white and on
    # black they are right, and the difference between both is the transparency.

    def on(background: str) -> np.ndarray:
        buffer = io.BytesIO()
        chart.properties(background=background).save(buffer, format="png", scale_factor=2)
        return imagecodecs.png_decode(buffer.getvalue())[..., :3].astype(int)

    white, black = on("white"), on("black")
    alpha = 255 - (white - black).max(axis=-1, keepdims=True)
    colour = np.minimum(255 * black // np.maximum(alpha, 1), 255)
    return bytes(imagecodecs.png_encode(np.concatenate([colour, alpha], axis=-1).astype(np.uint8)))


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


def _html(chart: Layered) -> str:
    """A page of one chart; altair's own does not escape the names in it."""
    return f"""<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">
<title>{chart.title.text}</title>
<div id="chart"></div>
<script>{bundle()}</script>
<script>vegaEmbed("#chart", {script_json(as_dict(chart))}, {script_json(EMBED)}).catch(console.error)</script>
"""

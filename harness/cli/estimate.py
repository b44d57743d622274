"""The command that estimates how long many images take: estimate."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Json, Place, Run, Wide, form
from harness.errors import CellbenchError

app = typer.Typer()


@app.command("estimate")
def estimate_(
    n_images: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of images.")],
    size: Annotated[str, typer.Option(help="Height x width of an image in px: 2160x2560, or 1024 for a square.")],
    diameter: Annotated[
        float | None, typer.Option(min=1, help="Diameter of the cells in px; that of the measured image if not given.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="Price of an hour, as DEVICE=PRICE: cuda:0=2.50; may be repeated.")
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Estimate sizes beyond those measured, too; without an interval.")
    ] = False,
    out: Place = str(RESULTS),
    run: Run = None,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Estimate how long N images take on each device.

    Uses the newest measurements of each device. Sizes beyond those measured need --extrapolate.
    """
    from harness import query
    from harness.results import estimates, scope, tables
    from harness.store import Store
    from harness.terminal import estimate_view

    height_px, width_px = _size(size)
    session = query.Session(Store.at(out))
    chosen = scope.resolve(session, run, None if run else "1970-01-01")
    question = estimates.Question(n_images, height_px, width_px, diameter, extrapolate)
    found = estimates.answer(tables.load(session, chosen, with_published=False), question, model)
    if not found.estimates and not json:
        raise CellbenchError(
            f"no device was measured at sizes around {height_px} x {width_px} px",
            "; ".join(f"{each.series}: {each.why}" for each in found.refusals) or str(out),
            f"measure it: cellbench run --crops {min(height_px, width_px)} --blocks 3; or add --extrapolate",
        )
    estimate_view.show(question, found, _prices(price or []), form(json, False, False, wide))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:\s*[x×,]\s*(\d+))?", text.strip(), re.IGNORECASE)
    height_px, width_px = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(height_px, width_px) < 1:
        raise CellbenchError(f"{text!r} is no size", "--size", "write it like 2160x2560 or 1024")
    return height_px, width_px


def _prices(texts: list[str]) -> dict[str, float]:
    """The price of an hour by device."""
    prices = {}
    for text in texts:
        device, _, amount = text.rpartition("=")
        if not device or not re.fullmatch(r"\d+(\.\d+)?", amount):
            raise CellbenchError(f"{text!r} is no price", "--price", "write it like cuda:0=2.50, in one currency")
        prices[device] = float(amount)
    return prices

"""The command that estimates how long many images take: estimate."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Json, Place, Run, Wide, form, prices
from harness.errors import CellbenchError, NoResultsError

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
        list[str] | None,
        typer.Option(help="Price of an hour, as DEVICE=PRICE or NODE=PRICE: cuda:0=2.50; may be repeated."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--prices", metavar="FILE", help="Prices of nodes: a cluster file of rented machines.")
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Estimate sizes beyond those measured, too; without an interval.")
    ] = False,
    with_reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Show the devices of the reference set, too.")
    ] = True,
    out: Place = str(RESULTS),
    run: Run = None,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Estimate how long N images take on each device.

    Uses the newest measurements of each device. Devices of the reference set are marked: they are not yours.
    Sizes beyond those measured need --extrapolate.
    """
    from harness import query
    from harness.results import estimates, scope, tables
    from harness.store import Store
    from harness.terminal import estimate_view

    height_px, width_px = _size(size)
    question = estimates.Question(n_images, height_px, width_px, diameter, extrapolate)
    other = tables.load_reference() if with_reference else None
    try:
        session = query.Session(Store.at(out))
        own = tables.load(session, scope.resolve(session, run, None if run else scope.EVER), with_reference)
        other = other and tables.load_reference(session)
    except NoResultsError:
        if other is None:
            raise
        own = None
    found = estimates.with_reference(own, other, question, model)
    if not found.estimates and not json:
        raise CellbenchError(
            f"no device was measured at sizes around {height_px} x {width_px} px",
            "; ".join(f"{each.series}: {each.why}" for each in found.refusals) or str(out),
            f"measure it: cellbench run --crops {min(height_px, width_px)} --blocks 3; or add --extrapolate",
        )
    given = prices(price or [], "cuda:0=2.50")
    if unknown := given.keys() - {name for each in found.estimates for name in estimate_view.names(each)}:
        known = ", ".join(dict.fromkeys(estimate_view.names(each)[0] for each in found.estimates))
        raise CellbenchError(f"no device is called {sorted(unknown)[0]}", "--price", f"there are {known}")
    origin = None
    if cluster:
        from harness.fleet import cloud

        offer = cloud.read(cluster)
        given, origin = {**offer.prices, **given}, offer.origin
    estimate_view.show(question, found, given, form(json, False, False, wide), origin)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:\s*[x×,]\s*(\d+))?", text.strip(), re.IGNORECASE)
    height_px, width_px = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(height_px, width_px) < 1:
        raise CellbenchError(f"{text!r} is no size", "--size", "write it like 2160x2560 or 1024")
    return height_px, width_px

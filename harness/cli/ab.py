"""The command that compares two settings in pairs of processes: ab."""

from __future__ import annotations

import json as json_
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Channel, Json, OutToWrite, Plane, duration_s
from harness.cli.stopping import resumable
from harness.errors import CellbenchError

if TYPE_CHECKING:
    from harness.fleet.driver import Fleet
    from harness.run.ab import Pair, Side
    from harness.run.bench import Prepared
    from harness.run.resume import Pairing

app = typer.Typer()

SideText = Annotated[str, typer.Argument(help="A variant, such as stock or lossless+threads=2, or a TOML profile.")]


@app.command()
def ab(
    a: SideText,
    b: SideText,
    python_a: Annotated[
        str | None, typer.Option(help="Python interpreter of side A; that of cellbench if not given.")
    ] = None,
    python_b: Annotated[
        str | None, typer.Option(help="Python interpreter of side B, such as one with another torch.")
    ] = None,
    image: Annotated[str, typer.Option(help="sparse, dense, or a 2-D TIFF file.")] = "sparse",
    plane: Plane = None,
    channel: Channel = None,
    crop: Annotated[str, typer.Option(help="Side of a centred square in px, or full.")] = "448",
    device: Annotated[str, typer.Option(help="cpu, mps, cuda or cuda:N.")] = "cpu",
    model: Annotated[str | None, typer.Option(help="Model to run; cellbench models lists them.")] = None,
    weights: Annotated[str, typer.Option(help="auto, published, standin, or a path.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls in each process.")] = 3,
    margin: Annotated[
        float, typer.Option(min=0.005, max=1.0, help="Largest difference that counts as the same: 0.05 is ±5 %.")
    ] = 0.05,
    budget: Annotated[str, typer.Option(help="Longest time without a verdict: 90s, 30m, 2h.")] = "30m",
    fail_on: Annotated[
        str | None, typer.Option(help="Exit with 1 on these verdicts: slower, faster, same, inconclusive.")
    ] = None,
    out: OutToWrite = RESULTS,
    json: Json = False,
) -> None:
    """Find out whether B is slower than A.

    Fresh processes of A and B are measured in pairs until the verdict is SAME, FASTER or SLOWER.
    """
    from harness.run import ab as pairs
    from harness.run.resume import Pairing

    _check_verdicts(fail_on)
    flags = {
        "image": image,
        "plane": plane,
        "channel": channel,
        "crops": crop,
        "devices": device,
        "models": model,
        "weights": weights,
        "repeats": repeats,
    }
    pairing = Pairing(margin=margin, budget_s=duration_s(budget, "--budget"), labels=(a, b))
    with ExitStack() as stack:
        made = [_prepared(stack, text, python, flags) for text, python in ((a, python_a), (b, python_b))]
        sides = pairs.begin(made[0][0], made[1][0], (made[0][1], made[1][1]), out, pairing)
        _measure(sides, out, pairing, json, fail_on)


def go_on(run_id: str, out: Path) -> None:
    """Continue an ab that was stopped, from either of its runs."""
    from harness.fleet import driver
    from harness.run import ab as pairs
    from harness.run import bench, resume
    from harness.run.ab import Side
    from harness.store import Store

    store = Store.at(out)
    manifests = pairs.resumed(store, resume.read(store, run_id))
    with ExitStack() as stack:
        sides = []
        for manifest in manifests:
            material = bench.gather(manifest.config)
            fleet = stack.enter_context(
                driver.opened(use_ray=False, engines=material.engines, python=manifest.config.engine_python)
            )
            prepared = bench.again(material, manifest, fleet.members, manifest.blocks)
            sides.append(Side(manifest.run_id, prepared, fleet, fleet.deliver(material.parcels())))
        pairing = manifests[0].pairing
        assert pairing is not None  # resumed() has seen it
        _measure((sides[0], sides[1]), out, pairing, False, None)


def _prepared(stack: ExitStack, text: str, python: str | None, flags: dict[str, object]) -> tuple[Prepared, Fleet]:
    """One side, with the fleet that measures it for as long as the stack is open."""
    from harness.fleet import driver
    from harness.plan import config
    from harness.run import bench

    is_profile = text.endswith(".toml")
    fixed = {"blocks": 1, "control": False, "passes": (), "protocols": ("standard",), "precision": None, "warmups": 1}
    lists = {"devices": (flags["devices"],), "models": (flags["models"],) if flags["models"] else None}
    chosen = {**flags, **lists, "crops": config.split(str(flags["crops"]))}
    variants = {} if is_profile else {"variants": (text,)}
    wanted = config.load(text if is_profile else "quick", {**fixed, **chosen, **variants, "engine_python": python})
    material = bench.gather(wanted)
    fleet = stack.enter_context(driver.opened(use_ray=False, engines=material.engines, python=python))
    return bench.prepare(material, fleet.members), fleet


def _measure(sides: tuple[Side, Side], out: Path, pairing: Pairing, json: bool, fail_on: str | None) -> None:
    from dataclasses import asdict

    from harness.run import ab as pairs
    from harness.terminal import ab_view

    typer.echo(ab_view.heading(sides, pairing), err=True)
    last: Pair | None = None
    with resumable(sides[0].run_id, out):
        for last in pairs.measure(sides, out, pairing):
            typer.echo(ab_view.line(last), err=True)
    assert last is not None  # there is at least one pair
    runs = {"run_a": sides[0].run_id, "run_b": sides[1].run_id}
    typer.echo(json_.dumps({**asdict(last), **runs}, indent=2) if json else ab_view.verdict(last, pairing, runs))
    if fail_on and last.decision.verdict.lower() in fail_on.split(","):
        raise typer.Exit(1)


def _check_verdicts(words: str | None) -> None:
    known = ("slower", "faster", "same", "inconclusive")
    if words and (unknown := [word for word in words.split(",") if word not in known]):
        raise CellbenchError(f"{unknown[0]!r} is not a verdict", "--fail-on", f"verdicts are {', '.join(known)}")

"""Commands about speed: tune, verify-masks (agreement of masks), throughput (many images)."""

from __future__ import annotations

import json as json_
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import RESULTS, Channel, Json, OutToWrite, Plane, Trust, duration_s
from harness.errors import CasesFailedError, CellbenchError, MasksDisagreeError

app = typer.Typer()

Image = Annotated[str, typer.Option(help="sparse, dense, or a 2-D TIFF file.")]
Crop = Annotated[str, typer.Option(help="Side of a centred square in px, or full.")]
Device = Annotated[
    str, typer.Option(help="cpu, mps, cuda:N, rocm:N or xpu:N; auto: the first accelerator, or else the CPU.")
]
Weights = Annotated[str, typer.Option(help="auto, published, standin, or a path.")]
Model = Annotated[str | None, typer.Option(help="Model to run; cellbench models lists them.")]
Gate = Annotated[str, typer.Option(help="Required agreement of masks: identical or equivalent.")]


@app.command()
def tune(
    device: Device = "auto",
    image: Image = "sparse",
    plane: Plane = None,
    channel: Channel = None,
    crop: Crop = "448",
    budget: Annotated[str, typer.Option(help="Duration of the search: 90s, 10m, 1h.")] = "10m",
    gate: Gate = "equivalent",
    model: Model = None,
    weights: Weights = "auto",
    trust: Trust = None,
    out: OutToWrite = RESULTS,
    json: Json = False,
) -> None:
    """Search for faster settings with the same masks."""
    from dataclasses import asdict

    from harness.fleet import driver
    from harness.run import tune as tuning
    from harness.terminal import tuning_view

    level, budget_s = _gate(gate), duration_s(budget, "--budget")
    with driver.opened(use_ray=False, engines=_engines(model)) as here:
        prepared = tuning.prepare(
            here, crop, device, model, image=image, plane=plane, channel=channel, weights=weights, trust=trust
        )
        _announce(prepared, budget_s, "searching")
        found = tuning.search(prepared, here, out, level, budget_s, lambda text: typer.echo(text, err=True))
    typer.echo(json_.dumps(asdict(found), indent=2) if json else tuning_view.text(found))


@app.command("verify-masks")
def verify_masks(
    variant: Annotated[str, typer.Option(help="Variant to check: names joined by +, such as lossless+channels-last.")],
    image: Image = "sparse",
    plane: Plane = None,
    channel: Channel = None,
    crop: Crop = "448",
    device: Device = "auto",
    gate: Gate = "equivalent",
    model: Model = None,
    weights: Weights = "auto",
    trust: Trust = None,
    out: OutToWrite = RESULTS,
    json: Json = False,
) -> None:
    """Compare the masks of a variant with those of stock Cellpose.

    Stock runs on the CPU. Exit code 5 if the masks differ more than the gate allows.
    """
    from harness.engines import registry
    from harness.fleet import driver
    from harness.run import tune as tuning

    level = _gate(gate)
    chosen = registry.engine_of(model or registry.default_model()).variant(variant, _backend(device))
    if chosen.is_stock:
        raise CellbenchError("stock is what variants are compared with", "--variant stock", "name a variant")
    variant, engine = str(chosen), registry.engine_of(model or registry.default_model())
    with driver.opened(use_ray=False, engines=_engines(model)) as here:
        prepared = tuning.prepare(
            here, crop, device, model, image=image, plane=plane, channel=channel, weights=weights, trust=trust
        )
        engine.variant(variant, prepared.blocks[0].device.backend)  # not every device has it
        _announce(prepared, tuning.verify_s(prepared), f"comparing {variant} with stock")
        rows = list(tuning.verify(prepared, here, out, variant))
    if failed := [row for row in rows if row["role"] != "masks"]:
        raise CasesFailedError(f"{variant} failed: {failed[0]['error_message']}", str(out), "try it with less")
    keys = ("crop", "diameter_asked_px", "agreement", "ap50", "ap90", "mean_iou", "n_cells", "reference_n_cells")
    records = [{key: row[key] for key in keys} for row in rows]
    typer.echo(json_.dumps(records, indent=2) if json else "\n".join(map(_line, records)))
    tuning.check_cells(rows)
    if bad := [row for row in records if row["agreement"] and not tuning.is_accepted(row["agreement"], level)]:
        raise MasksDisagreeError(
            f"{variant}: masks are {bad[0]['agreement']}, not {level}, in {len(bad)} of {len(records)} comparisons",
            f"crop {bad[0]['crop']}", "leave this variant out",
        )  # fmt: skip


@app.command()
def throughput(
    folder: Annotated[
        Path | None, typer.Option(help="Folder of 2-D TIFF files; squares cut from --image if not given.")
    ] = None,
    image: Image = "sparse",
    plane: Plane = None,
    channel: Channel = None,
    crop: Annotated[int, typer.Option(min=1, help="Side of those squares in px.")] = 448,
    n_images: Annotated[int, typer.Option(min=1, help="Number of those squares.")] = 12,
    processes: Annotated[
        str | None, typer.Option(help="Processes that share the device; 1,2 if not given.", show_default=False)
    ] = None,
    in_flight: Annotated[
        str | None,
        typer.Option(help="Images that each process handles concurrently; 1 if not given.", show_default=False),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(help="Variants, like stock,lossless; stock if not given.", show_default=False),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Find the fastest way with the same masks, then time it against stock.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; each measures every combination once.")] = 3,
    device: Device = "auto",
    model: Model = None,
    weights: Weights = "auto",
    trust: Trust = None,
    address: Annotated[
        str | None, typer.Option(help="Measure on the nodes of this Ray cluster: auto, or the head's HOST:PORT.")
    ] = None,
    out: OutToWrite = RESULTS,
    json: Json = False,
) -> None:
    """Measure images per minute, with several processes.

    Measures a folder of images with several processes per device and several images in flight.
    """
    from dataclasses import asdict

    from harness.engines import registry
    from harness.fleet import driver
    from harness.run import throughput as rated
    from harness.run import tune as tuning
    from harness.terminal import tuning_view
    from harness.terminal.progress import remaining

    if auto and (given := processes or in_flight or variants):
        raise CellbenchError(
            "--auto chooses the variant and the counts", given, "leave --variants, --processes and --in-flight out"
        )
    engine = registry.engine_of(model or registry.default_model())
    names = [str(engine.variant(name, _backend(device))) for name in (variants or "stock").split(",")]
    ways = [
        rated.Way(name, n_processes, n_in_flight)
        for name in names
        for n_processes in _counts(processes or "1,2", "--processes")
        for n_in_flight in _counts(in_flight or "1", "--in-flight")
    ]
    found = rated.folder(folder, plane, channel) if folder else []
    label = None if folder is None else folder.absolute().name
    with driver.opened(address, bool(address), engines=(engine.name,)) as here:
        image, side = (found[0].source, "full") if found else (image, str(crop))
        prepared = tuning.prepare(
            here, side, device, model, image=image, plane=plane, channel=channel, weights=weights, trust=trust
        )
        for block in prepared.blocks:  # not every device has every variant
            for name in names:
                engine.variant(name, block.device.backend)
        material = prepared.material
        pictures = [each.pixels for each in found] or rated.windows(material.image.pixels, crop, n_images)

        def timed(ways: list[rated.Way], n_rounds: int) -> list[rated.Rate]:
            n_turns = n_rounds * len(ways) * len({block.node for block in prepared.blocks})
            typer.echo(f"{len(pictures)} images, {len(ways)} ways, {n_rounds} rounds; separate processes", err=True)
            rows, begin_s = [], time.monotonic()
            for row in rated.measure(prepared, here, pictures, ways, n_rounds, out, label):
                rows.append(row)
                if row["role"] == "throughput":
                    n_done = sum(each["role"] == "throughput" for each in rows)
                    left_s = (time.monotonic() - begin_s) * (n_turns / n_done - 1)
                    typer.echo(f"{n_done} of {n_turns}: {tuning_view.turn(row)}; {remaining(left_s)}", err=True)
            return rated.rates(rows)

        if auto:
            first, *others = prepared.blocks
            if others:
                places = ", ".join(f"{block.node} {block.device.id}" for block in prepared.blocks)
                raise CellbenchError("--auto searches on one device", places, "name it: --device; or leave --auto out")
            backend = first.device.backend
            best = rated.search(lambda ways: timed(ways, rated.SEARCH_ROUNDS), engine, backend, len(pictures))
            ways = [*dict.fromkeys((rated.Way(), best))]
        rates = timed(ways, rounds)
    typer.echo(json_.dumps([asdict(rate) for rate in rates], indent=2) if json else tuning_view.rates(rates))
    if auto and not json:
        typer.echo(f"\n{tuning_view.fastest_way(rates)}")
    if bad := [rate for rate in rates if rate.note]:
        raise CasesFailedError(f"{len(bad)} of {len(rates)} ways failed: {bad[0].note}", str(out), "try with less")


def _announce(prepared: Any, duration_s: float, what: str) -> None:
    """Print what is measured, where, and until when."""
    from harness.terminal.progress import remaining

    block = prepared.blocks[0]
    where = f"{block.model} on {block.device.id} ({block.device.name}), crop {block.cases[0].crop}"
    typer.echo(f"{where}: {what}; {remaining(duration_s)}", err=True)


def _counts(text: str, flag: str) -> list[int]:
    if not re.fullmatch(r"[1-9]\d?(,[1-9]\d?)*", text):
        raise CellbenchError(f"{text!r} are no counts", flag, "write them like 1,2,4")
    return [int(word) for word in text.split(",")]


def _line(row: dict[str, Any]) -> str:
    diameter = (
        "diameter estimated" if not row["diameter_asked_px"] else f"diameter {row['diameter_asked_px']:.2f} px given"
    )
    cells = f"{row['n_cells']} cells (stock {row['reference_n_cells']})"
    iou = "" if row["mean_iou"] is None else f", mean IoU {row['mean_iou']:.4f}"
    return f"crop {row['crop']}, {diameter}: {row['agreement'] or 'nothing to compare'}; {cells}{iou}"


def _engines(model: str | None) -> tuple[str, ...]:
    from harness.engines import registry

    return (registry.engine_of(model or registry.default_model()).name,)


def _backend(device: str) -> str | None:
    return None if device == "auto" else device.partition(":")[0]


def _gate(word: str) -> str:
    if word not in ("identical", "equivalent"):
        raise CellbenchError(f"there is no gate {word!r}", "--gate", "identical or equivalent")
    return word

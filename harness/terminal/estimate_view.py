"""The time for many images, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.results import sentences
from harness.results.estimates import Answer, Estimate, Question
from harness.results.formatting import count, duration, number, percent, place, unit_of
from harness.terminal.table_printer import Column, print_columns, print_json, stderr

KWH_J = 3.6e6


def show(
    question: Question, found: Answer, prices: Mapping[str, float], form: str, prices_from: str | None = None
) -> None:
    """Print an answer on stdout, as table or json."""
    if form == "json":
        print_json(_as_json(question, found, prices))
        return
    print(f"{count(question.n_images, 'image')} of {question.height_px} × {question.width_px} px, one process each:")
    unit, unit_s = unit_of(min((each.total_s(question.n_images) for each in found.estimates), default=0.0))
    columns = [
        Column("device"), Column(f"about ({unit})", True), Column(f"range ({unit})", order=2),
        Column("s per image", True, 1),
        Column("images/h", True, 3), Column("start-up", True, 5), Column("from", order=4),
        *([Column("images per unit of price", True, 1)] if prices else []),
        *([Column("images/kWh", True, 2)] if any(each.energy_j for each in found.estimates) else []),
    ]  # fmt: skip
    if all(each.is_reference for each in found.estimates):
        stderr().print("no device here was measured at such sizes: cellbench run")
    has_energy = columns[-1].name == "images/kWh"
    print_columns(columns, [_row(question, each, prices, has_energy, unit_s) for each in found.estimates], form)
    for text in [*notes(question, found), *([f"prices: yours, {prices_from}"] if prices_from else [])]:
        stderr().print(text, markup=False)


def names(each: Estimate) -> tuple[str, str, str]:
    """The names of a device in --price, the most exact first: with its node, its node's, or its own."""
    return f"{each.row['node']}/{each.row['device']}", each.row["node"], each.row["device"]


def series(each: Estimate) -> str:
    """The name of a series; one of the reference set is marked."""
    return f"reference: {each.series}" if each.is_reference else each.series


def notes(question: Question, found: Answer) -> list[str]:
    """The notes that a reader of the estimates needs, and the ways to shorten the times."""
    texts = [f"{each.series}: no estimate, {each.why}" for each in found.refusals]
    kinds = {each.is_interval for each in found.estimates if each.low_s is not None}
    texts += ["95 %: prediction interval of one further process on that device"] if True in kinds else []
    texts += ["range without 95 %: of single calls, or of the neighbouring sizes"] if False in kinds else []
    own = [each for each in found.estimates if not each.is_reference]
    if len(own) < len(found.estimates):
        texts.append("reference: measured on another machine (docs/findings.md), n: calls and processes")
    texts += map(sentences.sentence, found.same_hardware)
    if any(each.energy_j for each in found.estimates):
        texts.append("images/kWh: of the chip's own counter, idle included; the rest of the machine comes on top")
    for each in own:
        if each.faster is not None:
            row = each.faster.row
            text = f"{place(each.row)}: {row['variant']} was {each.faster.times} times as fast at {row['crop']} px"
            shorter_s = each.total_s(question.n_images, each.image_s / each.faster.speedup)
            texts.append(f"{text}, masks {row['masks']}; at that ratio about {duration(shorter_s)}")
        if each.several is not None:
            row, n = each.several.row, count(each.several.n, "round")
            how = f"{row['n_processes']} × {row['n_in_flight']} (processes × images in flight)"
            shorter_s = each.total_s(question.n_images, each.image_s / each.several.times)
            text = f"{place(each.row)}: {how} gave {number(each.several.times)} times the images per minute of one"
            texts.append(f"{text} ({n}); at that ratio about {duration(shorter_s)}")
    untuned = [each.row["device"] for each in own if each.faster is None and each.row["variant"] == "stock"]
    if untuned:
        texts.append(f"faster settings, same masks: cellbench tune --device {untuned[0]}")
    unshared = [each.row["device"] for each in own if each.several is None]
    if unshared:
        texts.append(f"several images at once: cellbench throughput --device {unshared[0]}")
    return [*texts, "cells as many and as large as in the measured image; loading and saving of files not included"]


def _row(question: Question, each: Estimate, prices: Mapping[str, float], has_energy: bool, unit_s: int) -> list[str]:
    total_s = each.total_s(question.n_images)
    low, high = (None if s is None else each.total_s(question.n_images, s) for s in (each.low_s, each.high_s))
    return [
        series(each),
        number(total_s / unit_s, 2),
        "unknown"
        if low is None or high is None
        else f"{number(low / unit_s, 2)} – {number(high / unit_s, 2)}{' (95 %)' * each.is_interval}",
        number(each.image_s),
        number(3600 / each.image_s),
        percent(each.start_s / total_s, 1) if each.start_s is not None else "–",
        f"{each.basis}, n = {each.row['n']} in {each.row['n_blocks']}" if each.is_reference else each.basis,
        *([number(_per_price(each, prices))] if prices else []),
        *([number(KWH_J / each.energy_j if each.energy_j else None)] if has_energy else []),
    ]


def _per_price(each: Estimate, prices: Mapping[str, float]) -> float | None:
    price = next((prices[name] for name in names(each) if name in prices), None)
    return 3600 / each.image_s / price if price else None


def _as_json(question: Question, found: Answer, prices: Mapping[str, float]) -> dict[str, Any]:
    return {
        "n_images": question.n_images,
        "height_px": question.height_px,
        "width_px": question.width_px,
        "estimates": [
            {
                "series": each.series, "node": each.row["node"], "device": each.row["device"],
                "model": each.row["model"], "weights": each.row["weights"], "run_id": each.row["run_id"],
                "image_s": each.image_s, "low_s": each.low_s, "high_s": each.high_s, "is_interval": each.is_interval,
                "basis": each.basis, "start_s": each.start_s, "total_s": each.total_s(question.n_images),
                "images_per_price": _per_price(each, prices), "energy_j": each.energy_j,
                "images_per_kwh": each.energy_j and KWH_J / each.energy_j, "source": each.row["source"],
                "n": each.row["n"], "n_processes": each.row["n_blocks"],
                "faster_variant": each.faster and each.faster.row["variant"],
                "faster_times": each.faster and each.faster.speedup,
                "several_times": each.several and each.several.times,
            }
            for each in found.estimates
        ],
        "refusals": [vars(each) for each in found.refusals],
        "same_hardware": [vars(each) for each in found.same_hardware],
    }  # fmt: skip

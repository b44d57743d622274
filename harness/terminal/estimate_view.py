"""The time for many images, for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from harness.results.estimates import Answer, Estimate, Question
from harness.results.formatting import count, duration, number, percent, place
from harness.terminal.table_printer import Column, print_columns, print_json


def show(question: Question, found: Answer, prices: Mapping[str, float], form: str) -> None:
    """Print an answer on stdout, as table or json."""
    if form == "json":
        print_json(_as_json(question, found, prices))
        return
    print(f"{count(question.n_images, 'image')} of {question.height_px} × {question.width_px} px, one process each:")
    columns = [
        Column("device"), Column("time"), Column("range", order=2), Column("s per image", True, 1),
        Column("images/h", True, 3), Column("start-up", True, 5), Column("from", order=4),
        *([Column("images per unit of price", True, 1)] if prices else []),
    ]  # fmt: skip
    print_columns(columns, [_row(question, each, prices) for each in found.estimates], form)
    for text in notes(question, found):
        print(text, file=sys.stderr)


def notes(question: Question, found: Answer) -> list[str]:
    """The notes that a reader of the estimates needs, and the ways to shorten the times."""
    texts = [f"{each.series}: no estimate, {each.why}" for each in found.refusals]
    kinds = {each.is_interval for each in found.estimates if each.low_s is not None}
    texts += ["range: the 95 % interval of the processes measured"] if True in kinds else []
    texts += ["range without three processes: of single calls, or of the neighbouring sizes"] if False in kinds else []
    for each in found.estimates:
        if each.faster is not None:
            row = each.faster.row
            text = f"{place(each.row)}: {row['variant']} was {each.faster.times} times as fast at {row['crop']} px"
            shorter_s = each.total_s(question.n_images, each.image_s / each.faster.speedup)
            texts.append(f"{text}, masks {row['masks']}; at that ratio about {duration(shorter_s)}")
    untuned = [each.row["device"] for each in found.estimates if each.faster is None and each.row["variant"] == "stock"]
    if untuned:
        texts.append(f"search for faster settings with the same masks: cellbench tune --device {untuned[0]}")
    return [*texts, "cells as many and as large as in the measured image; loading and saving of files not included"]


def _row(question: Question, each: Estimate, prices: Mapping[str, float]) -> list[str]:
    total_s = each.total_s(question.n_images)
    low, high = (None if s is None else each.total_s(question.n_images, s) for s in (each.low_s, each.high_s))
    return [
        each.series,
        f"about {duration(total_s)}",
        f"{duration(low)} – {duration(high)}" if low is not None and high is not None else "unknown",
        number(each.image_s),
        number(3600 / each.image_s),
        percent(each.start_s / total_s, 1) if each.start_s is not None else "–",
        each.basis,
        *([number(_per_price(each, prices))] if prices else []),
    ]


def _per_price(each: Estimate, prices: Mapping[str, float]) -> float | None:
    price = prices.get(place(each.row).replace(" · ", "/"), prices.get(each.row["device"]))
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
                "images_per_price": _per_price(each, prices),
                "faster_variant": each.faster and each.faster.row["variant"],
                "faster_times": each.faster and each.faster.speedup,
            }
            for each in found.estimates
        ],
        "refusals": [vars(each) for each in found.refusals],
    }  # fmt: skip

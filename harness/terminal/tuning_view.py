"""The result of a search for speed, and the throughput in images a minute, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.engines import registry
from harness.results.formatting import interval, number
from harness.terminal.table_printer import Column, rendered, wrapped

if TYPE_CHECKING:
    from harness.run.throughput import Rate
    from harness.run.tune import Outcome, Tuning
    from harness.schema import Sample


def text(found: Tuning) -> str:
    """The two winners, the result of each step, and the lines for the user's own script."""
    best = found.equivalent or found.identical
    columns = [Column("variant"), Column("times stock", True), Column("95 % interval", True, 1), Column("n", True, 2),
               Column("masks", is_whole=True), Column("note", order=3)]  # fmt: skip
    steps = [
        [each.variant, number(each.speedup), interval(each.low, each.high), str(each.n), each.agreement or "unknown",
         each.note] for each in found.steps
    ]  # fmt: skip
    return "\n".join([
        wrapped(f"fastest with identical masks:  {_answer(found.identical)}"),
        wrapped(f"fastest with equivalent masks: {_answer(found.equivalent)}"),
        "",
        *([rendered(columns, steps)] if steps else []),
        *(wrapped(f"left out: {why}") for why in found.left_out),
        *(["", "in your script:", "", snippet(best.variant, found.model)] if best else []),
    ])  # fmt: skip


def snippet(variant: str, model: str) -> str:
    """Lines to copy: the winner by name, its parts, and the lines that do not need cellbench."""
    engine = registry.engine_of(model)
    chosen = engine.variant(variant)
    parts = engine.parts(chosen)
    lines = [
        *engine.recipe(chosen, model),
        *(wrapped(f"{part.name}: {part.what}; may change {part.may_change}", "# ") for part in parts),
    ]
    by_hand = [f"#     {part.by_hand}" for part in parts if part.by_hand]
    if by_hand:
        share = "all of it" if len(by_hand) == len(parts) else "a part of it"
        lines += [f"# {share}, without cellbench:", *by_hand]
    return "\n".join(lines)


def fastest_way(found: Sequence[Rate]) -> str:
    """The result of a search for a way, from rounds after the search: the first is stock's, the last the one found."""
    rate = found[-1]
    if not (rate.low and rate.low > 1 and rate.same_masks):
        return wrapped("no way is shown to be faster than stock, one image at a time, with the same masks")
    way, known = rate.way, f"95 % interval {interval(rate.low, rate.high)}, {rate.n} rounds"
    return wrapped(
        f"fastest way found: {way.variant}, processes: {way.n_processes}, images in flight in each: {way.n_in_flight}; "
        f"{number(rate.speedup)} times stock, one image at a time ({known}), the same masks"
    )


def _answer(each: Outcome | None) -> str:
    if each is None:
        return "none is shown to be faster than stock"
    interval = "" if each.low is None else f"95 % interval {each.low:.2f} to {each.high:.2f}, "
    return f"{each.variant}, {each.speedup:.2f} times as fast ({interval}n = {each.n})"


def turn(row: Sample) -> str:
    """One way in one round, printed when it ends."""
    way = f"{row['variant']}, {row['n_processes']} × {row['n_in_flight']}"
    if row["status"] != "ok":
        return f"{row['node']} {row['device']} {way}: {row['status']}"
    return f"{row['node']} {row['device']} {way}: {number(60 * row['n_images'] / row['elapsed_s'])} images a minute"


def rates(found: Sequence[Rate]) -> str:
    """Images a minute of each way, and its speed-up over the first one."""
    columns = [Column("node", order=5), Column("device", is_whole=True), Column("variant"), Column("processes", True),
               Column("in flight", True), Column("images/min", True), Column("times first", True, 1),
               Column("95 % interval", True, 2), Column("masks", order=3), Column("note", order=4)]  # fmt: skip
    masks = {True: "the same", False: "other masks", None: "no cells"}
    rows = [
        [rate.node, rate.device, rate.way.variant, str(rate.way.n_processes), str(rate.way.n_in_flight),
         number(rate.images_per_minute), number(rate.speedup), interval(rate.low, rate.high), masks[rate.same_masks],
         rate.note] for rate in found
    ]  # fmt: skip
    return "\n".join([
        rendered(columns, rows),
        wrapped("times first: images a minute, divided by those of the first line in the same rounds"),
    ])  # fmt: skip

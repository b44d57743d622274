"""What a search for speed found, and how many images a minute there were, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.engines import registry

if TYPE_CHECKING:
    from harness.run.throughput import Rate
    from harness.run.tune import Outcome, Tuning
    from harness.schema import Sample


def text(found: Tuning) -> str:
    """The two answers, what each step gave, and what to write in one's own script."""
    lines = [f"{'variant':<60} {'times faster than stock':<28} masks"]
    lines += [_line(each) for each in found.steps]
    lines += [f"{'left out: ' + why}" for why in found.left_out]
    lines += ["", "fastest with identical masks:  " + _answer(found.identical)]
    lines += ["fastest with equivalent masks: " + _answer(found.equivalent)]
    best = found.equivalent or found.identical
    return "\n".join([*lines, "", snippet(best.variant, found.model)] if best else lines)


def snippet(variant: str, model: str) -> str:
    """Lines to copy: the winner by name, what each part of it is, and those that need nothing of ours."""
    engine = registry.engine_of(model)
    chosen = engine.variant(variant)
    parts = engine.parts(chosen)
    lines = [
        *engine.recipe(chosen, model),
        *(f"# {part.name}: {part.what}; may change {part.may_change}" for part in parts),
    ]
    by_hand = [f"#     {part.by_hand}" for part in parts if part.by_hand]
    if by_hand:
        share = "all of it" if len(by_hand) == len(parts) else "a part of it"
        lines += [f"# {share}, without cellbench:", *by_hand]
    return "\n".join(lines)


def _line(each: Outcome) -> str:
    return f"{each.variant:<60} {_times(each):<28} {each.agreement or 'unknown'} {each.note}".rstrip()


def _times(each: Outcome) -> str:
    if each.speedup is None:
        return "not measured"
    interval = "" if each.low is None else f" ({each.low:.2f} to {each.high:.2f})"
    return f"{each.speedup:.2f}{interval}, n = {each.n}"


def _answer(each: Outcome | None) -> str:
    if each is None:
        return "none beats stock"
    interval = "" if each.low is None else f"95 % interval {each.low:.2f} to {each.high:.2f}, "
    return f"{each.variant}, {each.speedup:.2f} times as fast ({interval}n = {each.n})"


def turn(row: Sample) -> str:
    """One way in one round, as it ends."""
    way = f"{row['variant']}, {row['n_processes']} × {row['n_in_flight']}"
    if row["status"] != "ok":
        return f"{row['node']} {row['device']} {way}: {row['status']}"
    return f"{row['node']} {row['device']} {way}: {60 * row['n_images'] / row['elapsed_s']:.3g} images a minute"


def rates(found: Sequence[Rate]) -> str:
    """Images a minute of each way, and how much faster than the first one it is."""
    lines = [
        f"{'node':<14} {'device':<8} {'variant':<44} {'processes':>9} {'in flight':>9} {'images/min':>10}  to the first"
    ]
    for rate in found:
        counts = f"{rate.way.n_processes:>9} {rate.way.n_in_flight:>9}"
        way = f"{rate.node:<14} {rate.device:<8} {rate.way.variant:<44} {counts}"
        if rate.images_per_minute is None:
            lines.append(f"{way} {'–':>10}  {rate.note}")
            continue
        known = "" if rate.low is None else f" ({rate.low:.2f}–{rate.high:.2f})"
        to_first = "" if rate.speedup is None else f"{rate.speedup:.2f}×{known}"
        masks = {True: "", False: ", other masks", None: ", no cells"}[rate.same_masks]
        lines.append(f"{way} {rate.images_per_minute:>10.3g}  {to_first}{masks}".rstrip())
    return "\n".join(
        [*lines, "intervals: 95 %, of rounds in turn; to the first: how many times as fast as the first line"]
    )

"""Every pass: a look at a case that is not its time. One line here and a module of that name in measure/passes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pass:
    """One kind of look.

    n_calls: calls of the model that it makes, about. n_rows: rows that it ends with, not counting the parts of a call.
    follows: the pass after which it is made, once a block; empty for one that a profile names.
    """

    name: str
    meaning: str
    n_calls: int
    n_rows: int
    follows: str = ""


# Masks: twice on the device, once on the CPU. Energy repeats for seconds.
PASSES = {
    each.name: each
    for each in (
        Pass("stages", "where the time of one call goes", 3, 3),
        Pass("ceiling", "the best rates of the device: products, convolutions, copies", 2, 3, follows="stages"),
        Pass("memory", "peak memory of one call", 1, 1),
        Pass("energy", "energy of repeated calls", 3, 3),
        Pass("masks", "agreement with the stock model on the CPU", 3, 2),
    )
}
CHOSEN = tuple(each.name for each in PASSES.values() if not each.follows)

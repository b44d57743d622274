"""The screen of an A/B measurement: the sides, each pair, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import command
from harness.results.formatting import number, seconds
from harness.run.ab import Pair, Side
from harness.run.resume import Pairing
from harness.stats.difference import INCONCLUSIVE, SAME
from harness.terminal.table_printer import wrapped


def heading(sides: tuple[Side, Side], pairing: Pairing) -> str:
    """The two sides, and the condition for the end."""
    case, device = sides[0].block.cases[0], sides[0].block.device
    return (
        f"A: {pairing.labels[0]}, B: {pairing.labels[1]}; "
        f"{case.model}, crop {case.crop} on {device.id} ({device.name})\n"
        f"one process of each in every pair, until the verdict is SAME within ±{100 * pairing.margin:g} %, FASTER or "
        f"SLOWER, for at most {pairing.budget_s / 60:g} min"
    )


def line(pair: Pair) -> str:
    """One pair, printed when it ends."""
    return (
        f"pair {pair.index + 1}: A {seconds(pair.before_s)}, B {seconds(pair.after_s)}; "
        f"so far B takes {number(pair.decision.ratio)} times as long{_interval(pair)}"
    )


def verdict(pair: Pair, pairing: Pairing, runs: Mapping[str, str]) -> str:
    """The verdict, its evidence, and the command that continues where there is none."""
    found = pair.decision
    a, b = pairing.labels
    lines = [f"{found.verdict}: {b} takes {number(found.ratio)} times as long as {a}{_interval(pair)}; {found.n} pairs"]
    if found.verdict == SAME:
        lines.append(f"same means: within ±{100 * pairing.margin:g} %, wrong in at most 5 % of such answers")
    if found.verdict == INCONCLUSIVE:
        lines.append(f"the time is spent; to continue: {command('resume', runs['run_a'])}")
    if pair.same_masks is False:
        lines.append("masks differ between the sides or between calls")
    return "\n".join(map(wrapped, [*lines, f"runs: {runs['run_a']} (A), {runs['run_b']} (B)"]))


def _interval(pair: Pair) -> str:
    low, high = pair.decision.low, pair.decision.high
    if low is None and high is None:
        return ""
    ends = f"{number(low) if low else '0'} to {number(high) if high else 'no bound'}"
    return f" (95 % CI {ends}, valid after any number of pairs)"

"""The one line that a figure shows of these data: its title. It claims no more than the findings behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.results import answers, sentences
from harness.results.findings import Agreement, Fastest, Finding, Judged, ModelCost, SameMasks, Span, Speedup, Time
from harness.results.formatting import Row, count, listed, number, percent, size_label
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats.intervals import PROCESSES_MIN

MASKS = {
    "identical": "are identical to", "equivalent": "are equivalent to", "close": "are close to",
    "different": "differ from",
}  # fmt: skip
WITHIN = 0.05  # of a median: what the title of the repetitions counts


@dataclass(frozen=True)
class Message:
    """A title and the findings that it repeats; none where it only counts what is drawn."""

    text: str
    findings: tuple[Finding, ...] = ()


def time(tables: Tables) -> Message | None:
    """The times at the largest size in common."""
    return _of_times(tables, sentences.seconds)


def rate(tables: Tables) -> Message | None:
    """The same as images an hour, one at a time."""
    return _of_times(tables, lambda value_s: f"{number(3600 / value_s)} images/h")


def _of_times(tables: Tables, write: Callable[[float], str]) -> Message | None:
    if len({identity.values(row, answers.KIND) for row in tables.cases}) > 1:
        return None  # the headline is about the most frequent kind of work only
    joint = ", "
    match answers.headline(tables):
        case [Speedup() as one]:
            ends, size = [(one.time_s, f"the {one.device}"), (one.cpu_s, "its CPU")], one.size
        case [Span(ends=(least, most)) as one] if least.series != most.series:
            ends, size = [(each.known.value, each.series) for each in (least, most)], least.size
            joint = " to " if one.n_devices > 2 else joint
        case [*_, Time() as one]:
            ends, size = [(one.known.value, one.series)], one.size
        case _:
            return None
    times = joint.join(f"{write(value_s)} on {where}" for value_s, where in ends)
    return Message(f"{times} {_at(size)}", (one,))


def _at(size: str) -> str:
    return f"{'for' if size == 'full image' else 'at'} {sentences.size(size)}"


def speedup(tables: Tables) -> Message | None:
    """The speed-up of each accelerator at its largest image, as far as the interval shows one."""
    gains = answers.largest_speedups(tables)
    if len(gains) == 1:
        return Message(_speedup(gains[0]), (gains[0],))
    if gains and all(each.known.low is not None and each.known.low > 1 for each in gains):
        values = sorted(each.known.value for each in gains)
        least, most = number(values[0]), number(values[-1])
        return Message(
            f"The accelerators are {least} to {most} times as fast as the CPU of their machine", tuple(gains)
        )
    return None


def _speedup(gain: Speedup) -> str:
    known, at = gain.known, _at(gain.size)
    if known.low is None or known.high is None:
        times = f"{number(known.value)} times as fast as its CPU {at}"
        return f"The {gain.device} is {times} (n = {known.n}, no interval)"
    if known.low > 1:
        return f"The {gain.device} is {number(known.value)} times as fast as its CPU {at}"
    if known.high < 1:
        return f"The {gain.device} is slower than its CPU {at}"
    return f"The {gain.device} and its CPU do not differ clearly {at}"


def ranking(tables: Tables) -> Message | None:
    """The device that is the fastest, or those that these data do not separate."""
    for found in answers.fastest(tables):
        if not isinstance(found, Fastest) or found.n_devices == 1:
            continue
        if len(found.devices) == 1:
            text = f"{found.devices[0]} is the fastest of {found.n_devices} devices at {found.size}"
        elif found.n_processes < PROCESSES_MIN:
            text = f"Too few processes to rank {count(found.n_devices, 'device')} at {found.size}"
        else:
            text = f"Not separated at {found.size}: {listed(found.devices)}"
        return Message(text, (found,))
    return None


def masks(tables: Tables) -> Message | None:
    """How masks agree with those of stock on the CPU; else whether devices have the same."""
    found = answers.masks(tables)
    agreement = next((each for each in found if isinstance(each, Agreement)), None)
    same = next((each for each in found if isinstance(each, SameMasks)), None)
    if agreement:
        words = Counter(agreement.words)
        if len(words) == 1 and (verb := MASKS.get(agreement.words[0])):
            return Message(f"Masks {verb} those of stock on the CPU in all cases", (agreement,))
        each = ", ".join(f"{n} {word}" for word, n in words.items())
        return Message(f"Masks compared with stock on the CPU: {each}", (agreement,))
    if same and (n := same.n_same + same.n_differing):
        where = f"{same.n_differing or n} of {count(n, 'image size')}"
        return Message(
            f"Masks {'differ between' if same.n_differing else 'are identical on'} devices in {where}", (same,)
        )
    return None


def model_cost(tables: Tables) -> Message | None:
    """How many times as long another model takes, where its interval lies above 1."""
    costs = [each for each in answers.models(tables) if isinstance(each, ModelCost)]
    if len(costs) != 1 or costs[0].known.low is None or costs[0].known.low <= 1:
        return None
    [one] = costs
    text = f"{one.model} takes {number(one.known.value)} times as long as {one.default} on the {one.device}"
    return Message(f"{text}, {_at(one.size)}", (one,))


def largest(tables: Tables, rows: Sequence[Row], write: Callable[[Row], str]) -> Message | None:
    """What the largest image took of a resource, on each of two devices at most."""
    by_series = {tables.name(row): row for row in sorted(rows, key=lambda row: row["n_pixels"])}
    if not 0 < len(by_series) <= 2 or len({row["n_pixels"] for row in by_series.values()}) > 1:
        return None
    size = size_label(next(iter(by_series.values())))
    return Message(f"{', '.join(f'{write(row)} on {name}' for name, row in by_series.items())} {_at(size)}")


def history(tables: Tables) -> Message | None:
    """How many series changed, by the runs before."""
    for found in answers.before(tables):
        if not isinstance(found, Judged):
            continue
        n = f"{len(found.cases)} series"
        words = {"alarm": "slower than the baseline", "improvement": "faster than the baseline", "suspect": "suspected"}
        changed = [f"{found.states[state]} {word}" for state, word in words.items() if found.states.get(state)]
        if changed:
            return Message(f"{', '.join(changed)}, of {n}", (found,))
        if not found.states.keys() - {"learning"}:
            return Message(f"Too few runs for a baseline of {n}", (found,))
        if not found.states.keys() - {"usual", "dismissed"}:
            return Message(f"Within the baseline: all of {n}", (found,))
    return None


def repetitions(offs: list[float]) -> Message | None:
    """How many timed repetitions lie near the median of their case; offs: deviations as shares of it."""
    near = sum(abs(off) <= WITHIN for off in offs)
    return (
        Message(f"{near} of {count(len(offs), 'repetition')} within ±{percent(WITHIN)} of the median") if offs else None
    )

"""Findings in plain English: each sentence contains the numbers of its finding, with n and interval."""

from __future__ import annotations

from collections import Counter
from functools import singledispatch
from statistics import median

from harness.engines import registry
from harness.results.findings import (
    FEW,
    Accuracy,
    Agreement,
    Attributed,
    Batch,
    BySize,
    Change,
    Elsewhere,
    Fastest,
    Finding,
    Growth,
    HardwareSpeedup,
    HardwareTime,
    Judged,
    Kind,
    ModelCost,
    Network,
    NoAccuracy,
    Note,
    Part,
    SameHardware,
    SameMasks,
    Share,
    Span,
    Speedup,
    Time,
    Winner,
)
from harness.results.formatting import count, duration, listed, number, percent, signed
from harness.stats import trend
from harness.stats.intervals import PROCESSES_MIN, Interval

NOTES = {
    Kind.SIMULATED: "Simulated workload{in_cases}. It exercises the program and is not a measurement of any machine.",
    Kind.CUSTOM: "Custom weights{in_cases}, not those that were published.",
    Kind.SYNTHETIC: "Synthetic image{in_cases}. Times on your images can differ.",
    Kind.IMPORTED: "Imported{in_cases}: not measured by cellbench.",
    Kind.FAILED: "{rows} failed. No median or figure contains them; they are listed below.",
    Kind.ALL_FLAGGED: "Every repetition carries a flag{in_cases}: {words}. Something else may have slowed these times.",
    Kind.NO_CELLS: "No cells were found{in_cases}: equal masks prove nothing there.",
    Kind.FEW: f"Few repetitions: {{cases}} with fewer than {FEW}. Read the spread with care.",
    Kind.UNSTABLE: "Masks differed between the repetitions of {cases}.",
    Kind.UNLIKE: "CPU and accelerator counted different numbers of cells in {cases}.",
    Kind.PRECISION: "the CI of the process's mean was as narrow as requested; processes may still differ",
    Kind.PLATEAU: "more repetitions did not narrow the CI of the process's mean",
    Kind.N_MAX: "the process reached the maximum number of repetitions",
    Kind.TIME_CAP: "the process reached its time limit",
}
ADVICE = {
    Part.ESTIMATION: "Give the diameter if you know it: estimating it takes {share} of the call. "
    "Another diameter gives other masks.",
    Part.HOST: "The processor takes {share} of the call, which a faster GPU does not shorten: "
    "cellbench tune searches for faster settings, cellbench throughput measures several images at once.",
    Part.QC: "Quality control of the masks takes {share}, as it does with large or confluent cells: "
    "cellbench tune searches for settings that do it faster with the same masks.",
    Part.NETWORK: "The network takes {share}: cellbench tune searches for a faster way to run it here; "
    "a GPU is faster still.",
}
# The words for the state of the last run of a series (docs/statistics.md), the most urgent first.
JUDGED = {
    "alarm": "slower, confirmed in another night",
    "improvement": "faster, confirmed in another night",
    "suspect": "outside the baseline, in one run so far",
    "usual": "within the baseline",
    "dismissed": "within the baseline again",
    "noisy": "too variable to judge",
    "learning": "with too few runs to judge",
}
UNKNOWN = "may or may not rise with size: the processes differ too much, or the sizes are too few"


@singledispatch
def sentence(finding: Finding) -> str:
    """The finding as a sentence."""
    raise TypeError(finding)


@sentence.register
def _(finding: Time) -> str:
    hourly = number(3600 / finding.known.value)
    return (
        f"{finding.series}: {time(finding)}, about {hourly} calls an hour; reading and writing of images come on top."
    )


@sentence.register
def _(finding: Batch) -> str:
    processes = f"{finding.known.n_processes} process{'es' * (finding.known.n_processes != 1)}"
    ends = f"{duration(finding.low_s)} to {duration(finding.high_s)}"
    basis = f"range {ends}, n = {finding.known.n} in {processes}"
    if finding.known.low is not None:
        basis = f"95 % prediction interval {ends}, {processes}"
    start = "with" if finding.start_s is not None else "without"
    total = f"{finding.n_images} images take about {duration(finding.total_s)}, {start} the start of the process"
    return f"{finding.series}, {size(finding.size)}: {total} ({basis})."


@sentence.register
def _(finding: Growth) -> str:
    parts = zip(finding.coefficients, ("a call", "a tile", "a megapixel"), strict=True)
    each = listed([f"{number(value_s, 2)} s {of}" for value_s, of in parts if value_s])
    return f"{finding.series}: within {percent(finding.relative_error, 1)} its times are {each}."


@sentence.register
def _(finding: Span) -> str:
    devices = f"{count(finding.n_devices, 'device')} of {count(finding.n_machines, 'machine')}"
    if finding.ends is None:
        return f"{devices}, without a size in common"
    least, most = finding.ends
    times = (f"{seconds(each.known.value)} on {each.series}" for each in (least, most))
    return f"{devices}: at {size(least.size)} from {' to '.join(times)}"


@sentence.register
def _(finding: Speedup) -> str:
    where = f"On {finding.node}, the" if finding.node else "The"
    return f"{where} {finding.device} {speedup(finding)}."


@sentence.register
def _(finding: HardwareTime) -> str:
    ends = f"{number(finding.least_s, 2)} to {seconds(finding.most_s)}, median {seconds(finding.middle_s)}"
    return f"{finding.hardware}, {count(finding.n_machines, 'machine')}: {ends} at {size(finding.size)}."


@sentence.register
def _(finding: HardwareSpeedup) -> str:
    ends = f"{number(finding.least)} to {number(finding.most)} times (median {number(finding.middle)})"
    where = f"{count(finding.n_machines, 'machine')} at {size(finding.size)}"
    return f"{finding.hardware} is {ends} as fast as the same machine’s CPU, on {where}."


@sentence.register
def _(finding: ModelCost) -> str:
    times = f"{seconds(finding.time_s)} instead of {seconds(finding.default_s)}"
    return (
        f"{finding.device}: {finding.model} takes {number(finding.known.value)} times{known(finding.known)} as long as "
        f"{finding.default} at {size(finding.size)}, {times}."
    )


@sentence.register
def _(finding: Accuracy) -> str:
    scores = {"AP@0.5": finding.ap50, "AP@0.75": finding.ap75, "AP@0.9": finding.ap90, "F1": finding.f1}
    words = ", ".join(f"{name} {number(value)}" for name, value in scores.items())
    cells = f"{finding.n_found} cells where {finding.n_drawn} were drawn"
    return (
        f"{finding.series} found {cells} at {size(finding.size)}: {words}. Drawn cells are easy: try your own images."
    )


@sentence.register
def _(finding: NoAccuracy) -> str:
    if finding.has_standin:
        return "Accuracy is not meaningful with stand-in weights: only the times of the networks are comparable."
    return "Accuracy was not measured: use a built-in image and --passes masks."


@sentence.register
def _(finding: BySize) -> str:
    if finding.n_processes < PROCESSES_MIN:
        more = f"measure {PROCESSES_MIN} processes: run it with --blocks {PROCESSES_MIN}"
        return f"To judge the {finding.device}’s speed-up by size, {more}."
    largest, found = f"{finding.lengths_px[-1]:.0f}\u00a0px", finding.trend
    word = {
        trend.FLAT: f"is flat from {found.from_px or 0:.0f} to {largest}, within {percent(trend.FLATNESS)}",
        trend.RISING: f"rises from {found.from_px or 0:.0f} to {largest}, the largest image measured{_change(found)}",
        trend.FALLING: f"falls from {found.from_px or 0:.0f} to {largest}, the largest image measured{_change(found)}",
    }.get(found.word, UNKNOWN)
    return f"The {finding.device}’s speed-up {word}. {_crossing(finding, largest)}".strip()


def _change(found: trend.Trend) -> str:
    """The ratio of a speed-up at the end of the trend, with its interval."""
    if found.change is None:
        return ""
    value, low, high = map(number, found.change)
    return f" ({value} times, 95 % interval {low}–{high})"


def _crossing(finding: BySize, largest: str) -> str:
    slower, faster = finding.crossing.slower_to_px, finding.crossing.faster_from_px
    if faster is not None and faster == finding.lengths_px[0]:
        return f"It is faster than the CPU at every size measured, {faster:.0f}\u00a0px and above."
    if faster is not None:
        below = f"slower than the CPU up to {slower:.0f}\u00a0px and " if slower is not None else ""
        return f"It is {below}faster than the CPU at {faster:.0f}\u00a0px and above."
    if slower is not None and slower == finding.lengths_px[-1]:
        return f"It is slower than the CPU at {largest}, the largest image measured."
    return ""


@sentence.register
def _(finding: Elsewhere) -> str:
    ends = f"{number(finding.least)} to {number(finding.most)} times as fast as its CPU, by size"
    return f"Elsewhere: {finding.device} was {ends}; spread unknown."


@sentence.register
def _(finding: SameHardware) -> str:
    ends = f"range {number(finding.least_s)}–{number(finding.most_s)}"
    basis = f"{ends}, n = {finding.n} in {count(finding.n_runs, 'run')} of {count(finding.n_submitters, 'submitter')}"
    theirs = f"{seconds(finding.value_s)} at {size(finding.size)} ({basis})"
    own = f"{seconds(finding.own_s)} (n = {finding.own_n})"
    return f"Reference set, another machine with this hardware ({finding.hardware}): {theirs}; here {own}."


@sentence.register
def _(finding: Fastest) -> str:
    names = listed(finding.devices)
    if finding.n_devices == 1:
        return f"At {finding.size} only one device was measured."
    if len(finding.devices) == 1:
        return f"At {finding.size} the fastest of {finding.n_devices}: {names}."
    why = f" with fewer than {PROCESSES_MIN} processes each" if finding.n_processes < PROCESSES_MIN else ""
    return f"At {finding.size} these results do not decide which is the fastest{why}: {names}."


@sentence.register
def _(finding: SameMasks) -> str:
    judged = finding.n_same + finding.n_differing
    blank = f"{count(finding.n_blank, 'crop')} without cells proves nothing." if finding.n_blank else ""
    if not judged:
        return f"Whether devices give the same masks is not known: {blank}"
    crops = f"{count(judged, 'crop')} that several devices segmented"
    if not finding.n_differing:
        return f"Devices found the very same masks, bit by bit, in all of {crops}. {blank}".strip()
    return f"Masks are not the same bit by bit in {finding.n_differing} of {crops}. {blank}".strip()


@sentence.register
def _(finding: Agreement) -> str:
    words = ", ".join(f"{word} in {count(n, 'case')}" for word, n in Counter(finding.words).items())
    return f"Compared with stock cellpose on the same machine’s CPU, masks are {words}."


@sentence.register
def _(finding: Change) -> str:
    ratios, n = finding.ratios, len(finding.ratios)
    least, middle, most = (signed(ratio - 1, 1) for ratio in (ratios[0], median(ratios), ratios[-1]))
    how = f"the median of 1 case changed by {least}"
    if n > 1:
        how = f"the medians of {n} cases changed by {least} to {most} (the median change is {middle})"
    changed = [f"{name} {then} → {now}" for name, then, now in finding.versions]
    meanwhile = f" Meanwhile changed: {listed(changed)}." if changed else ""
    return f"Compared with {listed(finding.runs)}, {how}.{meanwhile}"


@sentence.register
def _(finding: Judged) -> str:
    if not finding.states.keys() - {"learning"}:
        return "Not conclusive: this machine's run-to-run variation is not known yet (needs 5 runs)."
    states = ", ".join(
        f"{finding.states[state]} {words}" for state, words in JUDGED.items() if finding.states.get(state)
    )
    return f"Judged by the runs before, of {len(finding.cases)} series: {states}."


@sentence.register
def _(finding: Winner) -> str:
    if finding.variant is None:
        return "nothing that was raced is known to be faster than stock with masks that agree."
    known = f"95 % interval {number(finding.low)}–{number(finding.high)}, {len(finding.blocks)} processes"
    return f"{finding.variant} is {number(finding.times)} times as fast as stock ({known}), masks {finding.masks}."


@sentence.register
def _(finding: Share) -> str:
    return f"{ADVICE[finding.part].format(share=percent(finding.share))} (stage pass, n = {finding.n})"


# A network can be above these: other kernels are faster than torch's own, and fused layers move fewer bytes.
RATES = {"arithmetic": "the rate of products and convolutions", "memory": "the rate of memory copies"}


@sentence.register
def _(finding: Network) -> str:
    text = f"Network: {finding.n_tiles} tiles at {number(finding.gflop_s)} GFLOP/s"
    if finding.fraction is None:
        return f"{text}."
    return f"{text}, {percent(finding.fraction)} of {RATES[finding.bound]} on this device."


@sentence.register
def _(finding: Attributed) -> str:
    text = f"Attributed {percent(finding.share, 1)} of the call"
    if finding.longer is None:
        return f"{text}."
    than = f"{percent(abs(finding.longer), 1)} {'longer' if finding.longer >= 0 else 'less'} than the timed median"
    return f"{text}; the stage pass took {than}."


@sentence.register
def _(finding: Note) -> str:
    if finding.kind == Kind.STANDIN:
        return f"Stand-in weights for {finding.words[0]}. {registry.info(finding.words[0]).surrogate_note}".strip()
    in_cases = "" if finding.n == finding.of else f" in {finding.n} of {count(finding.of, 'case')}"
    return NOTES[finding.kind].format(
        in_cases=in_cases, cases=count(finding.n, "case"), rows=count(finding.n, "repetition"),
        words=", ".join(finding.words),
    )  # fmt: skip


def speedup(finding: Speedup) -> str:
    """The predicate after an accelerator's name: 'is 8.00 times (…) as fast as …'."""
    return (
        f"is {number(finding.known.value)} times{known(finding.known)} as fast as this machine’s CPU at "
        f"{size(finding.size)}, {seconds(finding.time_s)} instead of {seconds(finding.cpu_s)}"
    )


def time(finding: Time) -> str:
    """A median with what it rests on: '1.0 s at 224 px (n = 5, 1 process)'."""
    return f"{seconds(finding.known.value)} at {size(finding.size)}{known(finding.known)}"


def known(found: Interval, digits: int = 3) -> str:
    """The 95 % interval, or else the range, in brackets after a space, with n and processes."""
    processes = f"{found.n_processes} process{'es' * (found.n_processes != 1)}"
    if found.n == 1:
        return " (n = 1)"
    if found.low is not None and found.high is not None:
        return f" (95 % interval {number(found.low, digits)}–{number(found.high, digits)}, {processes})"
    return f" (range {number(found.least, digits)}–{number(found.most, digits)}, n = {found.n} in {processes})"


def seconds(value_s: float) -> str:
    """A time in s, to two digits."""
    return f"{number(value_s, 2)}\u00a0s"


def size(label: str) -> str:
    """A size as it stands in a sentence."""
    return "the full image" if label == "full image" else label.replace(" px", "\u00a0px")

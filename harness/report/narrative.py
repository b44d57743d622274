"""What the numbers of a scope mean, in plain sentences: headline, cautions, and an answer to each question."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from harness.charts import agreement_chart, ranking_chart, stage_chart
from harness.query import reference_timings
from harness.results import history_rows, speedups, tuning_results
from harness.results.formatting import (
    Row,
    count,
    dimension_value,
    listed,
    model_name,
    number,
    percent,
    series_namer,
    short_name,
    size_label,
)
from harness.results.notes import FEW, flag_note, surrogate_notes
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats.intervals import Interval

# What must agree before two medians may stand in one sentence, but for the size of the image.
KIND = (*identity.without(identity.WORK, identity.SIZE), "variant", "batch_size", "dtype")
BANNERS = {
    "simulated": "Simulated workload. These rows exercise the program; they say nothing about any machine.",
    "custom": "Custom weights, not those that were published.",
    "synthetic": "Synthetic image. Its cells are invented; on another image the time may differ.",
}
# Why repetitions ended, other than because there were as many as asked for.
ENDINGS = {
    "precision": "the mean was known as well as asked for",
    "plateau": "more repetitions would not have helped, since the machine itself wanders",
    "n_max": "there were as many as allowed",
    "time_cap": "the time was used up",
}
# What a state of the last run of a series says (docs/statistics.md), what matters first.
JUDGED = {
    "alarm": "slower, confirmed in another night",
    "improvement": "faster, confirmed in another night",
    "suspect": "beyond what is usual, in one run so far",
    "usual": "as usual",
    "dismissed": "as usual again",
    "noisy": "too noisy to judge",
    "learning": "with too few runs to tell",
}
MOST = 4  # sentences of a kind; the tables have the rest


@dataclass(frozen=True)
class Answer:
    """One of the questions that a report is read for, and what these results say to it."""

    question: str
    sentences: list[str]


def headline(data: Tables) -> str:
    """The results in one sentence that claims nothing beyond its rows."""
    medians = data.cases
    if not medians:
        failed = data.n_failed
        return f"Nothing was timed: {count(failed, 'repetition')} failed" if failed else "Nothing was timed in this run"
    most = Counter(map(_kind, medians)).most_common(1)[0][0]
    chosen = [row for row in medians if _kind(row) == most]
    pairs = zip(data.speedup_rows, speedups.intervals(data), strict=True)
    compared = [(row, known) for row, known in pairs if _kind(row) == most]
    varied = identity.distinguishing(medians, (), KIND)
    among = ", ".join(f"{identity.word(column)} {dimension_value(chosen[0], column)}" for column in varied)
    return _what(chosen[0]) + _finding(chosen, compared) + (f" ({among})" if among else "")


def banners(data: Tables) -> list[str]:
    """What a reader must know before believing a number, in full sentences."""
    medians = data.cases
    kinds = {row["workload"] for row in medians} | {row["weights"] for row in medians}
    if any(row["image_is_synthetic"] for row in medians):
        kinds.add("synthetic")
    sentences = [*surrogate_notes(medians), *(text for kind, text in BANNERS.items() if kind in kinds)]
    few, unstable, unlike = (
        sum(row["n"] < FEW for row in medians),
        sum(row["n_distinct_masks"] > 1 for row in medians),
        sum(row["n_cells"] != row["cpu_n_cells"] for row in data.speedup_rows),
    )
    if failed := data.n_failed:
        failures = count(failed, "repetition")
        sentences.append(f"{failures} failed. No median or figure contains them; they are listed below.")
    if few:
        sentences.append(f"Few repetitions: {count(few, 'case')} with fewer than {FEW}. Read the spread with care.")
    if unstable:
        sentences.append(f"Masks differed between the repetitions of {count(unstable, 'case')}.")
    if unlike:
        sentences.append(f"CPU and accelerator counted different numbers of cells in {count(unlike, 'case')}.")
    return sentences


def case_notes(data: Tables) -> list[str]:
    """What a reader of the table of cases must know besides its numbers."""
    sentences = []
    if flags := flag_note(data):
        sentences.append(f"{flags}. None is left out of a median or figure.")
    reasons = Counter(reason for row in data.cases for reason in (row["stop_reason"] or "").split())
    if endings := [f"{ENDINGS[reason]} ({count(n, 'case')})" for reason, n in reasons.items() if reason in ENDINGS]:
        sentences.append(f"Repetitions ended because {'; because '.join(endings)}.")
    if (blocks := max((row["n_blocks"] for row in data.cases), default=1)) > 1:
        sentences.append(f"The repetitions of a case come from up to {blocks} processes.")
    return sentences


def answers(data: Tables) -> list[Answer]:
    """What these results say to each question."""
    return [
        Answer("How fast is it, and how does that change with image size?", _how_fast(data)),
        Answer("How much does a GPU help, and from which image size on?", _gpu(data)),
        Answer("Which device should run the jobs, and do all give the same masks?", _which(data)),
        Answer("Is it slower than before?", _before(data)),
        Answer("What would make it faster here, without changing the masks?", _faster(data)),
    ]


def _how_fast(data: Tables) -> list[str]:
    if not data.cases:
        return ["Nothing was timed."]
    by_series: dict[str, list[Row]] = {}
    for row in data.cases:
        by_series.setdefault(data.name(row), []).append(row)
    laws = {each.series: each.law for each in speedups.laws(data)}
    sentences = []
    for series, rows in list(by_series.items())[:MOST]:
        largest = max(rows, key=lambda row: row["n_pixels"])
        hourly = number(3600 / largest["median_s"])
        text = f"{series}: {_seconds(largest['median_s'])} for {_size(largest)}, {hourly} images an hour"
        law = laws.get(series)
        if law and law.is_good:
            names = ("a call", "a tile", "a megapixel")
            parts = [f"{number(s, 2)} s {name}" for s, name in zip(law.coefficients, names, strict=True) if s]
            text += f"; within {percent(law.relative_error, 1)} its times are {' and '.join(parts)}"
        sentences.append(f"{text}.")
    if len(by_series) > MOST:
        sentences.append(f"{count(len(by_series) - MOST, 'more device')} in the table.")
    return sentences


def _gpu(data: Tables) -> list[str]:
    if not data.speedup_rows:
        return ["No accelerator was measured beside a CPU here, so these results cannot tell.", *_published(data)]
    pairs = list(zip(data.speedup_rows, speedups.intervals(data), strict=True))
    largest = {data.name(row): (row, known) for row, known in sorted(pairs, key=lambda pair: pair[0]["n_pixels"])}
    several = len({row["node"] for row in data.speedup_rows}) > 1
    sentences = [
        f"On {row['node']}, {_comparison(row, known)}." if several else f"{_upper(_comparison(row, known))}."
        for row, known in list(largest.values())[:MOST]
    ]
    sentences += [speedups.sentence(each) for each in speedups.by_size(data)][:MOST]
    if len(largest) > MOST:
        sentences.append(f"{count(len(largest) - MOST, 'more accelerator')} in the figure of speed-ups.")
    return sentences


def _published(data: Tables) -> list[str]:
    """What others found, who told no spread."""
    if data.published is None:
        return []
    found: dict[str, list[Row]] = {}
    for row in reference_timings.speedups(data.published).to_pylist():
        found.setdefault(speedups.published_name(row), []).append(row)
    sentences = []
    for name, rows in found.items():
        least, most = (number(choose(row["speedup"] for row in rows)) for choose in (min, max))
        sentences.append(f"Elsewhere: {name} was {least} to {most} times as fast as its CPU, by size; spread unknown.")
    return sentences


def _which(data: Tables) -> list[str]:
    ranked, size, _ = ranking_chart.ranks(data)
    own = [each for each in ranked if not each.is_published]
    if not own:
        return ["Nothing was timed."]
    sentences = []
    if len(own) == 1:
        sentences.append("Only one device was measured at this size, so there is nothing to choose between.")
    else:
        best = [each for each in own if each.place and each.place.first == 1]
        names = listed([each.series for each in best])
        if len(best) == 1:
            sentences.append(f"At {size} the fastest: {names}.")
        else:
            sentences.append(f"At {size} these processes cannot tell which is the fastest: {names}.")
    cells = agreement_chart.cells(data)
    devices = Counter(crop for crop, _ in {(cell.crop, cell.device) for cell in cells})
    shared = {crop for crop, n in devices.items() if n > 1}
    split = {cell.crop for cell in cells if cell.crop in shared and cell.word.rstrip("±") != "A"}
    if split:
        sentences.append(
            f"Masks are not the same bit by bit in {len(split)} of {count(len(shared), 'crop')} that several devices "
            "segmented."
        )
    elif shared:
        sentences.append("Devices found the very same masks, bit by bit, in every crop that several of them segmented.")
    judged = Counter(cell.state for cell in cells if cell.state != agreement_chart.NOT_COMPARED)
    if judged:
        counted = ", ".join(f"{state} in {count(n, 'case')}" for state, n in judged.items())
        sentences.append(f"Beside stock cellpose on the same machine’s CPU they are {counted}.")
    elif split:
        sentences.append("Whether the differences matter was not measured: run it with --passes masks.")
    return sentences


def _before(data: Tables) -> list[str]:
    if not data.history:
        return [
            "These are the first results of their series in this store. Run it again after an update, and this says."
        ]
    pairs = [series.points[-2:] for series in data.history]
    ratios = sorted(now.value / before.value - 1 for before, now in pairs)
    runs = {before.run_id for before, _ in pairs}
    versions = {
        f"{name} {before.place[column]} → {now.place[column]}"
        for before, now in pairs
        for name, column in (("torch", "torch_version"), ("cellpose", "cellpose_version"))
        if before.place[column] != now.place[column]
    }
    ends = f"{_signed(ratios[0])} to {_signed(ratios[-1])} (the middle one by {_signed(ratios[len(ratios) // 2])})"
    changed = (
        f"the medians of {len(pairs)} cases changed by {ends}"
        if pairs[1:]
        else (f"the median of 1 case changed by {_signed(ratios[0])}")
    )
    sentences = [f"Beside {listed(sorted(runs))}, {changed}."]
    if versions:
        sentences.append(f"Meanwhile changed: {listed(sorted(versions))}.")
    return [*sentences, _verdict(data)]


def _verdict(data: Tables) -> str:
    """What the runs before say about the last one of each series, where they are enough to tell."""
    states = Counter(history_rows.state(series, len(series.points) - 1) for series in data.history)
    if not states.keys() - {"learning"}:
        return "That is no verdict: processes of one machine differ too, and how much takes several of them to tell."
    told = ", ".join(f"{states[state]} {words}" for state, words in JUDGED.items() if states[state])
    return f"Judged by the runs before, of {len(data.history)} series: {told}."


def _faster(data: Tables) -> list[str]:
    sentences = [
        f"{place}: {each.row['variant']} is {each.times} times as fast as stock, masks {each.row['masks']}."
        if each
        else f"{place}: nothing that was raced is known to be faster than stock without changing the masks."
        for place, each in tuning_results.winners(data.tuning_results).items()
    ]
    found = stage_chart.remarks(data)
    if not found:
        unknown = "No stage pass was made, so nobody knows where the time goes: run it with --passes stages."
        return sentences[:MOST] or [unknown]
    sentences += [f"{title}: {text}" for title, each in found.items() for text in each.advice]
    return sentences[:MOST] or ["The stage pass shows nothing that stands out."]


def _finding(medians: list[Row], compared: list[tuple[Row, Interval]]) -> str:
    name = series_namer(medians)
    by_series: dict[str, list[Row]] = defaultdict(list)
    for row in medians:
        by_series[name(row)].append(row)
    nodes = len({row["node"] for row in medians})
    if compared and nodes == 1:
        largest = {name(row): (row, known) for row, known in sorted(compared, key=lambda pair: pair[0]["n_pixels"])}
        return ": " + "; ".join(_comparison(row, known) for row, known in largest.values())
    if len(by_series) == 1:
        ends = {
            row["n_pixels"]: row for row in (choose(medians, key=lambda row: row["n_pixels"]) for choose in (min, max))
        }
        times = (f"{_seconds(row['median_s'])} at {_size(row)}" for row in ends.values())
        return f" on {name(medians[0])}: {', '.join(times)}"
    devices = f" on {len(by_series)} devices of {count(nodes, 'machine')}"
    common = set.intersection(*({row["n_pixels"] for row in rows} for rows in by_series.values()))
    if not common:
        return devices
    ranked = sorted((row for row in medians if row["n_pixels"] == max(common)), key=lambda row: row["median_s"])
    fast, slow = (f"{_seconds(row['median_s'])} on {name(row)}" for row in (ranked[0], ranked[-1]))
    return f"{devices}: at {_size(ranked[0])} from {fast} to {slow}"


def _comparison(row: Row, known: Interval) -> str:
    return (
        f"the {short_name(row['device_name'])} is {number(row['speedup'])} times"
        f"{speedups.range_text(known)} as fast as this machine’s CPU at {_size(row)}, "
        f"{_seconds(row['median_s'])} instead of "
        f"{_seconds(row['cpu_median_s'])}"
    )


def _kind(row: Row) -> tuple[Any, ...]:
    return identity.values(row, KIND)


def _what(row: Row) -> str:
    if row["workload"] == "simulated":
        return "Simulated workload"
    kinds = {"published": "", "standin": "’s network with stand-in weights"}
    return model_name(row) + kinds.get(row["weights"], "’s network with custom weights")


def _seconds(value: float) -> str:
    return f"{number(value, 2)}\u00a0s"


def _size(row: Row) -> str:
    return "the full image" if row["crop"] == "full" else size_label(row).replace(" px", "\u00a0px")


def _signed(share: float) -> str:
    return f"{'+' if share >= 0 else '−'}{percent(abs(share), 1)}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]

"""The report's tables as text: cases, times, ratios, stages, failures, environment."""

from __future__ import annotations

from dataclasses import dataclass

from harness.charts import catalogue, heatmap, history_strip, ranking_chart
from harness.engines import registry
from harness.results import advice, resources, speedups
from harness.results.differences import Finding, value_at
from harness.results.formatting import Row, listed, number, percent, seconds, side, size_label
from harness.results.tables import Tables

N_FAILURES = 200  # different ones that a report lists
N_PLACES = 6  # devices that a table of facts has a column each for


@dataclass(frozen=True)
class Grid:
    """A table as text, ready to be shown; the first `n_labels` columns are words, the others numbers."""

    head: tuple[str, ...]
    groups: dict[str, list[tuple[str, ...]]]  # heading, empty for none → rows
    n_labels: int = 1

    @classmethod
    def grouped(cls, head: tuple[str, ...], rows: list[tuple[str, ...]], n_labels: int = 1) -> Grid:
        """Rows whose first item is the heading they belong under."""
        groups: dict[str, list[tuple[str, ...]]] = {}
        for heading, *cells in rows:
            groups.setdefault(heading, []).append(tuple(cells))
        return cls(head, groups, n_labels)

    @property
    def n_lines(self) -> int:
        """How many lines the table has, headings among them."""
        return 1 + sum(len(rows) + bool(heading) for heading, rows in self.groups.items())


def cases(data: Tables) -> Grid:
    """One row per case: medians, spread, cells, speed-up; flags where there are any."""
    speedup_of = {(row["run_id"], row["case_id"]): row["speedup"] for row in data.gains}
    columns = {
        "crop": lambda row: row["crop"],
        "protocol": lambda row: row["protocol"] or "–",
        "n": lambda row: str(row["n"]),
        "median s": lambda row: number(row["median_s"]),
        "IQR s": _range,
        "mean ± SD s": lambda row: f"{number(row['mean_s'])} ± {number(row['sd_s'], 2)}",
        "mean ± 95 %": lambda row: "–" if row["precision"] is None else f"{100 * row['precision']:.2g}\u00a0%",
        "cells": lambda row: number(row["n_cells"], 1),
        "diameter px": lambda row: number(row["diameter_px"]),
        "speed-up": lambda row: number(speedup_of.get((row["run_id"], row["case_id"]))),
        "flagged": lambda row: f"{row['n_flagged']} ({row['flags']})" if row["n_flagged"] else "–",
    }
    if not any(row["n_flagged"] for row in data.cases):
        del columns["flagged"]
    rows = [(data.name(row), *(text(row) for text in columns.values())) for row in data.cases]
    return Grid.grouped(tuple(columns), rows, n_labels=2)


def times(data: Tables) -> Grid:
    """The numbers of the figure of times."""
    own = [(data.name(row), _pixels(row), str(row["n"]), number(row["median_s"]), _range(row)) for row in data.cases]
    others = [
        (f"{row['series']}: means", row["size"], "5", number(row["mean_s"]), "–")
        for row in catalogue.reference(data, "mean_s")
    ]
    return Grid.grouped(("image in px", "n", "median s", "IQR s"), own + others)


def laws(data: Tables) -> Grid:
    """The scaling law of each series: t = a + b · pixels."""
    rows = []
    for each in speedups.fits(data):
        if each.law is None:
            rows.append((each.series, "–", "–", "–", f"{each.n_sizes} (too few, or no growth)"))
        else:
            law, reach = each.law, number(each.law.per_mpx_reach_s, 2)
            slope = f"{number(law.per_mpx_s)} ± {reach}"
            rows.append((each.series, number(law.fixed_s), slope, percent(law.relative_error, 1), str(each.n_sizes)))
    return Grid(("series", "a: s beside", "b: s per Mpx ± 95 %", "off by", "sizes"), {"": rows})


def limits(data: Tables) -> Grid:
    """What each speed-up approaches, from where on it is near, and where accelerator and CPU break even."""
    rows = []
    for each in speedups.laws(data):
        gain = each.gain
        low, high = gain.break_even_low_mpx, gain.break_even_high_mpx
        even = "never" if gain.break_even_mpx is None else side(gain.break_even_mpx)
        rows.append(
            (
                each.series, f"{number(gain.limit)}×",
                "–" if gain.limit_low is None else f"{number(gain.limit_low)} – {number(gain.limit_high)}",
                side(gain.near_mpx), even, "–" if low is None or high is None else f"{side(low)} – {side(high)}",
            )
        )  # fmt: skip
    head = ("series", "limit", "95 %", "within a tenth of it from", "break-even", "95 %")
    return Grid(head, {"": rows})


def throughput(data: Tables) -> Grid:
    """The numbers of the figure of throughput."""
    own = [(data.name(row), _pixels(row), row["n_pixels"], row["median_s"]) for row in data.cases]
    others = [
        (f"{row['series']}: means", row["size"], row["n_pixels"], row["mean_s"])
        for row in catalogue.reference(data, "mean_s")
    ]
    rows = [(name, size, number(n / time_s / 1e6), number(3600 / time_s)) for name, size, n, time_s in own + others]
    return Grid.grouped(("image in px", "Mpx/s", "images/h"), rows)


def races(data: Tables) -> Grid:
    """The races of variants: how each did beside stock in the same race, and what became of the masks."""
    rows = [
        (
            f"{each.place}, race {each.row['block'] + 1}", each.row["variant"], str(each.row["n"]),
            number(each.row["median_s"]), each.times, each.row["masks"] or "not compared",
        )
        for each in data.raced
    ]  # fmt: skip
    return Grid.grouped(("variant", "n", "median s", "× stock", "masks"), rows)


def many_images(data: Tables) -> Grid:
    """Images a minute of each way to go about many images."""
    rows = [
        (
            f"{row['node']} {row['device']}, {row['n_images']} images: {row['image']} {size_label(row)}",
            row["variant"], str(row["n_processes"]), str(row["n_in_flight"]), str(row["torch_threads"]), str(row["n"]),
            number(row["images_per_minute"]),
            f"{number(row['slowest_per_minute'])} – {number(row['fastest_per_minute'])}",
            "the same each time" if row["n_distinct_masks"] == 1 else "they differ",
        )
        for row in data.throughput.to_pylist()
    ]  # fmt: skip
    head = ("variant", "processes", "in flight", "threads each", "n", "images/min", "slowest – fastest", "masks")
    return Grid.grouped(head, rows)


def ratios(data: Tables) -> Grid:
    """The numbers of the figures of shares and speed-ups."""
    own = [
        (
            data.name(row),
            _pixels(row),
            row["median_s"],
            row["cpu_median_s"],
            row,
            speedups.between(known.low, known.high),
        )
        for row, known in zip(data.gains, speedups.intervals(data), strict=True)
    ]
    others = [
        (f"{row['series']}: means", row["size"], row["mean_s"], row["cpu_mean_s"], row, "")
        for row in catalogue.reference(data, "speedup")
    ]
    rows = [
        (
            series,
            size,
            *map(number, (time_s, cpu_s, row["percent_of_cpu"], row["speedup"])),
            interval.strip(" ()") or "–",
        )
        for series, size, time_s, cpu_s, row, interval in own + others
    ]
    return Grid.grouped(("image in px", "accelerator s", "CPU s", "% of CPU time", "speed-up", "95 %"), rows)


def ranking(data: Tables) -> Grid:
    """The numbers of the ranking; published devices have no rank."""
    found, _, _ = ranking_chart.ranks(data)
    rows = [
        (
            each.series, "–" if each.is_published else each.rank, seconds(each.median_s),
            "–" if each.low_s is None else f"{seconds(each.low_s)} – {seconds(each.high_s)}",
            number(each.n_pixels / each.median_s / 1e6), number(3600 / each.median_s),
            ranking_chart.share_of_best(found, each),
        )
        for each in found
    ]  # fmt: skip
    return Grid(("device", "rank", "median", "95 %", "Mpx/s", "images/h", "of the fastest"), {"": rows})


def repetitions(data: Tables) -> Grid:
    """What the strip shows, a row a case: its first warm-up, and its fastest and slowest repetition."""
    first: dict[tuple[str, str], float] = {}
    for row in data.calls:
        if row["role"] == "warmup":
            first.setdefault((row["run_id"], row["case_id"]), row["elapsed_s"])
    rows = [
        (
            data.name(row), row["crop"], str(row["n"]), number(row["median_s"]),
            _off(first.get((row["run_id"], row["case_id"])), row), _off(row["min_s"], row), _off(row["max_s"], row),
        )
        for row in data.cases
    ]  # fmt: skip
    return Grid.grouped(("crop", "n", "median s", "first warm-up", "fastest", "slowest"), rows)


def history(data: Tables) -> Grid:
    """What the strips of history show, a row a run."""
    rows = [
        (
            strip.name, row["run"], seconds(row["value"]), _off(row["value"], {"median_s": strip.reference_s}),
            "–" if row["low"] is None else f"{seconds(row['low'])} – {seconds(row['high'])}", row["state"],
            "; ".join(row[column] for column in history_strip.SAID if row[column]) or "–",
        )
        for strip in history_strip.strips(data)
        for row in strip.rows
        if row["value"] is not None
    ]  # fmt: skip
    return Grid.grouped(("run", "median", "off the usual", "expected", "state", "besides"), rows)


def memory(data: Tables, method: resources.Method) -> Grid:
    """The numbers of a figure of memory."""
    found = resources.memory_rows(data, method)
    rows = [(data.name(row), _pixels(row), number(row[method.column] / resources.GIB)) for row in found]
    return Grid.grouped(("image in px", "GiB"), rows)


def energy(data: Tables) -> Grid:
    """The numbers of the figure of energy."""
    rows = [
        (data.name(row), _pixels(row), number(row["energy_per_call_j"]),
         number(row["idle_power_w"]), str(row["n_calls"]),
         f"{row['energy_class']}: {row['energy_method']}")
        for row in data.energy.to_pylist()
    ]  # fmt: skip
    return Grid.grouped(("image in px", "J per image", "idle W", "calls", "by"), rows)


def matrix(cells: list[heatmap.Cell]) -> Grid:
    """A figure of cells as a table: device, crop, what it says."""
    rows = [(cell.device, cell.crop, cell.word, cell.state, cell.detail) for cell in cells]
    return Grid.grouped(("crop", "", "state", "detail"), rows, n_labels=4)


def stages(data: Tables) -> Grid:
    """The numbers of the figure of the stage pass: a row a stage, a column a pass."""
    cases = advice.by_case(data.stages.to_pylist())
    passes = [each for each in tuple(registry.stages().passes) if any(each in advice.passes(case) for case in cases)]
    rows = []
    for case in cases:
        heading = f"{data.name(case[0])}, {size_label(case[0])}"
        for line in advice.lines(case):
            seconds = (number(line.by_pass_s[each]) if each in line.by_pass_s else "" for each in passes)
            rows.append(
                (heading, advice.stage_label(line.stage), *seconds, number(line.total_s), percent(line.share, 1))
            )
        rows.append((heading, "whole call", *("" for _ in passes), number(case[0]["total_s"]), percent(1, 1)))
    labels = [f"{each} pass s" if each != "none" else "outside s" for each in passes]
    return Grid.grouped(("stage", *labels, "all s", "share"), rows)


def stage_meanings() -> dict[str, str]:
    """What each stage is, by the name it has in the tables."""
    return {
        advice.stage_label(stage): meaning
        for stage, meaning in ((each.name, each.meaning) for each in registry.stages().stages)
    }


def failures(data: Tables) -> Grid:
    """What did not end well, and why; the same again and again is one row."""
    columns = ("node", "device", "crop", "role", "phase", "n", "status", "error_type", "error_message")
    found = data.failures.to_pylist()
    rows = [tuple(str(row[column] or "–") for column in columns) for row in found[:N_FAILURES]]
    if len(found) > N_FAILURES:
        rows.append((f"and {len(found) - N_FAILURES} more", *("" for _ in columns[1:])))
    return Grid(tuple(column.replace("_", " ") for column in columns), {"": rows}, n_labels=len(columns))


def environment(places: list[str], findings: list[Finding]) -> Grid:
    """One row a fact: a column a place where there are few, else each value with the places that have it."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    few = len(places) <= N_PLACES
    for each in findings:
        if few:
            told = tuple(value_at(each, where) for where in places)
        else:
            told = ("; ".join(f"{value}{_who(where, places)}" for value, where in each.values.items()),)
        groups.setdefault(each.group, []).append((f"{each.label} ≠" if each.differs else each.label, *told))
    head = ("fact", *places) if few else ("fact", f"value at the {len(places)} devices")
    return Grid(head, groups, n_labels=len(head))


def _who(having: list[str], places: list[str]) -> str:
    return "" if len(having) == len(places) else f" ({listed(having, 2)})"


def _off(time_s: float | None, row: Row) -> str:
    return "–" if time_s is None else f"{100 * (time_s / row['median_s'] - 1):+.1f}\u00a0%"


def _pixels(row: Row) -> str:
    return f"{row['height_px']} × {row['width_px']}"


def _range(row: Row) -> str:
    return f"{number(row['q1_s'])} – {number(row['q3_s'])}"

"""What the terminal shows: the plan, live progress on stderr, tables on stdout."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness import plan, query
from harness.bench import Prepared, Result
from harness.errors import CellbenchError
from harness.plan import Device
from harness.schema import Sample
from harness.store import Store

CASES = """
    SELECT m.crop, m.device, m.device_name, m.node, m.protocol, m.image, m.weights, m.n,
           m.median_s, m.q1_s, m.q3_s, m.mean_s, m.sd_s, m.n_cells, m.diameter_px, s.speedup
    FROM medians AS m LEFT JOIN speedups AS s USING (run_id, node, device, case_id)
    WHERE m.run_id = $run_id
    ORDER BY m.protocol DESC, m.node, m.n_pixels, m.backend = 'cpu' DESC, m.device
"""


def cases(store: Store, run_id: str | None) -> pa.Table:
    """One row per case of a run (the latest if None), as `cellbench show` prints them."""
    session = query.Session(store)
    return session.table(CASES, run_id=query.which_run(session, run_id))


class Progress:
    """Live progress of one run: a table on a terminal, a line per finished case elsewhere.

    It draws only when a sample has arrived, and the next repetition waits for it: nothing is drawn
    while something is being timed.
    """

    def __init__(self, prepared: Prepared, quiet: bool) -> None:
        self._prepared = prepared
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._times_s: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._status: dict[tuple[str, ...], str] = {}
        self._begin_s = time.monotonic()

    def begin(self) -> None:
        """Say what will be measured and about how long it will take."""
        p, config = self._prepared, self._prepared.config
        say = self._console.print
        height_px, width_px = p.image.pixels.shape
        kind = "synthetic image" if p.image.is_synthetic else "image"
        say(f"{kind} {p.image.name} ({height_px} × {width_px} px), weights: {p.weights.kind}", markup=False)
        if p.weights.warning:
            say(f"! {p.weights.warning}", style="bold yellow", markup=False)
        for device in p.devices:
            say(f"device {device.id}: {_device_text(device, p.threads)}", markup=False)
        say(
            f"{p.n_cases} cases: crops {', '.join(map(str, config.crops))} px × {len(p.devices)} device(s), "
            f"protocol {', '.join(config.protocols)}; {config.warmups} warm-up(s) and {config.repeats} repetitions each"
            + (f", in {config.blocks} blocks" if config.blocks > 1 else ""),
            markup=False,
        )
        say(f"about {_duration(p.estimate_s)} (a guess from the kind of device; it is refined on the way)")

    def sample(self, sample: Sample) -> None:
        """Take in one sample and redraw."""
        if sample["phase"] != "call" or sample["role"] == "cold":
            return
        key = (sample["device"], sample["crop"], sample["protocol"], str(sample["block"]))
        if sample["status"] != "ok":
            self._status[key] = sample["status"]
            self._line(key, sample)
        else:
            work = plan.network_tflop(sample["height_px"], sample["width_px"])
            self._spent[sample["device"]].append((work, sample["elapsed_s"]))
            if sample["role"] == "timed":
                self._times_s[key].append(sample["elapsed_s"])
                if len(self._times_s[key]) == self._prepared.config.repeats:
                    self._status[key] = "done"
                    self._line(key, sample)
        if self._console.is_terminal and not self._console.quiet:
            self._live.start()
            self._live.update(self._table(), refresh=True)

    def end(self, result: Result) -> None:
        """Say where the results are."""
        self._console.print(
            f"run {result.run_id}: {_duration(result.elapsed_s)}, saved in {result.store.root}", markup=False
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _line(self, key: tuple[str, ...], sample: Sample) -> None:
        if self._console.is_terminal:
            return
        device, crop, protocol, _ = key
        if self._status[key] == "done":
            median_s = statistics.median(self._times_s[key])
            text = f"{_seconds(median_s)} (median of {len(self._times_s[key])}), {sample['n_cells']} cells"
        else:
            text = f"{self._status[key]}: {sample['error_message']}"
        self._console.print(f"{device} {crop} {protocol}: {text}; {self._left()}", markup=False)

    def _left(self) -> str:
        return f"about {_duration(self._left_s())} left" if self._left_s() else "done"

    def _left_s(self) -> float:
        """Work that is left at the pace of what was measured on that device so far."""
        left_s = 0.0
        for block in self._prepared.blocks:
            spent = self._spent[block.device.id]
            if not spent:
                left_s += plan.estimate_s([block], self._prepared.threads)
                continue
            pace = sum(s for _, s in spent) / sum(work for work, _ in spent)
            for case in block.cases:
                key = (block.device.id, case.crop, case.protocol, str(block.index))
                if key not in self._status:
                    n = block.repeats - len(self._times_s[key]) + (0 if self._times_s[key] else block.warmups)
                    left_s += n * pace * plan.network_tflop(case.height_px, case.width_px)
        return left_s

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"measuring; {self._left()}")
        for name in ("device", "crop", "protocol"):
            table.add_column(name)
        for name in ("repetitions", "median"):
            table.add_column(name, justify="right")
        table.add_column("")
        for block in self._prepared.blocks:
            for case in block.cases:
                key = (block.device.id, case.crop, case.protocol, str(block.index))
                times_s = self._times_s[key]
                median = _seconds(statistics.median(times_s)) if times_s else ""
                n = f"{len(times_s)}/{block.repeats}"
                table.add_row(block.device.id, case.crop, case.protocol, n, median, self._status.get(key, ""))
        return table


def print_table(table: pa.Table, form: str = "table") -> None:
    """Print rows on stdout: as a table for people, or as json, csv or md for programs."""
    {"table": _print_rich, "json": _print_json, "csv": _print_csv, "md": _print_markdown}[form](table)


def print_cases(table: pa.Table) -> None:
    """Print the table of cases as people read it: rounded, with units."""
    if not table.num_rows:
        raise CellbenchError("this run has no successful timed repetition", None, "see: cellbench query failures")
    rows = table.to_pylist()
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "crop": lambda r: r["crop"],
        "device": lambda r: r["device"],
        "node": lambda r: r["node"],
        "protocol": lambda r: r["protocol"],
        "median": lambda r: _seconds(r["median_s"]),
        "IQR": lambda r: f"{_seconds(r['q1_s'])} – {_seconds(r['q3_s'])}",
        "mean ± SD": lambda r: f"{_seconds(r['mean_s'])} ± {_seconds(r['sd_s'])}",
        "n": lambda r: str(r["n"]),
        "cells": lambda r: str(r["n_cells"]),
        "diameter": lambda r: f"{r['diameter_px']:.1f} px",
        "speed-up": lambda r: "" if r["speedup"] is None else f"{r['speedup']:.2f}×",
    }
    for name in ("node", "protocol"):
        if len({row[name] for row in rows}) == 1:
            del columns[name]
    if all(row["speedup"] is None for row in rows):
        del columns["speed-up"]
    shown = Table(box=None, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="left" if name in ("device", "node", "protocol") else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(text(row) for text in columns.values()))
    _stdout().print(shown)
    for note in _notes(rows):
        Console(stderr=True, highlight=False).print(note, markup=False)


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know besides the figures."""
    names = sorted({f"{row['device']} is {row['device_name']}" for row in rows})
    notes = ["; ".join(names)]
    images = sorted({row["image"] for row in rows})
    notes.append(f"image {', '.join(images)}; spread is within one process, not a confidence interval")
    if any(row["weights"] == "standin" for row in rows):
        notes.append("stand-in weights: the network costs what cyto3's costs, the masks are not cyto3's")
    return notes


def _print_rich(table: pa.Table) -> None:
    shown = Table(box=None, pad_edge=False)
    for field in table.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        shown.add_column(field.name, justify="right" if numeric else "left")
    for row in table.to_pylist():
        shown.add_row(*(_text(value) for value in row.values()))
    _stdout().print(shown, markup=False)


def _print_json(table: pa.Table) -> None:
    json.dump(table.to_pylist(), sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def _print_csv(table: pa.Table) -> None:
    pyarrow.csv.write_csv(table, sys.stdout.buffer)


def _print_markdown(table: pa.Table) -> None:
    lines = [table.column_names, ["---"] * table.num_columns]
    lines += [[_text(value).replace("|", r"\|") for value in row.values()] for row in table.to_pylist()]
    for line in lines:
        print("| " + " | ".join(line) + " |")


def _stdout() -> Console:
    # Piped output is never wrapped: a program reads it.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _seconds(value_s: float | None) -> str:
    """Three significant figures, in s or ms."""
    if value_s is None or math.isnan(value_s):
        return "–"
    if value_s < 1:
        return f"{1000 * value_s:.3g} ms"
    return f"{value_s:.3g} s" if value_s < 100 else f"{value_s:.0f} s"


def _duration(value_s: float) -> str:
    if value_s < 90:
        return f"{max(1, round(value_s))} s"
    return f"{round(value_s / 60)} min" if value_s < 5400 else f"{value_s / 3600:.1f} h"


def _device_text(device: Device, threads: int) -> str:
    return f"{device.name}, {threads} threads" if device.backend == "cpu" else device.name

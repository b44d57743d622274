"""How long many images of one size take in one process, on each device that was measured.

Many images take as long as their mean, and a further process differs from those measured. A size that was measured has
its own times. Between measured sizes, the law of the device gives the time, or the times of the neighbouring sizes
bound it. Beyond them there is an answer only on request, and without an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.engines import registry
from harness.engines.base import Work
from harness.results import reference_set, speedups, tuning_results
from harness.results.findings import SameHardware
from harness.results.formatting import Row, size_label
from harness.results.tables import Tables
from harness.results.tuning_results import TuningResult
from harness.schema import identity
from harness.store import reference

MEASURED, LAW, BETWEEN, EXTRAPOLATED = "measured", "tile model", "between sizes", "extrapolated"
START = ("import", "device_start", "model_load")  # phases of a process before its first call


@dataclass(frozen=True)
class Question:
    """A number of images of one size; diameter_px: of their cells, as in the measured image if None."""

    n_images: int
    height_px: int
    width_px: int
    diameter_px: float | None = None
    extrapolate: bool = False


@dataclass(frozen=True)
class Several:
    """The best way to process several images at once that was measured on a device.

    times: its images per minute over those of one image at a time, in the same run. n: rounds.
    """

    row: Row
    times: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """The answer of one series of measurements to a question.

    image_s: per image, with low_s and high_s: a 95 % prediction interval of one further process if is_interval, else
    the bounds that neighbouring sizes or single repetitions give; None where nothing bounds it. basis: one of the words
    above. start_s: of a process, before its first image. faster: the winner of a search on this device, whose masks
    stay. several: what several images at once gave on it. energy_j: of one image of this size, where the energy pass
    measured it.
    """

    series: str
    row: Row
    image_s: float
    low_s: float | None
    high_s: float | None
    is_interval: bool
    basis: str
    start_s: float | None
    faster: TuningResult | None
    several: Several | None = None
    energy_j: float | None = None

    @property
    def is_reference(self) -> bool:
        """Whether the reference set measured it, on another machine."""
        return self.row["source"] == reference.SOURCE

    def total_s(self, n_images: int, image_s: float | None = None) -> float:
        """The time of n_images in one process in s, start-up included; image_s: another time per image."""
        return (self.start_s or 0.0) + n_images * (self.image_s if image_s is None else image_s)


@dataclass(frozen=True)
class Refusal:
    """A series that was not measured at sizes that answer the question, and why."""

    series: str
    why: str


@dataclass(frozen=True)
class Answer:
    """The estimates, the fastest device first, and the series that have none.

    same_hardware: one's own measured times of this size, compared with the same hardware in the reference set.
    """

    estimates: list[Estimate]
    refusals: list[Refusal]
    same_hardware: Sequence[SameHardware] = ()


def with_reference(own: Tables | None, other: Tables | None, question: Question, model: str | None = None) -> Answer:
    """The answer of one's own results, then that of the reference set for runs that are not one's own."""
    ours = answer(own, question, model) if own else Answer([], [])
    theirs = answer(other, question, model) if other else Answer([], [])
    runs = {row["run_id"] for row in own.cases} if own else set()
    more = [each for each in theirs.estimates if each.row["run_id"] not in runs]
    measured = [each.row for each in ours.estimates if each.basis == MEASURED]
    same = reference_set.same_hardware(measured, own.reference) if own else []
    return Answer([*ours.estimates, *more], ours.refusals, same)


def answer(tables: Tables, question: Question, model: str | None = None) -> Answer:
    """An estimate, or a reason for none, for each series of calls (protocol standard); model: only of this one."""
    laws = {each.series: each.law for each in speedups.laws(tables, np.mean)}
    start_s_of, several = starts(tables), _several(tables)
    energies_j = {row["case_id"]: row["gross_per_call_j"] for row in tables.energy.to_pylist()}
    winners = [each for each in tuning_results.winners(tables.tuning_results).values() if each]
    estimates, refusals = [], []
    for series, rows in _by_series(tables, model).items():
        same = [row for row in rows if {row["height_px"], row["width_px"]} == {question.height_px, question.width_px}]
        if same and _is_diameter(question, same[-1]):
            known = speedups.batch(tables, same[-1], question.n_images)
            found = (same[-1], known.value, *known.ends, known.low is not None, MEASURED)
        else:
            found = _between(tables, rows, laws[series], question)
        if isinstance(found, str):
            refusals.append(Refusal(series, found))
            continue
        row = found[0]
        faster = next((each for each in winners if _is_like(each.row, row)), None)
        place = row["node"], row["device"]
        energy_j = energies_j.get(row["case_id"]) if found[-1] == MEASURED else None
        start_s = start_s_of.get(start_key(row))
        estimates.append(Estimate(series, *found, start_s, faster, several.get((*place, row["model"])), energy_j))
    return Answer(sorted(estimates, key=lambda each: each.image_s), refusals)


def _by_series(tables: Tables, model: str | None) -> dict[str, list[Row]]:
    """The cases of each series, the smallest image first."""
    rows = (row for row in tables.cases if row["protocol"] == "standard" and model in (None, row["model"]))
    return identity.grouped(sorted(rows, key=lambda row: row["n_pixels"]), tables.name)


def _between(
    tables: Tables, rows: list[Row], law: speedups.Law | None, question: Question
) -> tuple[Row, float, float | None, float | None, bool, str] | str:
    """By the law, or the neighbouring sizes, or beyond them; else why not."""
    n_pixels = question.height_px * question.width_px
    nearest = min(rows, key=lambda row: abs(math.log(row["n_pixels"] / n_pixels)))
    cost = _work(nearest, question.height_px, question.width_px, question.diameter_px or nearest["diameter_px"])
    further = speedups.beyond_processes(tables, nearest, question.n_images)
    if law is not None and law.is_good and (found := law.of_process(cost.n_tiles, n_pixels / 1e6, further)):
        return nearest, found.value_s, found.low_s, found.high_s, True, LAW
    sizes = [(row, _work(row, row["height_px"], row["width_px"], row["diameter_px"])) for row in rows]
    below = [each for each in sizes if each[0]["n_pixels"] <= n_pixels and each[1].gflop <= cost.gflop]
    above = [each for each in sizes if each[0]["n_pixels"] >= n_pixels and each[1].gflop >= cost.gflop]
    if below and above:
        (low, low_work), (high, high_work) = below[-1], above[0]
        more = high_work.gflop - low_work.gflop
        share = (cost.gflop - low_work.gflop) / more if more else 0.5
        value_s = low["mean_s"] + share * (high["mean_s"] - low["mean_s"])
        return nearest, value_s, low["mean_s"], high["mean_s"], False, BETWEEN
    edge, work = sizes[0] if above else sizes[-1]
    if question.extrapolate:
        return nearest, edge["mean_s"] * cost.gflop / work.gflop, None, None, False, EXTRAPOLATED
    return f"{size_label(edge)} is the {'smallest' if above else 'largest'} size measured"


def _work(row: Row, height_px: int, width_px: int, diameter_px: float | None) -> Work:
    """Tiles and operations of one call, as the engine of this row counts them."""
    return registry.engine_of(row["model"]).work(row["model"], height_px, width_px, diameter_px)


def _is_diameter(question: Question, row: Row) -> bool:
    return question.diameter_px is None or math.isclose(question.diameter_px, row["diameter_px"], rel_tol=0.02)


def _is_like(race: Row, row: Row) -> bool:
    """Whether a search was made on this machine and device, with this model and these weights."""
    return all(race[name] == row[name] for name in ("node", "device", "device_name", "model", "weights", "dtype"))


def _several(tables: Tables) -> dict[tuple[str, str, str], Several]:
    """Of each node, device and model: the most images per minute with stock's masks over those of one at a time.

    The newest run counts: those before it may be the search that chose the ways of this one.
    """
    rows = [row for row in tables.throughput.to_pylist() if row["images_per_minute"]]
    work = ("run_id", "node", "device", "model", "image", "n_images", *identity.SIZE)
    found: dict[tuple[str, str, str], Several] = {}
    for group in identity.grouped(rows, lambda row: identity.values(row, work)).values():
        single = [row for row in group if row["n_processes"] == row["n_in_flight"] == 1 and row["variant"] == "stock"]
        if not single:
            continue
        same = [row for row in group if (row["mask_sha256"], row["n_distinct_masks"]) == (single[0]["mask_sha256"], 1)]
        best = max(same, key=lambda row: row["images_per_minute"], default=single[0])
        found.pop((best["node"], best["device"], best["model"]), None)
        if best is not single[0]:
            times = best["images_per_minute"] / single[0]["images_per_minute"]
            found[best["node"], best["device"], best["model"]] = Several(best, times, min(best["n"], single[0]["n"]))
    return found


def start_key(row: Row) -> tuple[str, ...]:
    """The key of a row's process in starts()."""
    return row["run_id"], row["node"], row["device"], row["engine"], row["model"]


def starts(tables: Tables) -> Mapping[tuple[str, ...], float]:
    """Seconds of a fresh process before its first call, by start_key()."""
    return {start_key(row): row["start_s"] for row in tables.start_ups.to_pylist()}

"""Numbers, devices and series as people read them; shared by the terminal, the figures and the report."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.machine.facts import Fact
from harness.schema import Row, identity

# Columns whose values need no heading.
SELF_EXPLAINING = (
    "node", "device", "protocol", "variant", "weights", "image", "workload", "source", "engine", "model", "dtype",
    "instruction_set", "cpu_model", "device_name", "result_variant", "backend", "arch",
)  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    """A number with this number of significant digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.{digits}g}")  # 9.996 has one digit more once it is 10.0
    decimals = digits - 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{value:,.{max(decimals, 0)}f}"


def text(value: object, unknown: str = "–") -> str:
    """A value unchanged; a dash, or another word, for none."""
    return unknown if value is None or value == "" else str(value)


def interval(low: float | None, high: float | None, write: Callable[[float], str] = number) -> str:
    """Two ends as '1.20 – 1.31'; a dash where one is unknown."""
    return "–" if low is None or high is None else f"{write(low)} – {write(high)}"


def between(low: float | None, high: float | None) -> str:
    """An interval in brackets after a space, or nothing where it is unknown."""
    return "" if low is None or high is None else f" ({number(low)}–{number(high)})"


def seconds(value_s: float | None) -> str:
    """A duration with three significant digits, in s or ms; a dash for none."""
    if value_s is None or math.isnan(value_s):
        return "–"
    if value_s < 1:
        return f"{1000 * value_s:.3g} ms"
    return f"{value_s:.3g} s" if value_s < 100 else f"{value_s:.0f} s"


def duration(value_s: float) -> str:
    """A long duration in the unit that fits: '42 s', '15 min', '4.3 h', '2.1 days'."""
    unit, length_s = unit_of(value_s)
    return f"{number(value_s / length_s, 2)} {unit}"


def unit_of(value_s: float) -> tuple[str, int]:
    """The unit that fits a long duration, and its length in s: for one value, or for the least of a column."""
    units = (("days", 86_400), ("h", 3_600), ("min", 60))
    return next(((unit, length_s) for unit, length_s in units if value_s >= 1.5 * length_s), ("s", 1))


def percent(share: float | None, decimals: int = 0) -> str:
    """A share as a percentage; a dash for none."""
    return "–" if share is None else f"{100 * share:.{decimals}f}\u00a0%"


def deviation(value: float | None, usual: float) -> str:
    """The distance of a value from the baseline, in percent of it: '+1.2 %'; a dash for none."""
    return "–" if value is None else signed(value / usual - 1, 1)


def signed(share: float, decimals: int = 0) -> str:
    """A change as a percentage with its sign, the minus as long as the plus: '−1.2 %'."""
    return f"{'+' if share >= 0 else '−'}{percent(abs(share), decimals)}"


def count(n: int, noun: str) -> str:
    """A number with its noun, singular or plural: '1 case', '2 cases'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def flagged(n_flagged: int, n: int, flags: Mapping[str, int] = MappingProxyType({})) -> str | None:
    """Flagged repetitions in words: '7 of 50 repetitions have a flag (load 6, drift 1) and are included'.

    flags: the number of repetitions with each, where it is known; one may have several. None if there is no flag.
    """
    if not n_flagged:
        return None
    each = ", ".join(f"{flag} {times}" for flag, times in flags.items())
    have, are = ("has", "is") if n_flagged == 1 else ("have", "are")
    return f"{n_flagged} of {count(n, 'repetition')} {have} a flag{f' ({each})' if each else ''} and {are} included"


def series_namer(medians: Iterable[Row]) -> Callable[[Row], str]:
    """A function from a row to its series' name: device, and the columns that differ among these medians.

    Versions are in the name only where a run has several; the run is in it only where the name has several.
    """
    rows = list(medians)
    name = line_namer(rows)

    def alike(*columns: str) -> list[list[Row]]:
        """The rows that have a name, a size and these columns in common."""
        found: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            found[name(row), identity.values(row, (*identity.SIZE, *columns))].append(row)
        return list(found.values())

    versions = dict.fromkeys(v for each in alike("run_id") for v in identity.differing(each, identity.VERSIONS))
    in_runs = any(len({row["run_id"] for row in each}) > 1 for each in alike(*versions))
    return lambda row: f"{name(row)}{extras(row, versions)}" + (f", {row['run_id']}" if in_runs else "")


def line_namer(rows: Iterable[Row], elsewhere: Collection[str] = ()) -> Callable[[Row], str]:
    """A function from a row to the name of its line: device, and the columns that differ except sizes and versions.

    elsewhere: columns that the reader sees outside the name.
    """
    rows = list(rows)
    dimensions = identity.distinguishing(rows, ("node", "device", "device_name", *elsewhere), ("node", *identity.LINE))
    several_nodes = "node" not in elsewhere and len({row["node"] for row in rows}) > 1

    def name(row: Row) -> str:
        node = f"{row['node']} · " if several_nodes else ""
        return f"{node}{device_label(row)}{extras(row, identity.without(dimensions, elsewhere))}"

    return name


def extras(row: Row, columns: Iterable[str]) -> str:
    """A row's values in the columns that a name needs in addition to its device: ', bfloat16, torch 2.13'."""
    in_label = {"node", "device", "device_name", *(("torch_threads",) if row["backend"] == "cpu" else ())}
    return "".join(f", {dimension_text(row, column)}" for column in identity.without(columns, in_label))


def dimension_text(row: Row, column: str) -> str:
    """A row's value in a column of the identity, in words that need no heading: 'lossless', '8 threads'."""
    value = dimension_value(row, column)
    if column in SELF_EXPLAINING:
        return value
    return (
        count(row[column], "thread")
        if column == "torch_threads" and row[column]
        else f"{identity.word(column)} {value}"
    )


def dimension_value(row: Row, column: str) -> str:
    """A row's value in a column of the identity; 'unknown' for none."""
    found = identity.value(row, column)
    return text(None if found is None else identity.short(found), "unknown")


def device_label(row: Row) -> str:
    """A device in words: its model, its index, and a CPU's threads."""
    threads = row.get("torch_threads") if row["backend"] == "cpu" else None
    which = row["device"] + (f", {count(threads, 'thread')}" if threads else "")
    return f"{short_name(row['device_name'])} ({which})"


def short_name(device_name: str | None) -> str:
    """A processor's name without trademarks and clock speed."""
    if not device_name:
        return "unknown"
    bare = re.sub(r"\((R|TM|C)\)|\b(CPU|Processor)\b|@.*$|\b\d+-Core\b", " ", device_name, flags=re.IGNORECASE)
    return " ".join(bare.split()) or device_name


def size_label(row: Row) -> str:
    """The size of the segmented image: '224 px' or 'full image'."""
    return "full image" if row["crop"] == "full" else f"{crop_name(row)} px"


def crop_name(row: Row) -> str:
    """The crop as it is requested, or height and width where that is unknown."""
    return row["crop"] or pixels(row)


def pixels(row: Row) -> str:
    """Height and width of the segmented image: '2160 × 2560'."""
    return f"{text(row.get('height_px'))} × {text(row.get('width_px'))}"


def place(row: Row) -> str:
    """Node and device of a row: 'desk · cuda:0'."""
    return f"{row['node']} · {row['device']}"


def listed(words: Sequence[str], most: int = 3) -> str:
    """A list in words, shortened where it is long: 'a, b and c', 'a, b, c and 4 more'."""
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def side(mpx: float) -> str:
    """An image's size by the side of the square that has as many pixels: '900 px'."""
    return f"{float(f'{1000 * math.sqrt(mpx):.2g}'):,.0f}\u00a0px"


def fact_text(fact: Fact, value: Any) -> str:
    """One value in words: '32 KiB', '4000 MHz', 'yes', 'unknown'."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if fact.unit == "bytes":
        return _binary_size(value)
    written = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{written} {fact.unit}" if fact.unit else written


def _binary_size(n_bytes: int) -> str:
    """A size in binary units, as of memory and caches: '1.5 MiB'."""
    size, units = float(n_bytes), ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while size >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop()
    return f"{size:.4g} {units[-1]}"


def model_name(row: Mapping[str, Any]) -> str:
    """A row's model as a sentence names it."""
    return text(row["model"], "an unknown model")


def models_with(rows: Iterable[Mapping[str, Any]], weights: str) -> list[str]:
    """The models that ran with weights of this kind."""
    return sorted({model_name(row) for row in rows if row["weights"] == weights})

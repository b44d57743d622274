"""An independent look at what is claimed: each finding is recomputed from the raw Parquet rows, with pyarrow and numpy.

Nothing here comes from the program: not its SQL, not its list of what makes the same work, not its statistics. A
finding is known by the name of its class and by its fields. refuted() gives the reasons for which a claim is false, or
more than its rows can carry; unsaid() what had to be said and was not.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import parquet

Row = dict[str, Any]
Case = tuple[str, str]
Reasons = Iterator[str]

PUBLISHED = Path(__file__).parents[1] / "harness" / "query" / "reference_timings.csv"
ENOUGH = 3  # processes, for an interval, a rank or a word about all sizes
DRIFT = 0.05
# What two times have in common that may be divided or ranked; an unknown hash is stood for by the name.
WORK = (
    "source", "workload", "engine", "model", "weights", "weights_sha256", "size_model_sha256", "image", "height_px",
    "width_px", "diameter_asked_px", "result_variant", "protocol", "protocol_version",
)  # fmt: skip
PLACE = ("node", "backend", "device")
REFERENCE = Path(__file__).parents[1] / "results" / "reference"
# The columns that are also equal for an accelerator and its CPU.
NOT_DEVICE = (
    "run_id", "node", "machine_id", "variant", "batch_size", "dtype", "torch_threads", "torch_version",
    "cellpose_version", "engine_version",
)  # fmt: skip
WORST_FIRST = ("different", "close", "equivalent", "identical")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
# What no sentence may say, whatever the rows: a limit, a crossing or an absence that nobody measured.
INTERVAL = re.compile(r"95 % (confidence|prediction|interval|CI)")  # a share may be 95 %, too
NEVER = re.compile(r"never faster|approach|break.?even|ever larger", re.IGNORECASE)


class Raw:
    """The rows of a store, and of them the calls that count as timed."""

    def __init__(self, rows: Sequence[Row], runs: Iterable[str] | None = None) -> None:
        """runs: of the scope; all if not given."""
        self.runs = set(runs if runs is not None else (row["run_id"] for row in rows))
        self.everything = rows
        self.rows = [row for row in rows if row["run_id"] in self.runs]

    @classmethod
    def of(cls, folder: Path, runs: Iterable[str] | None = None) -> Raw:
        rows = [row for file in sorted(folder.rglob("*.parquet")) for row in parquet.read_table(file).to_pylist()]
        return cls(rows, runs)

    @cached_property
    def drifted(self) -> set[tuple[Any, ...]]:
        """Processes whose control case took another time after the cases than before."""
        sides: dict[tuple[Any, ...], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for row in self.everything:
            known = row["position"] is not None and row["elapsed_s"] is not None
            if row["role"] == "control" and row["status"] == "ok" and known:
                sides[_process(row)][row["position"] >= 0].append(row["elapsed_s"])
        return {
            key for key, (first, last) in sides.items()
            if first and last and abs(np.median(last) / np.median(first) - 1) > DRIFT
        }  # fmt: skip

    @cached_property
    def timed(self) -> dict[Case, list[Row]]:
        """The timed repetitions of each case, of all runs."""
        found: dict[Case, list[Row]] = defaultdict(list)
        for row in self.everything:
            if row["role"] == "timed" and row["phase"] == "call" and _is_measured(row):
                found[row["run_id"], row["case_id"]].append(row)
        return dict(found)

    @cached_property
    def series(self) -> dict[Case, float]:
        """A series' value in a run: the median of its processes' medians."""
        blocks: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        for rows in self.timed.values():
            for row in rows:
                blocks[row["run_id"], row["series_key"], row["case_id"], row["block"]].append(row["elapsed_s"])
        values: dict[Case, list[float]] = defaultdict(list)
        for (run_id, series_key, *_), times in blocks.items():
            values[run_id, series_key].append(float(np.median(times)))
        return {key: float(np.median(each)) for key, each in values.items()}

    def times(self, case: Case) -> np.ndarray:
        return np.array([row["elapsed_s"] for row in self.timed[case]])

    def processes(self, case: Case, centre: Callable[[list[float]], Any] = np.median) -> list[float]:
        """The median, or mean, of each process."""
        found: dict[Any, list[float]] = defaultdict(list)
        for row in self.timed[case]:
            found[row["block"]].append(row["elapsed_s"])
        return [float(centre(each)) for each in found.values()]

    def fewest_cells(self, case: Case) -> list[int | None]:
        """The fewest cells that each process found; None where it is not known."""
        found: dict[Any, list[int]] = defaultdict(list)
        for row in self.timed[case]:
            found[row["block"]] += [] if row["n_cells"] is None else [row["n_cells"]]
        return [min(each, default=None) for each in found.values()]

    def first(self, case: Case) -> Row:
        return self.timed[case][0]

    def passes(self, case: Case, role: str) -> list[Row]:
        """The good rows of a pass over a case."""
        return [
            row for row in self.everything
            if (row["run_id"], row["case_id"], row["role"], row["status"]) == (*case, role, "ok")
        ]  # fmt: skip


def refuted(raw: Raw, finding: Any, text: str = "") -> list[str]:
    """Why a claim, and the sentence that says it, is false or more than its rows carry; empty if it holds."""
    if lost := [case for case in finding.cases if type(finding).__name__ in TIMED and case not in raw.timed]:
        return [f"rests on {lost}, which nobody timed"]
    reasons = list(CHECKS[type(finding).__name__](raw, finding))
    if found := NEVER.search(text):
        reasons.append(f"says {found[0]!r}")
    if loose := unbacked(finding, text):
        reasons.append(f"says {loose}, which its finding has not")
    if INTERVAL.search(text.replace("\u00a0", " ")) and min(_counts(raw, finding), default=0) < ENOUGH:
        reasons.append("says 95 % of fewer than three processes")
    return reasons


def unbacked(finding: Any, text: str) -> list[str]:
    """The numbers of a sentence that are none of its finding's: in s, percent, calls an hour, or a count."""
    numbers, names = {1.0, 3.0, 5.0, 10.0, 95.0, float(len(finding.cases)), float(len(set(finding.cases)))}, []
    _collect(vars(finding), numbers, names)
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "").replace(name.replace(" px", "\u00a0px"), "")
    counts = [value for value in vars(finding).values() if isinstance(value, int)]
    numbers |= {float(one + other) for one in counts for other in counts}
    numbers |= {
        f(x)
        for x in numbers
        if x
        for f in (
            lambda x: 100 * abs(x),
            lambda x: 100 * abs(x - 1),
            lambda x: 3600 / x,
            lambda x: x / 60,
            lambda x: x / 3600,
            lambda x: x / 86400,
        )
    }
    loose = []
    for token in NUMBER.findall(text):
        decimals = len(token.partition(".")[2])
        if not any(abs(float(token.replace(",", "")) - x) <= 0.5001 * 10**-decimals for x in numbers):
            loose.append(token)
    return loose


def _collect(value: Any, numbers: set[float], names: list[str]) -> None:
    """The numbers and the names in the fields of a finding, at any depth."""
    if isinstance(value, str):
        names.append(str(value))
    elif isinstance(value, int | float) and math.isfinite(value):
        numbers.add(float(value))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _collect(each, numbers, names)
            names += [key] if "cases" not in value and isinstance(key, str) else []
    elif isinstance(value, tuple | list):
        numbers |= {float(value.count(each)) for each in value}
        if value and all(isinstance(each, int | float) for each in value):
            numbers |= {float(len(value)), float(np.median(value))}
        numbers.add(float(len(value) - 3))  # and so many more
        for each in value:
            _collect(each, numbers, names)
    elif hasattr(value, "__dict__"):
        _collect(vars(value), numbers, names)


def unsaid(raw: Raw, cases: Iterable[Case], notes: Iterable[Any]) -> list[str]:
    """What a reader had to be told of these cases: simulated, without cells, flagged from the first to the last."""
    cases, answer = list(cases), {str(note.kind): set(note.cases) for note in notes}
    must = {
        kind: {case for case in cases if all(holds(raw, [row]) for row in raw.timed[case])}
        for kind, holds in NOTES.items()
        if kind in ("simulated", "no cells", "all flagged", "synthetic", "imported")
    }
    return [
        f"{kind} of {having - answer.get(kind, set())}"
        for kind, having in must.items()
        if having - answer.get(kind, set())
    ]


# ---------------------------------------------------------------- times, ratios, ranks


def _time(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    times = raw.times(case)
    yield from _near("median", finding.known.value, float(np.median(times)))
    yield from _near("shortest", finding.known.least, times.min())
    yield from _near("longest", finding.known.most, times.max())
    yield from _evidence(finding.known, [raw.processes(case)], [len(times)])
    yield from _size(finding.size, raw.timed[case])


PROCESS = ("run_id", "node", "device", "engine", "model")


def _batch(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    times, means = raw.times(case), raw.processes(case, np.mean)
    logs = np.log(means)
    yield from _near("mean", finding.known.value, math.exp(logs.mean()))
    yield from _near("shortest", finding.known.least, times.min())
    yield from _near("longest", finding.known.most, times.max())
    yield from _evidence(finding.known, [means], [len(times)])
    yield from _size(finding.size, raw.timed[case])
    if finding.known.low is not None:  # of one further process, not of their mean
        reach = t_quantile(len(logs) - 1) * logs.std(ddof=1) * math.sqrt(1 + 1 / len(logs))
        yield from _at_least_as_wide(
            (finding.known.low, finding.known.high), (logs.mean() - reach, logs.mean() + reach)
        )
    place = _values(raw.first(case), PROCESS)
    phases: dict[Any, list[float]] = defaultdict(list)
    for row in raw.everything:
        is_start = row["role"] == "cold" and row["phase"] != "call" and row["status"] == "ok"
        if is_start and _values(row, PROCESS) == place:
            phases[row["block"]].append(math.nan if row["elapsed_s"] is None else row["elapsed_s"])
    starts = [sum(each) for each in phases.values() if math.isfinite(sum(each))]
    if bool(starts) != (finding.start_s is not None):
        yield f"has the start {finding.start_s}, and {len(starts)} were measured"
    start_s = float(np.median(starts)) if starts else 0.0
    known = finding.known
    ends = (known.least, known.most) if known.low is None else (known.low, known.high)
    for what, total_s, image_s in zip(
        ("total", "least", "most"), (finding.total_s, finding.low_s, finding.high_s), (known.value, *ends), strict=True
    ):
        yield from _near(what, total_s, start_s + finding.n_images * image_s)


def _span(raw: Raw, finding: Any) -> Reasons:
    rows = [raw.first(case) for case in finding.cases]
    if _differ(rows, *(name for name in WORK if finding.ends or name not in ("height_px", "width_px"))):
        yield "puts different work into one sentence"
    if finding.ends is None:
        return
    for end in finding.ends:
        yield from _time(raw, end)
    medians = [float(np.median(raw.times(case))) for case in finding.cases]
    yield from _near("shortest median", finding.ends[0].known.value, min(medians))
    yield from _near("longest median", finding.ends[1].known.value, max(medians))
    yield from _equal("devices", finding.n_devices, len({(_machine(row), *_values(row, PLACE)) for row in rows}))
    yield from _equal("machines", finding.n_machines, len(set(map(_machine, rows))))


def _speedup(raw: Raw, finding: Any) -> Reasons:
    gpu, cpu = finding.cases
    rows = raw.first(gpu), raw.first(cpu)
    if different := _differ(rows, *WORK, *NOT_DEVICE):
        yield f"divides times that differ in {different}"
    if rows[1]["backend"] != "cpu" or rows[0]["backend"] == "cpu":
        yield "is not of an accelerator over a CPU"
    fast, slow = raw.times(gpu), raw.times(cpu)
    yield from _near("speed-up", finding.known.value, float(np.median(slow) / np.median(fast)))
    yield from _near("time", finding.time_s, float(np.median(fast)))
    yield from _near("CPU's time", finding.cpu_s, float(np.median(slow)))
    yield from _near("smallest", finding.known.least, slow.min() / fast.max())
    yield from _near("largest", finding.known.most, slow.max() / fast.min())
    yield from _evidence(finding.known, [raw.processes(cpu), raw.processes(gpu)], [len(fast), len(slow)])
    yield from _size(finding.size, raw.timed[gpu])


HARDWARE = ("backend", "device_name", "variant", "batch_size", "dtype")


def _hardware_time(raw: Raw, finding: Any) -> Reasons:
    rows = [raw.first(case) for case in finding.cases]
    if different := _differ(rows, *WORK, *HARDWARE):
        yield f"puts cases together that differ in {different}"
    medians = [float(np.median(raw.times(case))) for case in finding.cases]
    yield from _ends(medians, finding.least_s, finding.middle_s, finding.most_s)
    yield from _equal("machines", finding.n_machines, len({row["node"] for row in rows}))
    yield from _size(finding.size, rows)


def _hardware_speedup(raw: Raw, finding: Any) -> Reasons:
    ratios = []
    for gpu, cpu in zip(finding.cases[::2], finding.cases[1::2], strict=True):
        rows = raw.first(gpu), raw.first(cpu)
        if different := _differ(rows, *WORK, *NOT_DEVICE):
            yield f"divides times that differ in {different}"
        if rows[1]["backend"] != "cpu" or rows[0]["backend"] == "cpu":
            yield "is not of an accelerator over a CPU"
        ratios.append(float(np.median(raw.times(cpu)) / np.median(raw.times(gpu))))
    rows = [raw.first(case) for case in finding.cases[::2]]
    if different := _differ(rows, *WORK, *HARDWARE):
        yield f"puts cases together that differ in {different}"
    yield from _ends(ratios, finding.least, finding.middle, finding.most)
    yield from _equal("machines", finding.n_machines, len({row["node"] for row in rows}))
    yield from _size(finding.size, rows)


def _ends(values: Sequence[float], least: float, middle: float, most: float) -> Reasons:
    yield from _near("smallest", least, min(values))
    yield from _near("middle", middle, float(np.median(values)))
    yield from _near("largest", most, max(values))


def _model_cost(raw: Raw, finding: Any) -> Reasons:
    one, other = finding.cases
    rows = raw.first(one), raw.first(other)
    alike = ("image_sha256", "height_px", "width_px", "protocol", "node", "device", "torch_version")
    if different := _differ(rows, *alike):
        yield f"divides times that differ in {different}"
    yield from _equal("models", (finding.model, finding.default), tuple(row["model"] for row in rows))
    above, below = raw.times(one), raw.times(other)
    yield from _near("ratio", finding.known.value, float(np.median(above) / np.median(below)))
    yield from _near("time", finding.time_s, float(np.median(above)))
    yield from _near("default's time", finding.default_s, float(np.median(below)))
    yield from _near("smallest", finding.known.least, above.min() / below.max())
    yield from _near("largest", finding.known.most, above.max() / below.min())
    yield from _evidence(finding.known, [raw.processes(one), raw.processes(other)], [len(above), len(below)])
    yield from _size(finding.size, raw.timed[one])


def _accuracy(raw: Raw, finding: Any) -> Reasons:
    names = ("truth_n_cells", "n_cells", "truth_ap50", "truth_ap75", "truth_ap90", "truth_f1")
    output = (finding.n_drawn, finding.n_found, finding.ap50, finding.ap75, finding.ap90, finding.f1)
    found = [tuple(row[name] for name in names) for row in raw.rows if row["role"] == "masks"]
    if output not in found:
        yield f"has the accuracy {output}, which no comparison gave"


def _no_accuracy(raw: Raw, finding: Any) -> Reasons:
    yield from _equal("stand-in", finding.has_standin, any(row["weights"] == "standin" for row in raw.rows))


def _growth(raw: Raw, finding: Any) -> Reasons:
    rows = [raw.first(case) for case in finding.cases]
    if _differ(rows, *(name for name in WORK if name not in ("height_px", "width_px", "diameter_asked_px"))):
        yield "is a law of different work"
    if len({(row["height_px"], row["width_px"]) for row in rows}) < 5:
        yield "is a law of fewer than five sizes"
    if min(len(raw.processes(case)) for case in finding.cases) < ENOUGH:
        yield "is a law that nobody could test: fewer than three processes"
    if min(finding.coefficients) < 0 or not any(finding.coefficients[1:]):
        yield "is a law whose times do not grow"


def _by_size(raw: Raw, finding: Any) -> Reasons:
    pairs = sorted(
        zip(finding.cases[::2], finding.cases[1::2], strict=True), key=lambda each: _pixels(raw.first(each[0]))
    )
    for gpu, cpu in pairs:
        if different := _differ((raw.first(gpu), raw.first(cpu)), *WORK, *NOT_DEVICE):
            yield f"divides times that differ in {different}"
    lengths = [math.sqrt(_pixels(raw.first(gpu))) for gpu, _ in pairs]
    if not np.allclose(lengths, finding.lengths_px):
        yield f"is of sizes {finding.lengths_px}, and {lengths} were measured"
    fewest = min(len(raw.processes(case)) for case in finding.cases)
    yield from _equal("processes", finding.n_processes, fewest)
    gains = [_log(raw.processes(cpu)[:fewest]) - _log(raw.processes(gpu)[:fewest]) for gpu, cpu in pairs]
    word, slower, faster = finding.trend.word, finding.crossing.slower_to_px, finding.crossing.faster_from_px
    if (word != "unknown" or slower or faster) and fewest < ENOUGH:
        yield "tells how a speed-up goes on from fewer than three processes"
    if word != "unknown" and len(pairs) < 3:
        yield "tells how a speed-up goes on from two sizes"
    if word in ("still rising", "falling") and (gains[-1] > gains[-3]) != (word == "still rising"):
        yield f"is {word}, and it is not"
    if finding.trend.change is not None:
        [first] = [
            gain for length, gain in zip(lengths, gains, strict=True) if round(length - finding.trend.from_px) == 0
        ]
        yield from _near("change", finding.trend.change[0], math.exp(gains[-1] - first))
        if not finding.trend.change[1] <= finding.trend.change[0] <= finding.trend.change[2]:
            yield "has a change without an interval"
    if word == "flat":
        inside = [gain for length, gain in zip(lengths, gains, strict=True) if length >= finding.trend.from_px - 1]
        if max(abs(gain - gains[-1]) for gain in inside) > math.log(1.1):
            yield "is flat, and changes by more than 10 %"
    if faster and any(gain <= 0 for length, gain in zip(lengths, gains, strict=True) if length >= faster - 1):
        yield f"is faster from {faster} px on, and is not"
    if slower and gains[int(np.argmin(np.abs(np.array(lengths) - slower)))] >= 0:
        yield f"is slower at {slower} px, and is not"


def _elsewhere(_: Raw, finding: Any) -> Reasons:
    rows = list(csv.DictReader(PUBLISHED.read_text().splitlines()))
    times = {(row["machine"], row["backend"], row["height_px"], row["width_px"]): float(row["mean_s"]) for row in rows}
    ratios: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["backend"] != "cpu":
            cpu_s = times[row["machine"], "cpu", row["height_px"], row["width_px"]]
            ratios[f"{row['device_name']}, {row['backend'].upper()} (published)"].append(cpu_s / float(row["mean_s"]))
    yield from _near("least", finding.least, min(ratios[finding.device]))
    yield from _near("most", finding.most, max(ratios[finding.device]))


def _same_hardware(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    own, times = raw.first(case), raw.times(case)
    yield from _near("own median", finding.own_s, float(np.median(times)))
    yield from _equal("own calls", finding.own_n, len(times))
    yield from _size(finding.size, raw.timed[case])
    columns = [*(name for name in WORK if name != "source"), "variant", "batch_size", "dtype", "backend", "device_name"]
    if own["backend"] == "cpu":
        columns += (facts := ["torch_threads", "n_cores", "instruction_set"])
        if lacking := [name for name in facts if own[name] is None]:
            yield f"cannot know that the CPU is the same without {lacking}"
    theirs, mine = Raw.of(REFERENCE), {row["run_id"] for row in raw.everything}
    runs: dict[str, list[float]] = defaultdict(list)
    for (run_id, _), rows in theirs.timed.items():
        if run_id not in mine and _values(rows[0], columns) == _values(own, columns):
            runs[run_id] += [row["elapsed_s"] for row in rows]
    every = [each for of_run in runs.values() for each in of_run]
    submitters = {run_id if re.search(r"-[0-9a-f]{12}$", run_id) else "maintainers" for run_id in runs}
    yield from _equal("submitters", finding.n_submitters, len(submitters))
    yield from _equal("calls and runs of others", (finding.n, finding.n_runs), (len(every), len(runs)))
    if every:
        yield from _near("of others", finding.value_s, float(np.median([np.median(each) for each in runs.values()])))
        yield from _near("shortest of others", finding.least_s, min(every))
        yield from _near("longest of others", finding.most_s, max(every))


def _fastest(raw: Raw, finding: Any) -> Reasons:
    rows = [raw.first(case) for case in finding.cases]
    if different := _differ(rows, *WORK):
        yield f"ranks times that differ in {different}"
    yield from _equal("devices", finding.n_devices, len(finding.cases))
    fewest = min(len(raw.processes(case)) for case in finding.cases)
    yield from _equal("processes", finding.n_processes, fewest)
    best = min(finding.cases, key=lambda case: np.median(raw.times(case)))
    if len(finding.devices) != 1 or finding.n_devices == 1:
        return
    sole = min(finding.cases, key=lambda case: _log(raw.processes(case)))
    if fewest < ENOUGH:
        yield "names the fastest of devices with fewer than three processes"
        return
    if f"({raw.first(sole)['device']}" not in finding.devices[0]:
        yield f"names {finding.devices[0]}, and {raw.first(best)['device']} is the fastest"
    for case in finding.cases:
        if case != sole and _may_be_as_fast(raw.processes(sole), raw.processes(case)):
            yield f"names one fastest, which {raw.first(case)['device']} may be as well"


# ---------------------------------------------------------------- masks


def _same_masks(raw: Raw, finding: Any) -> Reasons:
    crops: dict[tuple[Any, ...], list[Case]] = defaultdict(list)
    for case in finding.cases:
        crops[_values(raw.first(case), (*WORK, "crop", "variant", "dtype"))].append(case)
    found = {"same": 0, "differing": 0, "blank": 0}
    for cases in crops.values():
        if len({_values(raw.first(case), PLACE) for case in cases}) < 2:
            yield "counts a crop that one device segmented"
        rows = [row for case in cases for row in raw.timed[case]]
        hashes = {row["mask_sha256"] for row in rows} - {None}
        blank = all(min((_cells(row) for row in raw.timed[case]), default=1) == 0 for case in cases)
        found["differing" if len(hashes) > 1 else "blank" if blank else "same"] += 1
    yield from _equal("the same", finding.n_same, found["same"])
    yield from _equal("differing", finding.n_differing, found["differing"])
    yield from _equal("blank", finding.n_blank, found["blank"])


def _agreement(raw: Raw, finding: Any) -> Reasons:
    for case, word in zip(finding.cases, finding.words, strict=True):
        runs: dict[str, list[Row]] = defaultdict(list)
        for row in raw.rows:
            if (row["role"], row["status"], row["case_id"], row["repetition"]) == ("masks", "ok", case[1], 0):
                runs[row["run_id"]] += [row] if row["agreement"] else []
        found = [min(rows, key=_place_of_word) for rows in runs.values() if rows]
        words = {
            "without cells" if row["n_cells"] == row["reference_n_cells"] == 0 else row["agreement"] for row in found
        }
        if word not in words:
            yield f"calls the masks of {case} {word}, and they are {words}"


def _place_of_word(row: Row) -> int:
    return WORST_FIRST.index(row["agreement"]) if row["agreement"] in WORST_FIRST else -1


# ---------------------------------------------------------------- history


def _change(raw: Raw, finding: Any) -> Reasons:
    pairs = list(zip(finding.cases[::2], finding.cases[1::2], strict=True))
    if any(then[1] != now[1] or then[0] >= now[0] for then, now in pairs):
        yield "compares other series, or runs in the wrong order"
    ratios = sorted(raw.series[now] / raw.series[then] for then, now in pairs)
    if not np.allclose(ratios, finding.ratios):
        yield f"changes are {ratios}"
    yield from _equal("runs", set(finding.runs), {then[0] for then, _ in pairs})
    for name, before, now in finding.versions:
        known = [{row[f"{name}_version"] for rows in raw.timed.values() for row in rows
                  if (row["run_id"], row["series_key"]) in keys} for keys in zip(*pairs, strict=True)]  # fmt: skip
        if before not in known[0] or now not in known[1]:
            yield f"{name} was not {before} and then {now}"


def _judged(raw: Raw, finding: Any) -> Reasons:
    yield from _equal("series", sum(finding.states.values()), len(set(finding.cases)))
    runs: dict[str, set[str]] = defaultdict(set)
    for run_id, series_key in raw.series:
        runs[series_key].add(run_id)
    long = sum(len({run for run in runs[key] if run <= last}) >= 5 for last, key in finding.cases)
    if sum(n for state, n in finding.states.items() if state != "learning") > long:
        yield "judges series of fewer than five runs"


# ---------------------------------------------------------------- what would be faster


def _winner(raw: Raw, finding: Any) -> Reasons:
    if finding.variant is None:
        return
    rows = [row for case in finding.cases for row in raw.passes(case, "tune") if _is_measured(row)]
    calls = {(row["block"], row["variant"], row["repetition"]): row["elapsed_s"] for row in rows}
    logs = []
    for block in finding.blocks:
        rounds = [n for at, variant, n in calls if (at, variant) == (block, finding.variant)]
        both = [n for n in rounds if (block, "stock", n) in calls]
        logs.append(np.median([math.log(calls[block, "stock", n] / calls[block, finding.variant, n]) for n in both]))
    yield from _near("speed-up", finding.times, math.exp(np.mean(logs)))
    if len(logs) < ENOUGH:
        yield "names a winner of fewer than three processes"
    elif finding.low is None or finding.low <= 1:
        yield "names a winner that may be no faster than stock"
    else:
        reach = t_quantile(len(logs) - 1) * np.std(logs, ddof=1) / math.sqrt(len(logs))
        yield from _at_least_as_wide((finding.low, finding.high), (np.mean(logs) - reach, np.mean(logs) + reach))
    places = {_values(row, ("run_id", "node", "device")) for row in rows}
    words = {
        row["agreement"]
        for row in raw.rows
        if (row["role"], row["status"], row["variant"]) == ("masks", "ok", finding.variant)
        and _values(row, ("run_id", "node", "device")) in places
        and not row["n_cells"] == row["reference_n_cells"] == 0
    }
    if not words - {None} or not words <= {"identical", "equivalent", None}:
        yield f"names a winner whose masks are {words}"


def _share(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    parts, n = _parts(raw, case)
    total = sum(parts.values())
    is_of: dict[str, Callable[[str, str], bool]] = {
        "estimation": lambda name, _: name in ("style", "size"),
        "qc": lambda _, stage: stage == "qc",
        "network": lambda _, stage: stage == "network",
    }
    rows = raw.passes(case, "stages")  # where some lack the size, which of them are read is chance
    if (which := is_of.get(str(finding.part))) and all(row["height_px"] and row["width_px"] for row in rows):
        share = sum(s for key, s in parts.items() if which(*key)) / total
        yield from _near("share", finding.share, share)
    if not 0 < finding.share <= 1 + 1e-9:
        yield "is no share"
    yield from _equal("calls", finding.n, n)


def _network(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    rows = [row for row in raw.passes(case, "stages") if row["stage"] == "network" and row["phase"] == "stage"]
    if not rows:
        yield "tells the rate of a network that was not measured"
        return
    most: dict[str, dict[Any, float]] = {"gflop": defaultdict(float), "gb": defaultdict(float)}
    for row in rows:
        for unit, of_pass in most.items():
            of_pass[row["stage_pass"]] = max(of_pass[row["stage_pass"]], row[f"work_{unit}"] or 0.0)
    parts = {name: time_s for (name, stage), time_s in _parts(raw, case)[0].items() if stage == "network"}
    known = [name for name in parts if most["gflop"][name]]
    time_s, work = (
        sum(parts[name] for name in known),
        {unit: sum(of[name] for name in known) for unit, of in most.items()},
    )
    yield from _near("rate", finding.gflop_s, work["gflop"] / time_s)
    if finding.fraction is not None:
        place = itemgetter("run_id", "node", "device", "dtype")
        best = {"gflop": 0.0, "gb": 0.0}
        for row in raw.everything:
            if row["role"] == "ceiling" and place(row) == place(rows[0]) and _is_measured(row):
                unit = "gb" if row["phase"] == "copy" else "gflop"
                best[unit] = max(best[unit], (row[f"work_{unit}"] or 0.0) / row["elapsed_s"])
        floor_s = max(work[unit] / rate if rate else math.inf for unit, rate in best.items())
        yield from _near("share of the ceiling", finding.fraction, floor_s / time_s)


def _attributed(raw: Raw, finding: Any) -> Reasons:
    [case] = finding.cases
    parts, _ = _parts(raw, case)
    yield from _near("share", finding.share, 1 - parts.get(("none", "other"), 0.0) / sum(parts.values()))


def _parts(raw: Raw, case: Case) -> tuple[dict[tuple[str, str], float], int]:
    """The median of each pass and stage over the calls of a stage pass, and how many calls there were."""
    rows = raw.passes(case, "stages")
    calls: dict[tuple[str, str], dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row["phase"] == "stage" and row["elapsed_s"] is not None and math.isfinite(row["elapsed_s"]):
            key = row["stage_pass"], row["stage"]
            calls[key][row["repetition"]] += row["elapsed_s"]
    n = sum(row["phase"] == "call" and _is_measured(row) for row in rows)
    return {key: float(np.median(list(each.values()))) for key, each in calls.items()}, n


# ---------------------------------------------------------------- notes


def _note(raw: Raw, finding: Any) -> Reasons:
    kind = str(finding.kind)
    if kind == "failed":
        yield from _equal("failures", finding.n, sum(row["status"] not in ("ok", "skipped") for row in raw.rows))
        return
    if kind == "unlike":
        pairs = list(zip(finding.cases[::2], finding.cases[1::2], strict=True))
        yield from _equal("cases", finding.n, len(pairs))
        for case, cpu in pairs:
            fewest = [
                min(row["n_cells"] for row in raw.timed[each] if row["n_cells"] is not None) for each in (case, cpu)
            ]
            if fewest[0] == fewest[1]:
                yield "tells apart numbers of cells that are the same"
        return
    yield from _equal("cases", finding.n, len(set(finding.cases)))
    if finding.n > finding.of:
        yield "is of more cases than there are"
    for case in finding.cases:
        if not NOTES[kind](raw, raw.timed[case]):
            yield f"is not so for {case}"


NOTES: dict[str, Callable[[Raw, list[Row]], bool]] = {
    "simulated": lambda _, rows: any(row["workload"] == "simulated" for row in rows),
    "custom": lambda _, rows: any(row["weights"] not in ("published", "standin", "none") for row in rows),
    "standin": lambda _, rows: any(row["weights"] == "standin" for row in rows),
    "synthetic": lambda _, rows: any(row["image_is_synthetic"] for row in rows),
    "imported": lambda _, rows: any(row["source"] != "measured" for row in rows),
    "all flagged": lambda raw, rows: all(row["flags"] or _process(row) in raw.drifted for row in rows),
    "no cells": lambda _, rows: any(row["n_cells"] == 0 for row in rows),
    "few": lambda _, rows: len(rows) < 5,
    "unstable": lambda _, rows: len({row["mask_sha256"] for row in rows} - {None}) > 1,
    **{
        reason: lambda _, rows, reason=reason: any(row["stop_reason"] == reason for row in rows)
        for reason in ("precision", "plateau", "n_max", "time_cap")
    },
}

# ---------------------------------------------------------------- compare, alarms, differences

VARIED = ("variant", "batch_size", "dtype", "torch_threads")  # what a comparison may be about, besides the hardware


def _compared(raw: Raw, finding: Any) -> Reasons:
    """A case of `compare`; its cases are those of A and those of B."""
    sides = [[raw.first(case) for case in cases] for cases in finding.cases]
    processes = [[time for case in cases for time in raw.processes(case)] for cases in finding.cases]
    for output, times in zip((finding.a_s, finding.b_s), processes, strict=True):
        if times:
            yield from _near("median", output, float(np.median(times)))
    hashes = [{row["mask_sha256"] for case in cases for row in raw.timed[case]} - {None} for cases in finding.cases]
    has_cells = any(fewest != 0 for cases in finding.cases for case in cases for fewest in raw.fewest_cells(case))
    same = hashes[0] == hashes[1] if all(hashes) and has_cells else None
    yield from _equal("same masks", finding.same_masks, same)
    found = finding.found
    if found is None:
        return
    if different := _differ((*sides[0], *sides[1]), *WORK):
        yield f"divides times that differ in {different}"
    runs = [{case[0] for case in cases} for cases in finding.cases]
    if not runs[0] & runs[1] and all(len(each) == 1 for each in runs):
        a, b = processes
        yield from _near("ratio", found.ratio, math.exp(_log(b) - _log(a)))
    keys = {row["series_key"] for side in sides for row in side}
    others = {run for run, key in raw.series if key in keys} - runs[0] - runs[1]
    judged = finding.verdict in ("FASTER", "SLOWER", "SAME")
    if judged and not runs[0] & runs[1] and len(runs[0]) + len(runs[1]) + len(others) < 2 * ENOUGH:
        yield f"says {finding.verdict} of single runs without a history"
    if judged and runs[0] == runs[1] and min(map(len, processes)) < ENOUGH:
        yield f"says {finding.verdict} of fewer than three processes"
    if judged and found.low is None:
        yield f"says {finding.verdict} without an interval"
    wrong = {"FASTER": found.ratio >= 1, "SLOWER": found.ratio <= 1}
    if wrong.get(finding.verdict):
        yield f"says {finding.verdict} of a ratio of {found.ratio}"
    if finding.verdict == "SAME" and found.low is not None and not 1 / 1.05 <= found.low <= found.high <= 1.05:
        yield f"says SAME of {found.low} to {found.high}"


def alarm(raw: Raw, finding: Any) -> list[str]:
    """Why an alarm or a suspicion about times is false."""
    series = finding.series
    runs = sorted(run for run, key in raw.series if key == series.key)
    values = [raw.series[run, series.key] for run in runs]
    reasons = [*_near("value", finding.value, values[-1])]
    began = runs.index(finding.began)
    reasons += _near("value before", finding.before, values[began - 1])
    if len(values) < 6:
        reasons.append("judges a series of fewer than six runs")
    if finding.usual and (finding.value > finding.usual) != (finding.word == "slower"):
        reasons.append(f"says {finding.word}, and it is not")
    if finding.confirmed and runs.index(finding.confirmed) <= began:
        reasons.append("is confirmed by the run that began it")
    return reasons


def difference(raw: Raw, column: str, finding: Any) -> list[str]:
    """Why a fact of `what differs` is false; finding: its values with their places."""
    known: dict[str, set[str]] = defaultdict(set)
    for row in raw.rows:
        if row[column] is not None and row["image"] != "control":
            known[str(row[column])].add(f"{row['node']} · {row['device']}")
    reasons = [f"{column} is {value!r} at {places}" for value, places in finding.values.items()
               if not set(places) <= known.get(value, set())]  # fmt: skip
    return [*reasons, *_equal("differs", finding.differs, len(known) > 1)]


CHECKS: Mapping[str, Callable[[Raw, Any], Reasons]] = {
    "Time": _time, "Span": _span, "Speedup": _speedup, "Growth": _growth, "BySize": _by_size, "Elsewhere": _elsewhere,
    "Fastest": _fastest, "SameMasks": _same_masks, "Agreement": _agreement, "Change": _change, "Judged": _judged,
    "Compared": _compared, "Winner": _winner, "Share": _share, "Network": _network, "Attributed": _attributed,
    "Note": _note, "Batch": _batch, "ModelCost": _model_cost, "Accuracy": _accuracy, "NoAccuracy": _no_accuracy,
    "SameHardware": _same_hardware, "HardwareTime": _hardware_time, "HardwareSpeedup": _hardware_speedup,
}  # fmt: skip
TIMED = (
    "Time",
    "HardwareTime",
    "HardwareSpeedup",
    "SameHardware",
    "Batch",
    "Span",
    "Speedup",
    "Growth",
    "BySize",
    "Fastest",
    "SameMasks",
    "Agreement",
    "Note",
)


# ---------------------------------------------------------------- arithmetic


def t_quantile(freedom: float, p: float = 0.975) -> float:
    """Student's t, by adding up its density: t = √freedom · tan θ makes that cos^(freedom − 1) θ."""
    theta = np.linspace(-math.pi / 2, math.pi / 2, 200_001)[1:-1]
    cumulated = np.cumsum(np.cos(theta) ** (freedom - 1))
    return math.sqrt(freedom) * math.tan(float(np.interp(p, cumulated / cumulated[-1], theta)))


def _may_be_as_fast(fast: Sequence[float], slow: Sequence[float]) -> bool:
    """Whether Welch's test, one-sided at 5 %, does not show the first to be faster."""
    logs = [np.log(each) for each in (fast, slow)]
    parts = [side.var(ddof=1) / len(side) for side in logs]
    shift = float(logs[1].mean() - logs[0].mean())
    if not sum(parts):
        return shift <= 0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    return shift < t_quantile(freedom, 0.95) * math.sqrt(sum(parts))


def _evidence(known: Any, processes: Sequence[Sequence[float]], calls: Sequence[int]) -> Reasons:
    """n and processes of the side with fewest; an interval takes three processes and is as wide as Student's."""
    fewest = min(map(len, processes))
    yield from _equal("n", known.n, min(calls))
    yield from _equal("processes", known.n_processes, fewest)
    if known.low is None:
        return
    if fewest < ENOUGH:
        yield "has a 95 % interval of fewer than three processes"
        return
    logs = [np.log(each) for each in processes]
    parts = [side.var(ddof=1) / len(side) for side in logs]
    freedom = sum(parts) ** 2 / (sum(p**2 / (len(s) - 1) for p, s in zip(parts, logs, strict=True)) or 1) or 1.0
    centre = logs[0].mean() - (logs[1].mean() if len(logs) > 1 else 0.0)
    reach = t_quantile(freedom) * math.sqrt(sum(parts))
    yield from _at_least_as_wide((known.low, known.high), (centre - reach, centre + reach))


def _at_least_as_wide(output: tuple[float, float], logs: tuple[float, float]) -> Reasons:
    low, high = (math.exp(each) for each in logs)
    if output[0] > low * 1.001 or output[1] < high * 0.999:
        yield f"has the interval {output}, and Student's is {(low, high)}"


def _near(what: str, output: float, found: float) -> Reasons:
    if not math.isclose(output, found, rel_tol=1e-9, abs_tol=1e-12):
        yield f"{what}: {output}, and the rows give {found}"


def _equal(what: str, output: Any, found: Any) -> Reasons:
    if output != found:
        yield f"{what}: {output}, and the rows give {found}"


def _size(output: str, rows: Sequence[Row]) -> Reasons:
    names = {"full image" if row["crop"] == "full" else row["crop"] or "" for row in rows}
    names |= {f"{row['height_px']} × {row['width_px']}" for row in rows}
    if not any(name and name in output for name in names):
        yield f"is of {names}, not of {output}"


def _counts(raw: Raw, finding: Any) -> list[int]:
    """How many processes stand behind each case of a finding."""
    if type(finding).__name__ == "Winner":
        return [len(finding.blocks)]
    return [len(raw.processes(case)) for case in finding.cases if case in raw.timed]


def _log(times: Sequence[float]) -> float:
    return float(np.log(times).mean())


def _is_measured(row: Row) -> bool:
    time_s = row["elapsed_s"]
    return row["status"] == "ok" and time_s is not None and math.isfinite(time_s) and time_s > 0


def _process(row: Row) -> tuple[Any, ...]:
    return _values(row, ("run_id", "node", "device", "engine", "model", "block"))


def _value(row: Row, column: str) -> Any:
    if column == "image":
        return row["image_sha256"] or row["image"]
    value = row[column]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _values(row: Row, columns: Iterable[str]) -> tuple[Any, ...]:
    return tuple(_value(row, column) for column in columns)


def _differ(rows: Iterable[Row], *columns: str) -> list[str]:
    rows = list(rows)
    return [column for column in columns if len({str(_value(row, column)) for row in rows}) > 1]


def _machine(row: Row) -> Any:
    return row["machine_id"] or row["node"]


def _pixels(row: Row) -> int:
    return row["height_px"] * row["width_px"]


def _cells(row: Row) -> int:
    return 1 if row["n_cells"] is None else row["n_cells"]

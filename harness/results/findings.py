"""Claims about results: typed findings, each with its numbers and the cases that it rests on.

results.sentences has their words; results.answers finds those of a scope, of_cases those of a table of medians.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.results.formatting import Row, model_name
from harness.stats.intervals import Interval
from harness.stats.trend import Crossing, Trend

Case = tuple[str, str]  # run_id, case_id
BLANK = "without cells"  # of either side, so the agreement proves nothing
FEW = 5  # repetitions; the article used as many


@dataclass(frozen=True)
class Finding:
    """A claim. cases: those whose rows it is computed from."""

    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Time(Finding):
    """The median of a series at one size. known: with its interval or range, n and processes."""

    series: str
    size: str
    known: Interval


@dataclass(frozen=True)
class Batch(Time):
    """How long n_images of one size take in one process, with its start-up.

    known: the mean of its calls. low_s, high_s: from its prediction interval, or from the range of single calls where
    there is none. start_s: None where unknown.
    """

    n_images: int
    start_s: float | None
    total_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True)
class Span(Finding):
    """The shortest and the longest median among devices at a size that all have; None where they have none."""

    n_devices: int
    n_machines: int
    ends: tuple[Time, Time] | None


@dataclass(frozen=True)
class Speedup(Finding):
    """An accelerator's speed-up over the CPU of its machine. cases: the accelerator's and the CPU's.

    node: empty where there is only one.
    """

    node: str
    device: str
    size: str
    known: Interval
    time_s: float
    cpu_s: float


@dataclass(frozen=True)
class HardwareTime(Finding):
    """The smallest, the middle and the largest of the medians of machines with the same hardware, at one size."""

    hardware: str
    size: str
    n_machines: int
    least_s: float
    middle_s: float
    most_s: float


@dataclass(frozen=True)
class HardwareSpeedup(Finding):
    """The speed-ups of the same accelerator in many machines, each over its CPU.

    cases: of each machine, the accelerator's and the CPU's.
    """

    hardware: str
    size: str
    n_machines: int
    least: float
    middle: float
    most: float


@dataclass(frozen=True)
class ModelCost(Finding):
    """The time of another model over that of the default one on the same device."""

    device: str
    model: str
    default: str
    size: str
    known: Interval
    time_s: float
    default_s: float


@dataclass(frozen=True)
class Accuracy(Finding):
    """The accuracy of a model on drawn cells: average precision at three IoU, F1 at 0.5."""

    series: str
    size: str
    n_drawn: int
    n_found: int
    ap50: float
    ap75: float
    ap90: float
    f1: float


@dataclass(frozen=True)
class NoAccuracy(Finding):
    """The reason why accuracy is unknown. has_standin: stand-in weights, or else no comparison with drawn cells."""

    has_standin: bool


@dataclass(frozen=True)
class Growth(Finding):
    """A scaling law that passed its test: s a call, a tile and a megapixel."""

    series: str
    coefficients: tuple[float, float, float]
    relative_error: float


@dataclass(frozen=True)
class BySize(Finding):
    """The change of a speed-up with size, among the sizes measured, in px."""

    device: str
    lengths_px: tuple[float, ...]
    n_processes: int
    trend: Trend
    crossing: Crossing


@dataclass(frozen=True)
class Elsewhere(Finding):
    """A published speed-up of an accelerator: the smallest and the largest over its sizes."""

    device: str
    least: float
    most: float


@dataclass(frozen=True)
class SameHardware(Finding):
    """A case compared with the same work on other machines with the same hardware. cases: one's own.

    own_s: its median, of own_n calls. value_s: the median of the others' runs. least_s, most_s: the range of their n
    calls. n_submitters: of those runs; the maintainers are one.
    """

    hardware: str
    size: str
    own_s: float
    own_n: int
    value_s: float
    least_s: float
    most_s: float
    n: int
    n_runs: int
    n_submitters: int


@dataclass(frozen=True)
class Fastest(Finding):
    """The devices that may be the fastest of all that did the same work at one size; sole if there is one."""

    size: str
    devices: tuple[str, ...]
    n_devices: int
    n_processes: int  # of the device with fewest


@dataclass(frozen=True)
class SameMasks(Finding):
    """The crops that several devices segmented: the numbers of crops with equal masks, different masks, or no cells."""

    n_same: int
    n_differing: int
    n_blank: int


@dataclass(frozen=True)
class Agreement(Finding):
    """The agreement of each case's masks with those of stock cellpose on the CPU, in its words, or BLANK."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Change(Finding):
    """The change of medians from the run before, as ratios in order. cases: run_id and series_key.

    runs: the runs before. versions: the software that changed: name, before, now.
    """

    runs: tuple[str, ...]
    ratios: tuple[float, ...]
    versions: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Judged(Finding):
    """The verdict of earlier runs about the last one of each series: series by state. cases: run_id and series_key."""

    states: dict[str, int] = field(hash=False)


@dataclass(frozen=True)
class Winner(Finding):
    """The variant that a search proved faster than stock at a place; None where it proved none.

    low, high: the 95 % interval over processes. blocks: the processes of the last race.
    """

    place: str
    variant: str | None = None
    times: float = 1.0
    low: float | None = None
    high: float | None = None
    blocks: tuple[int, ...] = ()
    masks: str = ""


class Part(StrEnum):
    """The share of a call that advice is about."""

    ESTIMATION = "estimation"
    HOST = "host"
    QC = "qc"
    NETWORK = "network"


@dataclass(frozen=True)
class Share(Finding):
    """The share of a part in the calls of a stage pass. n: calls."""

    part: Part
    share: float
    n: int


@dataclass(frozen=True)
class Network(Finding):
    """The network's rate in a stage pass. fraction: of the ceiling `bound`, None where unknown."""

    n_tiles: int
    gflop_s: float
    fraction: float | None
    bound: str


@dataclass(frozen=True)
class Attributed(Finding):
    """The share of a call that has a stage; longer: the pass over the timed median, less 1, where there is one."""

    share: float
    longer: float | None


class Kind(StrEnum):
    """The subject of a note."""

    SIMULATED = "simulated"
    CUSTOM = "custom"
    STANDIN = "standin"
    SYNTHETIC = "synthetic"
    IMPORTED = "imported"
    FAILED = "failed"
    ALL_FLAGGED = "all flagged"
    FEW = "few"
    ONE_PROCESS = "one process"
    NO_CELLS = "no cells"
    UNSTABLE = "unstable"
    UNLIKE = "unlike"
    PRECISION = "precision"
    PLATEAU = "plateau"
    N_MAX = "n_max"
    TIME_CAP = "time_cap"
    PROCESSES = "processes"


@dataclass(frozen=True)
class Note(Finding):
    """A note that readers of some cases need. n: the number of `of` cases with it; words: names in its sentence."""

    kind: Kind
    n: int
    of: int
    words: tuple[str, ...] = ()


def case(row: Row) -> Case:
    """The case of a row."""
    return row["run_id"], row["case_id"]


# Conditions of a case's row in `medians`.
OF_CASE: dict[Kind, Callable[[Row], bool]] = {
    Kind.SIMULATED: lambda row: row["workload"] == "simulated",
    Kind.CUSTOM: lambda row: row["weights"] not in ("published", "standin", "none", "", None),
    Kind.SYNTHETIC: lambda row: bool(row.get("image_is_synthetic")),
    Kind.IMPORTED: lambda row: row["source"] != "measured",
    Kind.ALL_FLAGGED: lambda row: row["n_flagged"] == row["n"],
    Kind.NO_CELLS: lambda row: row["n_cells"] == 0,
    Kind.FEW: lambda row: row["n"] < FEW,
    Kind.UNSTABLE: lambda row: row["n_distinct_masks"] > 1,
}
ENDINGS = (Kind.PRECISION, Kind.PLATEAU, Kind.N_MAX, Kind.TIME_CAP)


def of_cases(rows: Sequence[Row]) -> list[Note]:
    """The notes about these medians that readers need in any table or figure."""
    found = []
    for model in sorted({model_name(row) for row in rows if row["weights"] == "standin"}):
        having = [row for row in rows if row["weights"] == "standin" and model_name(row) == model]
        found.append(_note(Kind.STANDIN, rows, having, (model,)))
    for kind, holds in OF_CASE.items():
        having = [row for row in rows if holds(row)]
        flags = Counter(flag for row in having for flag in (row["flags"] or "").split())
        found.append(_note(kind, rows, having, tuple(sorted(flags)) if kind == Kind.ALL_FLAGGED else ()))
    return [each for each in found if each.n]


def endings(rows: Sequence[Row]) -> list[Note]:
    """The reasons why repetitions ended, where they ended before the requested number."""
    having = {kind: [row for row in rows if kind in (row["stop_reason"] or "").split()] for kind in ENDINGS}
    return [_note(kind, rows, some) for kind, some in having.items() if some]


def _note(kind: Kind, rows: Sequence[Row], having: Sequence[Row], words: tuple[str, ...] = ()) -> Note:
    return Note(tuple(map(case, having)), kind, len(having), len(rows), words)

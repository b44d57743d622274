"""What is claimed of results: typed findings, each with its numbers and the cases whose rows carry it.

results.sentences says them; results.answers finds those of a scope, of_cases those of a table of medians.
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
BLANK = "without cells"  # neither side has any, so that they agree proves nothing
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
class Span(Finding):
    """The shortest and the longest median among devices at a size that all have; None where they have none."""

    n_devices: int
    n_machines: int
    ends: tuple[Time, Time] | None


@dataclass(frozen=True)
class Speedup(Finding):
    """How many times as fast an accelerator is as the CPU of its machine. cases: the accelerator's and the CPU's.

    node: empty where there is only one.
    """

    node: str
    device: str
    size: str
    known: Interval
    time_s: float
    cpu_s: float


@dataclass(frozen=True)
class ModelCost(Finding):
    """How many times as long another model takes as the default one on the same device."""

    device: str
    model: str
    default: str
    size: str
    known: Interval
    time_s: float
    default_s: float


@dataclass(frozen=True)
class Accuracy(Finding):
    """How well a model found the cells that were drawn: average precision at three IoU, F1 at 0.5."""

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
    """Why nothing is said of accuracy. has_standin: weights of our own, or else no comparison with drawn cells."""

    has_standin: bool


@dataclass(frozen=True)
class Growth(Finding):
    """A scaling law that passed its test: s a call, a tile and a megapixel."""

    series: str
    coefficients: tuple[float, float, float]
    relative_error: float


@dataclass(frozen=True)
class BySize(Finding):
    """How a speed-up goes on with size, among the sizes measured, in px."""

    device: str
    lengths_px: tuple[float, ...]
    n_processes: int
    trend: Trend
    crossing: Crossing


@dataclass(frozen=True)
class Elsewhere(Finding):
    """What an article published of an accelerator: the smallest and the largest speed-up over its sizes."""

    device: str
    least: float
    most: float


@dataclass(frozen=True)
class Fastest(Finding):
    """The devices that may be the fastest of all that did the same work at one size; sole if there is one."""

    size: str
    devices: tuple[str, ...]
    n_devices: int
    n_processes: int  # of the device with fewest


@dataclass(frozen=True)
class SameMasks(Finding):
    """Of the crops that several devices segmented: in how many the masks are the same, differ, or have no cells."""

    n_same: int
    n_differing: int
    n_blank: int


@dataclass(frozen=True)
class Agreement(Finding):
    """How the masks of each case agree with those of stock cellpose on the CPU, in its words, or BLANK."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Change(Finding):
    """How medians changed from the run before, as ratios in order. cases: run_id and series_key.

    runs: those before. versions: what software changed: name, before, now.
    """

    runs: tuple[str, ...]
    ratios: tuple[float, ...]
    versions: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Judged(Finding):
    """What the runs before say about the last one of each series: series by state. cases: run_id and series_key."""

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
    """Which share of a call advice is about."""

    ESTIMATION = "estimation"
    HOST = "host"
    QC = "qc"
    NETWORK = "network"


@dataclass(frozen=True)
class Share(Finding):
    """What a part takes of the calls of a stage pass. n: calls."""

    part: Part
    share: float
    n: int


@dataclass(frozen=True)
class Network(Finding):
    """The network's rate in a stage pass. fraction: of the best that the ceiling `bound` allows, if that is known."""

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
    """What a note is about."""

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
    """What a reader must know of some cases. n: how many of `of` cases it holds for; words: names that it needs."""

    kind: Kind
    n: int
    of: int
    words: tuple[str, ...] = ()


def case(row: Row) -> Case:
    """The case of a row."""
    return row["run_id"], row["case_id"]


# What holds for a case, by its row of `medians`.
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
    """What a reader must know of these medians, whatever is done with them."""
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
    """Why repetitions ended, other than because there were as many as asked for."""
    having = {kind: [row for row in rows if kind in (row["stop_reason"] or "").split()] for kind in ENDINGS}
    return [_note(kind, rows, some) for kind, some in having.items() if some]


def _note(kind: Kind, rows: Sequence[Row], having: Sequence[Row], words: tuple[str, ...] = ()) -> Note:
    return Note(tuple(map(case, having)), kind, len(having), len(rows), words)

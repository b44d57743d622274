"""The findings of a scope, by the questions of a report's reader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from harness.query import reference_timings
from harness.results import (
    advice,
    estimates,
    findings,
    history_rows,
    many_machines,
    model_costs,
    ranks,
    reference_set,
    speedups,
    tuning_results,
)  # fmt: skip
from harness.results.findings import (
    Accuracy,
    Agreement,
    Batch,
    BySize,
    Change,
    Elsewhere,
    Fastest,
    Finding,
    Growth,
    Judged,
    Kind,
    ModelCost,
    NoAccuracy,
    Note,
    SameHardware,
    SameMasks,
    Span,
    Speedup,
    Time,
    Winner,
    case,
)
from harness.results.formatting import Row, device_label, model_name, series_namer, short_name, size_label
from harness.results.tables import KIND as WORK
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats.intervals import Interval

# The columns that two medians of one headline must share; the size of the image may differ.
KIND = (*WORK, "variant", "batch_size", "dtype")
N_IMAGES = 500  # of a batch: several plates


def every(tables: Tables) -> list[Finding]:
    """All claims about a scope."""
    of_cases = [*headline(tables), *cautions(tables), *findings.endings(tables.cases)]
    found = [
        each for find in (how_fast, same_hardware, batch, gain, fastest, masks, models, before) for each in find(tables)
    ]
    return [*of_cases, *found, *(each for _, each in faster(tables))]


def headline(tables: Tables) -> list[Finding]:
    """The findings of the headline, about the most frequent kind of work: speed-ups, a span, or times."""
    kinds = Counter(identity.values(row, KIND) for row in tables.cases)
    if not kinds:
        return []
    most = kinds.most_common(1)[0][0]
    rows = [row for row in tables.cases if identity.values(row, KIND) == most]
    nodes = {row["node"] for row in rows}
    chosen = set(map(case, rows))
    gains = [each for each in largest_speedups(tables) if each.cases[0] in chosen]
    if gains and len(nodes) == 1:
        return list(gains)
    name = series_namer(rows)
    by_series = identity.grouped(rows, name)
    if len(by_series) == 1:
        ends = {row["n_pixels"]: row for row in (pick(rows, key=lambda row: row["n_pixels"]) for pick in (min, max))}
        return [_time(tables, row, name(row)) for row in ends.values()]
    common = set.intersection(*({row["n_pixels"] for row in each} for each in by_series.values()))
    at = [row for row in rows if common and row["n_pixels"] == max(common)]
    ends = [pick(at, key=lambda row: row["median_s"]) for pick in (min, max)] if at else []
    times = [_time(tables, row, name(row)) for row in ends]
    cases = tuple(map(case, at or rows))
    devices = {identity.values(row, ("machine_id", *identity.PLACE)) for row in rows}
    machines = {identity.value(row, "machine_id") for row in rows}
    return [Span(cases, len(devices), len(machines), (times[0], times[1]) if times else None)]


def cautions(tables: Tables) -> list[Note]:
    """The notes that a reader needs before the numbers."""
    rows, unlike = tables.cases, [row for row in tables.speedup_rows if _differ(row["n_cells"], row["cpu_n_cells"])]
    found = findings.of_cases(rows)
    if tables.n_failed:
        found.append(Note((), Kind.FAILED, tables.n_failed, tables.n_failed))
    if unlike:
        cases = tuple(each for row in unlike for each in (case(row), (row["run_id"], row["cpu_case_id"])))
        found.append(Note(cases, Kind.UNLIKE, len(unlike), len(tables.speedup_rows)))
    return found


def how_fast(tables: Tables) -> Sequence[Finding]:
    """The time of each series at its largest image, and its growth with size; of many machines, by hardware."""
    return many_machines.times(tables) if many_machines.are_many(tables) else times(tables)


def times(tables: Tables) -> list[Finding]:
    """The time of each series at its largest image, and its growth with size."""
    laws = {each.series: each for each in speedups.laws(tables)}
    found: list[Finding] = []
    for series, rows in identity.grouped(tables.cases, tables.name).items():
        found.append(_time(tables, max(rows, key=lambda row: row["n_pixels"]), series))
        if (known := laws[series]).law and known.law.is_good:
            found.append(Growth(known.cases, series, known.law.coefficients, known.law.relative_error))
    return found


def same_hardware(tables: Tables) -> list[SameHardware]:
    """Each series compared with the reference set's devices of the same hardware, at the largest image of both."""
    rows = sorted(tables.cases, key=lambda row: row["n_pixels"])
    names = {case(row): tables.name(row) for row in rows}
    found = reference_set.same_hardware(rows, tables.reference)
    return list({names[each.cases[0]]: each for each in found}.values())


def batch(tables: Tables) -> list[Finding]:
    """How long many images take, for each series of calls at its largest image; not for many machines."""
    if many_machines.are_many(tables):
        return []
    starts, found = estimates.starts(tables), []
    rows = [row for row in tables.cases if row["protocol"] == "standard"]
    for series, same in identity.grouped(rows, tables.name).items():
        row = max(same, key=lambda row: row["n_pixels"])
        image, start_s = speedups.batch(tables, row, N_IMAGES), starts.get(estimates.start_key(row))
        total_s, low_s, high_s = ((start_s or 0.0) + N_IMAGES * image_s for image_s in (image.value, *image.ends))
        about = ((case(row),), series, size_label(row))
        found.append(Batch(*about, image, N_IMAGES, start_s, total_s, low_s, high_s))
    return found


def gain(tables: Tables) -> list[Finding]:
    """The speed-up of accelerators at the largest image, and its change with size; without any, published ones.

    Of many machines: the speed-ups by hardware.
    """
    if not tables.speedup_rows:
        return list(_elsewhere(tables))
    if many_machines.are_many(tables):
        return list(many_machines.speedups_of(tables))
    names = _short_names(tables)
    return [
        *largest_speedups(tables),
        *(
            BySize(each.cases, names[each.series], each.lengths_px, each.n_processes, each.trend, each.crossing)
            for each in speedups.by_size(tables)
        ),
    ]


def fastest(tables: Tables) -> list[Finding]:
    """The devices that may be the fastest at the size that most have."""
    ranked, size, _ = ranks.ranks(tables)
    own = [each for each in ranked if each.place]
    if not own:
        return []
    best = tuple(each.series for each in own if each.place and each.place.first == 1)
    cases, fewest = tuple(each.case for each in own if each.case), min(each.n_processes for each in own)
    return [Fastest(cases, size, best, len(own), fewest)]


def masks(tables: Tables) -> list[Finding]:
    """The agreement of masks between devices, and with those of stock on the CPU."""
    cases = {case(row): row for row in tables.cases}
    by_work: dict[tuple[object, ...], list[tuple[Row, Row]]] = defaultdict(list)
    for row in tables.masks.to_pylist():
        if row["mask"] and (about := cases.get(case(row))):
            by_work[identity.values(about, identity.REQUEST)].append((about, row))
    shared = [rows for rows in by_work.values() if len({identity.values(row, identity.PLACE) for row, _ in rows}) > 1]
    counts = Counter(map(_same, shared))
    found: list[Finding] = []
    if shared:
        about = tuple(case(row) for rows in shared for row, _ in rows)
        found.append(SameMasks(about, counts["same"], counts["differing"], counts["blank"]))
    agreements = {case(row): tables.agreement_of(row) for rows in by_work.values() for row, _ in rows}
    words = {
        key: findings.BLANK if each["n_cells"] == each["reference_n_cells"] == 0 else each["agreement"]
        for key, each in agreements.items()
        if each and each["agreement"]
    }
    if words:
        found.append(Agreement(tuple(words), tuple(words.values())))
    return found


def models(tables: Tables) -> list[Finding]:
    """The cost of other models on each device at its largest image, and the models' accuracy on drawn cells."""
    by_size = sorted(model_costs.costs(tables), key=lambda each: each.row["n_pixels"])
    found: list[Finding] = [
        ModelCost(
            (case(each.row), case(each.base)), device_label(each.row), model_name(each.row), model_name(each.base),
            size_label(each.row), each.known, each.row["median_s"], each.base["median_s"],
        )
        for each in {tables.name(each.row): each for each in by_size}.values()
    ]  # fmt: skip
    scored = {tables.name(row): (row, scores) for row, scores in model_costs.accuracies(tables)}
    for series, (row, scores) in scored.items() if found else ():
        values = (scores[f"truth_{name}"] for name in ("ap50", "ap75", "ap90", "f1"))
        counts = scores["truth_n_cells"], scores["n_cells"]
        found.append(Accuracy((case(row),), series, size_label(row), *counts, *values))
    if found and not scored:
        found.append(NoAccuracy((), any(row["weights"] == "standin" for row in tables.cases)))
    return found


def before(tables: Tables) -> list[Finding]:
    """The change of each series' last run from the one before, and the verdict of its history."""
    if not tables.history:
        return []
    pairs = [(series, *series.points[-2:]) for series in tables.history]
    cases = tuple((point.run_id, series.key) for series, *points in pairs for point in points)
    versions = {
        (name, text_before, text_now)
        for _, then, now in pairs
        for name, column in (("torch", "torch_version"), ("cellpose", "cellpose_version"))
        if (text_before := then.place[column]) != (text_now := now.place[column]) and text_before and text_now
    }
    runs = tuple(sorted({then.run_id for _, then, _ in pairs}))
    ratios = tuple(sorted(now.value / then.value for _, then, now in pairs))
    states = Counter(history_rows.state(series, len(series.points) - 1) for series in tables.history)
    last = tuple((series.last.run_id, series.key) for series in tables.history)
    return [Change(cases, runs, ratios, tuple(sorted(versions))), Judged(last, dict(states))]


def faster(tables: Tables) -> Sequence[tuple[str, Finding]]:
    """The ways to make it faster: proven by searches, then suggested by the stage pass; each with its place."""
    winners = tuning_results.winners(tables.tuning_results)
    won = [(place, _winner(tables, place, each)) for place, each in winners.items()]
    return won + [(title, each) for title, (advised, _) in advice.remarks(tables).items() for each in advised]


def _winner(tables: Tables, place: str, won: tuning_results.TuningResult | None) -> Winner:
    races = [each.row for each in tables.tuning_results if each.place == place]
    if won is None:
        return Winner(tuple(dict.fromkeys(map(case, races))), place)
    row = won.row
    cases = tuple(dict.fromkeys(case(each) for each in races if each["run_id"] == row["run_id"]))
    return Winner(cases, place, row["variant"], won.speedup, won.low, won.high, row["blocks"], row["masks"])


def largest_speedups(tables: Tables) -> list[Speedup]:
    """Each accelerator's speed-up at its largest image."""
    names, several = _short_names(tables), len({row["node"] for row in tables.speedup_rows}) > 1
    pairs = zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    largest = {tables.name(row): (row, known) for row, known in sorted(pairs, key=lambda pair: pair[0]["n_pixels"])}
    return [
        Speedup(
            (case(row), (row["run_id"], row["cpu_case_id"])), row["node"] if several else "", names[series],
            size_label(row), known, row["median_s"], row["cpu_median_s"],
        )
        for series, (row, known) in largest.items()
    ]  # fmt: skip


def _short_names(tables: Tables) -> dict[str, str]:
    """The name of each accelerator's series: its model alone where that is unique."""
    short = {tables.name(row): short_name(row["device_name"]) for row in tables.speedup_rows}
    return short if len(set(short.values())) == len(short) else {series: series for series in short}


def _elsewhere(tables: Tables) -> list[Elsewhere]:
    """Speed-ups that others published without a spread."""
    rows = [] if tables.published is None else reference_timings.speedups(tables.published).to_pylist()
    found = identity.grouped(rows, speedups.published_name)
    ratios = {name: [row["speedup"] for row in each] for name, each in found.items()}
    return [Elsewhere((), name, min(each), max(each)) for name, each in ratios.items()]


def _time(tables: Tables, row: Row, name: str) -> Time:
    return Time((case(row),), name, size_label(row), _known(tables)[case(row)])


def _known(tables: Tables) -> dict[findings.Case, Interval]:
    return dict(zip(map(case, tables.cases), speedups.medians(tables), strict=True))


def _same(rows: Sequence[tuple[Row, Row]]) -> str:
    """One word for several devices' masks of one crop: different, same, or without cells."""
    if len({row["mask"] for _, row in rows}) > 1 or any(row["n_masks"] > 1 for _, row in rows):
        return "differing"
    return "blank" if all(about["n_cells"] == 0 for about, _ in rows) else "same"


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other

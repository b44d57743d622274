"""What is said of a speed-up over the sizes measured, of times and of places: from stores of several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.engines import registry
from harness.query import Session
from harness.report import narrative
from harness.results import scope, speedups, tables
from harness.results.scope import Scope
from harness.results.tables import Tables
from harness.schema import Sample
from harness.stats import trend
from tests.conftest import make_sample, make_store
from tests.rng import RNG

SIDES = (224, 448, 896, 1344, 1792, 2240)
CPU = {"backend": "cpu", "device": "cpu", "device_name": "Some CPU"}
CUDA = {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA RTX 4070"}


def n_tiles(side: int) -> int:
    return registry.engine("cellpose3").work("cyto3", side, side, 68.0).n_tiles


def device(times_s: Sequence[float], processes: int, **columns: object) -> list[Sample]:
    """Three calls of each of the first sizes in each process."""
    rows = []
    for block in range(processes):
        luck = np.exp(0.02 * RNG.standard_normal())
        for side, time_s in zip(SIDES, times_s, strict=False):
            own = time_s * luck * np.exp(0.001 * RNG.standard_normal())
            about = {"crop": str(side), "height_px": side, "width_px": side, "block": block, **columns}
            rows += [make_sample(**about, repetition=i, elapsed_s=own * (1 + (i - 1) / 500)) for i in range(3)]
    return rows


def of_gain(data: Tables) -> str:
    """What the report says of the gain of a GPU."""
    [answer] = [each for each in narrative.answers(data) if each.question.startswith("How much")]
    return " ".join(answer.sentences).replace("\u00a0", " ")


CPU_S = [0.05 + 0.4 * n_tiles(side) + 0.5 * side**2 / 1e6 for side in SIDES]


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Tables]:
    def made(gains: Sequence[float], processes: int = 3, **columns: object) -> Tables:
        fast_s = [time_s / gain for time_s, gain in zip(CPU_S, gains, strict=True)]
        samples = device(CPU_S, processes, **CPU, **columns) + device(fast_s, processes, **CUDA, **columns)
        session = Session(make_store(tmp_path, samples))
        return tables.load(session, scope.resolve(session), with_published=False)

    return made


@pytest.mark.parametrize(
    ("gains", "output"),
    [
        ([4, 8, 10, 10, 10, 10], "is flat from 896 to 2240 px, within 10 %. It is faster than the CPU at every size"),
        ([2, 3, 5, 8, 12, 20], "rises from 1344 to 2240 px, the largest image measured (2."),
        ([0.4, 0.6, 2, 3, 4, 5], "It is slower than the CPU up to 448 px and faster than the CPU at 896 px and above."),
        ([12, 11, 10, 8, 7, 6], "falls from 1344 to 2240 px, the largest image measured (0.7"),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "It is slower than the CPU at 2240 px, the largest image measured."),
    ],
)
def test_a_speedup_over_the_sizes(gains: Sequence[float], output: str, measured: Callable[..., Tables]) -> None:
    text = of_gain(measured(gains))
    assert output in text
    assert "approaches" not in text


@pytest.mark.parametrize("processes", [1, 2])
def test_few_processes_say_how_many_it_takes(processes: int, measured: Callable[..., Tables]) -> None:
    data = measured([2, 3, 5, 8, 12, 20], processes)
    assert "measure 3 processes: run it with --blocks 3" in of_gain(data)
    assert all(known.low is None for known in (*speedups.intervals(data), *speedups.medians(data)))
    within = "1 process" if processes == 1 else "2 processes"
    assert f"n = {3 * processes} in {within}) as fast as this machine’s CPU" in narrative.headline(data)


def test_a_device_s_times_follow_its_tiles(measured: Callable[..., Tables]) -> None:
    data = measured([10] * 6)
    cpu = next(each.law for each in speedups.laws(data) if "(cpu" in each.series)
    assert cpu.is_good
    assert cpu.coefficients[1] == pytest.approx(0.4, rel=0.1)
    [answer] = [each for each in narrative.answers(data) if each.question.startswith("How fast")]
    assert any("s a tile" in sentence for sentence in answer.sentences)


@pytest.mark.parametrize(
    "unknown", [{"model": "a model of others"}, {"model": None}, {"result_variant": "overlap=0.5"}]
)
def test_times_whose_tiles_are_not_known_follow_no_law(
    unknown: dict[str, object], measured: Callable[..., Tables]
) -> None:
    assert {each.law for each in speedups.laws(measured([10] * 6, **unknown))} == {None}


@pytest.mark.parametrize("given", [True, False])
def test_a_given_diameter_cuts_the_tiles_of_one_pass(given: bool, tmp_path: Path) -> None:
    """The three passes of an estimate cut other tiles, so one law fits where the other does not."""
    tiles = [registry.engine("cellpose3").work("cyto3", side, side, 20.0, is_given=given).n_tiles for side in SIDES]
    times_s = [0.05 + 0.4 * n for n in tiles]
    about = {"diameter_px": 20.0, "diameter_asked_px": 20.0 * given}
    session = Session(make_store(tmp_path, device(times_s, 3, **CPU, **about)))
    [cpu] = speedups.laws(tables.load(session, scope.resolve(session), with_published=False))
    assert cpu.law is not None
    assert cpu.law.coefficients[1] == pytest.approx(0.4, rel=0.1)


def test_a_speedup_is_of_one_run(tmp_path: Path) -> None:
    """Sizes that only another run measured are not joined to it: that would compare two hours."""
    about = {"run_id": "20260101T000000Z-aaaaaa"}
    samples = device(CPU_S, 3, **CPU) + device([s / 5 for s in CPU_S], 3, **CUDA)
    smaller = [
        sample | about | {"crop": "96", "height_px": 96, "width_px": 96}
        for sample in samples
        if sample["crop"] == "224"
    ]
    session = Session(make_store(tmp_path, samples + smaller))
    runs = session.table("SELECT DISTINCT run_id FROM samples ORDER BY 1")["run_id"].to_pylist()
    [each] = speedups.by_size(tables.load(session, Scope("", "", tuple(runs), "true"), with_published=False))
    assert each.lengths_px == tuple(map(float, SIDES))


@pytest.mark.parametrize(
    ("gain", "processes", "output"),
    [
        (10, 3, "the fastest of 2: NVIDIA RTX 4070"),
        (10, 2, "these results do not decide which is the fastest with fewer than 3 processes each: "),
        (1, 3, "these results do not decide which is the fastest: "),
    ],
)
def test_a_fastest_takes_processes_that_show_it(
    gain: float, processes: int, output: str, measured: Callable[..., Tables]
) -> None:
    [answer] = [
        each for each in narrative.answers(measured([gain] * 6, processes)) if each.question.startswith("Which")
    ]
    assert output in answer.sentences[0]


def test_the_run_with_processes_enough_counts_before_the_one_with_more_sizes(tmp_path: Path) -> None:
    few, many = (device(CPU_S[:n], n_processes, **CPU) + device([s / 5 for s in CPU_S[:n]], n_processes, **CUDA)
                 for n, n_processes in ((4, 3), (6, 2)))  # fmt: skip
    moved = [sample | {"run_id": "20260101T000000Z-aaaaaa", "height_px": sample["height_px"] + 2} for sample in many]
    session = Session(make_store(tmp_path, few + moved))
    runs = session.table("SELECT DISTINCT run_id FROM samples ORDER BY 1")["run_id"].to_pylist()
    [each] = speedups.by_size(tables.load(session, Scope("", "", tuple(runs), "true"), with_published=False))
    assert (each.n_processes, each.lengths_px) == (3, tuple(map(float, SIDES[:4])))


def test_processes_are_paired_by_their_number_where_one_lacks_a_size(tmp_path: Path) -> None:
    """Processes that differ by factors: the first three of each size would be others than those of the next size."""
    rows = [
        make_sample(**about, crop=str(side), height_px=side, width_px=side, block=block, repetition=n,
                    elapsed_s=time_s * 2.0**block * speed * (1 + n / 500))
        for about, speed in ((CPU, 1.0), (CUDA, 0.1))
        for side, time_s in zip(SIDES, CPU_S, strict=True)
        for block in range(4)
        for n in range(3)
        if (block, side) != (0, SIDES[2])
    ]  # fmt: skip
    session = Session(make_store(tmp_path, rows))
    data = tables.load(session, scope.resolve(session), with_published=False)
    [each] = speedups.by_size(data)
    assert (each.n_processes, each.trend.word) == (3, trend.FLAT)
    assert each.trend.change[0] == pytest.approx(1)
    assert all(law.law.is_good for law in speedups.laws(data))


def test_sizes_that_no_process_has_together_make_no_law(tmp_path: Path) -> None:
    rows = [
        make_sample(**CPU, crop=str(side), height_px=side, width_px=side, block=block, elapsed_s=time_s)
        for block, (side, time_s) in enumerate(zip(SIDES, CPU_S, strict=True))
    ]
    session = Session(make_store(tmp_path, rows))
    data = tables.load(session, scope.resolve(session), with_published=False)
    assert [each.law for each in speedups.laws(data)] == [None]

"""How long many images take: from measured sizes, within them, and never beyond unless that is asked for."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.engines import registry
from harness.errors import NoResultsError
from harness.query import Session
from harness.results import estimates, scope, tables
from harness.results.estimates import BETWEEN, EXTRAPOLATED, LAW, MEASURED, Answer, Question
from harness.schema import Sample
from harness.store import reference
from tests.conftest import RUN_ID, make_sample, make_store

SIDES = (224, 448, 896, 1344, 1792, 2240)
DIAMETER_PX = 30.0


def true_s(side: int, speed: float = 1.0) -> float:
    """The time of a machine that does as the tile model says."""
    n_tiles = registry.engine("cellpose3").work("cyto3", side, side, DIAMETER_PX).n_tiles
    return (0.05 + 0.1 * n_tiles + 0.3 * side**2 / 1e6) / speed


def samples(
    sides: Sequence[int] = SIDES, processes: int = 3, speed: float = 1.0, seed: int = 1, **columns: Any
) -> list[Sample]:
    rng, rows = np.random.default_rng(seed), []
    for block in range(processes):
        start = {"block": block, "crop": "224", "repetition": 0, **columns}
        rows += [make_sample(**start, role="cold", phase=phase, elapsed_s=s) for phase, s in
                 (("import", 5.0), ("device_start", 1.0), ("model_load", 0.5), ("call", 99.0))]  # fmt: skip
        luck = math.exp(0.01 * rng.standard_normal())
        for side in sides:
            about = {"crop": str(side), "height_px": side, "width_px": side, "diameter_px": DIAMETER_PX, **columns}
            rows += [
                make_sample(**about, block=block, repetition=n, elapsed_s=true_s(side, speed) * luck) for n in range(2)
            ]
    return rows


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Answer]:
    def of(rows: list[Sample], question: Question, **options: Any) -> Answer:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        session = Session(make_store(folder, rows))
        return estimates.answer(tables.load(session, scope.resolve(session, RUN_ID), False), question, **options)

    return of


@pytest.mark.parametrize("side", SIDES)
def test_a_measured_size_has_its_own_median(side: int, ask: Callable[..., Answer]) -> None:
    [found] = ask(samples(), Question(500, side, side)).estimates
    assert (found.basis, found.is_interval) == (MEASURED, True)
    assert found.image_s == pytest.approx(true_s(side), rel=0.03)
    assert found.low_s < true_s(side) < found.high_s
    assert found.start_s == pytest.approx(6.5)  # without the first call, which works on an image
    assert found.total_s(500) == pytest.approx(6.5 + 500 * found.image_s)


def test_sizes_between_are_covered_by_the_tile_model(ask: Callable[..., Answer]) -> None:
    inside, n = 0, 0
    for seed in range(4):
        rows = samples(seed=seed)
        for side in (300, 512, 1000, 1600, 2100):
            [found] = ask(rows, Question(1, side, side)).estimates
            assert found.basis == LAW
            inside, n = inside + (found.low_s <= true_s(side) <= found.high_s), n + 1
    assert inside >= 0.9 * n


@pytest.mark.parametrize("side", [300, 512, 1000, 2000])
def test_few_sizes_give_bounds(side: int, ask: Callable[..., Answer]) -> None:
    [found] = ask(samples(sides=(224, 896, 2240)), Question(1, side, side)).estimates
    assert (found.basis, found.is_interval) == (BETWEEN, False)
    assert 0.97 * found.low_s <= true_s(side) <= 1.03 * found.high_s
    assert found.low_s <= found.image_s <= found.high_s


@pytest.mark.parametrize(("side", "word"), [(100, "224 px is the smallest"), (4000, "2240 px is the largest")])
def test_nothing_is_said_beyond_the_sizes_measured(side: int, word: str, ask: Callable[..., Answer]) -> None:
    question = Question(1, side, side)
    found = ask(samples(), question)
    assert not found.estimates
    assert [each.why for each in found.refusals] == [f"{word} size measured"]
    [beyond] = ask(samples(), replace(question, extrapolate=True)).estimates
    assert (beyond.basis, beyond.low_s, beyond.high_s) == (EXTRAPOLATED, None, None)


def test_one_process_has_a_range_and_no_interval(ask: Callable[..., Answer]) -> None:
    [found] = ask(samples(processes=1), Question(1, 448, 448)).estimates
    assert (found.basis, found.is_interval) == (MEASURED, False)


def test_a_range_of_few_processes_is_not_marked_as_an_interval(tmp_path: Path) -> None:
    make_store(tmp_path, samples(processes=2))
    shown = estimate(tmp_path, "500", "--size", "448", "--no-reference")
    assert "95 %" not in shown.stdout
    assert "range without 95 %: of single calls" in shown.stderr


def test_larger_cells_are_fewer_tiles(ask: Callable[..., Answer]) -> None:
    small, large = (ask(samples(), Question(1, 896, 896, px)).estimates[0].image_s for px in (30, 60))
    assert large < 0.8 * small


def test_devices_and_models_are_told_apart(ask: Callable[..., Answer]) -> None:
    gpu = samples(speed=10, backend="cuda", device="cuda:0", device_name="NVIDIA RTX 4070")
    other = samples(speed=0.5, model="nuclei")
    found = ask(samples() + gpu + other, Question(100, 896, 896))
    assert [(each.row["device"], each.row["model"]) for each in found.estimates] == [
        ("cuda:0", "cyto3"), ("cpu", "cyto3"), ("cpu", "nuclei")]  # fmt: skip
    only = ask(samples() + gpu + other, Question(100, 896, 896), model="nuclei")
    assert [each.row["model"] for each in only.estimates] == ["nuclei"]


def test_a_search_on_the_device_shortens_it(ask: Callable[..., Answer]) -> None:
    def race(variant: str, time_s: float, block: int) -> list[Sample]:
        return [make_sample(role="tune", variant=variant, block=block, repetition=n, elapsed_s=time_s * (1 + n / 500))
                for n in range(3)]  # fmt: skip

    races = [
        row
        for block in range(4)
        for v, s in (("stock", 3.0), ("lossless", 1.0))
        for row in race(v, s + block / 500, block)
    ]
    masks = make_sample(role="masks", variant="lossless", agreement="identical")
    [found] = ask([*samples(), *races, masks], Question(10, 448, 448)).estimates
    assert found.faster.row["variant"] == "lossless"
    assert found.faster.speedup == pytest.approx(3, rel=0.02)


def estimate(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["estimate", *words, "--out", str(out)])


def estimated(out: Path, *words: str) -> dict[str, Any]:
    return json.loads(estimate(out, *words, "--json").stdout)


@pytest.fixture
def reference_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's results as the reference set: ten times as fast."""
    folder = tmp_path / "reference"
    gpu = {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA H200"}
    make_store(folder, samples(speed=10, run_id="20250101T000000Z-cccccc", node="far", **gpu))
    monkeypatch.setattr(reference, "FOLDER", folder)
    return folder


def test_devices_of_the_reference_set_are_marked_and_come_last(tmp_path: Path, reference_set: Path) -> None:
    make_store(tmp_path / "own", samples())
    found = estimated(tmp_path / "own", "500", "--size", "448")["estimates"]
    assert [(each["node"], each["source"]) for each in found] == [("desk", "measured"), ("far", "reference")]
    assert (found[1]["n"], found[1]["n_processes"]) == (6, 3)
    shown = estimate(tmp_path / "own", "500", "--size", "448")
    assert "reference: NVIDIA H200" in shown.stdout
    assert "tune --device cpu" in shown.stderr
    only = estimated(tmp_path / "own", "500", "--size", "448", "--no-reference")["estimates"]
    assert [each["node"] for each in only] == ["desk"]


def test_without_results_only_the_reference_set_answers(tmp_path: Path, reference_set: Path) -> None:
    shown = estimate(tmp_path / "none", "500", "--size", "448")
    assert (shown.exit_code, "reference: " in shown.stdout, "cellbench run" in shown.stderr) == (0, True, True)
    assert isinstance(estimate(tmp_path / "none", "5", "--size", "448", "--no-reference").exception, NoResultsError)


def test_a_run_of_the_reference_set_among_ones_own_is_shown_once(tmp_path: Path, reference_set: Path) -> None:
    shutil.copytree(reference_set, tmp_path / "own")
    for folder in (tmp_path / "own", reference_set):
        assert [each["source"] for each in estimated(folder, "5", "--size", "448")["estimates"]] == ["measured"]


def test_a_price_of_no_device_is_an_error(tmp_path: Path) -> None:
    make_store(tmp_path, samples())
    done = estimate(tmp_path, "5", "--size", "448", "--price", "cuda:9=1", "--no-reference")
    assert "cuda:9" in str(done.exception)
    assert "desk/cpu" in str(done.exception)


def test_measured_energy_gives_images_per_kwh(tmp_path: Path) -> None:
    energy = {"role": "energy", "crop": "448", "height_px": 448, "width_px": 448, "diameter_px": DIAMETER_PX}
    windows = [make_sample(**energy, repetition=n, energy_gross_j=200.0, n_calls=10) for n in range(3)]
    make_store(tmp_path, [*samples(), *windows])
    [found] = estimated(tmp_path, "5", "--size", "448", "--no-reference")["estimates"]
    assert (found["energy_j"], found["images_per_kwh"]) == (pytest.approx(20), pytest.approx(180_000))
    assert "180,000" in estimate(tmp_path, "5", "--size", "448", "--no-reference").stdout
    [between] = estimated(tmp_path, "5", "--size", "500", "--no-reference")["estimates"]
    assert between["images_per_kwh"] is None


def test_several_images_at_once_shorten_it(tmp_path: Path) -> None:
    about = {"role": "throughput", "crop": "448", "height_px": 448, "width_px": 448, "n_images": 8}
    rounds = [
        make_sample(**about, n_processes=n, n_in_flight=1, repetition=i, elapsed_s=8 / n)
        for n in (1, 2) for i in range(3)
    ]  # fmt: skip
    make_store(tmp_path, [*samples(), *rounds])
    [found] = estimated(tmp_path, "5", "--size", "448", "--no-reference")["estimates"]
    assert found["several_times"] == pytest.approx(2)
    assert "2.00 times the images per minute of one (3 rounds)" in estimate(tmp_path, "5", "--size", "448").stderr


NEWER = {"run_id": "20990101T000000Z-000000"}


@pytest.mark.parametrize(
    ("newer", "times"),
    [(None, 2), ({"elapsed_s": 9.0}, None), ({"mask_sha256": "f" * 64}, None), ({"elapsed_s": 2.0}, 4)],
)
def test_only_the_newest_way_with_the_masks_of_stock_shortens_it(
    newer: dict[str, Any] | None, times: float | None, tmp_path: Path
) -> None:
    about = {"role": "throughput", "crop": "448", "height_px": 448, "width_px": 448, "n_images": 8, "n_in_flight": 1}
    one, two = (about | {"n_processes": n, "elapsed_s": 8 / n} for n in (1, 2))
    ways = [one, two] if newer is None else [one, two, one | NEWER, two | NEWER | newer]
    make_store(tmp_path, [*samples(), *(make_sample(**way, repetition=i) for way in ways for i in range(3))])
    [found] = estimated(tmp_path, "5", "--size", "448", "--no-reference")["estimates"]
    assert found["several_times"] == (times and pytest.approx(times))


def test_the_command(tmp_path: Path) -> None:
    make_store(tmp_path, samples() + samples(speed=10, backend="cuda", device="cuda:0", device_name="GPU"))
    shown = estimate(tmp_path, "500", "--size", "1000", "--price", "cuda:0=2.5")
    assert shown.exit_code == 0
    assert "tile model" in shown.stdout
    assert shown.stdout.count("(95 %)") >= 2
    assert "95 %: prediction interval" in shown.stderr
    answer = json.loads(
        estimate(tmp_path, "500", "--size", "448x896", "--json", "--price", "cuda:0=2.5", "--no-reference").stdout
    )
    fast, slow = answer["estimates"]
    assert fast["images_per_price"] == pytest.approx(3600 / fast["image_s"] / 2.5)
    assert (slow["images_per_price"], fast["device"], answer["n_images"]) == (None, "cuda:0", 500)
    beyond = estimate(tmp_path, "500", "--size", "9000")
    assert (beyond.exit_code, "2240 px is the largest" in str(beyond.exception)) == (1, True)


@pytest.mark.parametrize(
    "words",
    ["5 --size big", "5 --size 0", "5 --size 1x0", "0 --size 9", "5 --size 448 --price cpu", "5 --size 448 --price =2"],
)
def test_nonsense_is_refused(words: str, tmp_path: Path) -> None:
    make_store(tmp_path, samples(sides=(448,), processes=1))
    assert estimate(tmp_path, *words.split()).exit_code != 0

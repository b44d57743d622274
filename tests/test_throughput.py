"""Images a minute: the images, the turns and the arithmetic; one real measurement in the slow test."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from harness.engines import registry
from harness.errors import CellbenchError
from harness.run import throughput, tune
from harness.run.throughput import Way
from harness.terminal import tuning_view
from tests.conftest import make_sample

FIRST, SECOND = Way(), Way("stock", 2)


def row(way: Way, repetition: int, elapsed_s: float, **columns: object) -> dict[str, object]:
    counts = {"n_images": 12, "n_processes": way.n_processes, "n_in_flight": way.n_in_flight}
    place = {"variant": way.variant, "position": (FIRST, SECOND).index(way), "repetition": repetition}
    return make_sample(role="throughput", elapsed_s=elapsed_s, **{**counts, **place, **columns})


def test_squares_are_inside_and_none_is_another_one() -> None:
    pixels = np.arange(300 * 400).reshape(300, 400)
    found = throughput.windows(pixels, 100, 12)
    assert {each.shape for each in found} == {(100, 100)}
    assert len({int(each[0, 0]) for each in found}) == 12


def test_more_squares_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(CellbenchError, match="no room for 5 different squares"):
        throughput.windows(np.zeros((100, 101)), 100, 5)


def test_a_folder_s_images_come_by_name_and_may_differ_in_size(tmp_path: Path) -> None:
    for name, side in (("b.TIF", 20), ("a.tiff", 30)):
        tifffile.imwrite(tmp_path / name, np.zeros((side, side), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    assert [each.pixels.shape for each in throughput.folder(tmp_path)] == [(30, 30), (20, 20)]


def test_a_folder_without_images_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="there is no image in it"):
        throughput.folder(tmp_path)
    with pytest.raises(CellbenchError, match="no such folder"):
        throughput.folder(tmp_path / "nowhere")


def test_each_round_begins_with_another_way() -> None:
    assert [[number for number, _ in throughput._rotated("abc", i)] for i in range(4)] == [
        [0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2],
    ]  # fmt: skip


def test_rates_are_medians_and_speedups_of_rounds_in_turn() -> None:
    rows = [row(SECOND, 1, 40.0), row(FIRST, 0, 60.0), row(FIRST, 1, 80.0), row(SECOND, 0, 30.0)]
    first, second = throughput.rates(rows)
    assert (first.way, first.images_per_minute, first.speedup) == (FIRST, pytest.approx(10.5), None)
    assert (second.way, second.images_per_minute) == (SECOND, pytest.approx(21.0))
    assert (second.speedup, second.low, second.high) == (pytest.approx(2), None, None)  # two rounds make no interval
    assert second.same_masks


def test_other_masks_and_failures_are_told() -> None:
    failed = row(SECOND, 1, 1.0) | {"status": "oom_host", "elapsed_s": None, "error_message": "too much"}
    rows = [row(FIRST, 0, 60.0), row(SECOND, 0, 30.0, mask_sha256="3" * 64), failed]
    second = throughput.rates(rows)[1]
    assert (second.same_masks, second.note, second.n) == (False, "oom_host: too much", 1)
    assert re.search(r"24\.0 +2\.00 +– +other masks", tuning_view.rates([second]))
    only = throughput.rates([row(FIRST, 0, 60.0), failed])[1]
    assert only.images_per_minute is None
    assert "oom_host: too much" in tuning_view.rates([only])


class Machine:
    """Rates of ways on a machine made up from a seed; of some the masks differ, and some fail."""

    def __init__(self, seed: int) -> None:
        self.seed, self.asked = seed, set[Way]()
        rng = random.Random(seed)
        self.most = rng.choice((1, 2, 4, 8)), rng.choice((1, 2, 4))  # processes and images in flight that still help

    def rate(self, way: Way) -> throughput.Rate:
        rng = random.Random(f"{self.seed} {way}")
        counts = zip((way.n_processes, way.n_in_flight), self.most, strict=True)
        gain = math.prod(min(n, most) ** 0.7 * 0.9 ** max(0, n - most) for n, most in counts)
        is_stock = way == Way()
        bad = not is_stock and rng.random() < 0.15
        speed = 1.0 if way.variant == "stock" else random.Random(f"{self.seed} {way.variant}").uniform(0.5, 3)
        return throughput.Rate(
            "node", "cpu", way, None if bad else 6 * speed * gain, 2,
            same_masks=is_stock or rng.random() > 0.15, note="oom_host: too much" if bad else "",
        )  # fmt: skip

    def timed(self, ways: list[Way]) -> list[throughput.Rate]:
        assert ways[0] == Way()
        assert len(set(ways)) == len(ways)
        self.asked |= set(ways)
        return [self.rate(way) for way in ways]


@pytest.mark.parametrize("model", ["cyto3", "cpsam_v2"])
@pytest.mark.parametrize("backend", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("seed", range(20))
def test_a_search_ends_at_a_way_with_the_same_masks_that_no_tried_neighbour_beats(
    model: str, backend: str, seed: int
) -> None:
    machine, n_images = Machine(seed), 12
    engine = registry.engine_of(model)
    found = machine.rate(throughput.search(machine.timed, engine, backend, n_images))
    assert found.same_masks
    assert not found.note
    assert found.images_per_minute
    assert found.images_per_minute >= 6
    for way in machine.asked:
        assert way.n_processes * way.n_in_flight <= n_images
        rate = machine.rate(way)
        near = (way.variant == found.way.variant) and rate.same_masks and not rate.note
        assert not near or (rate.images_per_minute or 0) <= tune.WORTH * found.images_per_minute


def test_a_search_needs_cells_since_masks_are_its_gate() -> None:
    def timed(ways: list[Way]) -> list[throughput.Rate]:
        return [throughput.Rate("node", "cpu", way, 6.0, 2, same_masks=None) for way in ways]

    with pytest.raises(CellbenchError, match="no cell was found"):
        throughput.search(timed, registry.engine_of("cyto3"), "cpu", 12)


@pytest.mark.parametrize(
    ("low", "same_masks", "words"),
    [(1.2, True, "1.50 times stock"), (0.9, True, "no way is shown"), (None, True, "no way is shown"),
     (1.2, False, "no way is shown"), (1.2, None, "no way is shown")],
)  # fmt: skip
def test_the_way_is_named_only_where_it_is_known_to_be_faster(
    low: float | None, same_masks: bool | None, words: str
) -> None:
    rate = throughput.Rate("node", "cpu", SECOND, 9.0, 3, 1.5, low, 2.0, same_masks)
    assert words in tuning_view.fastest_way([throughput.Rate("node", "cpu", FIRST, 6.0, 3), rate])
    assert "no way is shown" in tuning_view.fastest_way([throughput.Rate("node", "cpu", FIRST, 6.0, 3)])


@pytest.mark.slow
def test_the_command_measures_and_stores_real_throughput(tmp_path: Path) -> None:
    words = (
        "throughput",
        "--crop",
        "192",
        "--n-images",
        "3",
        "--processes",
        "1,2",
        "--in-flight",
        "2",
        "--rounds",
        "1",
    )
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words, "--weights", "standin", "--out", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)
    assert (one["way"]["n_processes"], two["way"]["n_processes"]) == (1, 2)
    assert two["same_masks"]
    assert one["images_per_minute"] > 0
    request = subprocess.run(
        [sys.executable, "-m", "harness", "query", "--json", "--out", str(tmp_path),
         "SELECT n_images, n_processes, torch_threads, images_per_minute FROM throughput ORDER BY n_processes"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    stored = json.loads(request.stdout)
    assert [each["n_images"] for each in stored] == [3, 3]
    assert stored[0]["images_per_minute"] == pytest.approx(one["images_per_minute"])
    assert stored[1]["torch_threads"] == max(1, stored[0]["torch_threads"] // 2)

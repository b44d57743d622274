"""Tables on the terminal, over made-up samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.query.named import CASE
from harness.terminal import run_tables
from harness.terminal.dimensions import without_constants
from tests.conftest import CPU, make_sample, make_store
from tests.staged import ON_CPU, stage_samples

DESK = {key: value for key, value in CPU.items() if key != "seconds"}


def test_stages_are_a_table_a_crop_with_what_it_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timed = make_sample(**DESK, elapsed_s=10.0)
    store = make_store(tmp_path, [timed, *stage_samples(ON_CPU, {"224": 10.0}, **DESK)])
    run_tables.print_stages(*run_tables.stages(store, None))
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.replace("\u00a0", " ").splitlines()]
    assert lines[:3] == [
        "Intel i7-8086K (cpu, 6 threads), 224 px, protocol standard: 10 s",
        "stage (ms) style size mask outside all share",
        "network 6,000 1,400 1,400 8,800 88.0 %",
    ]
    assert "Attributed 99.0 % of the call; the stage pass took 0.0 % longer than the timed median." in lines
    assert any(line.startswith("Give the diameter if you know it: estimating it takes 75 %") for line in lines)
    assert "stand-in weights" in shown.err


def test_a_search_is_a_table_of_its_races(tmp_path: Path) -> None:
    calls = {"stock": (6.0, 8.0, 10.0), "lossless": (3.0, 4.0, 5.0), "bf16": (7.0, 9.0)}
    race = [
        make_sample(role="tune", variant=variant, repetition=n, elapsed_s=elapsed_s)
        for variant, times_s in calls.items()
        for n, elapsed_s in enumerate(times_s)
    ]
    masks = make_sample(role="masks", variant="lossless", agreement="equivalent")
    store = make_store(tmp_path, [*race, masks])
    assert not run_tables.cases(store, None).num_rows
    found = {row["variant"]: row for row in run_tables.races(store, None).to_pylist()}
    assert (found["lossless"]["times_stock"], found["lossless"]["masks"]) == (pytest.approx(2), "equivalent")
    # Raced no further after two rounds, of which each is compared with stock's in the same round; too few to say more.
    assert found["bf16"]["times_stock"] == pytest.approx((6 / 7 * 8 / 9) ** 0.5)
    assert (found["bf16"]["low"], found["bf16"]["high"]) == (None, None)
    assert run_tables.races(make_store(tmp_path / "none", [make_sample()]), None).num_rows == 0


def test_a_round_that_failed_does_not_shift_the_others(tmp_path: Path) -> None:
    failed = {"status": "crash", "elapsed_s": None}
    race = [
        make_sample(role="tune", variant=variant, repetition=n, **({"elapsed_s": time_s} if time_s else failed))
        for variant, times_s in {"stock": (4.0, None, 8.0, 16.0), "fast": (2.0, 1.0, None, 8.0)}.items()
        for n, time_s in enumerate(times_s)
    ]
    [_, fast] = sorted(run_tables.races(make_store(tmp_path, race), None).to_pylist(), key=lambda row: -row["n"])
    assert (fast["variant"], fast["n"], fast["times_stock"]) == ("fast", 2, pytest.approx(2))


def test_a_device_name_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = DESK | {"device_name": "[red]CPU[/nonsense]"}
    store = make_store(tmp_path, [make_sample(**hostile), *stage_samples(ON_CPU, {"224": 10.0}, **hostile)])
    run_tables.print_stages(*run_tables.stages(store, None))
    assert "[red]" in capsys.readouterr().out


def test_without_a_stage_pass_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="--passes stages"):
        run_tables.print_stages(*run_tables.stages(make_store(tmp_path, [make_sample()]), None))


def test_what_was_looked_at_besides_times_is_a_table(tmp_path: Path) -> None:
    masks = {"role": "masks", "reference_n_cells": 4, "reference_diameter_px": 68.0}
    samples = [
        make_sample(),
        make_sample(crop="448"),  # only timed
        make_sample(**masks, agreement="close", ap50=0.96, ap90=0.9),
        make_sample(**masks, agreement="identical", ap50=1.0, ap90=1.0, repetition=1) | {"diameter_asked_px": 68.0},
        make_sample(role="memory", peak_rss_bytes=1_234_000_000, rss_method="VmHWM"),
        make_sample(role="energy", status="skipped", elapsed_s=None),
    ]
    table = without_constants(run_tables.passes(make_store(tmp_path, samples), None), CASE)
    assert table.to_pylist() == [
        {"node": "desk", "device": "cpu", "crop": "224", "masks": "close", "masks_at_cpu_diameter": "identical",
         "ap50": 0.96, "ap90": 0.9, "cells_on_cpu": 4, "delta_cells": -1, "peak_rss_gb": 1.23, "rss_method": "VmHWM"},
    ]  # fmt: skip


def test_without_passes_the_way_to_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="--passes masks"):
        run_tables.passes(make_store(tmp_path, [make_sample()]), None)


def test_a_run_ends_with_what_many_images_would_take(tmp_path: Path) -> None:
    sizes = {"224": (224, 224, 1.0), "full": (2160, 2560, 36.0)}
    rows = [
        make_sample(
            crop=crop, height_px=height, width_px=width, elapsed_s=time_s / speed, device=device, backend=backend
        )
        for crop, (height, width, time_s) in sizes.items()
        for device, backend, speed in (("cpu", "cpu", 1), ("cuda:0", "cuda", 10))
    ]
    table = run_tables.cases(make_store(tmp_path, rows), None)
    assert run_tables.closing(table)[:2] == [
        "1,000 images of 2160 × 2560 px would take about 60 min: cuda:0",
        "1,000 images of 2160 × 2560 px would take about 10 h: cpu",
    ]
    assert "cellbench tune --device cuda:0" in run_tables.closing(table)[-1]


def test_bars_are_in_proportion() -> None:
    assert [run_tables.bar(share, 2) for share in (0.001, 0.25, 0.5, 0.5625, 1.0)] == ["▏", "▌", "█", "█▏", "██"]

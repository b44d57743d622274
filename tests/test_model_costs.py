"""What another model costs: which times may be divided by each other, and what a report says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.engines.base import Segmentation
from harness.images import synthetic
from harness.measure import agreement
from harness.query import Session
from harness.report import narrative
from harness.results import model_costs, scope, tables
from harness.schema import Sample
from tests.conftest import make_sample, make_store

SAM = {"engine": "cellpose4", "model": "cpsam_v2", "dtype": "bfloat16", "cellpose_version": "4.2.1.1"}
CYTO3 = {"engine": "cellpose3", "model": "cyto3"}


def timed(elapsed_s: float, n_processes: int = 3, **columns: Any) -> list[Sample]:
    """Two repetitions in each of some processes, which differ by a percent."""
    return [
        make_sample(
            workload="cellpose", block=block, repetition=i, elapsed_s=elapsed_s * (1 + (block - 1 + i / 3) / 100),
            **columns,
        )
        for block in range(n_processes)
        for i in range(2)
    ]  # fmt: skip


def loaded(folder: Path, samples: list[Sample]) -> tables.Tables:
    session = Session(make_store(folder, samples))
    return tables.load(session, scope.resolve(session, None), with_published=False)


def sentences(found: tables.Tables) -> list[str]:
    """What the report says of models."""
    return next((each.sentences for each in narrative.answers(found) if each.question == narrative.MODELS), [])


def test_a_ratio_has_an_interval_from_three_processes(tmp_path: Path) -> None:
    found = loaded(tmp_path, timed(1.0, **CYTO3) + timed(20.0, **SAM))
    [cost] = model_costs.costs(found)
    assert cost.known.value == pytest.approx(20)
    assert cost.known.low is not None
    assert cost.known.low < 20 < (cost.known.high or 0)
    first, second = sentences(found)
    assert "cpsam_v2" in first
    assert "takes 20.0 times (95 % interval" in first
    assert "20\u00a0s instead of 1.0\u00a0s" in first
    assert "not meaningful with stand-in weights" in second


@pytest.mark.parametrize(
    "other",
    [
        {"torch_version": "2.9.0"}, {"image_sha256": "9" * 64}, {"crop": "448", "height_px": 448, "width_px": 448},
        {"protocol": "article"}, {"variant": "flash"}, {"device": "cuda:0", "backend": "cuda", "device_name": "G"},
        {"node": "other"}, {"torch_threads": 2}, {"source": "imported"}, {"run_id": "20260103T030405Z-abc123"},
    ],
)  # fmt: skip
def test_times_of_other_work_or_another_place_are_not_divided(tmp_path: Path, other: dict[str, Any]) -> None:
    found = loaded(tmp_path, timed(1.0, **CYTO3) + timed(20.0, **SAM | other))
    assert model_costs.costs(found) == []
    assert sentences(found) == []


def test_each_precision_has_a_ratio_of_its_own(tmp_path: Path) -> None:
    found = loaded(tmp_path, timed(1.0, **CYTO3) + timed(20.0, **SAM) + timed(30.0, **SAM | {"dtype": "float32"}))
    ratios = {each.row["dtype"]: each.known.value for each in model_costs.costs(found)}
    assert ratios == {"bfloat16": pytest.approx(20), "float32": pytest.approx(30)}


def test_accuracy_with_published_weights_stands_beside_the_cost(tmp_path: Path) -> None:
    published = {"weights": "published", "image": "sparse"}
    scores = {"truth_ap50": 0.95, "truth_ap75": 0.9, "truth_ap90": 0.5, "truth_f1": 0.97, "truth_n_cells": 40}
    rows = timed(1.0, **CYTO3 | published) + timed(20.0, **SAM | published)
    looked = make_sample(
        role="masks", workload="cellpose", agreement="identical", n_cells=38, **SAM | published | scores
    )
    found = loaded(tmp_path, [*rows, looked])
    _, accuracy = sentences(found)
    assert "38 cells where 40 were drawn" in accuracy
    assert "AP@0.5 0.950, AP@0.75 0.900, AP@0.9 0.500, F1 0.970" in accuracy


# ------------------------------------------------------------------ accuracy itself


def test_the_truth_of_built_in_images_and_their_crops_is_known_and_of_no_other() -> None:
    for draw in synthetic.BUILT_IN.values():
        scene = draw()
        assert np.array_equal(synthetic.truth(scene.image), scene.labels)
        height, width = scene.image.shape
        top, left = (height - 224) // 2, (width - 224) // 2
        inside = np.s_[top : top + 224, left : left + 224]
        assert np.array_equal(synthetic.truth(scene.image[inside]), scene.labels[inside])
        changed = scene.image[inside].copy()
        changed[0, 0] ^= 1
        assert synthetic.truth(changed) is None
    assert synthetic.truth(np.zeros((9000, 9000), np.uint8)) is None


def test_accuracy_counts_cells_at_each_overlap() -> None:
    truth = np.zeros((40, 100), np.int32)
    truth[10:30, 10:30], truth[10:30, 50:70] = 1, 2
    seen = np.zeros_like(truth)
    seen[10:30, 10:30], seen[10:30, 54:70], seen[35:39, 90:99] = 5, 9, 2  # IoU 1, IoU 0.8, one of nothing
    answer = agreement.accuracy(truth, Segmentation(seen, 30.0))
    assert answer == {
        "truth_ap50": pytest.approx(2 / 3), "truth_ap75": pytest.approx(2 / 3), "truth_ap90": pytest.approx(1 / 4),
        "truth_f1": pytest.approx(4 / 5), "truth_n_cells": 2,
    }  # fmt: skip
    nothing = np.zeros_like(truth)
    assert agreement.accuracy(truth, Segmentation(nothing, 30.0))["truth_f1"] == 0
    assert agreement.accuracy(nothing, Segmentation(nothing, 30.0))["truth_f1"] is None

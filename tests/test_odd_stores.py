"""Whatever a store holds, every figure and the report are drawn, and no value of a programming language is in them."""

from __future__ import annotations

import json
import math
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.charts import catalogue, rendering
from harness.query import Session
from harness.report import html_report, markdown
from harness.results import notes, scope, tables
from harness.results.tables import Tables
from harness.terminal import run_tables
from tests import odd_stores
from tests.conftest import RUN_ID, raw_sample, raw_store
from tests.staged import stage_samples

# A smaller seed makes no smaller store, so that there is nothing to shrink.
FEW = settings(max_examples=2, derandomize=True, deadline=None, database=None, phases=[Phase.generate])


def look(samples: list[dict], **chosen: str) -> None:
    """Draw every figure and write the report, and look for what must not be in them."""
    with tempfile.TemporaryDirectory() as folder, rendering.unchecked():
        session = Session(raw_store(Path(folder), samples))
        report = html_report.prepare(session, scope.resolve(session, **chosen))
        for figure in catalogue.FIGURES:
            if (drawing := figure.draw(report.data)).chart is None:
                assert odd_stores.leaked(drawing.description) == [], figure.name
                continue
            chart = figure.chart(report.data)
            spec = rendering.as_dict(chart)
            assert odd_stores.is_json(spec), figure.name
            assert odd_stores.empty_layers(spec) == [], figure.name
            assert odd_stores.leaked(rendering.picture(chart, "svg").decode()) == [], figure.name
        assert odd_stores.leaked(odd_stores.visible(html_report.html(report))) == []
        assert odd_stores.leaked(markdown.text(report)) == []


@FEW
@given(seed=st.integers(0, 2**32), since=st.booleans())
def test_an_odd_store_is_drawn(seed: int, since: bool) -> None:
    look(odd_stores.samples(random.Random(seed)), **({"since": "2026-01-01"} if since else {}))


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("kind", ["run", "since", "series"])
@settings(FEW, max_examples=14)
@given(seed=st.integers(0, 2**32))
def test_many_odd_stores_are_drawn(seed: int, kind: str) -> None:
    rows = odd_stores.samples(random.Random(seed))
    series = next(row["series_key"] for row in reversed(rows) if (row["role"], row["status"]) == ("timed", "ok"))
    look(rows, **{"run": {}, "since": {"since": "2026-01-01"}, "series": {"series": series}}[kind])


LACKING = (
    {"elapsed_s": None}, {"elapsed_s": math.nan}, {"elapsed_s": math.inf}, {"elapsed_s": 0.0}, {"height_px": None},
    {"width_px": 0}, {"crop": None}, {"backend": None}, {"device_name": None}, {"n_cells": None}, {"n_cells": 0},
    {"protocol": None}, {"image": None}, {"mask_sha256": None}, {"flags": "load drift"}, {"precision": math.nan},
    {"diameter_px": math.nan}, {"weights": None}, {"torch_version": None}, {"profile": None},
)  # fmt: skip


def test_one_lacking_value_a_case_is_drawn() -> None:
    sized = [{"crop": str(100 + i), "height_px": 100 + i, **change} for i, change in enumerate(LACKING)]
    place = {"backend": "cuda", "device": "cuda:0"}
    look([raw_sample(**columns) for about in sized for columns in (about, place | about)])


@pytest.mark.parametrize("weights", ["published", "standin", "custom", "none", None])
@pytest.mark.parametrize("model", [None, ""])
@pytest.mark.parametrize("others", [(), ("cyto3", "cpsam")])
def test_a_model_without_a_name_has_words(
    weights: str | None, model: str | None, others: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [raw_sample(model=each, weights=weights, workload="cellpose") for each in (model, *others)]
    made = raw_store(tmp_path, rows)
    report = html_report.prepare(session := Session(made), scope.resolve(session))
    words = [report.headline, *report.banners, *notes.notes(report.data), markdown.text(report)]
    run_tables.print_cases(run_tables.cases(made, None))
    words += capsys.readouterr()
    assert odd_stores.leaked("\n".join(words)) == []
    assert not re.search(r"(?m)^’s|weights for \.|the published *(,|·|and |$)", "\n".join(words))


# ------------------------------------------------------------------ what another version or engine wrote

UNKNOWN = {("encoder", "attention"): 0.5, ("mask", "attention"): 0.2, ("mask", "network"): 0.2, ("none", "other"): 0.1}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Devices, stages, passes and roles that this version has no name for."""
    rows = []
    for i, backend in enumerate(("cpu", "rocm", "xpu", "npu")):
        place = {"backend": backend, "device": f"{backend}:0", "device_name": f"Chip {i}"}
        rows += [raw_sample(**place, elapsed_s=1.0 + i), raw_sample(**place, role="dreaming")]
        rows += stage_samples(UNKNOWN, {"224": 1.0 + i}, **place)
    session = Session(raw_store(tmp_path_factory.mktemp("foreign"), rows))
    return tables.load(session, scope.resolve(session, RUN_ID), with_published=False)


def test_a_device_of_an_unknown_kind_has_a_colour_of_its_own(foreign: Tables) -> None:
    rows = catalogue.figure("ranking").chart(foreign).to_dict()["data"]["values"]
    assert len(rows) == len({row["hue"] for row in rows}) == 4


def test_unknown_stages_and_passes_come_last_and_are_shown(foreign: Tables) -> None:
    spec = catalogue.figure("stages").chart(foreign).to_dict()
    parts = [row for row in spec["layer"][0]["data"]["values"] if row["series"].startswith("Chip 0")]
    assert [(row["pass"], row["stage"], row["group"]) for row in parts] == [
        ("mask", "network", "network"), ("mask", "attention", "unknown stages"), ("none", "other", "not attributed"),
        ("encoder", "attention", "unknown stages"),
    ]  # fmt: skip
    assert parts[-1]["end"] == pytest.approx(1)
    table = catalogue.figure("stages").numbers(foreign)["Stages"]
    assert table.head == ("stage", "mask pass s", "outside s", "encoder pass s", "all s", "share")
    rows = table.groups["Chip 0 (cpu:0, 8 threads), 224 px"]
    assert [row[0] for row in rows] == ["network", "other", "attention", "whole call"]
    assert "Attributed 90.0 % of the call" in json.dumps(
        [each.findings for each in catalogue.figure("stages").remarks(foreign).values()], ensure_ascii=False
    ).replace("\u00a0", " ")


def test_a_word_about_masks_that_is_unknown_is_shown(tmp_path: Path) -> None:
    rows = [
        raw_sample(role=role, agreement=word, crop=crop)
        for crop in ("224", "448") for role, word in (("timed", None), ("masks", "alike"))
    ]  # fmt: skip
    session = Session(raw_store(tmp_path, rows))
    data = tables.load(session, scope.resolve(session))
    spec = catalogue.figure("agreement").chart(data).to_dict()
    assert spec["layer"][0]["encoding"]["color"]["scale"] == {"domain": ["alike"], "range": [rendering.OTHER_HUE]}

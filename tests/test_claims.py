"""No sentence says more than its rows: whatever a store holds, tests/refute.py refutes no finding and no word of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet as pq

from harness.judge import alarms
from harness.query import Session
from harness.report import html_report, markdown
from harness.results import advice, answers, findings, scope, sentences, tables
from harness.results.findings import Finding
from harness.schema import Sample
from harness.store import Store
from tests import claims, nights
from tests.conftest import REPOSITORY, make_sample, make_store, raw_sample, raw_store
from tests.refute import Raw, refuted, unsaid
from tests.staged import ON_CPU, stage_samples


def test_no_claim_of_an_odd_store_is_refuted() -> None:
    made, false = Counter[str](), []
    for seed in range(36):
        counts, found = claims.check(seed)
        made += counts
        false += found
    assert false == []
    assert made.total() > 1000
    assert {"Speedup", "BySize", "Fastest", "SameMasks", "Winner", "Change", "Compared", "Note", "Title"} <= made.keys()


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("first", range(36, 236, 20))
def test_no_claim_of_many_odd_stores_is_refuted(first: int) -> None:
    assert [text for seed in range(first, first + 20) for text in claims.check(seed)[1]] == []


def test_no_claim_of_the_results_that_are_shipped_is_refuted(tmp_path: Path) -> None:
    """Rows of older versions are read as the program reads them; all else is recomputed."""
    session = Session(Store.at(REPOSITORY / "results" / "reference"))
    pq.write_table(session.table("SELECT * FROM samples"), tmp_path / "samples.parquet")
    runs = session.table("SELECT run_id FROM runs")["run_id"].to_pylist()
    for chosen in (*(scope.resolve(session, run) for run in runs), scope.resolve(session, since="2026-01-01")):
        for kind, text, reasons in claims.of_scope(session, tmp_path, chosen):
            assert reasons == [], (chosen.name, kind, text)


# ------------------------------------------------------------------ the checker can say no

CPU = {"backend": "cpu", "device": "cpu", "device_name": "Some CPU", "workload": "cellpose"}
CARD = CPU | {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA H200"}
SIZES = {"224": (224, 224), "448": (448, 448), "896": (896, 896), "full": (2160, 2560)}


def timed(times_s: dict[str, float], processes: int = 3, **columns: Any) -> list[Sample]:
    """Three calls of each crop in each process; processes differ by about a percent."""
    return [
        make_sample(**{
            "crop": crop, "height_px": SIZES[crop][0], "width_px": SIZES[crop][1], "block": block, "repetition": i,
            "elapsed_s": time_s * (1 + 0.01 * block + 0.002 * i), **columns,
        })
        for block in range(processes) for crop, time_s in times_s.items() for i in range(3)
    ]  # fmt: skip


def search(gain: float, agreement: str = "identical", processes: int = 5, **columns: Any) -> list[Sample]:
    """A search for speed whose last race is stock against lossless."""
    races = [
        make_sample(**CPU, role="tune", variant=variant, block=block, repetition=i, elapsed_s=time_s * (1 + block / 50))
        for block in range(processes) for i in range(3)
        for variant, time_s in (("stock", 6.0), ("lossless", 6.0 / gain / (1 + (block - 2) / 50)))
    ]  # fmt: skip
    return [*races, make_sample(**CPU, role="masks", variant="lossless", agreement=agreement, **columns)]


def rich() -> list[Sample]:
    """A store about which almost everything can be said."""
    at = {"224": 1.0, "448": 4.0, "896": 16.0, "full": 80.0}
    fast = {crop: time_s / 8 for crop, time_s in at.items()}
    rows = [*timed(at, **CPU), *timed(fast, **CARD), *timed(at, **CPU | {"node": "lab"})]
    rows += [row | {"run_id": nights.run_id(1), "elapsed_s": 1.1 * row["elapsed_s"]} for row in rows]
    mask = {"role": "masks", "reference_n_cells": 3, "run_id": nights.run_id(1), **CARD}
    return [*rows, make_sample(agreement="close", **mask), *stage_samples(ON_CPU, {"224": 1.0}, **CPU), *search(1.5)]


def falsified(finding: Finding) -> Iterator[tuple[str, Finding]]:
    """The same claim with one of its numbers changed, field by field."""
    for name, value in ((each.name, getattr(finding, each.name)) for each in fields(finding)):
        changed: Any = None
        if isinstance(value, bool | str) or name in ("of", "relative_error", "coefficients", "blocks"):
            continue
        if isinstance(value, int | float):
            changed = value + 1
        elif isinstance(value, dict):
            changed = value | {"usual": value.get("usual", 0) + 1}
        elif is_dataclass(value) and hasattr(value, "n_processes"):
            for part in ("value", "n", "n_processes", "least", "most"):
                yield f"{name}.{part}", replace(finding, **{name: replace(value, **{part: getattr(value, part) + 1})})
            if value.low is not None:
                yield f"{name}.low", replace(finding, **{name: replace(value, low=value.value)})
        elif name in ("ratios", "lengths_px"):
            changed = tuple(each + 1 for each in value)
        elif name == "words" and type(finding).__name__ == "Agreement":
            changed = ("identical",) * len(value)
        if changed is not None:
            yield name, replace(finding, **{name: changed})


# The high end of an interval is not too low where it is higher; the rest is only shown under a figure.
NOT_RECOMPUTED = {("Winner", "high"), ("Attributed", "longer"), ("Network", "n_tiles"), ("Network", "fraction")}


def test_a_claim_with_another_number_is_refuted(tmp_path: Path) -> None:
    session, seen = Session(raw_store(tmp_path, rich())), Counter[str]()
    for run in (None, nights.run_id(1)):
        chosen = scope.resolve(session, run)
        data, raw = tables.load(session, chosen), Raw.of(tmp_path, chosen.runs)
        found = [each for of_title in advice.remarks(data).values() for each in of_title[1]]
        for each in [*answers.every(data), *found]:
            text = sentences.sentence(each)
            assert refuted(raw, each, text) == []
            for name, false in falsified(each):
                kind = type(each).__name__
                if (kind, name) not in NOT_RECOMPUTED:
                    assert refuted(raw, false), (kind, name, false)
                    seen[kind] += 1
            if re.search(r"\d", text) and not isinstance(each, findings.Judged | findings.Note):
                assert refuted(raw, each, re.sub(r"\d+(?!\D*\d)", "4711", text)), text
        gone = [note for note in answers.cautions(data) if note.kind != findings.Kind.SYNTHETIC]
        if data.cases:
            assert "synthetic" in unsaid(raw, map(findings.case, data.cases), gone)[0]
    assert {"Time", "Span", "Speedup", "BySize", "Fastest", "SameMasks", "Agreement", "Change"} <= seen.keys()


@pytest.mark.parametrize(
    "words", ["It is never faster than the CPU.", "It approaches 12×.", "They break even at 57 px."]
)
def test_words_that_no_rows_can_carry_are_refuted(words: str, tmp_path: Path) -> None:
    session = Session(raw_store(tmp_path, timed({"224": 1.0}, **CPU)))
    [time] = answers.how_fast(tables.load(session, scope.resolve(session)))
    assert refuted(Raw.of(tmp_path), time, words)


# ------------------------------------------------------------------ sentences that were false once

ONE = {"224": 1.0, "448": 4.0}
FEW_CELLS = {"n_cells": 0, "mask_sha256": "0" * 64}
OTHER_MASKS = {"mask_sha256": "f" * 64}
PLATE_B = {"node": "lab", "image": "b.tif", "image_sha256": "b" * 64, **OTHER_MASKS}
ONCE_FALSE = {
    "masks of crops that one device segmented": (
        [*timed({"224": 1.0, "448": 4.0, "full": 80.0}, **CPU), *timed({"224": 0.5}, **CARD, **OTHER_MASKS)],
        ["in 1 of 1 crop that several devices segmented"], ["of 3 crop"],
    ),
    "a mean that one process knows": (
        [row | {"stop_reason": "precision"} for row in timed({"224": 1.0}, **CPU)],
        ["was as narrow as requested; processes may still differ (1 case)"],
        ["the mean was known as well as asked for"],
    ),
    "no crop in common": (
        [*timed({"224": 1.0}, **CPU), *timed({"448": 1.0}, **CARD)], [], ["very same masks", "times as fast"],
    ),
    "faster on small images only": (
        [*timed({"224": 1.0, "448": 4.0, "full": 80.0}, **CPU), *timed({"224": 0.2, "448": 3.0, "full": 99.0}, **CARD)],
        ["slower than the CPU at 2352 px"], ["never", "break even"],
    ),
    "two plates": (
        [*timed(ONE, **CPU, image="a.tif"), *timed({"224": 0.2, "448": 0.5}, **CPU, **PLATE_B)],
        [], ["the fastest of 2", "bit by bit"],
    ),
    "slower at all sizes": (
        [*timed({"224": 1.0, "448": 4.0}, **CPU), *timed({"224": 2.0, "448": 9.0}, **CARD)],
        ["It is slower than the CPU at 448 px, the largest image measured"], ["Below", "break even"],
    ),
    "everything flagged": (
        timed({"224": 1.0}, **CPU, flags="throttled load"), ["Every repetition carries a flag: load, throttled"], [],
    ),
    "no cells": (
        [*timed(ONE, **CPU, **FEW_CELLS), *timed({"224": 0.1, "448": 0.5}, **CARD, **FEW_CELLS)],
        ["No cells were found", "2 crops without cells proves nothing"], ["very same masks"],
    ),
    "a search that may have found nothing": (
        search(1.01), ["nothing that was raced is known to be faster"], ["times as fast as stock", "without changing"],
    ),
    "a search in two processes": (search(2.0, processes=2), ["known to be faster"], ["times as fast as stock"]),
    "a winner whose masks differ": (search(2.0, "close"), ["known to be faster"], ["times as fast as stock"]),
    "a winner on a blank crop": (
        search(2.0, n_cells=0, reference_n_cells=0), ["known to be faster"], ["times as fast as stock"],
    ),
    "images an hour": (timed({"224": 1.0}, **CPU), ["calls an hour; reading and writing of"], ["images an"]),
    "two equal devices": (
        [*timed(ONE, 1, **CPU), *timed({"224": 0.9, "448": 3.9}, 1, **CARD)],
        ["do not decide which is the fastest with fewer than 3 processes each", "within|in 1 process"],
        ["the fastest of 2", "95 % interval"],
    ),
    "other diameters": (
        [*timed(ONE, **CPU), *timed({"224": 0.1, "448": 0.5}, **CARD, diameter_asked_px=30.0)],
        ["No accelerator was measured together with a CPU"], ["times \\("],
    ),
    "other models": (
        [*timed(ONE, **CPU), *timed({"224": 0.1, "448": 0.5}, **CARD, model="cpsam", engine="cellpose4")],
        ["No accelerator was measured together with a CPU"], ["times \\(", "the fastest of"],
    ),
    "imported times": (timed(ONE, **CPU, source="other.csv"), ["Imported: not measured by cellbench"], []),
    "cells that nobody counted": (
        [*timed(ONE, **CPU, n_cells=None), *timed({"224": 0.1, "448": 0.5}, **CARD)], [], ["numbers of cells"],
    ),
    "nothing but a search": (search(1.0), ["No case was timed by itself"], ["Nothing was timed in this run"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ONCE_FALSE)
def test_a_sentence_that_was_false_is_not_said(name: str, tmp_path: Path) -> None:
    rows, output, unsaid_words = ONCE_FALSE[name]
    session = Session(make_store(tmp_path, rows))
    text = markdown.text(html_report.prepare(session, scope.resolve(session), with_published=False))
    text = text.replace("\u00a0", " ").split("| --- ")[0].split("<details>")[0]
    for words in output:
        assert re.search(words.replace("(1", r"\(1").replace("case)", r"case\)"), text), words
    for words in unsaid_words:
        assert not re.search(words, text), words


# ------------------------------------------------------------------ stores that no command could read once


def test_a_speedup_stays_where_only_its_cpu_was_timed_again(tmp_path: Path) -> None:
    old = [*timed({"224": 1.0}, **CPU), *timed({"224": 0.1}, **CARD)]
    rows = [*(row | {"run_id": nights.run_id(0)} for row in old), *timed({"224": 9.0}, **CPU, run_id=nights.run_id(1))]
    session = Session(make_store(tmp_path, rows))
    [speedup] = answers.headline(tables.load(session, scope.resolve(session, since="2026-01-01")))
    assert speedup.known.value == pytest.approx(10, rel=0.01)


def test_words_and_cells_that_are_not_known_are_no_alarm(tmp_path: Path) -> None:
    masks = {"role": "masks", "agreement": "alike"}
    rows = [
        raw_sample(**about, run_id=nights.run_id(night), n_cells=None)
        for night in range(8) for about in ({}, masks)
    ]  # fmt: skip
    watched = alarms.look(Session(raw_store(tmp_path, rows)), [])
    assert (watched.alarms, watched.suspects) == ((), ())


def test_masks_of_any_race_of_a_search_count(tmp_path: Path) -> None:
    rows = [*search(2.0), make_sample(**CPU, role="masks", variant="lossless", agreement="close", block=7)]
    session = Session(make_store(tmp_path, rows))
    [(_, winner)] = answers.faster(tables.load(session, scope.resolve(session)))
    assert winner.variant is None

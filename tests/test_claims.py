"""No sentence says more than its rows: whatever a store holds, tests/refute.py refutes no finding and no word of it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.query import Session
from harness.results import answers, findings, scope, sentences, tables
from harness.results.findings import Finding
from harness.results.tables import Tables
from tests import odd_stores
from tests.conftest import raw_store
from tests.refute import Raw, refuted, unsaid


def claims(data: Tables) -> Iterator[Finding]:
    """Everything that a report says of a scope."""
    yield from answers.headline(data)
    yield from answers.cautions(data)
    yield from findings.endings(data.cases)
    for find in (answers.how_fast, answers.gain, answers.fastest, answers.masks, answers.before):
        yield from find(data)
    yield from (each for _, each in answers.faster(data))


def false_claims(seed: int) -> tuple[int, list[str]]:
    """How many claims the report of a random store makes, and those that its rows refute."""
    rng = random.Random(seed)
    rows = odd_stores.samples(rng)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(raw_store(Path(folder), rows))
        chosen = scope.resolve(session, **({"since": "2026-01-01"} if rng.random() < 0.5 else {}))
        data = tables.load(session, chosen)
        raw, found, n = Raw.of(Path(folder), chosen.runs), [], 0
        for each in claims(data):
            n += 1
            text = sentences.sentence(each)
            found += [f"{seed}: {text} {reason}" for reason in refuted(raw, each, text)]
        found += [
            f"{seed}: unsaid {what}" for what in unsaid(raw, map(findings.case, data.cases), answers.cautions(data))
        ]
    return n, found


def test_no_claim_of_an_odd_store_is_refuted() -> None:
    checked = [false_claims(seed) for seed in range(30)]
    assert [text for _, found in checked for text in found] == []
    assert sum(n for n, _ in checked) > 300


@pytest.mark.slow
def test_no_claim_of_many_odd_stores_is_refuted() -> None:
    assert [text for seed in range(30, 230) for text in false_claims(seed)[1]] == []

"""What the program claims of a random store, and what of it tests/refute.py refutes."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.charts import catalogue
from harness.judge import alarms, compare, selection
from harness.judge.history import TIME
from harness.query import Session
from harness.results import answers, differences, findings, scope, sentences, tables
from harness.results.tables import Tables
from tests import odd_stores, refute
from tests.conftest import raw_store
from tests.refute import Raw

Claim = tuple[str, str, list[str]]  # kind, words, reasons against it


def check(seed: int) -> tuple[Counter[str], list[str]]:
    """How many claims of each kind are made of the store of this seed; and those that its rows refute."""
    rng = random.Random(seed)
    rows = odd_stores.samples(rng)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(raw_store(Path(folder), rows))
        found = list(of_store(session, Path(folder), rng))
    return Counter(kind for kind, *_ in found), [
        f"{seed}: {kind}: {text}: {reason}" for kind, text, reasons in found for reason in reasons
    ]


def of_store(session: Session, folder: Path, rng: random.Random) -> Iterator[Claim]:
    """The claims of a report, of a comparison, of alarms and of what differs."""
    chosen = scope.resolve(session, **({"since": "2026-01-01"} if rng.random() < 0.5 else {}))
    yield from of_scope(session, folder, chosen)
    everything = Raw.of(folder)
    runs = sorted(everything.runs)
    timed = sorted({run for run, _ in everything.timed})
    if len(timed) > 1:
        a, b = sorted(rng.sample(timed, 2))
        sides = [selection.side(session, run, "run_id = $run", {"run": run}) for run in (a, b)]
        for each in compare.compare(*sides).cases:
            known = everything.timed.keys() >= {case for side in each.cases for case in side}
            reasons = list(refute.CHECKS["Compared"](everything, each)) if known else []
            yield "Compared", f"{each.verdict} {each.estimate} {each.why}", reasons
    if len(runs) > 1:
        watched = alarms.look(session, [])
        for each in (*watched.alarms, *watched.suspects):
            if each.series.metric == TIME:
                yield "Alarm", each.word, refute.alarm(Raw.of(folder, runs), each)


def of_scope(session: Session, folder: Path, chosen: scope.Scope) -> Iterator[Claim]:
    """The claims of the report of one scope."""
    data, raw = tables.load(session, chosen), Raw.of(folder, chosen.runs)
    for each in answers.every(data):
        text = sentences.sentence(each)
        yield type(each).__name__, text, refute.refuted(raw, each, text)
    yield from of_titles(data, raw)
    yield "unsaid", "", refute.unsaid(raw, map(findings.case, data.cases), answers.cautions(data))
    labels = {label: column for column, label in differences.ROWS.items() if column != "device_name"}
    for each in differences.find(session, chosen)[1]:
        if each.group == "this measurement" and each.label in labels:
            yield "Difference", each.label, refute.difference(raw, labels[each.label], each)


def of_titles(data: Tables, raw: Raw) -> Iterator[Claim]:
    """The titles of figures that repeat findings: each number is one of these, and each finding holds."""
    for figure in catalogue.FIGURES:
        if (message := figure.message(data)) and message.findings:
            reasons = [reason for each in message.findings for reason in refute.refuted(raw, each)]
            loose = set.intersection(*(set(refute.unbacked(each, message.text)) for each in message.findings))
            reasons += [f"says {number}, which no finding has" for number in sorted(loose)]
            reasons += [f"says {word!r}" for word in refute.NEVER.findall(message.text)]
            yield "Title", message.text, reasons

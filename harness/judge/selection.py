"""Select results by a run, a date, a tag, a node, key=value terms, a folder or a file; and read their rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from harness.errors import CellbenchError
from harness.judge import annotations
from harness.query import Session
from harness.query.older import canonical
from harness.query.sql import FAILED
from harness.schema import Role, Row, identity
from harness.stats.verdict import Run
from harness.store import Store, past_runs

CHOICES = {
    "node": "node", "machine": "machine_id", "device": "device", "backend": "backend", "engine": "engine",
    "model": "model", "crop": "crop", "protocol": "protocol", "variant": "variant", "dtype": "dtype",
    "profile": "profile", "weights": "weights", "image": "image", "torch": "torch_version",
    "cellpose": "cellpose_version", "threads": "torch_threads", "cellbench": "harness_version",
}  # fmt: skip
# Columns of a case in addition to its identity, and of a failed one.
CASE = (*identity.CASE, "image")
FAILED_BY = (*identity.PLACE, *identity.REQUEST, "image")
KEYS = ("run", "date", "tag", *CHOICES)
DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?")
_HISTORY = """
    SELECT series_key, run_id, list(median_s ORDER BY case_id, block) AS medians_s, min(begins) AS begins
    FROM (SELECT series_key, run_id, case_id, block, median(elapsed_s) AS median_s, min(started_at) AS begins
          FROM timed WHERE list_contains($keys, series_key) GROUP BY ALL) GROUP BY ALL"""
DAY_S = 86400


@dataclass(frozen=True)
class Side:
    """Selected results: the words for them, and their rows.

    blocks: a row per process and case with its median. failed: a row per case that has failures.
    facts: a row per process with the known facts about its node. history: for each of its series every run in that
    store, by name. accepted: for each series the runs with which a baseline began.
    """

    choice: str
    runs: tuple[str, ...]
    blocks: list[Row]
    failed: list[Row]
    facts: list[Row]
    history: dict[str, dict[str, Run]]
    accepted: dict[str, set[str]]


def select(out: Path, choice: str) -> Side:
    """Select results by a word or by terms of the form key=value; docs/statistics.md lists all forms."""
    path = Path(os.path.expanduser(choice))
    if path.suffix == ".parquet" or any(os.path.isdir(path / part) for part in ("samples", "journal")):
        with _store_of(path) as store:
            return side(Session(store), choice, "true", {})
    session = Session(Store.at(out))
    where, parameters = _where(session, out, choice)
    return side(session, choice, where, parameters)


def side(session: Session, choice: str, where: str, parameters: Row) -> Side:
    """Select the results that fulfil a condition in SQL with its parameters; choice: its form for people."""
    blocks = session.table(
        f"""SELECT run_id, case_id, series_key, block, {_any_of(CASE)},
                   median(elapsed_s) AS median_s, count(*) AS n, min(started_at) AS begins,
                   max(n_cells) AS n_cells, count(*) FILTER (flags <> '') AS n_flagged,
                   list_sort(list(DISTINCT mask_sha256) FILTER (mask_sha256 IS NOT NULL)) AS masks
            FROM timed WHERE {where} GROUP BY run_id, case_id, series_key, block
            ORDER BY run_id, node, device, case_id, block""",
        **parameters,
    ).to_pylist()
    failed = session.table(
        f"""SELECT {", ".join(FAILED_BY)}, {_any_of(identity.without(CASE, FAILED_BY))},
                   min(status) AS status, count(*) AS n
            FROM samples WHERE role = '{Role.TIMED}' AND {FAILED} AND {where} GROUP BY {", ".join(FAILED_BY)}""",
        **parameters,
    ).to_pylist()
    if not blocks and not failed:
        raise CellbenchError("nothing was timed there", choice, "see the runs there are: cellbench list")
    runs = tuple(sorted({row["run_id"] for row in blocks}))
    facts = session.table("SELECT * FROM environments WHERE list_contains($runs, run_id)", runs=list(runs)).to_pylist()
    places = {(row["run_id"], row["node"], row["device"]) for row in blocks}
    known = [row for row in facts if (row["run_id"], row["node"], row["device"]) in places]
    history: dict[str, dict[str, Run]] = {}
    for row in session.table(_HISTORY, keys=sorted({row["series_key"] for row in blocks})).to_pylist():
        run = Run(row["run_id"], row["begins"].timestamp() / DAY_S, tuple(row["medians_s"]))
        history.setdefault(row["series_key"], {})[run.name] = run
    accepted: dict[str, set[str]] = {}
    for each in annotations.read(Path(session.store.root)):
        if each.kind == "accepted" and each.metric == "time":
            for key in session.series_now(each.series_key):
                accepted.setdefault(key, set()).add(each.run_id)
    return Side(choice, runs, blocks, failed, known, history, accepted)


def _any_of(columns: Iterable[str]) -> str:
    return ", ".join(f"any_value({name}) AS {name}" for name in columns)


def _where(session: Session, out: Path, choice: str) -> tuple[str, Row]:
    """A condition in SQL, with its parameters, for a choice."""
    if "=" in choice:
        return _terms(session, out, choice)
    runs = _runs(session)
    if run := _run(runs, choice):
        return "run_id = $p0", {"p0": run}
    if DATE.fullmatch(choice):
        return _dated("date", choice)
    if tagged := _tagged(out, choice):
        return "list_contains($p0, run_id)", {"p0": tagged}
    of_node = session.table("SELECT DISTINCT run_id FROM samples WHERE node = $node", node=choice)["run_id"].to_pylist()
    if of_node:
        return "node = $p0 AND run_id = $p1", {"p0": choice, "p1": past_runs(of_node)[-1]}
    raise CellbenchError(
        f"there is no run, date, tag, node or file called {choice!r}", None,
        f"runs: {', '.join(runs[-3:]) or 'none'}; also latest, previous, 2026-01-31, 2026-01-01..2026-01-31, "
        f"key=value,… with {', '.join(KEYS)}, a results folder or a Parquet file",
    )  # fmt: skip


def _runs(session: Session) -> list[str]:
    return session.table("SELECT DISTINCT run_id FROM samples ORDER BY run_id")["run_id"].to_pylist()


def run(session: Session, word: str) -> str:
    """The run that a word selects; CellbenchError where there is none."""
    runs = _runs(session)
    if not (found := _run(runs, word)):
        raise CellbenchError(f"there is no run {word}", None, "the newest are " + (", ".join(runs[-5:]) or "none"))
    return found


def _run(runs: list[str], word: str) -> str | None:
    """The run of this name, or the only one that begins so; latest and previous count from the end."""
    if word in ("latest", "previous"):
        past = past_runs(runs)
        return past[-1 - (word == "previous")] if len(past) > (word == "previous") else None
    matching = [run for run in runs if run == word] or [run for run in runs if word and run.startswith(word)]
    if len(matching) > 1:
        raise CellbenchError("this begins the name of several runs", word, "one of " + ", ".join(matching[-5:]))
    return matching[0] if matching else None


def _terms(session: Session, out: Path, choice: str) -> tuple[str, Row]:
    conditions, parameters = [], {}
    for i, term in enumerate(choice.split(",")):
        key, _, value = (part.strip() for part in term.partition("="))
        name = f"p{i}"
        if key == "date":
            condition, more = _dated(name, value)
        elif key == "tag":
            condition, more = f"list_contains(${name}, run_id)", {name: _tagged(out, value) or [""]}
        elif key == "run":
            condition, more = f"run_id = ${name}", {name: _run(_runs(session), value) or value}
        elif key in CHOICES:
            value = canonical(value) if key == "variant" else value
            condition, more = f"CAST({CHOICES[key]} AS VARCHAR) = ${name}", {name: value}
        else:
            raise CellbenchError(f"{key!r} is not a key", choice, f"keys: {', '.join(KEYS)}")
        conditions.append(condition)
        parameters |= more
    return " AND ".join(conditions), parameters


def _dated(name: str, text: str) -> tuple[str, Row]:
    """A day or days in UTC, from run_id."""
    if not (match := DATE.fullmatch(text)):
        raise CellbenchError(f"{text!r} is not a valid date", None, "write 2026-01-31 or 2026-01-01..2026-01-31")
    first, last = (day.replace("-", "") for day in (match[1], match[2] or match[1]))
    return f"substr(run_id, 1, 8) BETWEEN ${name}a AND ${name}b", {f"{name}a": first, f"{name}b": last}


def _tagged(out: Path, name: str) -> list[str]:
    return [
        each.run_id for each in annotations.read(Path(Store.at(out).root)) if each.kind == "tag" and each.name == name
    ]


@contextmanager
def _store_of(path: Path) -> Iterator[Store]:
    """A store over a results folder or a single Parquet file, with the store's own checks."""
    if os.path.isdir(path):
        yield Store.at(path)
        return
    if not os.path.isfile(path):
        raise CellbenchError("there is no such file", str(path), "give a Parquet file, or a folder of results")
    with TemporaryDirectory(prefix="cellbench-") as scratch:
        folder = Path(scratch) / "samples"
        folder.mkdir()
        copyfile(path, folder / path.name)
        yield Store.at(scratch)

"""Rewrite the tables and quoted sentences of docs/findings.md from results/reference/; then read the other text.

    python scripts/findings.py [--check]

A figure in bold belongs to the next query below it and has to be in that query's table. Below a command `cellbench
report --run RUN` stand the report's sentences that answer the question which the command's comment quotes. --check
changes nothing.
Exit code 1 if a sentence contradicts its table, or (with --check) a table is not what its query gives.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.query import Session
from harness.report import narrative
from harness.results import scope, tables
from harness.store import Store

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "findings.md"
QUERY = re.compile(r"```sql\n(.*?)```\n(?:\n((?:\|[^\n]*\n)+))?", re.DOTALL)
REPORT = re.compile(
    r"(```sh\ncellbench report --out results/reference --run (\S+) --md  # (.*)\n```\n)(?:\n((?:> [^\n]*\n)+))?"
)
NUMBER = re.compile(r"\*\*(\d[\d.,]*)\*\*")


@dataclass(frozen=True)
class Finding:
    """A query, the table under it, its current result, and the figures of the text that this lacks."""

    sql: str
    written: str
    table: str
    unbacked: tuple[str, ...]


def findings(text: str, session: Session) -> list[Finding]:
    """Every query of the document, with what it gives and the figures that rest on it."""
    found, begin = [], 0
    for match in QUERY.finditer(text):
        table = render(session, match[1])
        cells = {cell.strip() for line in table.splitlines()[2:] for cell in line.split("|")}
        output = NUMBER.findall(text[begin : match.start()])
        unbacked = tuple(figure for figure in output if figure not in cells)
        found.append(Finding(match[1], match[2] or "", table, unbacked))
        begin = match.end()
    return found


@dataclass(frozen=True)
class Quoted:
    """The sentences under a command, and the current sentences of the report."""

    written: str
    now: str


def quoted(text: str, session: Session) -> list[Quoted]:
    """Every quotation of a report."""
    return [Quoted(match[4] or "", _sentences(session, match[2], match[3])) for match in REPORT.finditer(text)]


def _sentences(session: Session, run: str, question: str) -> str:
    data = tables.load(session, scope.resolve(session, run), with_published=False)
    [found] = [each.sentences for each in narrative.answers(data) if each.question.startswith(question)]
    return "".join(f"> {sentence}\n" for sentence in found)


def render(session: Session, sql: str) -> str:
    """A query's rows as a Markdown table."""
    rows = session.table(sql)
    lines = [rows.column_names, ["---"] * rows.num_columns]
    lines += [["" if value is None else str(value) for value in row.values()] for row in rows.to_pylist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rewritten(text: str, found: list[Finding], output: list[Quoted]) -> str:
    """The document with the current tables and quotations."""
    now, quotations = iter(found), iter(output)
    text = QUERY.sub(lambda match: f"```sql\n{match[1]}```\n\n{next(now).table}", text)
    return REPORT.sub(lambda match: f"{match[1]}\n{next(quotations).now}", text)


def main() -> int:
    text = DOCUMENT.read_text()
    session = Session(Store.at(ROOT / "results" / "reference"))
    found, output = findings(text, session), quoted(text, session)
    wrong = [f"not in its table: {', '.join(each.unbacked)}\n{each.sql}" for each in found if each.unbacked]
    if "--check" in sys.argv:
        wrong += [f"another table now:\n{each.table}" for each in found if each.written != each.table]
        wrong += [f"other sentences now:\n{each.now}" for each in output if each.written != each.now]
    else:
        DOCUMENT.write_text(rewritten(text, found, output))
    print("\n".join(wrong) or f"{len(found)} queries, {len(output)} reports: all is as written", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Write the tables of docs/findings.md anew from results/; then read its sentences again.

    python scripts/findings.py [--check]

A figure in bold belongs to the next query below it and has to be in that query's table. --check changes nothing.
Exit code 1 if a sentence says something else than its table, or (with --check) a table is not what its query gives.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.query import Session
from harness.store import Store

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "findings.md"
QUERY = re.compile(r"```sql\n(.*?)```\n(?:\n((?:\|[^\n]*\n)+))?", re.DOTALL)
NUMBER = re.compile(r"\*\*(\d[\d.,]*)\*\*")


@dataclass(frozen=True)
class Finding:
    """A query, the table under it, the table that it gives now, and what the text above says that is not in it."""

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
        said = NUMBER.findall(text[begin : match.start()])
        unbacked = tuple(figure for figure in said if figure not in cells)
        found.append(Finding(match[1], match[2] or "", table, unbacked))
        begin = match.end()
    return found


def render(session: Session, sql: str) -> str:
    """A query's rows as a Markdown table."""
    rows = session.table(sql)
    lines = [rows.column_names, ["---"] * rows.num_columns]
    lines += [["" if value is None else str(value) for value in row.values()] for row in rows.to_pylist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rewritten(text: str, found: list[Finding]) -> str:
    """The document with each table as it is now."""
    tables = iter(found)
    return QUERY.sub(lambda match: f"```sql\n{match[1]}```\n\n{next(tables).table}", text)


def main() -> int:
    text = DOCUMENT.read_text()
    found = findings(text, Session(Store.at(ROOT / "results")))
    wrong = [f"not in its table: {', '.join(each.unbacked)}\n{each.sql}" for each in found if each.unbacked]
    if "--check" in sys.argv:
        wrong += [f"another table now:\n{each.table}" for each in found if each.written != each.table]
    else:
        DOCUMENT.write_text(rewritten(text, found))
    print("\n".join(wrong) or f"{len(found)} queries, each figure in its table", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

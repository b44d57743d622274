"""docs/findings.md says what its queries and the reports give, and nothing that they do not."""

import shutil
import sys

import pytest

from harness.query import Session
from harness.results import scope, sentences, speedups, tables
from harness.results.formatting import number
from harness.store import Store
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import findings

TEXT = (REPOSITORY / "docs" / "findings.md").read_text()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(REPOSITORY / "results" / "reference" / "samples", root / "samples")
    return Session(Store(root))


def test_every_table_is_what_its_query_gives_and_backs_the_figures_above_it(session: Session) -> None:
    found = findings.findings(TEXT, session)
    assert len(found) >= 5
    for each in found:
        assert each.written == each.table, "python scripts/findings.py writes the tables anew"
        assert each.unbacked == ()
        assert each.table.count("\n") > 2, "a query without rows backs nothing"


def test_every_quoted_sentence_is_what_the_report_says(session: Session) -> None:
    output = findings.quoted(TEXT, session)
    assert len(output) >= 8
    for each in output:
        assert each.now
        assert each.written == each.now, "python scripts/findings.py quotes anew"


def test_a_sentence_that_the_report_does_not_say_is_noticed(session: Session) -> None:
    command = "```sh\ncellbench report --out results/reference --run 20261123T192048Z-15a1d5 --md  # How fast\n```\n"
    text = f"{command}\n> It takes no time.\n"
    [output] = findings.quoted(text, session)
    assert (output.written, "112" in output.now) == ("> It takes no time.\n", True)
    assert findings.rewritten(text, [], [output]) == f"{command}\n{output.now}"


def test_the_times_of_the_readme_are_those_of_the_reports(session: Session) -> None:
    readme = (REPOSITORY / "README.md").read_text().replace("\u00a0", " ")
    for run in ("20261126T050820Z-328f48", "20261123T192048Z-15a1d5"):
        data = tables.load(session, scope.resolve(session, run), with_published=False)
        for row, known in zip(data.cases, speedups.medians(data), strict=True):
            if row["crop"] in ("224", "full") and row["variant"] == "stock":
                ends = (known.low, known.high) if known.low else (known.least, known.most)
                kind = "" if known.low else "range "
                text = f"| {sentences.seconds(known.value)} ({kind}{'–'.join(map(number, ends))}) |"
                assert text.replace("\u00a0", " ") in readme


def test_a_figure_that_no_table_has_is_noticed(session: Session) -> None:
    text = "It took **41.5** s and **2**.\n\n```sql\nSELECT 2 AS a\n```\n\n| a |\n| --- |\n| 2 |\n"
    [found] = findings.findings(text, session)
    assert found.unbacked == ("41.5",)
    assert findings.rewritten(text, [found], []) == text


def test_the_queries_for_what_is_still_to_be_measured_are_sql(session: Session) -> None:
    last = TEXT[TEXT.index("## What is still to be measured") :]
    queries = [cell.strip(" `") for cell in last.split("|") if cell.strip().startswith("`SELECT")]
    assert len(queries) == 4
    for sql in queries:
        session.table(sql)

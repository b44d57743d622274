"""docs/findings.md says what its queries give, and nothing that they do not."""

import shutil
import sys

import pytest

from harness.query import Session
from harness.store import Store
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import findings

TEXT = (REPOSITORY / "docs" / "findings.md").read_text()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(REPOSITORY / "results" / "samples", root / "samples")
    return Session(Store(root))


def test_every_table_is_what_its_query_gives_and_backs_the_figures_above_it(session: Session) -> None:
    found = findings.findings(TEXT, session)
    assert len(found) >= 5
    for each in found:
        assert each.written == each.table, "python scripts/findings.py writes the tables anew"
        assert each.unbacked == ()
        assert each.table.count("\n") > 2, "a query without rows backs nothing"


def test_a_figure_that_no_table_has_is_noticed(session: Session) -> None:
    text = "It took **41.5** s and **2**.\n\n```sql\nSELECT 2 AS a\n```\n\n| a |\n| --- |\n| 2 |\n"
    [found] = findings.findings(text, session)
    assert found.unbacked == ("41.5",)
    assert findings.rewritten(text, [found]) == text


def test_the_queries_for_what_is_still_to_be_measured_are_sql(session: Session) -> None:
    last = TEXT[TEXT.index("## What is still to be measured") :]
    queries = [cell.strip(" `") for cell in last.split("|") if cell.strip().startswith("`SELECT")]
    assert len(queries) == 4
    for sql in queries:
        session.table(sql)

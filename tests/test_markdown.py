"""Tables as a Markdown parser reads them, whatever the cells hold."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness import markdown
from harness.query import dictionary
from harness.terminal import table_printer, writers

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
NASTY = [
    "a|b",
    r"a\|b",
    "a\\",
    "\\|",
    "||",
    "a\nb",
    "| a |",
    "`a|b`",
    "<b>x</b>",
    "*x*",
    "@all",
    "",
    "a\r\n|",
    "_x_ [y](z)",
]
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(alphabet="ab|\\`*_<>&@[]# \n\r\v\x85\u2028", max_size=8))


def shape(text: str) -> list[int]:
    """How many cells each row of the only table has."""
    tokens = PARSER.parse(text)
    assert [token.type for token in tokens if token.level == 0 and token.nesting >= 0] == ["table_open"]
    rows, current = [], 0
    for token in tokens:
        current += token.type in ("th_open", "td_open")
        if token.type == "tr_close":
            rows.append(current)
            current = 0
    return rows


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_no_cell_ends_its_row_or_its_column(rows: list[tuple[str, str, str]]) -> None:
    for escape in (str, markdown.escaped):
        text = "\n".join(markdown.table(("a", "b", "c"), [[escape(cell) for cell in row] for row in rows]))
        assert shape(text) == [3] * (len(rows) + 1)


@given(TEXTS)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    line = "\n".join(markdown.table(("x",), [[markdown.escaped(text)]]))
    inline = [token for token in PARSER.parse(line) if token.type == "inline"][1]
    shown = "".join(child.content for child in inline.children or [])
    assert {child.type for child in inline.children or []} <= {"text", "text_special"}
    assert shown.replace("\u200b", "").split() == text.split()


def test_numbers_are_aligned_to_the_right() -> None:
    _, between, _ = markdown.table(("a", "n"), [["x", "1"]], numeric=[1])
    assert between == "|---|---:|"


@pytest.mark.parametrize("cell", NASTY)
def test_every_writer_keeps_its_columns(cell: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    columns = [table_printer.Column(name, name == "c") for name in "abcd"]
    table_printer.print_rows(columns, [[cell, cell, "1", cell]], "md")
    assert shape(capsysbinary.readouterr().out.decode()) == [4, 4]
    found = pa.table({"a": [cell], "n": [1], "b": [cell]})
    writers.show(found.schema, found.to_batches(), "md")
    printed = capsysbinary.readouterr().out.decode()
    assert shape(printed) == [3, 3]
    assert printed.splitlines()[1] == "|---|---:|---|"


def test_the_dictionary_is_made_of_tables() -> None:
    text = dictionary.page()
    tables = re.findall(r"^\| (?:column|view|macro|query) .*\n(?:\|.*\n?)+", text, re.MULTILINE)
    assert len(tables) > 20
    assert all(len(set(shape(table))) == 1 for table in tables)

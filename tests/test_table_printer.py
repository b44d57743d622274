"""Tables for people: at every width nothing is cut, what matters most stays, and what is left out is named."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.terminal.table_printer import STYLES, Column, fitted

WIDTHS = (60, 80, 120, 200)
WORDS = st.text("abcdefgh çé日本 [/]µ", max_size=40)
NUMBERS = st.one_of(st.floats(0, 1e6).map("{:.3g}".format), st.integers(0, 10**6).map(str), st.just(""))
COLUMNS = st.builds(
    Column,
    st.text("abcdefghij (s)_", min_size=1, max_size=18),
    is_number=st.booleans(),
    order=st.integers(0, 9),
    is_whole=st.booleans(),
)


def printed(columns: list[Column], rows: list[list[str]], width: int, **options: object) -> tuple[str, list[str]]:
    table, left_out = fitted(columns, rows, width)
    console = Console(width=width, file=io.StringIO(), highlight=False, **options)
    console.print(table)
    return console.file.getvalue(), left_out


def bare(text: str) -> str:
    """Text without any space, since a cell may be wrapped and padded."""
    return "".join(text.split())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Column], list[list[str]]]:
    columns = draw(st.lists(COLUMNS, min_size=1, max_size=12))
    row = st.tuples(*(NUMBERS if column.is_number else WORDS for column in columns)).map(list)
    return columns, draw(st.lists(row, min_size=1, max_size=4))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(table=tables(), width=st.sampled_from(WIDTHS))
def test_nothing_is_cut_at_any_width(table: tuple[list[Column], list[list[str]]], width: int) -> None:
    columns, rows = table
    text, left_out = printed(columns, rows, width)
    kept = [i for i, column in enumerate(columns) if column.name not in left_out]
    shown = sorted(bare(text))
    for i in kept:  # a wrapped cell stands on several lines, between those of other cells
        for row in rows:
            assert not set(bare(row[i])) - set(shown)
    assert len(shown) >= sum(len(bare(row[i])) for i in kept for row in rows)
    assert "…" not in text
    assert all(columns[i].order for i in range(len(columns)) if i not in kept)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(table=tables(), widths=st.lists(st.sampled_from(WIDTHS), min_size=2, max_size=2, unique=True))
def test_a_wider_terminal_shows_no_less(table: tuple[list[Column], list[list[str]]], widths: list[int]) -> None:
    narrow, wide = (set(fitted(*table, width)[1]) for width in sorted(widths))
    assert wide <= narrow


def test_columns_leave_in_their_order_and_ids_stay_whole() -> None:
    run = "20261126T050820Z-328f48"
    columns = [
        Column("run", is_whole=True),
        Column("time (s)", True),
        Column("IQR (s)", True, 2),
        Column("what", order=5),
    ]
    rows = [[run, "1.5", "1.4 – 1.6", "words " * 12], [run, "35.25", "", ""]]
    found = {width: printed(columns, rows, width) for width in (66, 44, 33, 20)}
    assert [left_out for _, left_out in found.values()] == [[], ["what"], ["IQR (s)", "what"], ["IQR (s)", "what"]]
    for width, (text, _) in found.items():
        assert run in text if width > len(run) else run in bare(text)
        assert all(len(line) <= width for line in text.splitlines())


def test_decimal_points_stand_below_each_other() -> None:
    text, _ = printed([Column("s", True)], [["0.446"], ["35.2"], ["111"], [""]], 80)
    assert [line.rstrip() for line in text.splitlines()[1:4]] == ["  0.446", " 35.2", "111"]


@pytest.mark.parametrize("word", STYLES)
def test_states_have_colours_only_on_a_terminal(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[3" in printed([Column("verdict")], [[word]], 80, force_terminal=True, color_system="standard")[0]
    assert "\x1b" not in printed([Column("verdict")], [[word]], 80)[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed([Column("verdict")], [[word]], 80, force_terminal=True, color_system="standard")[0]

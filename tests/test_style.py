"""All pages of the project, at its top and in docs/, and the help texts follow docs/STYLE.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

GUIDE = REPOSITORY / "docs" / "STYLE.md"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(set((REPOSITORY / "docs").rglob("*.md")) - {GUIDE})]
MODULES = sorted((REPOSITORY / "harness" / "cli").glob("*.py"))
WORDS_MAX, HELP_WORDS_MAX = 30, 20
DOTS_MAX = 2  # of a chain of three items
CODE = "CODE"  # stands for code within a line, and for a list of it


def avoided() -> dict[str, re.Pattern[str]]:
    """The words that the guide's table says to avoid."""
    table = GUIDE.read_text("utf-8").partition("| avoid | use |\n|---|---|\n")[2].partition("\n\n")[0]
    phrases = [phrase for row in table.splitlines() for phrase in row.split(" | ")[0].strip("| ").split(", ")]
    return {phrase: _pattern(phrase) for phrase in phrases}


def _pattern(phrase: str) -> re.Pattern[str]:
    begin, end = (r"(?<![\w-])" if phrase[0].isalnum() else "", r"(?![\w-])" if phrase[-1].isalnum() else "")
    return re.compile(begin + re.escape(phrase).replace(r"\ ", r"\s+") + end, re.IGNORECASE)


AVOIDED = avoided()


def blocks(text: str) -> Iterator[str]:
    """Headings, paragraphs, list items and table rows of a page, without code and quoted output of the program."""
    block: list[str] = []
    is_code, before = False, ""
    for line in re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        is_code = line.startswith("    ") and (is_code or not before.strip() or before.startswith("#"))
        is_new = not line.strip() or is_code or before.startswith("#") or re.match(r" *([-*>|#]|\d+\.) ", line)
        before = line
        if is_new and block:
            yield " ".join(block)
            block = []
        if line.strip() and not is_code and not line.startswith(">"):
            block.append(line.strip())
    if block:
        yield " ".join(block)


def plain(block: str) -> str:
    """A block without its markup; code is one word, and so is a list of code."""
    text = re.sub(r"`[^`]*`", CODE, block)
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[\w+\])", r"\1", text)
    return re.sub(rf"{CODE}((, (and |or )?| and | or ){CODE})+", CODE, text.replace("*", ""))


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\"? (?=[\"(]?[A-Z\d])", text)


def flaws(block: str, words_max: int) -> list[str]:
    """What the guide objects to in a block."""
    text = plain(block)
    found = [f"{phrase!r} in: {text[:160]}" for phrase, pattern in AVOIDED.items() if pattern.search(text)]
    if block.startswith("|"):
        return found
    for each in sentences(text):
        if len(re.findall(r"\S*\w\S*", each)) > words_max:
            found.append(f"more than {words_max} words: {each}")
        if each.rstrip(";").count(";") > 1:
            found.append(f"more than one semicolon: {each}")
        if each.count(" · ") > DOTS_MAX:
            found.append(f"a chain of items: {each}")
    return found


def help_texts(path: Path) -> Iterator[str]:
    """Docstrings, whose first parts are help texts, and the texts of options, by paragraph."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from (ast.get_docstring(node) or "").split("\n\n")
        elif isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield node.value.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_follows_the_guide(page: Path) -> None:
    assert [flaw for block in blocks(page.read_text("utf-8")) for flaw in flaws(block, WORDS_MAX)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_help_texts_follow_the_guide(module: Path) -> None:
    assert [flaw for text in help_texts(module) for flaw in flaws(" ".join(text.split()), HELP_WORDS_MAX)] == []


@pytest.mark.parametrize("phrase", AVOIDED)
def test_each_avoided_word_is_found_at_the_end_of_a_line_too(phrase: str) -> None:
    [block] = blocks(f"The text before\n{phrase.replace(' ', chr(10))} and after.\n")
    assert any(flaw.startswith(repr(phrase)) for flaw in flaws(block, WORDS_MAX))


@pytest.mark.parametrize(
    ("text", "n_flaws"),
    [
        ("One " * 30 + "end.", 1),
        ("One " * 29 + "end. " + "Two " * 29 + "end.", 0),
        ("- " + "one " * 31 + "\n- two", 1),
        ("One; two; three.", 1),
        ("- One; two;", 0),
        ("One · two · three · four", 1),
        ("One · two · three", 0),
        ("| beside |", 1),
        ("| " + "one " * 50 + "|", 0),
        ("`beside`, ``` is not seen ```", 0),
        ("Type:\n\n    it tells\n\nThen read.", 0),
        ("1. An item\n    that tells.", 1),
        ("# Heading\n    code that tells\n", 0),
        ("# " + "one " * 20 + "\n" + "two " * 20, 0),
        ("```sh\nit tells\n```", 0),
        ("> It tells.", 0),
        ("[beside](page.md)", 1),
        ("[page](beside.md)", 0),
        ("`a`, `b` and `c` " * 31, 1),
        ("`a`, " * 50 + "and `b`.", 0),
    ],
)
def test_what_is_and_what_is_not_checked(text: str, n_flaws: int) -> None:
    assert len([flaw for block in blocks(text) for flaw in flaws(block, WORDS_MAX)]) == n_flaws


def test_the_guide_and_the_readme_are_short() -> None:
    assert len(GUIDE.read_text("utf-8").splitlines()) <= 80
    assert len((REPOSITORY / "README.md").read_text("utf-8").splitlines()) <= 120

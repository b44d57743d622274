"""Pages at the top and in docs/, help texts, messages, docstrings and comments follow docs/STYLE.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

GUIDE = REPOSITORY / "docs" / "STYLE.md"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(set((REPOSITORY / "docs").rglob("*.md")) - {GUIDE})]
CLI = REPOSITORY / "harness" / "cli"
PACKAGES = sorted({path.parent for path in (REPOSITORY / "harness").rglob("*.py")})
PROGRAMS = [*PACKAGES, *(REPOSITORY / name for name in ("cellbench", "scripts", "scripts/benchmarks"))]
WORDS_MAX, DOCSTRING_WORDS_MAX, HELP_WORDS_MAX = 30, 22, 20
DOTS_MAX = 2  # of a chain of three items
CODE = "CODE"  # stands for code within a line, and for a list of it
NAME = re.compile(r"\w*")  # of a column, a flag, a parameter; a literal of this kind is no text
PROGRAM = re.compile(r"\b(SELECT|FROM|WHERE|Wants=)|=>|Connection refused")  # SQL, JavaScript, systemd, errno
UNIT = re.compile(r"(?<=\s)\(s\)")


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


def avoid(block: str) -> list[str]:
    """The avoided words in a block."""
    text = plain(block)
    return [f"{phrase!r} in: {text[:160]}" for phrase, pattern in AVOIDED.items() if pattern.search(text)]


def flaws(block: str, words_max: int) -> list[str]:
    """What the guide objects to in a block."""
    text, found = plain(block), avoid(block)
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


def documented(tree: ast.AST) -> Iterator[tuple[ast.Constant, str]]:
    """Each docstring: its literal, and its text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body, ast.get_docstring(node):
                case [ast.Expr(value=ast.Constant() as literal), *_], str(text):
                    yield literal, text


def docstrings(source: str) -> Iterator[list[str]]:
    """The paragraphs of each docstring; the first is a sentence about the whole."""
    for _, text in documented(ast.parse(source)):
        yield [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def comments(source: str) -> Iterator[str]:
    """Every comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from (token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)


def messages(source: str) -> Iterator[str]:
    """Every string literal that a user may see: no docstrings, no names, no SQL."""
    tree = ast.parse(source)
    others = {id(literal) for literal, _ in documented(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in others and not NAME.fullmatch(text):
                if not PROGRAM.search(text):
                    yield " ".join(UNIT.sub(CODE, text).split())


def help_texts(source: str) -> Iterator[str]:
    """Docstrings, whose first parts are help texts, and the texts of options, by paragraph."""
    for paragraphs in docstrings(source):
        yield from paragraphs
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield " ".join(node.value.value.split())


def sources(package: Path) -> list[tuple[str, str]]:
    """Name and text of each module of a package."""
    return [(path.name, path.read_text("utf-8")) for path in sorted(package.glob("*.py"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_follows_the_guide(page: Path) -> None:
    assert [flaw for block in blocks(page.read_text("utf-8")) for flaw in flaws(block, WORDS_MAX)] == []


@pytest.mark.parametrize("module", sources(CLI), ids=lambda module: module[0])
def test_help_texts_follow_the_guide(module: tuple[str, str]) -> None:
    assert [flaw for text in help_texts(module[1]) for flaw in flaws(text, HELP_WORDS_MAX)] == []


@pytest.mark.parametrize("package", PROGRAMS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_messages_avoid_the_words_of_the_guide(package: Path) -> None:
    assert [
        f"{name}: {flaw}" for name, source in sources(package) for text in messages(source) for flaw in avoid(text)
    ] == []


@pytest.mark.parametrize("package", PROGRAMS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_docstrings_and_comments_follow_the_guide(package: Path) -> None:
    found = []
    for name, source in sources(package):
        for first, *others in docstrings(source):
            found += [(name, flaw) for flaw in flaws(first, DOCSTRING_WORDS_MAX)]
            found += [(name, flaw) for text in others for flaw in avoid(text)]
        found += [(name, flaw) for text in comments(source) for flaw in avoid(text)]
    assert found == []


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


@pytest.mark.parametrize(
    ("source", "kind", "n_flaws"),
    [
        ('"""It tells."""', "docstring", 1),
        ('def f():\n    """It tells."""', "docstring", 1),
        ('async def f():\n    """It tells."""', "docstring", 1),
        ('class A:\n    """A class.\n\n    It tells.\n    """', "docstring", 1),
        ('"""It tells."""', "message", 0),
        ('print("it tells")', "message", 1),
        ('print(f"it {x} tells {y}")', "message", 1),
        ('raise ValueError("it "\n    "tells")', "message", 1),
        ('row["told"]', "message", 0),
        ('query("SELECT told FROM told")', "message", 0),
        ('Column("median (s)")', "message", 0),
        ('print("3 case(s)")', "message", 1),
        ("x = 1  # it tells", "comment", 1),
        ("told = 1  # a name", "comment", 0),
    ],
)
def test_texts_of_a_module_are_found(source: str, kind: str, n_flaws: int) -> None:
    texts = {
        "docstring": [text for each in docstrings(source) for text in each],
        "message": messages(source), "comment": comments(source),
    }  # fmt: skip
    assert len([flaw for text in texts[kind] for flaw in avoid(text)]) == n_flaws


def test_the_guide_and_the_readme_are_short() -> None:
    assert len(GUIDE.read_text("utf-8").splitlines()) <= 80
    assert len((REPOSITORY / "README.md").read_text("utf-8").splitlines()) <= 120

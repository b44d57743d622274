"""Links between pages lead to files and headings that exist, and command lines of code blocks can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness.cli.app import app
from tests.conftest import CPU, CUDA, REPOSITORY, RUN_ID, simulated

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^ *(?:\.venv/bin/)?cellbench (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[\w+\]: (\S+)", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> Iterator[str]:
    """Links of a page within the project that lead nowhere."""
    for inline, reference in LINK.findall(text):
        link = inline or reference
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "n_broken"),
    [
        ("[a](STYLE.md)", 0),
        ("[a](STYLE.md#words-to-avoid)", 0),
        ("![a](gallery/time.png)", 0),
        ("[a](https://example.org/x)", 0),
        ("[a](nowhere.md)", 1),
        ("[a](STYLE.md#nowhere)", 1),
        ("[a]: nowhere.md", 1),
    ],
)
def test_a_broken_link_is_found(text: str, n_broken: int) -> None:
    assert len(list(broken(REPOSITORY / "docs" / "page.md", text))) == n_broken


def command_lines(text: str) -> list[str]:
    """The command lines of this program in code blocks, up to a redirection, a pipe or a comment."""
    fenced = "".join(re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    indented = "\n".join(line for line in text.replace("\\\n", "").splitlines() if line.startswith("    "))
    return COMMAND.findall(f"{fenced}\n{indented}")


def parse(line: str) -> None:
    """Parse a command line as the program does, without running it; an error of usage is raised."""
    words = shlex.split(line, comments=True)
    words = words[: next((i for i, word in enumerate(words) if word in (">", "|", "<", "&&")), len(words))]
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    while hasattr(command, "get_command") and words:
        command, words = command.get_command(context, words[0]), words[1:]
    command.make_context("cellbench", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_can_be_typed(page: Path) -> None:
    for line in command_lines(page.read_text("utf-8")):
        parse(line)


def test_the_pages_have_command_lines() -> None:
    assert sum(len(command_lines(page.read_text("utf-8"))) for page in PAGES) > 60


@pytest.mark.parametrize(
    "line", ["chart model-cost", "run --nowhere", "compare latest", "estimate 500 --size 1024 more"]
)
def test_a_command_line_that_cannot_be_typed_is_found(line: str) -> None:
    [found] = command_lines(f"```sh\ncellbench {line}\n```\n")
    with pytest.raises(Exception, match=r".") as caught:
        parse(found)
    assert type(caught.value).__name__ in ("MissingParameter", "NoSuchOption", "UsageError")


READERS = {"show", "list", "query", "report", "chart", "schema", "estimate", "anonymise", "export"}
# What a line needs that the store of the test does not have.
ELSEWHERE = ("s3://", "question.sql", "results/reference", "20260102T030405Z", "KEY", "model-cost", "--since")
LINES = sorted(
    {line for page in PAGES for line in command_lines(page.read_text("utf-8")) if line.split()[0] in READERS}
)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if not any(word in line for word in ELSEWHERE)])
def test_a_line_that_reads_results_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is a store with one run of two devices at two sizes."""
    simulated(tmp_path / "results", [CPU, CUDA])
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)
    words = [RUN_ID if word == "RUN" else word.lstrip("\\") for word in words if word != "--open"]
    if words == ["query"]:
        words.append("--list")  # the line alone opens a prompt
    done = CliRunner().invoke(app, [word.replace("\\$", "$") for word in words])
    assert done.exit_code == 0, (done.output, done.exception)


def test_enough_lines_are_run() -> None:
    assert len([line for line in LINES if not any(word in line for word in ELSEWHERE)]) > 20

"""Links between pages lead to files and headings that exist; command lines of code blocks can be typed, and run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness.cli.app import app
from tests.conftest import CPU, CUDA, REPOSITORY, RUN_ID, make_sample, make_store, simulated
from tests.test_exchange import ARTICLE
from tests.test_fixes import ROOT, commands_of

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


# A block of commands, fenced (`sh`) or indented, and the comment before it: the state it needs, or why it cannot run.
BLOCK = re.compile(
    r"(?:<!-- (state|not run): ([^\n]+?) -->\n+)?"
    r"(?:^```(\w*)\n(.*?)^```|((?:^    [^\n]*\n)+))", re.MULTILINE | re.DOTALL
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A command line of a page. state: the name of what it needs; reason: why the test cannot run it, or empty."""

    page: str
    text: str
    state: str
    reason: str

    @property
    def program(self) -> str:
        return self.text.split()[0].removeprefix("./").removeprefix(".venv/bin/").removeprefix("~/cellbench/bin/")


def lines_of(text: str, page: str = "") -> Iterator[Line]:
    """The lines of all code blocks, but not those that continue a list."""
    for kind, note, language, fenced, indented in BLOCK.findall(text.replace("\\\n", "")):
        for line in map(str.strip, (fenced if language == "sh" else indented).splitlines()):
            if line and not line.startswith(("- ", "#")):
                yield Line(page, line, note if kind == "state" else "results", note if kind == "not run" else "")


def command_lines(text: str) -> list[str]:
    """The command lines of this program in code blocks, up to a comment."""
    return COMMAND.findall("\n".join(line.text for line in lines_of(text)))


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


ALL = [line for page in PAGES for line in lines_of(page.read_text("utf-8"), page.name)]
OURS = [line for line in ALL if line.program == "cellbench"]
# Commands that are parsed only, and why.
PARSED = {
    **dict.fromkeys(("run", "resume", "tune", "verify-masks", "throughput", "ab", "checkup"), "measures for minutes"),
    **dict.fromkeys(("doctor",), "examines this machine"),
    **dict.fromkeys(("node", "schedule"), "starts services"),
    **dict.fromkeys(("slurm",), "submits jobs"),
    **dict.fromkeys(("engines",), "needs a network"),
    **dict.fromkeys(("cellpose",), "is the command line of another program"),
}
# Programs that are not run, and why.
PROGRAMS = {
    **dict.fromkeys(("scripts/bench", "scripts/venv", "scripts/bundle"), "installs"),
    **dict.fromkeys(("scripts/fleet", "ray"), "starts machines"),
    **dict.fromkeys(("squeue",), "is of SLURM"),
    **dict.fromkeys(("scripts/test", "scripts/docs"), "runs the tests, or is run by one"),
    **dict.fromkeys((".", "export", "mkdir", "git", "xdg-open"), "is a command of the shell or of the system"),
    **dict.fromkeys(("python3.12",), "runs on a machine without a network"),
    **dict.fromkeys(("python", "duckdb"), "is run by test_plain_access.py, or takes minutes"),
}


SERIES_KEY = make_sample(**{name: value for name, value in CPU.items() if name != "seconds"})["series_key"]


def two_runs(folder: Path) -> None:
    """A store with two runs of two devices at two sizes, the reference set, and the files that pages name."""
    simulated(folder / "results", [CPU, CUDA])
    later = {**CPU, "run_id": "20260103T030405Z-def456", "started_at": datetime(2026, 1, 3, 3, 4, 5, tzinfo=UTC)}
    simulated(folder / "results", [later])
    simulated(folder / "stick", [{**later, "run_id": "20260104T030405Z-abc456"}])
    shutil.copytree(REPOSITORY / "results" / "reference", folder / "results" / "reference")
    (folder / "question.sql").write_text("SELECT count(*) FROM samples")
    (folder / "single_run.csv").write_text(ARTICLE)
    (folder / "theirs.csv").write_text("device,height_px,width_px,elapsed_s\ncpu,224,224,1.5\n")


def two_models(folder: Path) -> None:
    """A store with the times of a model of Cellpose 3 and one of Cellpose 4 at two sizes."""
    models = {"cyto3": ("cellpose3", 1.0), "cpsam_v2": ("cellpose4", 20.0)}
    make_store(folder / "results", [
        make_sample(workload="cellpose", engine=engine, model=model, crop=str(side), height_px=side, width_px=side,
                    repetition=i, elapsed_s=elapsed_s * side**2 / 224**2 + i / 100)
        for (model, (engine, elapsed_s)), side, i in product(models.items(), (224, 448), range(3))
    ])  # fmt: skip


STATES = {"results": two_runs, "results of two models": two_models}


def test_each_block_states_what_it_needs() -> None:
    assert {line.state for line in ALL} == STATES.keys()
    for line in ALL:
        known = PARSED.keys() | commands_of(ROOT).keys() if line.program == "cellbench" else PROGRAMS
        word = line.text.split()[1] if line.program == "cellbench" else line.program
        assert line.reason or word in known, f"{line.page}: {line.text} needs <!-- not run: REASON -->"


def test_no_reason_is_left_over() -> None:
    """A command or program that no page has any more, and a block that could be run."""
    assert PROGRAMS.keys() - {"scripts/docs"} <= {line.program for line in ALL}
    assert PARSED.keys() - {"resume", "ab"} <= {line.text.split()[1] for line in OURS}


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("    cellbench show\n", "results", ""),
        ("<!-- state: results of two models -->\n```sh\ncellbench show\n```\n", "results of two models", ""),
        ("<!-- not run: needs a Mac -->\n\n    cellbench show\n", "results", "needs a Mac"),
    ],
)
def test_the_comment_before_a_block_is_read(text: str, state: str, reason: str) -> None:
    assert list(lines_of(text)) == [Line("", "cellbench show", state, reason)]


@pytest.mark.parametrize("text", sorted({line.text for line in ALL if line.program.startswith("scripts/")}))
def test_a_script_and_its_options_exist(text: str) -> None:
    words = shlex.split(text, comments=True)
    script = REPOSITORY / words[0].removeprefix("./")
    files = [script, *REPOSITORY.glob(f"{words[0].removeprefix('./')}.py")]
    source = "".join(file.read_text("utf-8") for file in files)
    options = [word for word in words if word.startswith("--")]
    assert [option for option in options if option not in source and "cellbench run" not in source] == []


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of each state, made once."""

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("state")
        STATES[name](folder)
        return folder

    return make


RUN = [line for line in OURS if not line.reason and line.text.split()[1] not in PARSED]


@pytest.mark.slow
@pytest.mark.parametrize("line", dict.fromkeys(RUN), ids=lambda line: f"{line.page}-{line.text[:40]}")
def test_a_line_runs_in_its_state(
    line: Line, states: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(states(line.state), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.text, comments=True)[1:]
    [*words, _, file] = words if "<" in words else [*words, "<", ""]
    stdin = Path(file).read_text("utf-8") if file else None
    values = {"RUN": RUN_ID, "KEY": SERIES_KEY, "/media/stick/results": str(tmp_path / "stick")}
    words = [values.get(word, word.replace("\\$", "$")) for word in words if word != "--open"]
    if words == ["query"]:
        words.append("--list")  # the line alone opens a prompt
    done = CliRunner().invoke(app, words, input=stdin)
    assert done.exit_code == 0, (done.output, done.exception)


def test_enough_lines_are_run() -> None:
    assert len(set(RUN)) > 40

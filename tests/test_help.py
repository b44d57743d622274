"""What the program says about itself: groups, examples that can be typed, versions, and the next command."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness.cli import help as help_
from harness.cli.app import app

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    with typer.Context(group, info_name=path or "cellbench") as context:
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            full = f"{path} {name}".strip()
            if not found.hidden:
                yield from commands(found, full) if hasattr(found, "list_commands") else [(full, found)]


COMMANDS = dict(commands())


def shown(*words: str, width: int = 80) -> str:
    done = CliRunner().invoke(app, list(words), terminal_width=width)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_is_in_one_group_and_has_an_example() -> None:
    assert Counter(name for names in help_.GROUPS.values() for name in names) == Counter(
        {name.split()[0]: 1 for name in COMMANDS}
    )
    assert set(help_.EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_can_be_typed_and_is_shown(name: str) -> None:
    text = shown(*name.split(), "-h")
    for example in help_.EXAMPLES[name]:
        assert example in text
        program, *words = shlex.split(example)
        assert (program, words[: len(name.split())]) == ("cellbench", name.split())
        COMMANDS[name].make_context(name, words[len(name.split()) :])  # UsageError for a flag that there is not


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("words", [(), ("node",), ("schedule",), ("engines",), ("slurm",)])
def test_no_sentence_is_cut(words: tuple[str, ...], width: int) -> None:
    lines = shown(*words, "-h", width=width).splitlines()[1:]  # the first has [OPTIONS] COMMAND [ARGS]...
    assert not [line for line in lines if line.endswith("...")]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("name", COMMANDS)
def test_values_are_named_in_words(name: str) -> None:
    options = re.findall(r"^  -.*", shown(*name.split(), "--help"), re.MULTILINE)
    assert options
    assert not [line for line in options if "<" in line.split("  ")[1]]


def test_the_program_alone_names_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = shown()
    assert "no results" in text and "cellbench run" in text
    month = tmp_path / "results/samples/month=2026-01"
    month.mkdir(parents=True)
    for name in ("20260102T030405Z-abc123-desk.parquet", "20260102T030405Z-abc123-mac.parquet", "._x.parquet"):
        (month / name).touch()
    text = shown()
    assert "1 run;" in text and "20260102T030405Z-abc123" in text and "cellbench show" in text


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_versions_are_those_of_all_parts(flag: str) -> None:
    text = shown(flag)
    assert all(word in text for word in ("cellbench 0.", "cellpose3 3.", "torch 2", "Python 3."))

"""Files and commands of a machine: what is not there, fails or hangs is None."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machine import probe_io
from harness.machine.probe_io import Sources

PYTHON = sys.executable


def test_a_command_that_prints() -> None:
    assert probe_io.run([PYTHON, "-c", "print(' 7 ')"]) == "7"


@pytest.mark.parametrize("command", [["/nowhere/tool"], [PYTHON, "-c", "print(1); raise SystemExit(3)"]])
def test_a_command_that_is_not_there_or_fails(command: list[str]) -> None:
    assert probe_io.run(command) is None


def test_a_command_that_hangs() -> None:
    assert probe_io.run([PYTHON, "-c", "import time; time.sleep(60)"], timeout_s=0.2) is None


@pytest.fixture
def told_to_go_on() -> Iterator[None]:
    """Our stdin is a pipe with a line in it, as a worker's is."""
    reader, writer = os.pipe()
    os.write(writer, b"go on\n")
    os.close(writer)
    ours = os.dup(0)
    os.dup2(reader, 0)
    yield
    os.dup2(ours, 0)
    os.close(reader)
    os.close(ours)


def test_a_command_never_reads_our_input(told_to_go_on: None) -> None:
    assert probe_io.run([PYTHON, "-c", "import sys; print(len(sys.stdin.read()))"]) == "0"


def test_files(tmp_path: Path) -> None:
    for name, text in {"one": "Apple\0\n", "empty": "\n", "number": "-7\n", "word": "<unknown>"}.items():
        (tmp_path / name).write_text(text)
    machine = Sources(tmp_path)
    assert machine.text("one") == "Apple"
    assert [machine.text(path) for path in ("empty", "none", "")] == [None] * 3
    assert (machine.number("number"), machine.number("word"), machine.number("none")) == (-7, None, None)
    assert [path.name for path in machine.paths("[nw]*")] == ["number", "word"]
    assert machine.text(machine.paths("one")[0]) == "Apple"
    assert (machine.exists("one"), machine.exists("none")) == (True, False)

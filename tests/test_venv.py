"""scripts/venv reports each cause of a failed installation in one line, and selects the build of torch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

REASONS = {
    "ERROR: [Errno 28] No space left on device": "disk is full",
    "ProxyError('Cannot connect to proxy.')": "proxy",
    "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution": "no network",
    "error: command 'gcc' failed: No such file or directory": "compiler",
    "ERROR: No matching distribution found for x==1.0": "no version",
    "ERROR: something else": "pip failed",
}
# An interpreter that has no torch, and whose pip prints a text and fails, or works.
PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
"-m pip"*) [ -z "$PIP_TEXT" ] || { echo "$PIP_TEXT" >&2; exit 1; } ;;
*"import torch"*) exit 1 ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "venv", tmp_path / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def venv(clone: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "PIP_TEXT": "", **variables}
    script = [clone / "scripts" / "venv", *words]
    return subprocess.run(script, env=environ, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("text", REASONS)
def test_a_failed_installation_is_one_line(clone: Path, text: str) -> None:
    done = venv(clone, "--torch", "cuda", PIP_TEXT=text)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("scripts/venv: ")]
    assert REASONS[text] in line
    assert not (clone / ".venv/installed").exists()


@pytest.mark.parametrize(("words", "is_cpu"), [(["--torch", "cpu"], True), (["--torch=cuda"], False)])
def test_the_build_of_torch_is_selected(clone: Path, words: list[str], is_cpu: bool) -> None:
    assert venv(clone, *words).returncode == 0
    assert ("+cpu" in (clone / "calls").read_text()) == is_cpu
    calls = (clone / "calls").read_text().splitlines()
    [package] = [i for i, line in enumerate(calls) if "--editable ." in line]
    [engine] = [i for i, line in enumerate(calls) if "--no-deps cellpose==3" in line]
    assert package < engine


def test_an_unknown_build_and_a_python_without_venv_are_reported(clone: Path) -> None:
    done = venv(clone, "--torch", "rocm")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    shutil.rmtree(clone / ".venv")
    bare = clone / "bare"
    bare.write_text('#!/bin/sh\ncase "$2" in *venv*) exit 1 ;; esac\n')
    bare.chmod(0o755)
    done = venv(clone, PYTHON=str(bare))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "python3-venv" in done.stderr

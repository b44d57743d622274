"""Ctrl-C where Python or a library would answer for us: exit code 130 or death by the signal, and not a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import CPU, simulated

WHILE_MODULES_LOAD = """
import os, signal, sys
class Finder:
    def find_spec(name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
from harness.cli import main
main()
"""
IN_A_FINALIZER = """
import os, signal, weakref
from harness.cli import app
class Held: ...
def command(**_):
    weakref.finalize(Held(), os.kill, os.getpid(), signal.SIGINT)
    raise SystemExit(0)
app.app = command
app.run()
"""
FOREVER = "SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b"


@pytest.mark.parametrize(
    ("code", "end"), [(WHILE_MODULES_LOAD, -signal.SIGINT), (IN_A_FINALIZER, 130)], ids=["import", "finalizer"]
)
def test_nothing_is_said(code: str, end: int) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (end, "")


def working(process: subprocess.Popen) -> None:
    """Wait until a command is in the middle of its query: all that comes before it takes less than a second."""
    while sum(psutil.Process(process.pid).cpu_times()[:2]) < 3:  # s
        assert process.poll() is None
        time.sleep(0.02)


def query(folder: Path, *words: str) -> list[str]:
    simulated(folder, [CPU])
    return [sys.executable, "-m", "harness", "query", *words, "--out", str(folder), "--time-limit", "600"]


@pytest.mark.slow
def test_a_query_is_interrupted(tmp_path: Path) -> None:
    command = query(tmp_path, FOREVER)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    working(process)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=60)[0], process.returncode) == ("", 130)


@pytest.mark.slow
def test_the_prompt_stops_a_query_and_stays(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(query(tmp_path), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.write(ours, f"{FOREVER}\r".encode())
    working(process)
    process.send_signal(signal.SIGINT)
    os.write(ours, b"exit\r")
    output = process.communicate(timeout=60)[1]
    os.close(ours)
    os.close(theirs)
    assert output.splitlines()[-1] == "stopped"
    assert process.returncode == 0

"""Ctrl-C at any moment of a command that only reads: exit code 130 or death by the signal, and not a word of Python."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import CPU, CUDA, simulated

MOMENTS_S = [0.05 + 0.1 * n for n in range(12)]  # from the first imports to the end


@pytest.mark.slow
def test_a_reading_command_ends_at_once_and_says_nothing(tmp_path: Path) -> None:
    simulated(tmp_path, [CPU, CUDA])
    ends = []
    for moment_s in MOMENTS_S:
        command = [sys.executable, "-m", "harness.cli", "show", "--out", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(moment_s)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
        # Before the first line of ours is reached, Python itself shows where it was.
        assert "Traceback" not in said or "/harness/" not in said, said
        assert "Traceback" in said or process.returncode in (130, -signal.SIGINT, 0), said
        ends.append(process.returncode)
    assert 130 in ends
    assert -signal.SIGINT in ends

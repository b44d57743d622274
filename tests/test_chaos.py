"""Runs that are killed, frozen, interrupted, starved and damaged, one of each kind; scripts/chaos.py does many."""

import os
import subprocess
import sys

import pytest

from scripts import chaos
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
# A sleeping node is noticed after a minute, and what dies below Ray is tried by test_cli, too.
LEFT_OUT = {"freeze_node", "kill_child_of_ray"}


def test_nothing_is_lost() -> None:
    possible = set(chaos.KINDS) - (chaos.NEED_ROOT if os.geteuid() else set())
    kinds = [kind for kind in chaos.KINDS if kind in possible - LEFT_OUT]
    words = ["--n", str(len(kinds)), "--kinds", ",".join(kinds), "--jobs", "3", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "chaos.py", *words],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {len(kinds)} |" in done.stdout

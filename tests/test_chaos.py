"""Runs that are killed, frozen, interrupted, starved and damaged, one of each kind; scripts/chaos.py does many."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
N_KINDS = 22


def test_nothing_is_lost() -> None:
    seed = os.environ.get("CHAOS_SEED", "1")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "chaos.py", "--n", str(N_KINDS), "--seed", seed],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {N_KINDS} |" in done.stdout

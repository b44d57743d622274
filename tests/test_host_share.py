"""scripts/benchmarks/host_share.py at the size of a test: a call without its network, of stock and of a variant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
@pytest.mark.parallel
def test_the_host_is_measured_with_recorded_outputs_of_the_network(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "benchmarks" / "host_share.py"
    words = ["--out", tmp_path, "--image", "dense:224", "--rounds", "1", "--threads", "1", "--clock", "cpu"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lossless: masks, flows and styles are those of stock" in done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    seconds = {stage: [float(cell.split()[0]) for cell in cells] for stage, *cells in rows[2:]}
    assert rows[0] == ["stage", "stock, 1 thread", "lossless, 1 thread"]
    for column in (0, 1):
        parts_s = sum(values[column] for stage, values in seconds.items() if stage not in ("host", "network"))
        assert seconds["host"][column] == pytest.approx(parts_s, abs=0.01)
    assert seconds["host"][0] / seconds["host"][1] > 8, "a gain of docs/performance.md is lost: 12.7 was measured"
    assert len([*tmp_path.glob("*.npz")]) == 1

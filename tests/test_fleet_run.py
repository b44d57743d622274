"""scripts/fleet_run.py with a made-up cellbench: what it asks, waits for, leaves and returns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

SCRIPT = REPOSITORY / "scripts/fleet_run.py"
FAKE = """#!/bin/sh
if [ "$1" = node ]; then cat "$HOME/nodes.json"; exit; fi
printf '%s\\n' "$@" > "$HOME/asked"
mkdir -p "$HOME/cellbench-results"
exit ${CODE:-0}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a head with one worker in its cluster.yaml, which is up."""
    cellbench = tmp_path / "cellbench/.venv/bin/cellbench"
    cellbench.parent.mkdir(parents=True)
    cellbench.write_text(FAKE)
    cellbench.chmod(0o755)
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps({"provider": {"worker_ips": ["10.0.0.2"]}}))
    nodes = [{"ip": "10.0.0.1", "state": "up"}, {"ip": "10.0.0.2", "state": "up"}, {"ip": "10.0.0.3", "state": "lost"}]
    (tmp_path / "nodes.json").write_text(json.dumps({"nodes": nodes}))
    return tmp_path


def run(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The script under a Python and a PATH that know no cellbench."""
    python = Path(sys.base_prefix) / "bin/python3"
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environ}
    return subprocess.run(
        [str(python), "-S", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False
    )


def test_hands_its_options_to_the_installed_cellbench(home: Path) -> None:
    done = run(home, "--profile", "my profile.toml", "--receipt=abc")
    assert done.returncode == 0, done.stderr
    request = (home / "asked").read_text().splitlines()
    results = str(home / "cellbench-results")
    assert request == ["run", "--address", "auto", "--out", results, "--profile", "my profile.toml"]
    assert "ray rsync-down cluster.yaml '~/cellbench-results/' results/" in done.stderr
    assert (home / "cellbench-results/receipts/abc").read_text() == "0"


@pytest.mark.parametrize("code", [2, 3, 4, 130])
def test_keeps_the_exit_code_and_writes_it_down(home: Path, code: int) -> None:
    done = run(home, "--receipt", "abc", CODE=str(code))
    assert done.returncode == code
    assert (home / "cellbench-results/receipts/abc").read_text() == str(code)


def test_a_worker_that_is_not_up_is_named_and_leaves_the_run_incomplete(home: Path) -> None:
    (home / "ray_bootstrap_config.yaml").write_text(json.dumps({"provider": {"worker_ips": ["10.0.0.2", "10.0.0.3"]}}))
    done = run(home, FLEET_PATIENCE_S="0")
    assert done.returncode == 3
    assert "10.0.0.3 is not there" in done.stderr
    assert "10.0.0.2" not in done.stderr.split("bring the results")[0]
    assert (home / "asked").is_file(), "the others are measured all the same"
    assert run(home, "--nodes", "a,b").returncode == 0, "whoever chooses nodes knows whom to expect"


def test_says_where_cellbench_was_looked_for(home: Path) -> None:
    os.remove(home / "cellbench/.venv/bin/cellbench")
    done = run(home)
    assert done.returncode == 2
    assert "~/cellbench/.venv/bin/cellbench" in done.stderr

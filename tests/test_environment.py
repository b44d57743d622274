"""What `cellbench env` shows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.doctor.environment import ask as find_environment
from harness.errors import CellbenchError
from harness.machine import facts
from harness.machine.accelerators import Device
from harness.machine.facts import Fact
from harness.measure import parent
from harness.measure.wire import EnvironmentRequest
from harness.results.formatting import fact_text
from harness.terminal import environment

COMMAND = Path(sys.executable).with_name("cellbench")


@pytest.mark.parametrize(
    ("fact", "value", "text"),
    [
        (Fact("x_bytes", int, "", "bytes"), 32 * 1024, "32 KiB"),
        (Fact("x_bytes", int, "", "bytes"), 1280 * 1024, "1.25 MiB"),
        (Fact("x_bytes", int, "", "bytes"), 0, "0 bytes"),
        (Fact("x_bytes", int, "", "bytes"), 5 * 2**50, "5120 TiB"),
        (Fact("x_mhz", float, "", "MHz"), 2445.428, "2445.43 MHz"),
        (Fact("x_mhz", int, "", "MHz"), 4700, "4700 MHz"),
        (Fact("smt", bool, ""), False, "no"),
        (Fact("smt", bool, ""), True, "yes"),
        (Fact("name", str, ""), "Some CPU", "Some CPU"),
        (Fact("x_bytes", int, "", "bytes"), None, "unknown"),
    ],
)
def test_values_as_people_read_them(fact: Fact, value: object, text: str) -> None:
    assert fact_text(fact, value) == text


def test_every_fact_has_a_line_in_its_group() -> None:
    lines = environment.text({"cpu_model": "Some CPU"}).splitlines()
    assert [line for line in lines if line in facts.GROUPS] == list(facts.GROUPS)
    shown = [line.split()[0] for line in lines if line.startswith("  ")]
    assert shown == [fact.name for fact in facts.FACTS]
    assert sum(line.endswith("unknown") for line in lines) == len(facts.FACTS) - 1
    assert lines[-1] == f"stable key: {facts.stable_key({'cpu_model': 'Some CPU'})}"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A node with a GPU; collects for which devices it was asked."""
    seen: list[str] = []

    def ask(request: EnvironmentRequest) -> dict[str, Any]:
        seen.append(request.device)
        return {"cpu_model": "C", "smt": None}

    monkeypatch.setattr(parent, "devices", lambda: [Device("cuda", 0, "G"), Device("cpu", 0, "C")])
    monkeypatch.setattr(parent, "ask", ask)
    return seen


@pytest.mark.parametrize(("word", "device"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cpu", "cpu")])
def test_one_device_is_asked_and_every_fact_is_there(requests: list[str], word: str, device: str) -> None:
    answer = find_environment(word)
    assert requests == [device]
    assert list(answer) == [fact.name for fact in facts.FACTS]
    assert {name for name, value in answer.items() if value is not None} == {"cpu_model"}


def test_a_device_that_this_machine_lacks(requests: list[str]) -> None:
    with pytest.raises(CellbenchError, match="no device mps"):
        find_environment("mps")
    assert requests == []


@pytest.mark.slow
def test_the_real_command() -> None:
    def cellbench(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False, timeout=120)

    done = cellbench("env", "--json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert list(answer) == [fact.name for fact in facts.FACTS]
    assert answer["torch_version"]
    assert answer["torch_threads"] == answer["opencv_threads"]
    assert answer["gpu_uuid"] is None
    assert "OMP_NUM_THREADS=" in answer["thread_settings"]
    shown = cellbench("env", "--device", "cpu")
    assert shown.returncode == 0, shown.stderr
    assert answer["cpu_model"] in shown.stdout
    refused = cellbench("env", "--device", "cuda:7")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no device cuda:7" in refused.stderr

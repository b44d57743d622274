"""No table forgets a dimension of a case: one is made up, and every output must tell its two values apart."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.made_up import FLAVOURS


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("made-up")
    done = subprocess.run(
        [sys.executable, "-m", "tests.made_up", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_output_tells_the_values_of_a_dimension_apart(outputs: dict[str, str]) -> None:
    forgetful = {name: text for name, text in outputs.items() if not all(flavour in text for flavour in FLAVOURS)}
    assert forgetful == {}
    assert len(outputs) > 50


@pytest.mark.parametrize("form", ["", "--json", "--csv", "--md"])
def test_the_worse_masks_of_one_case_are_not_hidden_by_another(outputs: dict[str, str], form: str) -> None:
    text = outputs[f"show --passes {form}"]
    assert "identical" in text
    assert "different" in text


def test_every_row_for_programs_has_the_dimension(outputs: dict[str, str]) -> None:
    for name, text in outputs.items():
        if name.endswith("--json") and not name.startswith(("alarms", "compare")):
            assert {row["flavour"] for row in json.loads(text)} == set(FLAVOURS), name

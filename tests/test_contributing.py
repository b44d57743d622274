"""CONTRIBUTING.md says what is true: where something is added, and how many suppressions the type checker has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACES = dict(re.findall(r"^\| (an? [a-z ]+) \| (.+) \|$", TEXT, re.M))
# The rules, and after them why the checker is wrong there.
EXPLAINED = re.compile(r"# pyright: ignore\[report\w+(, report\w+)*\]  # \w.+$")


@pytest.mark.parametrize("added", PLACES)
def test_a_newcomer_finds_at_most_two_places_and_they_exist(added: str) -> None:
    places = re.findall(r"`([^`]+)`", PLACES[added])
    assert 1 <= len(places) <= 2
    assert all((ROOT / place).exists() for place in places)


def test_a_newcomer_finds_a_place_for_each_kind_of_part() -> None:
    assert PLACES.keys() >= {"a chart", "a pass", "an accelerator", "an engine", "a column"}


def test_the_architecture_names_folders_and_modules_that_exist() -> None:
    tables = "\n".join(line for line in ARCHITECTURE.splitlines() if line.startswith("| "))
    places = set(re.findall(r"`((?:[a-z0-9_]+/)+(?:[a-z0-9_]+\.py)?)`", tables))
    assert len(places) > 20
    harness = ROOT / "harness"
    missing = [
        place for place in places if not any((root / place).exists() for root in (ROOT, harness, *harness.glob("*")))
    ]
    assert missing == []
    packages = {path.parent.name for path in harness.glob("*/__init__.py")}
    assert packages <= {place.removesuffix("/") for place in places}


def test_every_suppression_names_its_rules_and_the_reason_and_all_are_counted() -> None:
    lines = [
        line
        for folder in ("harness", "cellbench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "pyright: " in line or "type: ignore" in line
    ]
    assert [line for line in lines if not EXPLAINED.search(line)] == []
    assert int(re.findall(r"(\d+) suppressions", TEXT)[0]) == len(lines)

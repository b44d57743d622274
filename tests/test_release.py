"""Version and date of a release are the same wherever they are written, and the metadata are complete."""

from __future__ import annotations

import re
import tomllib

import yaml

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def test_version_and_date_agree() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert releases[0] == (PROJECT["version"], CITATION["date-released"])
    assert CITATION["version"] == PROJECT["version"]
    assert releases == sorted(releases, key=lambda each: [int(part) for part in each[0].split(".")], reverse=True)


def test_the_addresses_are_of_one_repository() -> None:
    site = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))
    assert {site["repo_url"], PROJECT["urls"]["Homepage"]} == {CITATION["repository-code"]}
    assert PROJECT["urls"]["Documentation"] == CITATION["url"]


def test_the_classifiers_are_the_versions_that_are_supported_and_tested() -> None:
    named = {each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    low, high = (int(each) for each in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert named == {f"3.{minor}" for minor in range(low, high)}
    text = (REPOSITORY / ".github/workflows/tests.yml").read_text("utf-8")
    assert set(re.findall(r'python: "(3\.\d+)"', text)) == named


def test_each_workflow_runs_scripts_that_exist() -> None:
    assert {path.stem for path in WORKFLOWS} == {"tests", "docs", "hardware"}
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        steps = [step["run"].split()[0] for job in jobs for step in job["steps"] if "run" in step]
        scripts = [step for step in steps if not step.startswith(".venv/")]
        assert scripts and all((REPOSITORY / script).exists() for script in scripts)

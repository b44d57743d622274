"""Version and date of a release are the same wherever they are written, and the metadata are complete."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from runpy import run_path

import pytest
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


ADDRESS = re.compile(r"https?://(?:github\.com/[\w.-]+/cellbench|[\w.-]+\.github\.io/cellbench)\b")


def test_the_citation_has_what_the_format_requires() -> None:
    """Of the schema of the Citation File Format 1.2.0, what can be checked without it."""
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION.keys() >= {"message", "title", "authors"}
    assert CITATION["license"] == PROJECT["license"]
    for work in (CITATION, *CITATION["references"]):
        assert work["type"] in ("software", "article", "generic")
        assert re.match(r"https://|10\.\d{4}/", str(work.get("url") or work.get("doi")))
        for author in work["authors"]:
            assert author.keys() in ({"name"}, {"alias"}, {"family-names", "given-names"})


def test_the_references_are_those_of_their_sources() -> None:
    """The article by the link of README, Cellpose 3 by what its package asks to cite."""
    article, paper = CITATION["references"]
    assert f"[article]: {article['url']}\n" in (REPOSITORY / "README.md").read_text("utf-8")
    [author] = article["authors"]
    assert author["alias"] in article["url"], "no other source has the name of the author"
    cellpose = metadata.distribution("cellpose").read_text("METADATA") or ""
    assert paper["doi"].split("/")[1] in cellpose
    assert f"({paper['year']}). {paper['title'].split(' for ')[0]}" in cellpose
    assert all(author["family-names"] in cellpose for author in paper["authors"])


def foreign(text: str) -> set[str]:
    """Addresses of a repository or site of this project other than those in pyproject.toml."""
    return set(ADDRESS.findall(text)) - {PROJECT["urls"]["Homepage"], PROJECT["urls"]["Documentation"]}


def test_pyproject_owns_the_address_and_every_copy_is_equal() -> None:
    places = ("*.md", "*.toml", "*.yml", "*.cff", "docs/*.md", ".github/**/*.yml", "harness/**/*.py", "scripts/*")
    files = [path for place in places for path in REPOSITORY.glob(place) if path.is_file()]
    found = {path.name: set(ADDRESS.findall(path.read_text("utf-8"))) for path in files}
    named = {name for name, addresses in found.items() if addresses}
    assert named >= {"pyproject.toml", "CITATION.cff", "mkdocs.yml", "config.yml", "CONTRIBUTING.md"}
    assert {path.name: wrong for path in files if (wrong := foreign(path.read_text("utf-8")))} == {}
    urls = PROJECT["urls"]
    assert [url for url in urls.values() if not url.startswith((urls["Homepage"], urls["Documentation"]))] == []
    assert (CITATION["repository-code"], CITATION["url"]) == (urls["Homepage"], urls["Documentation"])


@pytest.mark.parametrize("text", ["https://github.com/other/cellbench/issues", "http://other.github.io/cellbench"])
def test_a_copy_that_differs_is_found(text: str) -> None:
    assert foreign(text)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("![a picture](docs/gallery/time.png)", "![a picture](https://x/y/raw/main/docs/gallery/time.png)"),
        ("see [a](docs/a.md#b), [b](LICENSE)", "see [a](https://x/y/blob/main/docs/a.md#b), [b](https://x/y/blob/main/LICENSE)"),
        ("[a](#here) [b](https://z) [c]: docs/c", "[a](#here) [b](https://z) [c]: docs/c"),
    ],
)  # fmt: skip
def test_links_of_the_readme_become_absolute(text: str, link: str) -> None:
    assert run_path(str(REPOSITORY / "setup.py"))["absolute"](text, "https://x/y") == link


def test_the_readme_in_the_metadata_of_the_package_has_absolute_links_only(tmp_path: Path) -> None:
    """setuptools.build_meta is what pip calls to build a wheel."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    built = email.message_from_string((tmp_path / done.stdout.split()[-1] / "METADATA").read_text("utf-8"))
    assert built["Description-Content-Type"].startswith("text/markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", str(built.get_payload()))
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert f"{PROJECT['urls']['Homepage']}/raw/main/docs/gallery/time.png" in links


def test_the_classifiers_are_the_versions_that_are_supported_and_tested() -> None:
    named = {each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    low, high = (int(each) for each in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert named == {f"3.{minor}" for minor in range(low, high)}
    text = (REPOSITORY / ".github/workflows/tests.yml").read_text("utf-8")
    assert set(re.findall(r'python: "(3\.\d+)"', text)) == named


def test_each_workflow_runs_scripts_that_exist() -> None:
    assert {path.stem for path in WORKFLOWS} == {"tests", "docs", "hardware", "submissions"}
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        steps = [step["run"].split()[0] for job in jobs for step in job["steps"] if "run" in step]
        scripts = [step for step in steps if not step.startswith(".venv/")]
        assert scripts and all((REPOSITORY / script).exists() for script in scripts)


def test_files_of_a_pull_request_are_checked_by_the_base_branch_without_rights() -> None:
    text = (REPOSITORY / ".github/workflows/submissions.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    [job] = workflow["jobs"].values()
    base, submitted = [step["with"] for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert base["ref"] == "${{ github.event.pull_request.base.sha }}" and "path" not in base
    assert submitted["path"] == "submitted" and "ref" not in submitted
    assert not base["persist-credentials"] and not submitted["persist-credentials"]
    assert list(workflow[True]) == ["pull_request"]  # YAML reads "on" as true
    assert workflow["permissions"] == {"contents": "read"} and "permissions" not in job
    assert "secrets" not in text.split("\n", 3)[3]
    programs = [step["run"].split()[0] for step in job["steps"] if "run" in step]
    assert not any(program.startswith("submitted") for program in programs)

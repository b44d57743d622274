"""The site has every page once in its navigation, the generated references are complete, and facts are easy to find."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.plan.config import Config
from harness.schema import SAMPLES
from tests.conftest import REPOSITORY
from tests.test_help import COMMANDS

sys.path.insert(0, str(REPOSITORY / "scripts"))
import docs_pages

PAGES = docs_pages.pages()
SETTINGS = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))
MKDOCS = REPOSITORY / ".venv-docs" / "bin" / "mkdocs"
# A fact: where the navigation has it (at most two clicks), and how the page states it.
FACTS = {
    "how to install and measure": ("Tutorials > Your first benchmark", r"\./scripts/bench"),
    "the lines for one's own script": ("Tutorials > Make your own script faster", r"from cellbench import accelerate"),
    "accelerate in another environment": ("FAQ", r"pip install --no-deps"),
    "all variants": ("How-to > Make Cellpose faster", r"\| `channels-last` \|"),
    "fastest device by size": ("How-to > Query the results", r"query fastest-device"),
    "formats of figures": ("How-to > Charts and reports", r"\.html \.png \.svg \.pdf"),
    "memory of Cellpose-SAM": ("How-to > Cellpose-SAM", r"0\.6 GB"),
    "a fleet of machines": ("How-to > Several machines", r"cluster\.yaml"),
    "nights until a baseline": ("How-to > Nightly runs", r"A baseline needs five nights"),
    "installation without a network": ("How-to > No network", r"scripts/bundle"),
    "what to attach for new hardware": ("How-to > New hardware", r"cellbench-checkup\.zip"),
    "time on an H200": ("Decide > Which GPU should I choose?", r"H200 \| 0\.13 s \| 2\.8 s"),
    "cost of Cellpose-SAM per tile": ("Decide > Cellpose 3 or Cellpose-SAM?", r"727 GFLOP"),
    "options of a command": ("Reference > Commands", r"`--dry-run`"),
    "default of a profile's key": ("Reference > Profile file", r"\| `repeats` \|[^|]*\| `5` \|"),
    "unit of a column": ("Reference > Columns", r"`elapsed_s` \| float64 \| s"),
    "meaning of drift": ("Explanation > Interpret your report", r"\*drift\*"),
    "processes for an interval": ("Explanation > Statistics", r"\"95 %\" needs three processes"),
    "exit codes": ("Explanation > Architecture", r"\| 130 \| Ctrl-C"),
    "crash safety": ("Evidence > Reliability", r"loses at most the repetition in progress"),
    "last changes": ("Project > Changelog", r"cellbench checkup"),
}


def places(entries: list[dict[str, Any]], path: str = "") -> Iterator[tuple[str, str]]:
    """Each entry of the navigation: its path in words, and its page."""
    for entry in entries:
        for title, value in entry.items():
            full = f"{path} > {title}" if path else title
            yield from [(full, value)] if isinstance(value, str) else places(value, full)


NAVIGATION = dict(places(SETTINGS["nav"]))


def test_every_page_is_once_in_the_navigation() -> None:
    assert sorted(NAVIGATION.values()) == sorted(PAGES)


def test_the_kinds_of_pages_are_visible() -> None:
    sections = {path.split(" > ")[0] for path in NAVIGATION}
    assert sections >= {"Tutorials", "How-to", "Reference", "Explanation", "Evidence"}


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_found_within_two_clicks(fact: str) -> None:
    place, pattern = FACTS[fact]
    assert place.count(" > ") < 2
    assert re.search(pattern, PAGES[NAVIGATION[place]])


def test_the_references_are_complete() -> None:
    assert len(FACTS) >= 20
    headings = set(re.findall(r"^## cellbench (.*)$", PAGES["commands.md"], re.MULTILINE))
    assert headings == set(COMMANDS)
    for name, command in COMMANDS.items():
        part = PAGES["commands.md"].split(f"## cellbench {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            assert option.param_type_name == "argument" or any(word in part for word in option.opts)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGES["profile.md"], re.MULTILINE))
    assert rows.keys() == Config.model_fields.keys()
    assert [column.name for column in SAMPLES if f"| `{column.name}` |" not in PAGES["schema.md"]] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_to_pages_of_the_site(name: str) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", PAGES[name])
    local = {link for link in links if not re.match(r"\w+:", link)}
    assert [link for link in local if link not in PAGES and not (REPOSITORY / "docs" / link).is_file()] == []


@pytest.mark.parametrize(
    ("text", "labels", "n_arrows"),
    [
        ("flowchart LR\n  a[one] --> b[two]\n  b --> c & d\n", ["one", "two", "c", "d"], 3),
        (
            'flowchart LR\n  a <-- "x y" --> b[two]\n  a -- words --> c[it\'s: a, b]\n',
            ["a", "two", "it&#x27;s: a, b"],
            2,
        ),
    ],
)
def test_a_diagram_has_all_boxes_and_arrows(text: str, labels: list[str], n_arrows: int) -> None:
    drawn = docs_pages.diagram(text)
    assert re.findall(r">([^<>]+)</text>", drawn) == labels
    assert drawn.count("<line") == n_arrows


def test_no_diagram_is_left_to_a_script() -> None:
    assert not [name for name, text in PAGES.items() if "```mermaid" in text]
    assert "<svg" in PAGES["architecture.md"]


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="scripts/docs has not made .venv-docs here")
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    subprocess.run([REPOSITORY / "scripts" / "docs", "--site-dir", str(tmp_path)], check=True)
    built = {path.name: path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    assert {f"{name.removesuffix('.md')}.html" for name in PAGES} <= built.keys()
    loaded = r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)"
    loaded += r"|<link[^>]* rel=\"(?:stylesheet|preconnect)\"[^>]* href=\"(https?:[^\"]+)"
    assert {name: re.findall(loaded, page) for name, page in built.items() if re.search(loaded, page)} == {}
    assert not [name for name, page in built.items() if "md-source" in page], "it requests facts from api.github.com"
    assert "verify-masks" in (tmp_path / "search" / "search_index.json").read_text("utf-8")

"""Links from page to page of README, CONTRIBUTING and docs/ lead to files and headings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[\w+\]: (\S+)", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> Iterator[str]:
    """Links of a page within the project that lead nowhere."""
    for inline, reference in LINK.findall(text):
        link = inline or reference
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "n_broken"),
    [
        ("[a](STYLE.md)", 0),
        ("[a](STYLE.md#words-to-avoid)", 0),
        ("![a](gallery/time-log.png)", 0),
        ("[a](https://example.org/x)", 0),
        ("[a](nowhere.md)", 1),
        ("[a](STYLE.md#nowhere)", 1),
        ("[a]: nowhere.md", 1),
    ],
)
def test_a_broken_link_is_found(text: str, n_broken: int) -> None:
    assert len(list(broken(REPOSITORY / "docs" / "page.md", text))) == n_broken

"""What compare, alarms, accept, tag, history and index print, and how they exit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.errors import CellbenchError
from tests import nights
from tests.browser import DRAWN, browser, needs_browser
from tests.test_alarms import STEADY, series
from tests.test_compare import CALM, QUIET, A, B, history

HOSTILE = "</script><img src=x onerror=alert(1)>"


def cellbench(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=True)


def refused(*words: object) -> CellbenchError:
    error = cellbench(*words).exception
    assert isinstance(error, CellbenchError)
    return error


def two_runs(folder: Path, factor: float, others: int = 0, **columns: Any) -> Path:
    """others: so many more nights of the series, after them."""
    after = nights.timed(B, [factor * s for s in CALM], {"torch_version": "2.13"}, **columns)
    nights.store(folder, nights.timed(A, CALM, {"torch_version": "2.12"}) + after + history(QUIET[:others]))
    return folder


def test_compare_as_table_json_and_markdown(tmp_path: Path) -> None:
    out = two_runs(tmp_path, 1.3, 10)
    table = cellbench("compare", A, B, "--out", out)
    assert table.exit_code == 0
    assert re.search(r"224 +standard +stock +1\.00 +1\.30 +1\.300 +1\.2\d\d – 1\.3\d\d +SLOWER", table.stdout)
    assert re.search(r"desk +torch_version +2\.12 +2\.13", table.stdout)
    assert re.search(r"variation between days: 0\.\d % ", table.stderr)
    assert "evidence: 1 day of A and 1 day of B" in table.stderr
    answer = json.loads(cellbench("compare", A, B, "--out", out, "--json").stdout)
    [case] = answer["cases"]
    assert (case["verdict"], case["crop"], case["same_masks"], case["unit"]) == ("SLOWER", "224", True, "days")
    assert (case["n_before"], case["more"], answer["overall"]) == (1, None, None)
    assert answer["environment"] == [{"node": "desk", "fact": "torch_version", "before": "2.12", "after": "2.13"}]
    assert "| SLOWER |" in cellbench("compare", A, B, "--out", out, "--md").stdout


def test_compare_says_why_there_is_no_verdict(tmp_path: Path) -> None:
    rows = [nights.timed(run, CALM, node=node, device=device) for run, node, device in (
        (A, "desk", "cpu"), (A, "desk", "cuda:0"), (B, "mac", "mps"))]  # fmt: skip
    nights.store(tmp_path / "apart", [row for each in rows for row in each])
    assert "no case is on both sides" in cellbench("compare", "desk", "mac", "--out", tmp_path / "apart").stderr
    alone = cellbench("compare", A, B, "--out", two_runs(tmp_path / "alone", 1.25))
    assert re.search(r"1\.250 +INCONCLUSIVE +about 25 % slower", alone.stdout)
    assert "too few days: measure both sides with cellbench ab" in alone.stdout
    close = cellbench("compare", A, B, "--out", two_runs(tmp_path / "close", 1.02, 10), "--margin", "0.01")
    assert re.search(r"INCONCLUSIVE +about 2 % slower\s+measure about \d+ more days per side", close.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "columns", "gates", "status"),
    [
        (1.3, {}, "slower", 1),
        (1.0, {}, "slower,masks", 0),
        (1.0, {"mask_sha256": "3" * 64}, "slower,masks", 5),
        (1.0, {"weights": "published"}, "slower", 1),  # a gate is not passed because nothing was compared
        (1.0, {"weights": "published"}, None, 0),
    ],
)
def test_gates(tmp_path: Path, factor: float, columns: dict[str, Any], gates: str | None, status: int) -> None:
    words = ["--fail-on", gates] if gates else []
    out = two_runs(tmp_path, factor, 10, **columns)
    assert cellbench("compare", A, B, "--out", out, *words).exit_code == status


@pytest.mark.slow
def test_mistakes_are_said(tmp_path: Path) -> None:
    out = two_runs(tmp_path, 1.0)
    assert "nope" in str(refused("compare", "nope", B, "--out", out))
    assert "faster" in str(refused("compare", A, B, "--out", out, "--fail-on", "faster"))
    assert "margin" in str(refused("compare", A, B, "--out", out, "--margin", "5"))
    assert "--json --md" in str(refused("alarms", "--out", out, "--json", "--md"))
    assert "reason" in str(refused("accept", "all", "--why", " ", "--out", out))
    assert "no alarm ab" in str(refused("accept", "ab", "--why", "x", "--out", out))
    assert "no run" in str(refused("tag", "nope", "x", "--out", out))
    assert "tag" in str(refused("tag", A, "a b", "--out", out))


def test_from_an_alarm_to_its_acceptance(tmp_path: Path) -> None:
    nights.store(tmp_path, series([*STEADY, 1.3, 1.3]))
    shown = cellbench("alarms", "--out", tmp_path, "--fail-on-alarm")
    assert shown.exit_code == 1
    assert "slower: 1.31 s instead of 1.01 s (+29.8 %; usual up to" in shown.stdout
    [alarm] = json.loads(cellbench("alarms", "--out", tmp_path, "--json").stdout)["alarms"]
    assert (alarm["case"], alarm["began"], alarm["word"]) == ("desk/cpu/224", nights.run_id(8), "slower")
    assert cellbench("accept", alarm["alarm"], "--why", "torch 2.14", "--out", tmp_path).exit_code == 0
    after = cellbench("alarms", "--out", tmp_path, "--fail-on-alarm", "--all", "--md")
    assert (after.exit_code, "learning" in after.stdout) == (0, True)


@pytest.mark.slow
def test_a_tag_names_a_run(tmp_path: Path) -> None:
    out = two_runs(tmp_path, 1.0)
    assert cellbench("tag", "previous", "before-update", "--out", out).exit_code == 0
    answer = json.loads(cellbench("compare", "before-update", "latest", "--out", out, "--json").stdout)
    assert (answer["a"]["runs"], answer["b"]["runs"]) == ([A], [B])


@pytest.mark.slow
def test_the_pages(tmp_path: Path) -> None:
    samples = series([*STEADY, 1.3, 1.3, 1.3], node=HOSTILE) + series([1.0] * 4, crop="448", torch_version="2.12")
    samples += nights.timed(nights.run_id(6), [1.0], crop="448", torch_version=HOSTILE)
    nights.store(tmp_path, samples)
    [alarm] = json.loads(cellbench("alarms", "--out", tmp_path, "--json").stdout)["alarms"]
    (tmp_path / f"report-{nights.run_id(3)}.html").touch()
    for name in ("history", "index"):
        made = cellbench(name, "--out", tmp_path)
        assert (made.exit_code, made.stdout.strip()) == (0, str(tmp_path / f"{name}.html"))
    page = (tmp_path / "history.html").read_text()
    assert HOSTILE not in page
    assert alarm["alarm"] in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    [gap] = [rows for rows in data if any(row["version"] for row in rows)][:1]
    assert [row["value"] is None for row in gap] == [False] * 4 + [True] * 2 + [False]
    assert [row["state"] for row in data[0]][-3:] == ["suspect", "alarm", "alarm"]
    index = (tmp_path / "index.html").read_text()
    assert len(re.findall('<a href="report-', index)) == 1  # the one report that is there
    assert index.count('class="card"') == 2  # a machine each
    assert index.count("<polyline") == 2
    assert f'href="report-{nights.run_id(3)}.html"' in index


@pytest.mark.parametrize(
    ("n_long", "n_short", "output"),
    [
        # Masks are judged from the second run on, times from the sixth.
        (0, 1, "Too few runs to judge any of 2 series"),
        (0, 3, "No alarm in 1 series; too few runs in 1"),
        (9, 0, "No alarm in 2 series"),
        (9, 3, "No alarm in 3 series; too few runs in 1"),
    ],
)
def test_the_headline_counts_only_series_that_are_judged(
    n_long: int, n_short: int, output: str, tmp_path: Path
) -> None:
    long, short = series([*STEADY, 1.0][:n_long]), series([1.0] * n_short, crop="448")
    nights.store(tmp_path, [*long, *short])
    assert cellbench("index", "--out", tmp_path).exit_code == 0
    page = (tmp_path / "index.html").read_text()
    assert f"<h1>{output}</h1>" in page
    assert page.count("<polyline") == (n_long > 0)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width_px", [320, 1100])
def test_a_browser_draws_the_history(tmp_path: Path, width_px: int) -> None:
    samples = series([*STEADY, 1.3, 1.3], node="n" * 80)
    for night in range(10):
        answer = {"mask_sha256": ("a" if night < 8 else "b") * 64, "n_cells": 50 + (night > 7)}
        samples += nights.timed(nights.run_id(night), [2.0], crop="448", **answer)
        word = "equivalent" if night < 8 else "close"
        about = {"role": "masks", "agreement": word, "crop": "448", "diameter_asked_px": 0.0, "source": "measured"}
        samples.append(nights.make_sample(run_id=nights.run_id(night), **about))
    nights.store(tmp_path, samples)
    for name in ("history", "index"):
        cellbench(name, "--out", tmp_path)
    with browser(tmp_path / "profile") as chromium:
        chromium.call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=800, deviceScaleFactor=1, mobile=True
        )
        for name in ("index", "history"):
            chromium.call("Page.navigate", url=(tmp_path / f"{name}.html").as_uri())
            assert chromium.evaluate(DRAWN)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
        words = chromium.evaluate("[...document.querySelectorAll('.chart svg text')].map((text) => text.textContent)")
        output = [
            event for event in chromium.events if event["method"] in ("Runtime.consoleAPICalled", "Log.entryAdded")
        ]
    assert {"50", "51", "cells", "equivalent", "close", "masks"} <= set(words)
    assert not any("50." in word for word in words)  # half a cell
    assert output == []

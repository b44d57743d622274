"""The cost of a report of a large fleet: time and memory to make it, size, time to draw it.

    python scripts/benchmarks/report_scale.py [--nodes 50] [--repeats 5] [--times 3]

A made-up fleet (tests/fleet.py; rows have workload="simulated"): three devices a node, ten crops each. Samples are
nodes × 3 × 10 × (repeats + 1), so --nodes 50 --repeats 665 is a million. Each report is made by the command, in a
process of its own; each page is opened in a headless Chromium of its own, if there is one, and is drawn when its last
figure is. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser import browser  # noqa: E402
from tests.fleet import make_fleet  # noqa: E402

DRAWN = """new Promise((done) => {
  const all = [...document.querySelectorAll(".chart")];
  const figures = all.filter((each) => !each.closest("details:not([open])")).length;
  const look = () => {
    if (document.querySelectorAll("[data-drawn=yes]").length === figures) done(performance.now());
    else setTimeout(look, 10);
  };
  look();
})"""
MARKS = "document.querySelectorAll('.chart svg path, .chart svg rect, .chart svg text').length"


def make(store: Path, page: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of the command that makes the page."""
    begin_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "report", "--to", str(page), "--out", str(store)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cellbench report ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - begin_s, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def draw(page: Path, profile: Path) -> tuple[float, int]:
    """Seconds from the start of loading until the last figure is drawn, and how many marks there are then."""
    with browser(profile) as chromium:
        chromium.call("Page.navigate", url=page.as_uri())
        while chromium.evaluate("document.readyState") != "complete" or not chromium.evaluate("!!window.vegaEmbed"):
            time.sleep(0.01)
        return chromium.evaluate(DRAWN) / 1e3, chromium.evaluate(MARKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = make_fleet(folder / "store", args.nodes, repeats=args.repeats)
        n_samples = store.dataset().count_rows()
        page = folder / "report.html"
        made = [make(folder / "store", page) for _ in range(args.times)]
        print(f"{args.nodes} nodes × 3 devices × 10 crops, {n_samples:,} samples; medians of {args.times}")
        print(
            f"made in {statistics.median(s for s, _ in made):.1f} s, {statistics.median(mb for _, mb in made):.0f} MB"
        )
        print(f"{page.stat().st_size / 1e6:.2f} MB")
        if shutil.which("chromium"):
            drawn = [draw(page, folder / f"profile{i}") for i in range(args.times)]
            print(f"opened and drawn in {statistics.median(s for s, _ in drawn):.2f} s, {drawn[0][1]:,} marks")


if __name__ == "__main__":
    main()

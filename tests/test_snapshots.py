"""Every table at four widths of a terminal, from made-up results: tests/snapshots/NAME.txt.

CELLBENCH_RENEW_SNAPSHOTS=1 .venv/bin/python -m pytest tests/test_snapshots.py     writes them; look at the difference
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
from rich.cells import cell_len

from harness import schema
from harness.cli.app import app
from harness.engines import environments, registry
from harness.engines.environments import EngineSpec
from harness.fleet import network
from harness.fleet.nodes import daemon, head
from harness.machine import checks
from harness.machine.checks import Check
from harness.run.ab import Pair
from harness.run.resume import Pairing
from harness.run.throughput import Rate, Way
from harness.run.tune import Outcome, Tuning
from harness.stats.sequential import Decision
from harness.terminal import ab_view, checks_view, run_tables, tuning_view
from harness.terminal.table_printer import stderr
from tests.conftest import make_sample, make_store
from tests.staged import ON_CPU, ON_GPU, stage_samples

FOLDER = Path(__file__).parent / "snapshots"
WIDTHS = (60, 80, 120, 200)
RENEW = "CELLBENCH_RENEW_SNAPSHOTS"
NIGHTS = [f"202603{day:02}T043000Z-{day:06x}" for day in range(1, 9)]
ESCAPE = re.compile(r"\x1b\[[\d;]*m")

CPU = {
    "node": "microscope-3", "device_name": "AMD EPYC 9R14 96-Core Processor", "cpu_model": "AMD EPYC 9R14",
    "n_cores": 96, "torch_threads": 96, "machine_id": "0123456789abcdef",
}  # fmt: skip
GPU = {**CPU, "backend": "cuda", "device": "cuda:0", "device_used": "cuda:0", "device_name": "NVIDIA H200"}
SIZES = {"224": (224, 224), "448": (448, 448), "full": (2160, 2560)}
TIMES_S = {"224": 0.446, "448": 3.98, "full": 78.4}


def timed(run_id: str, slower: float = 1.0, blocks: int = 3, **machine: object) -> Iterator[schema.Sample]:
    """Three processes of three repetitions at each size, with a spread of 3 %."""
    begin = datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    speed = 1 if machine.get("device", "cpu") == "cpu" else 12
    for place, (crop, (height_px, width_px)) in enumerate(SIZES.items()):
        for block in range(blocks):
            for repetition in range(3):
                factor = 1 + (block - 1) / 50 + (repetition - 1) / 100
                yield make_sample(
                    **machine, run_id=run_id, crop=crop, height_px=height_px, width_px=width_px, block=block,
                    repetition=repetition, position=place, elapsed_s=slower * factor * TIMES_S[crop] / speed,
                    started_at=begin + timedelta(minutes=10 * place + block, seconds=repetition),
                    n_cells=(3, 17, 1_204)[place], flags="load" if repetition == 2 and crop == "448" else "",
                )  # fmt: skip


def nights() -> Iterator[schema.Sample]:
    """Eight nights of two devices, of which the last two are slower on the processor; passes in the last one."""
    for number, run_id in enumerate(NIGHTS):
        yield from timed(run_id, slower=1 + number % 3 / 200 + (0.3 if number > 5 else 0), **CPU)
        yield from timed(run_id, **GPU)
    for machine, shares in ((CPU, ON_CPU), (GPU, ON_GPU)):
        times_s = {"224": 0.5} if machine is CPU else {"224": 0.04}
        night = {**machine, "run_id": NIGHTS[-1], "started_at": datetime(2026, 3, 8, 6, tzinfo=UTC)}
        yield from stage_samples(shares, times_s, **night)
        compared = {"reference_n_cells": 4, "reference_diameter_px": 68.0, "agreement": "equivalent", "ap50": 0.98}
        yield make_sample(**night, role="masks", **compared, ap90=0.97)
        yield make_sample(**night, role="memory", peak_rss_bytes=1_234_000_000, rss_method="VmHWM")
    yield make_sample(
        **night, crop="full", height_px=2160, width_px=2560, status="oom_device", elapsed_s=None, block=7,
        error_type="OutOfMemoryError", error_message="CUDA out of memory. Tried to allocate 20.00 MiB",
    )  # fmt: skip


def cli(*words: str) -> Callable[[Path], object]:
    """A command line over the made-up results."""

    def call(store: Path) -> object:
        command = typer.main.get_command(app)
        arguments = [str(store) if word == "STORE" else word for word in words]
        return command(arguments, standalone_mode=False)

    return call


def search(_: Path) -> None:
    """The end of a search."""
    best = Outcome("lossless+winograd", "identical", 5.82, 5.61, 6.05, 45)
    steps = (
        Outcome("channels-last", "identical", 1.08, None, None, 3),
        Outcome("lossless", "identical", 2.31, None, None, 3),
        Outcome("lossless+winograd", "equivalent", 5.7, None, None, 3),
        Outcome("lossless+compiled", None, None, None, None, 0, "variant_fallback: torch.compile failed, no compiler"),
    )  # fmt: skip
    print(tuning_view.text(Tuning(NIGHTS[0], "cyto3", steps, None, best, ("bf16: this processor has no bf16",))))


def many_images(_: Path) -> None:
    """The end of a measurement of throughput."""
    ways = [Rate("microscope-3", "cpu", Way("stock", 1, 1), 12.3, 3)]
    ways += [Rate("microscope-3", "cpu", Way("lossless+winograd", 16, 2), 187.0, 3, 15.2, 14.8, 15.6, True)]
    ways += [Rate("microscope-3", "cuda:0", Way("stock", 4, 1), None, 0, note="oom_device: CUDA out of memory")]
    print(tuning_view.rates(ways))


def pairs(_: Path) -> None:
    """The end of an A/B measurement."""
    decision = Decision("SLOWER", 1.182, 1.121, 1.249, 0.0004, 12)
    pairing = Pairing(0.05, 900.0, ("torch 2.13", "torch 2.14"))
    print(ab_view.line(Pair(11, 3.98, 4.71, True, decision)), file=sys.stderr)
    runs = {"run_a": NIGHTS[0], "run_b": NIGHTS[1]}
    print(ab_view.verdict(Pair(11, 3.98, 4.71, True, decision), pairing, runs))


def examined(_: Path) -> None:
    """The checks of a machine, made up."""
    checks_view.show([
        Check("load", checks.WARN, "others used 12.4% of all processors during one second", "close other programs"),
        Check("clock", checks.OK, "clock_gettime(CLOCK_MONOTONIC), read 10,000 times: never back, smallest step 20 ns"),
        Check("heat", checks.SKIPPED, "not available: the temperature (normal on virtual machines)"),
        Check("disk", checks.FAIL, "0.1 GB free for results in /data/results", "make 500 MB free in /data/results"),
    ])  # fmt: skip


def closing_card(store: Path) -> None:
    """The table and the last lines of a run."""
    from harness.store import Store

    table = run_tables.cases(Store.at(store), NIGHTS[-1])
    run_tables.print_cases(table)
    for text in run_tables.closing(table):
        stderr().print(text, markup=False)


def fleet(_: Path) -> object:
    """The state of a fleet of three nodes, made up."""
    nodes = [("microscope-3", "up", {"cuda": 2, "cpu": 1}, "NVIDIA H200"), ("mac", "lost", {"mps": 1, "cpu": 1}, "M4")]
    members = tuple(
        head.Member(f"{n:056x}", name, f"10.0.0.{n + 1}", 20_000, state, n == 0, counts, gpu, "AMD EPYC 9R14")
        for n, (name, state, counts, gpu) in enumerate(nodes)
    )
    here = daemon.Running(4321, 0.0, "microscope-3", "10.0.0.1", "10.0.0.1:6379", True, 20_000, "/tmp/ray", {"cpu": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "running", lambda _: [here])
        patch.setattr(network, "reach", lambda _: None)
        patch.setattr(head, "look", lambda address: head.Head(address, {}, True, members))
        return cli("node", "status")(Path())


def engines(_: Path) -> object:
    """The engines, one of which is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "version", lambda name: None if name == "cellpose4" else "3.1.1.3")
        patch.setattr(environments, "find", lambda name: EngineSpec(name, "python", ()))
        return cli("engines", "list")(Path())


SCREENS: dict[str, Callable[[Path], object]] = {
    "show": cli("show", "--out", "STORE"),
    "show-stages": cli("show", "--stages", "--out", "STORE"),
    "show-passes": cli("show", "--passes", "--out", "STORE"),
    "show-wide": cli("show", "--wide", "--out", "STORE"),
    "list": cli("list", "--out", "STORE"),
    "compare": cli("compare", NIGHTS[0], NIGHTS[-1], "--out", "STORE"),
    "compare-devices": cli("compare", "device=cpu", "device=cuda:0", "--out", "STORE"),
    "query-fastest": cli("query", "fastest-device", "--out", "STORE"),
    "query-variants": cli("query", "--list"),
    "query-failures": cli("query", "failures", "--out", "STORE"),
    "alarms": cli("alarms", "--out", "STORE"),
    "alarms-all": cli("alarms", "--all", "--out", "STORE"),
    "history": cli("query", "SELECT * FROM history((SELECT min(series_key) FROM medians))", "--out", "STORE"),
    "estimate": cli("estimate", "500", "--size", "1024", "--no-reference", "--out", "STORE"),
    "tune": search,
    "throughput": many_images,
    "ab": pairs,
    "doctor": examined,
    "closing-card": closing_card,
    "node-status": fleet,
    "engines-list": engines,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots") / "store"
    make_store(folder, list(nights()))
    return folder


Printed = tuple[str, str]
Screen = Callable[..., Printed]


@pytest.fixture(scope="module")
def printed() -> dict[tuple[object, ...], Printed]:
    """The screens so far: several tests read the same."""
    return {}


@pytest.fixture
def screen(
    store: Path,
    printed: dict[tuple[object, ...], Printed],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Screen:
    """What a screen prints on stdout and stderr, on a terminal of this width or into a pipe."""

    def call(name: str, width: int | None = None, **variables: str) -> Printed:
        key = (name, width, *variables)
        if key not in printed:
            printed[key] = made(name, width, variables)
        return printed[key]

    def made(name: str, width: int | None, variables: dict[str, str]) -> Printed:
        for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in {"TERM": "xterm-256color", **variables}.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("COLUMNS", str(width or 80))
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: width is not None, raising=False)
        SCREENS[name](store)
        found = capsys.readouterr()
        return found.out.replace(str(store), "STORE"), found.err.replace(str(store), "STORE")

    return call


def plain(text: str) -> str:
    """A screen without colours and without spaces at the ends of its lines."""
    return "\n".join(line.rstrip() for line in ESCAPE.sub("", text).replace("\u00a0", " ").splitlines())


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_as_it_was(name: str, screen: Screen) -> None:
    parts = []
    for width in WIDTHS:
        out, err = (plain(text) for text in screen(name, width))
        parts.append(f"==== {width} columns\n{out}\n" + (f"---- stderr\n{err}\n" if err else ""))
    path = FOLDER / f"{name}.txt"
    if os.environ.get(RENEW):
        path.write_text("\n".join(parts), encoding="utf-8")
    assert "\n".join(parts) == path.read_text("utf-8"), f"look at it; if it is better: {RENEW}=1"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [name for name in SCREENS if not name.endswith("-wide")])
def test_no_line_of_a_table_is_longer_than_the_terminal(name: str, width: int, screen: Screen) -> None:
    out, _ = screen(name, width)
    assert [line for line in plain(out).splitlines() if cell_len(line) > width] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_ids_that_have_to_be_copied_are_never_cut(width: int, screen: Screen) -> None:
    alarms = re.findall(r"^[\da-f]{8}\b", plain(screen("alarms", 200)[0]), re.MULTILINE)
    assert len(alarms) == 3
    for name, ids in {"list": NIGHTS, "compare": [NIGHTS[0], NIGHTS[-1]], "alarms": alarms, "ab": NIGHTS[:2]}.items():
        text = "".join(screen(name, width))
        assert [each for each in ids if each not in text] == [], name


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["show", "show-stages", "estimate", "throughput", "tune", "compare"])
def test_decimal_points_of_a_column_are_below_each_other(name: str, width: int, screen: Screen) -> None:
    """A number with decimals has its point where the number above it in the same column has it."""
    lines = plain(screen(name, width)[0]).splitlines()
    cells = [[match for match in re.finditer(r"(?<=  )-?[\d,]+\.\d+(?=  |$)", line)] for line in lines]
    for above, below in pairwise(cells):
        for one in above:
            for other in below:
                if one.start() < other.end() and other.start() < one.end():
                    points = [found.start() + found[0].index(".") for found in (one, other)]
                    assert points[0] == points[1], f"{one.string}\n{other.string}"


@pytest.mark.parametrize("name", SCREENS)
def test_a_column_has_one_unit(name: str, screen: Screen) -> None:
    """A unit is in the heading, or is the same in all cells of a column, which end or begin below each other."""
    units: dict[tuple[str, int], str] = {}
    for line in plain(screen(name, 200)[0]).splitlines():
        if not line:
            units.clear()  # another table
        for cell in re.finditer(r"(?<!\S)(?:about )?[\d,.]+(?: – [\d,.]+)? (ms|s|min|h|days|kB|MB|GB)(?=  |$)", line):
            for edge in (("begin", cell.start()), ("end", cell.end())):
                assert units.setdefault(edge, cell[1]) == cell[1], line


@pytest.mark.parametrize("width", WIDTHS)
def test_a_failure_shows_its_whole_message(width: int, screen: Screen) -> None:
    shown = re.sub(r"\s+", " ", plain(screen("query-failures", width)[0]))
    assert [
        word for word in ("oom_device", "CUDA out of memory. Tried to allocate", "20.00 MiB") if word not in shown
    ] == []


@pytest.mark.parametrize("name", SCREENS)
def test_a_pipe_gets_no_escape_codes(name: str, screen: Screen) -> None:
    assert "\x1b" not in "".join(screen(name))


@pytest.mark.parametrize("name", ["doctor", "compare-devices", "alarms", "tune"])
def test_a_terminal_gets_colours_unless_the_user_wants_none(name: str, screen: Screen) -> None:
    colour = re.compile(r"\x1b\[[\d;]*(?:3\d|4\d|9\d)[\d;]*m")
    assert colour.search(screen(name, 120)[0])
    assert not colour.search("".join(screen(name, 120, NO_COLOR="1")))

"""A variant that cannot run as asked has a row that tells so and no time, whatever command asked for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from harness import cli
from harness.plan import config
from harness.query import Session
from harness.run import tune
from harness.store import Store
from tests.conftest import REPOSITORY

FALLEN = ("fallback", "late-fallback")  # when it is applied, and in its first call
NOTE = "the simulated variant did not run"
PROFILE = """
image = "IMAGE"
models = ["sleep"]
crops = [48, 64]
variants = ["stock", "fallback", "fast", "late-fallback"]
protocols = ["standard", "article"]
passes = ["stages", "masks"]
repeats = 2
control = false
idle_wait_s = 0
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image and a profile, for the simulated engine."""
    made = tmp_path_factory.mktemp("fallback")
    tifffile.imwrite(made / "image.tif", np.random.default_rng(0).integers(0, 4000, (128, 128), np.uint16))
    (made / "tiny.toml").write_text(PROFILE.replace("IMAGE", str(made / "image.tif")))
    (made / "quick.toml").write_text("crops = [64]\nidle_wait_s = 0\n")
    return made


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process; what measures is in processes of its own all the same."""
    monkeypatch.setattr(config, "PROFILES", folder)  # whose `quick` waits for nobody

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cellbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


def rows(out: Path, sql: str = "SELECT * FROM samples") -> list[dict[str, Any]]:
    return Session(Store.at(out)).table(sql).to_pylist()


def check_run(out: Path, ended: Ended) -> None:
    """What a run of the profile above left: an end of every task, and times of what ran."""
    assert ended.code == 3, ended.err
    assert "8 of 16 cases are not done" in ended.err
    known = rows(out)
    for protocol in ("standard", "article"):
        for crop in ("48", "64"):
            of = [row for row in known if (row["protocol"], row["crop"], row["role"]) == (protocol, crop, "timed")]
            found = {(row["variant"], row["status"], row["elapsed_s"] is None) for row in of}
            assert found == {
                ("stock", "ok", False), ("fast", "ok", False),
                ("fallback", "variant_fallback", True), ("late-fallback", "variant_fallback", True),
            }  # fmt: skip
            assert len(of) == 2 * 2 + 2
    assert {row["error_message"] for row in known if row["status"] == "variant_fallback"} == {NOTE}
    fallen = [row for row in known if row["variant"] in FALLEN]
    assert {row["status"] for row in fallen} == {"variant_fallback"}
    assert {row["role"] for row in fallen} == {"timed", "stages", "masks"}
    assert {row["variant"] for row in rows(out, "SELECT * FROM medians")} == {"stock", "fast"}
    staged = rows(out, "SELECT DISTINCT variant FROM stages")
    assert {row["variant"] for row in staged} == {"stock", "fast"}
    assert {row["covered"] for row in rows(out, "SELECT * FROM coverage") if row["variant"] in FALLEN} == {"failed"}


def test_a_run_goes_on_and_ends_with_3(command: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    check_run(out, command("run", "--profile", folder / "tiny.toml", "--no-ray", "--out", out, "--quiet"))

    again = command("resume", "--out", out, "--quiet")
    assert (again.code, "nothing is left" in again.err) == (0, True)
    shown = json.loads(command("show", "--out", out, "--json").out)
    assert len(shown) == 2 * 2 * 2  # crops, protocols, and the two variants that ran
    page = command("report", "--out", out, "--to", out / "report.html")
    assert page.code == 0
    assert "variant_fallback" in (out / "report.html").read_text()
    md = command("query", "--out", out, "--csv", "SELECT DISTINCT variant FROM latest ORDER BY variant")
    assert md.out.split() == ['"variant"', '"fast"', '"stock"']


@pytest.mark.slow
def test_a_run_through_ray_is_no_different(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "--profile", folder / "tiny.toml", "--out", out, "--quiet"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    check_run(out, Ended(done.returncode, done.stdout, done.stderr))
    assert {row["dispatch"] for row in rows(out)} == {"ray"}


@pytest.mark.parametrize("variant", [*FALLEN, "fast+late-fallback"])
def test_masks_of_what_did_not_run_are_not_verified(
    command: Command, folder: Path, tmp_path: Path, variant: str
) -> None:
    ended = command(
        "verify-masks", "--model", "sleep", "--image", folder / "image.tif", "--crop", "64", "--out", tmp_path,
        "--variant", variant,
    )  # fmt: skip
    assert (ended.code, ended.out) == (3, "")
    assert NOTE in ended.err
    assert [row["status"] for row in rows(tmp_path) if row["variant"] == variant] == ["variant_fallback"]


@pytest.mark.parametrize("status", ["variant_fallback", "crash", "oom_device", "timeout"])
def test_what_failed_in_the_middle_of_its_race_never_wins(status: str) -> None:
    def row(variant: str, **columns: object) -> dict[str, object]:
        return {
            "role": "tune",
            "status": "ok",
            "variant": variant,
            "block": 0,
            "repetition": 0,
            "elapsed_s": 1.0,
        } | columns

    masks = [row(name, role="masks", agreement="identical") for name in ("stock", "fast")]
    race = [each for n in (0, 1) for each in (row("stock", repetition=n), row("fast", elapsed_s=0.1, repetition=n))]
    outcome = tune.outcomes([*masks, *race, row("fast", status=status, error_message="why")])[1]
    assert (outcome.variant, outcome.n, outcome.note) == ("fast", 2, f"{status}: why")
    assert not outcome.passes("equivalent")
    assert tune.outcomes([*masks, *race])[1].passes("identical")


def test_a_search_never_finds_what_did_not_run(command: Command, folder: Path, tmp_path: Path) -> None:
    words = ("--model", "sleep", "--image", folder / "image.tif", "--crop", "64", "--out", tmp_path, "--json")
    found = json.loads(command("tune", *words).out)
    assert found["identical"]["variant"].split("+")[0] != "stock"
    steps = {step["variant"]: step for step in found["steps"]}
    fallen = {name: step for name, step in steps.items() if set(FALLEN) & set(name.split("+"))}
    assert len(fallen) == 2
    assert {(step["speedup"], step["note"]) for step in fallen.values()} == {(None, f"variant_fallback: {NOTE}")}
    assert not any(word in (found["identical"]["variant"], found["equivalent"]["variant"]) for word in fallen)
    assert {row["status"] for row in rows(tmp_path) if row["variant"] in fallen} == {"variant_fallback"}


@pytest.mark.parametrize("sides", [("stock", "fallback"), ("late-fallback", "fast")], ids="-".join)
def test_what_did_not_run_is_no_side_of_a_comparison(
    command: Command, folder: Path, tmp_path: Path, sides: tuple[str, str]
) -> None:
    words = ("--model", "sleep", "--image", folder / "image.tif", "--crop", "64", "--budget", "60s")
    ended = command("ab", *sides, *words, "--out", tmp_path)
    assert (ended.code, ended.out) == (3, "")
    assert f"variant_fallback: {NOTE}" in ended.err
    assert not any(row["variant"] in FALLEN for row in rows(tmp_path, "SELECT * FROM medians"))


def test_throughput_of_what_did_not_run_is_none(command: Command, folder: Path, tmp_path: Path) -> None:
    ended = command(
        "throughput", "--model", "sleep", "--image", folder / "image.tif", "--crop", "64", "--n-images", "4",
        "--processes", "1,2", "--in-flight", "2", "--variants", "stock,fallback,late-fallback,fast",
        "--rounds", "1", "--out", tmp_path, "--json",
    )  # fmt: skip
    assert ended.code == 3
    assert NOTE in ended.err
    rates = json.loads(ended.out)
    assert len(rates) == 4 * 2
    for rate in rates:
        is_fallen = rate["way"]["variant"] in FALLEN
        assert (rate["images_per_minute"] is None) == is_fallen
        assert (rate["note"] == f"variant_fallback: {NOTE}") == is_fallen
    stored = rows(tmp_path, "SELECT * FROM samples WHERE role = 'throughput'")
    assert {(row["variant"] in FALLEN, row["status"]) for row in stored} == {(True, "variant_fallback"), (False, "ok")}


# ------------------------------------------------------------------ the real cellpose on a machine that lacks something


@pytest.fixture
def lacking(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without a compiler, or with no place for what one makes."""
    home = tmp_path / "home"
    home.mkdir()
    if request.param == "no compiler":
        return {"PATH": "", "CELLBENCH_HOME": str(home), "CXX": "", "CC": ""}
    (home / "compiled").write_text("a file where the folder should be")  # for root too, whom no permission stops
    return {"CELLBENCH_HOME": str(home)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacking", "variant", "why"),
    [
        ("no compiler", "winograd", "there is no C++ compiler"),
        ("no place", "winograd", "compiled code cannot be written"),
        ("no compiler", "channels-last+compiled", "torch.compile failed"),
        ("nothing", "compiled", "no tile has the size that is compiled"),  # an image of 64 px, whatever the machine has
    ],
    indirect=["lacking"],
)
def test_cellpose_where_a_variant_cannot_run(lacking: dict[str, str], variant: str, why: str, tmp_path: Path) -> None:
    crop = "64" if variant == "compiled" else "224"
    out = tmp_path / "results"
    words = ("run", "--no-ray", "--weights", "standin", "--devices", "cpu", "--crops", crop, "--blocks", "1",
             "--repeats", "1", "--variants", f"{variant},stock", "--out", str(out), "--quiet")  # fmt: skip
    environ = {**os.environ, **lacking, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words], capture_output=True, text=True, check=False, env=environ,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    timed = {(row["variant"], row["status"]) for row in rows(out) if row["role"] == "timed"}
    assert timed == {(variant, "variant_fallback"), ("stock", "ok")}
    [bad] = [row for row in rows(out) if row["status"] == "variant_fallback"]
    assert why in bad["error_message"]
    assert {row["variant"] for row in rows(out, "SELECT * FROM medians")} == {"stock"}

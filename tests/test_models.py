"""Models as a dimension of a run, and what `cellbench models` says of them; no model computes but in the slow tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from harness.cli.app import app
from harness.doctor import models
from harness.engines import environments, registry
from harness.engines.cellpose3 import weights
from harness.errors import CellbenchError

ENGINES = [(name, model.name) for name in registry.BUILT_IN for model in registry.engine(name).models]


def cellbench(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip


# ------------------------------------------------------------------ cellbench models


def test_every_model_is_listed_with_what_a_run_would_use() -> None:
    answer = CliRunner().invoke(app, ["models", "--json"])
    found = {each["model"]: each for each in json.loads(answer.stdout)}
    assert [(each["engine"], each["model"]) for each in found.values()] == ENGINES
    for name, each in found.items():
        assert each["version"] == registry.version(each["engine"])
        assert each["environment"] == sys.executable
        assert each["title"] == registry.info(name).title
        assert (each["problem"] is None) == (each["version"] is not None)
    assert "uses the stand-in" in found["cyto3"]["weights"]
    assert "a run fetches nuclei if it can, or else fails" in found["nuclei"]["weights"]


def test_people_read_a_line_for_each_model_below_its_engine() -> None:
    shown = models.text([
        models.Listed("cellpose3", "cyto3", "Cellpose cyto3", "3.1.1.3", "/bin/python", "as on record"),
        models.Listed("cellpose3", "nuclei", "Cellpose nuclei", "3.1.1.3", "/bin/python", "none"),
        models.Listed("other", problem="it is broken"),
    ])  # fmt: skip
    assert shown.splitlines() == [
        "cellpose3 3.1.1.3, in /bin/python",
        "  cyto3   Cellpose cyto3; weights: as on record",
        "  nuclei  Cellpose nuclei; weights: none",
        "other, it is broken",
    ]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs an entry point of somebody else's package, by what it refers to."""

    def install(value: str) -> None:
        point = EntryPoint("plugin", value, registry.ENTRY_POINTS)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])

    registry.engine.cache_clear()
    registry.names.cache_clear()
    yield install
    registry.engine.cache_clear()
    registry.names.cache_clear()


@pytest.mark.parametrize("value", ["no_such_package:ENGINE", "json:ENGINE", "harness.engines.registry:engine_of"])
def test_a_broken_package_is_listed_and_keeps_no_other_from_work(value: str, plugin: Any) -> None:
    plugin(value)
    *ours, broken = models.listed()
    assert [(each.engine, each.model) for each in ours] == ENGINES
    assert [each.problem is None for each in ours] == [registry.version(engine) is not None for engine, _ in ENGINES]
    assert (broken.engine, broken.model) == ("plugin", None)
    assert broken.problem


def test_models_and_stages_are_found_though_a_package_is_broken(plugin: Any) -> None:
    plugin("no_such_package:ENGINE")
    with pytest.raises(CellbenchError, match="the engine 'plugin' cannot be loaded: ModuleNotFoundError") as caught:
        registry.engine("plugin")
    assert caught.value.where == "no_such_package:ENGINE"
    with pytest.raises(CellbenchError, match="no model 'cyto9'") as caught:
        registry.engine_of("cyto9")
    assert all(model in caught.value.fix for _, model in ENGINES)
    assert registry.info("cyto9").title == "cyto9"
    registry.stages.cache_clear()
    assert registry.stages().stages


def by_engine(found: list[models.Listed]) -> dict[str, models.Listed]:
    return {each.engine: each for each in found}


def test_an_interpreter_that_is_not_there_is_a_problem_of_each_engine() -> None:
    found = list(models.listed("/no/such/python"))
    assert len(found) == len(ENGINES)
    assert all("there is no interpreter /no/such/python" in each.problem and each.version is None for each in found)


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("exit 3", "no measuring process can be started"),
        ("echo 'no module named harness' >&2; exit 1", "no module named harness"),
        ("echo hello", "the process there is not a measuring process"),
        ("""echo '{"wire": 0, "harness": "0", "engine": "x", "engine_version": "1"}'""", "uses version 0"),
    ],
)
def test_an_interpreter_that_cannot_measure_is_a_problem_with_its_reason(
    script: str, output: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    found = list(models.listed(str(python)))
    assert len(found) == len(ENGINES)
    assert all(output in each.problem and str(python) in each.environment for each in found)


@pytest.mark.parametrize(
    ("version", "output"),
    [("4.0.6", "needs cellpose>=3.1.1,<4, but 4.0.6 is installed there"), (None, "cellpose3 is not installed there")],
)
def test_the_version_is_that_of_the_environment_and_not_of_this_process(
    version: str | None, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environments.overlay("cellpose3")
    assert not folder.exists(), "the tests have a home of their own"
    folder.mkdir(parents=True)
    answer = "None" if version is None else repr(version)
    (folder / "sitecustomize.py").write_text(
        f"from harness.engines.cellpose3 import engine\nengine.Cellpose3.version = lambda _: {answer}\n"
    )
    found = by_engine(list(models.listed()))
    assert output in found["cellpose3"].problem
    assert found["cellpose3"].environment == f"{folder} over {sys.executable}"
    assert found["simulated"].problem is None


# ------------------------------------------------------------------ runs of several models

MODELS_WITHOUT_STANDIN = [model for model in weights.PUBLISHED if model != weights.STANDIN_FOR]


@pytest.mark.parametrize("model", MODELS_WITHOUT_STANDIN)
@pytest.mark.parametrize("choice", ["standin", "auto", "published"])
def test_a_model_without_weights_is_refused_before_anything_is_started(
    model: str, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.fleet.driver.opened", lambda *_, **__: pytest.fail("a fleet was opened"))
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((64, 64), np.uint8))
    words = ["--image", tmp_path / "image.tif", "--crops", "64", "--no-ray", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["run", "--models", f"sleep,{model}", "--weights", choice, *map(str, words)])
    assert isinstance(done.exception, CellbenchError)
    assert model in f"{done.exception.what} {done.exception.where}"
    assert done.exception.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_cyto2_is_measured_with_files_of_its_names(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for standin, own in zip(weights.PUBLISHED["cyto3"], weights.PUBLISHED["cyto2"], strict=True):
        shutil.copy(weights.STANDIN_FOLDER / standin.name, mine / own.name)
    with (mine / weights.PUBLISHED["cyto2"][1].name).open("ab") as size_model:
        size_model.write(b"\0")  # numpy reads no further than the array; the hash is another
    words = ["run", "--models", "cyto2", "--weights", mine, "--crops", "64", "--blocks", "1", "--repeats", "2",
             "--no-ray", "--devices", "cpu", "--out", tmp_path / "out"]  # fmt: skip
    refused = cellbench(*words)
    assert refused.returncode == 2
    [flag] = [line for line in refused.stderr.splitlines() if "--trust" in line]
    sha256 = flag.partition("--trust ")[2].partition(";")[0]
    done = cellbench(*words, "--trust", sha256)
    assert done.returncode == 0, done.stderr
    sql = "SELECT DISTINCT model, engine, weights, size_model_sha256, status FROM samples"
    rows = json.loads(cellbench("query", sql, "--json", "--out", tmp_path / "out").stdout)
    assert rows == [
        {"model": "cyto2", "engine": "cellpose3", "weights": "custom", "size_model_sha256": sha256, "status": "ok"}
    ]


@pytest.mark.slow
def test_the_models_of_two_engines_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.mkdir()
    (script / "script.json").write_text(json.dumps({"n_cells": 7}))
    monkeypatch.setenv("CELLBENCH_SIMULATED", str(script))
    out = tmp_path / "out"
    done = cellbench("run", "--models", "cyto3,sleep", "--weights", "standin", "--crops", "64", "--blocks", "1",
                     "--repeats", "2", "--no-ray", "--devices", "cpu", "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    of_model = {"cyto3": ("cellpose3", "standin"), "sleep": ("simulated", "none")}
    sql = "SELECT model, engine, weights, count(DISTINCT case_id) AS n FROM samples WHERE role = 'timed' GROUP BY ALL"
    found = json.loads(cellbench("query", sql, "--json", "--out", out).stdout)
    assert {each["model"]: (each["engine"], each["weights"]) for each in found} == of_model
    assert [each["n"] for each in found] == [1, 1]
    medians = json.loads(cellbench("query", "SELECT n, weights, n_cells FROM medians", "--json", "--out", out).stdout)
    shown = json.loads(cellbench("show", "--json", "--out", out).stdout)
    for rows in (medians, shown):
        assert {row["weights"]: row["n"] for row in rows} == {"standin": 2, "none": 2}
        assert [row["n_cells"] == 7 for row in rows if row["weights"] == "none"] == [True]
    assert [row["speedup"] for row in shown] == [None, None], "one model's time is not divided by another's"

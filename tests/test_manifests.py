"""Every command that measures leaves what it was to do; only a run is resumed, and only with the same software."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import Result
from typer.testing import CliRunner

from harness.cli.app import app
from harness.engines.simulated import script
from harness.errors import CellbenchError
from harness.fleet.driver import survey
from harness.fleet.driver.survey import Member
from harness.plan import config
from harness.plan.cases import Node
from harness.query import Session
from harness.run import bench, resume
from harness.run.bench import Prepared
from harness.store import Store
from tests.conftest import CPU_DEVICE, RUN_ID

COMMANDS: dict[str, list[str]] = {
    "run": ["--models", "sleep", "--crops", "64", "--no-ray", "--devices", "cpu"],
    "tune": ["--model", "sleep", "--crop", "64", "--budget", "1s"],
    "verify-masks": ["--model", "sleep", "--crop", "64", "--variant", "fast"],
    "throughput": ["--model", "sleep", "--crop", "32", "--n-images", "2", "--processes", "1", "--rounds", "1"],
}
NOT_RESUMED = [name for name in COMMANDS if name != "run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small image, a quick profile that does not wait for an idle machine, and a script."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "quick.toml").write_text("crops = [64]\nrepeats = 2\nidle_wait_s = 0\n")
    monkeypatch.setattr(config, "PROFILES", profiles)
    (tmp_path / "script.json").write_text(json.dumps({"call_s": 0.0}))
    monkeypatch.setenv(script.FOLDER, str(tmp_path))
    tifffile.imwrite(tmp_path / "image.tif", np.arange(96 * 96, dtype=np.uint16).reshape(96, 96))
    return tmp_path


@pytest.fixture
def cellbench(here: Path) -> Callable[..., Result]:
    """A command on the small image; resume takes none."""

    def call(*words: str) -> Result:
        image = [] if words[0] == "resume" else ["--image", str(here / "image.tif")]
        return CliRunner().invoke(app, [*words, *image, "--out", str(here / "out")])

    return call


def n_calls(here: Path) -> int:
    """Calls of the model that all processes began."""
    witness = here / "witness"
    return witness.read_text().count("begin") if witness.exists() else 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_measures_leaves_its_manifest(
    command: str, here: Path, cellbench: Callable[..., Result]
) -> None:
    done = cellbench(command, *COMMANDS[command])
    assert done.exit_code == 0, done.exception
    store = Store.at(here / "out")
    [path] = (here / "out" / "runs").iterdir()
    manifest = resume.read(store, path.stem)
    assert (manifest.command, manifest.run_id) == (command, path.stem)
    assert manifest.config.models == ("sleep",)
    assert manifest.versions[survey.socket.gethostname()]["simulated"]
    runs = Session(store).table("SELECT DISTINCT run_id FROM samples").column("run_id").to_pylist()
    assert runs == [path.stem], "its rows are those of the manifest"

    before = n_calls(here)
    again = cellbench("resume", path.stem)
    assert n_calls(here) == before > 0, "nothing is measured again"
    if command == "run":
        assert again.exit_code == 0
    else:
        assert isinstance(again.exception, CellbenchError)
        assert again.exception.what == f"{path.stem} is of cellbench {command}, which is not resumed"
        assert command in again.exception.fix


# ------------------------------------------------------------------ without measuring


def prepared(here: Path, versions: dict[str, str | None] | None = None) -> Prepared:
    """A run of the simulated model on a made-up node."""
    flags = {"image": str(here / "image.tif"), "models": ("sleep",), "devices": ("cpu",)}
    here_too = dict(survey.versions_of(("simulated",))) if versions is None else versions
    member = Member(Node("desk", (CPU_DEVICE,), 1), {}, here_too)
    return bench.prepare(bench.gather(config.load("quick", flags)), [member], allow_mixed=True)


class Alone:
    """What a manifest says of a fleet."""

    address, use_ray = None, False


def test_the_latest_run_is_resumed_whatever_other_commands_did_since(here: Path) -> None:
    store, made = Store.make(here / "out"), prepared(here)
    for number, command in enumerate(["run", *NOT_RESUMED]):
        resume.write(store, bench.manifest_of(made, Alone(), f"{RUN_ID}{number}", command))
    assert resume.latest(store) == f"{RUN_ID}0"
    (here / "out" / "runs" / f"{RUN_ID}0.json").unlink()
    with pytest.raises(CellbenchError, match="no run was begun in this store"):
        resume.latest(store)


VERSIONS = list(survey.versions_of(("simulated",)))


@pytest.mark.parametrize("name", [name for name in VERSIONS if name != "ray"])
@pytest.mark.parametrize("then", ["0.0.1", None])
def test_a_run_is_not_resumed_with_other_software(name: str, then: str | None, here: Path) -> None:
    now = prepared(here)
    [member] = now.members
    began = bench.manifest_of(prepared(here, {**member.versions, name: then}), Alone(), RUN_ID)
    with pytest.raises(CellbenchError, match="software differs from that") as caught:
        bench.again(now.material, began, now.members, now.blocks)
    assert caught.value.where == f"desk: {name} {member.versions[name]}, the run began with {then}"


@pytest.mark.parametrize(
    ("name", "then"), [("ray", "0.0.1"), ("ray", None), ("torch", "a build")], ids=["other ray", "no ray", "a build"]
)
def test_what_does_not_change_a_measurement_may_differ(name: str, then: str | None, here: Path) -> None:
    now = prepared(here)
    [member] = now.members
    then = f"{(member.versions['torch'] or '').split('+')[0]}+other" if then == "a build" else then
    began = bench.manifest_of(prepared(here, {**member.versions, name: then}), Alone(), RUN_ID)
    assert bench.again(now.material, began, now.members, now.blocks).blocks == now.blocks


def test_a_node_with_nothing_left_may_have_other_software(here: Path) -> None:
    now = prepared(here)
    [member] = now.members
    other = replace(member, node=replace(member.node, name="mac"), versions={"torch": "0.0.1"})
    began = bench.manifest_of(now, Alone(), RUN_ID)
    assert [each.name for each in bench.again(now.material, began, [member, other], now.blocks).members] == ["desk"]


def test_resume_is_refused_before_anything_is_measured(here: Path, cellbench: Callable[..., Result]) -> None:
    made = prepared(here)
    host = survey.socket.gethostname()
    [block], [member] = made.blocks, made.members
    made = replace(
        made,
        blocks=(replace(block, node=host, device=replace(CPU_DEVICE, name="simulated")),),
        members=(replace(member, node=replace(member.node, name=host)),),
    )
    store = Store.make(here / "out")
    resume.write(store, bench.manifest_of(made, Alone(), RUN_ID))
    path = here / "out" / "runs" / f"{RUN_ID}.json"
    good = path.read_text()
    edited = json.loads(good)
    edited["versions"][host]["torch"] = "0.0.1"
    path.write_text(json.dumps(edited))
    refused = cellbench("resume", RUN_ID)
    assert isinstance(refused.exception, CellbenchError)
    assert "the run began with 0.0.1" in refused.exception.where
    assert n_calls(here) == 0
    assert Session(store).table("SELECT * FROM samples").num_rows == 0
    path.write_text(good)
    assert cellbench("resume", RUN_ID).exit_code == 0
    assert n_calls(here) > 0


@pytest.mark.parametrize("version", ["4.0.6", None])
def test_nodes_with_another_engine_do_not_measure_together(version: str | None, here: Path) -> None:
    now = prepared(here)
    [member] = now.members
    other = replace(member, node=replace(member.node, name="mac"), versions={**member.versions, "simulated": version})
    with pytest.raises(CellbenchError, match="nodes have other versions") as caught:
        bench.prepare(now.material, [member, other])
    assert caught.value.where == f"mac: simulated {version}, here {member.versions['simulated']}"
    assert len(bench.prepare(now.material, [member, other], allow_mixed=True).members) == 2
    unlike = replace(other, versions={**member.versions, "numpy": "0.0.1"})
    assert len(bench.prepare(now.material, [member, unlike]).members) == 2, "it is stored, and may explain a difference"

"""The bundle for machines without a network: what goes in, how it is cut, and what its install script refuses."""

import argparse
import ast
import errno
import hashlib
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from harness.engines import overlays
from harness.errors import FleetUnreachableError
from harness.fleet.driver import cluster
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import bundle
import bundle_install
import wheelhouse
from wheelhouse import Target, WheelError

LINUX, MAC = Target("linux_x86_64", "3.12"), Target("macos_arm64", "3.11")
PACKAGES = {
    "ours": ["torch>=2.6", "ray[default]==2.60.*", "numpy"],
    "ray": ['aiohttp; extra == "default"', "click", 'colorama; sys_platform == "win32"'],
    "aiohttp": ['macs; sys_platform == "darwin"', "numpy"],
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A made-up package index and project; what was fetched from it."""
    fetched: list[str] = []

    def download(_: Target, exact: list[str], folder: Path, **__: object) -> None:
        for one in exact:
            name, version = one.split("==")
            fetched.append(name)
            needs = "".join(f"Requires-Dist: {need}\n" for need in PACKAGES.get(name, []))
            with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{name}-{version}.dist-info/METADATA", f"Name: {name}\n{needs}\ntext")

    monkeypatch.setattr(wheelhouse, "download", download)
    monkeypatch.setattr(wheelhouse, "needs", lambda _: PACKAGES["ours"])
    names = ("torch", "ray", "numpy", "aiohttp", "click", "macs")
    (tmp_path / "constraints.txt").write_text("# pinned\n" + "".join(f"{name}==1.0\n" for name in names))
    return fetched


def test_everything_that_is_needed_there_and_nothing_else(index: list[str], tmp_path: Path) -> None:
    found = wheelhouse.closure(LINUX, tmp_path, root=tmp_path)
    assert set(found) == {"ray", "numpy", "aiohttp", "click"}
    assert sorted(index) == sorted(found), "each is fetched once, torch never"
    assert "macs" in wheelhouse.closure(MAC, tmp_path, root=tmp_path)


def test_without_ray_its_own_needs_stay_away_too(index: list[str], tmp_path: Path) -> None:
    assert set(wheelhouse.closure(LINUX, tmp_path, {"torch", "ray"}, tmp_path)) == {"numpy"}
    assert index == ["numpy"]


def test_what_is_not_pinned_is_refused(index: list[str], tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("ray==1.0\n")
    with pytest.raises(WheelError, match="numpy"):
        wheelhouse.closure(LINUX, tmp_path, root=tmp_path)


def test_every_dependency_of_ours_is_pinned() -> None:
    names = {wheelhouse.canonicalize_name(wheelhouse.Requirement(need).name) for need in wheelhouse.needs()}
    for target in wheelhouse.TARGETS:
        assert names <= wheelhouse.pins(target).keys()


@pytest.mark.parametrize("target", wheelhouse.TARGETS, ids=lambda target: f"{target.platform}-{target.python}")
def test_one_version_of_each_package_is_pinned_for_each_kind_of_machine(target: Target) -> None:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line]
    pins = [each for each in map(wheelhouse.Requirement, lines) if wheelhouse._holds(each, target, {""})]
    assert len(pins) == len(wheelhouse.pins(target))
    assert {each.name for each in pins} == {wheelhouse.Requirement(line).name for line in lines}


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("50M", 50_000_000), ("64MiB", 2**26), ("1g", 10**9), ("7", 7), ("10KB", 10_000)]
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert bundle.size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "0", "many", "-5M", "5T"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        bundle.size(text)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The manifest of an archive of 2,500 bytes in three parts."""
    archive = tmp_path / "x.tar"
    archive.write_bytes(bytes(range(250)) * 10)
    manifest = {"archive": "x.tar", "parts": bundle.split(archive, tmp_path, 1000)}
    assert [part["bytes"] for part in manifest["parts"]] == [1000, 1000, 500]
    archive.unlink()
    monkeypatch.setattr(bundle_install, "HERE", tmp_path)
    return manifest


def test_parts_are_joined_as_they_were(parts: dict, tmp_path: Path) -> None:
    joined = bundle_install.join(parts, tmp_path).read_bytes()
    assert hashlib.sha256(joined).digest() == hashlib.sha256(bytes(range(250)) * 10).digest()


def test_missing_and_damaged_parts_are_named_at_once(parts: dict, tmp_path: Path) -> None:
    (tmp_path / "x.tar.001").unlink()
    (tmp_path / "x.tar.003").write_bytes(b"x" * 500)
    with pytest.raises(bundle_install.InstallError, match=r"x.tar.001 is missing\n  x.tar.003 is damaged"):
        bundle_install.join(parts, tmp_path)


@pytest.mark.parametrize("text", ['{"python": "3.1', "{}", "[]", '"x"'])
def test_a_damaged_manifest_is_named(parts: dict, tmp_path: Path, text: str) -> None:
    with pytest.raises(bundle_install.InstallError, match=r"manifest.json is missing\n  fix: copy it"):
        bundle_install.read_manifest()
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(bundle_install.InstallError, match=r"manifest.json is damaged\n  fix: copy it"):
        bundle_install.read_manifest()


def below(folder: Path) -> set[str]:
    """Every file below a folder, with what is in it."""
    return {f"{file.relative_to(folder)} {file.read_text()}" for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_environment_as_it_was(tmp_path: Path, stop: BaseException) -> None:
    to = tmp_path / "to"
    (to / "bin").mkdir(parents=True)
    (to / "pyvenv.cfg").write_text("old")
    (to / "bin" / "cellbench").write_text("old")
    (to / ".hidden").symlink_to("bin")
    before, names = below(to), set(os.listdir(to))

    def work() -> None:
        with bundle_install.making(to) as scratch:
            assert os.listdir(to) == [scratch.name], "a new environment is made in an empty folder"
            (to / "bin").mkdir()
            (to / "bin" / "cellbench").write_text("new")
            (to / "lib64").symlink_to("bin")
            (to / "pyvenv.cfg").write_text("new")
            raise stop

    with pytest.raises(type(stop)):
        work()
    assert (below(to), set(os.listdir(to))) == (before, names)


def test_what_fails_at_first_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), bundle_install.making(tmp_path / "to") as scratch:
        (scratch / "x").write_text(str(1 / 0))
    assert not (tmp_path / "to").exists()


def test_a_new_environment_takes_the_place_of_the_old_one_but_of_nothing_else(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with bundle_install.making(tmp_path / "to"):
            (tmp_path / "to" / "pyvenv.cfg").write_text(text)
            (tmp_path / "to" / text).write_text("")
    assert below(tmp_path / "to") == {"pyvenv.cfg second", "second "}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.tif").write_text("x")
    with (
        pytest.raises(bundle_install.InstallError, match="not empty and no environment"),
        bundle_install.making(tmp_path / "photos"),
    ):
        pass
    assert below(tmp_path / "photos") == {"1.tif x"}


def test_published_weights_are_never_replaced_nor_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, weights = tmp_path / "models", tmp_path / "content" / "weights"
    weights.mkdir(parents=True)
    models.mkdir()
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(models))
    for name in bundle.WEIGHTS:
        (weights / name).write_text("bundle")
    (models / bundle.WEIGHTS[0]).write_text("mine")
    assert bundle_install.place_weights(tmp_path / "content") == str(models)
    assert below(models) == {f"{bundle.WEIGHTS[0]} mine", f"{bundle.WEIGHTS[1]} bundle"}

    def full(_: Path, folder: str) -> None:
        Path(folder, "half").write_text("bun")
        raise OSError(errno.ENOSPC, "No space left on device")

    (models / bundle.WEIGHTS[1]).unlink()
    monkeypatch.setattr(bundle_install.shutil, "copy", full)
    with pytest.raises(OSError, match="No space"):
        bundle_install.place_weights(tmp_path / "content")
    assert below(models) == {f"{bundle.WEIGHTS[0]} mine"}


def test_an_engine_is_carried_at_its_exact_versions_with_weights_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(bundle, "download", lambda _target, exact, _folder: fetched.extend(exact))
    bundle.add_engines(["cellpose4"], LINUX, tmp_path / "engines")
    assert tuple(fetched) == overlays.OVERLAYS["cellpose4"].packages
    assert all("==" in each for each in fetched)
    with pytest.raises(WheelError, match="nosuch is not an engine"):
        bundle.add_engines(["nosuch"], LINUX, tmp_path / "engines")
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(models))
    assert bundle.add_weights("auto", tmp_path / "none", ["cellpose4"]) == []
    (models / "cpsam_v2").write_text("sam")
    assert bundle.add_weights("auto", tmp_path / "sam", ["cellpose4"]) == ["cpsam_v2"]
    for name in bundle.WEIGHTS:
        (models / name).write_text("cyto3")
    assert bundle.add_weights("auto", tmp_path / "plain", []) == list(bundle.WEIGHTS)
    assert bundle.add_weights("auto", tmp_path / "both", ["cellpose4"]) == [*bundle.WEIGHTS, "cpsam_v2"]
    assert set(os.listdir(tmp_path / "both")) == {*bundle.WEIGHTS, "cpsam_v2"}


def test_a_carried_engine_is_installed_from_the_bundle_and_from_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, to = tmp_path / "content", tmp_path / "to"
    (content / "wheels").mkdir(parents=True)
    (content / "wheels" / "pip-1-py3-none-any.whl").write_text("")
    program = to / "bin" / "cellbench"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho $@ $PIP_INDEX_URL $PIP_NO_INDEX $PIP_FIND_LINKS >> {tmp_path}/asked\n")
    program.chmod(0o755)
    monkeypatch.setenv("PIP_INDEX_URL", "http://somewhere")
    bundle_install.place_engines({}, content, to)
    assert not (tmp_path / "asked").exists()
    bundle_install.place_engines({"engines": ["cellpose4"]}, content, to)
    assert (tmp_path / "asked").read_text() == f"engines install cellpose4 1 {content}/engines\n"
    program.write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(bundle_install.InstallError, match="cellpose4 could not be installed"):
        bundle_install.place_engines({"engines": ["cellpose4"]}, content, to)


def test_a_kind_of_machine_that_is_not_served_is_refused(tmp_path: Path) -> None:
    for there in ({"platform": "macos_x86_64", "python": "3.12"}, {"platform": "linux_x86_64", "python": "3.10"}):
        with pytest.raises(WheelError, match=r"no bundle is for .* give --python and --platform"):
            bundle.make(argparse.Namespace(to=tmp_path / "to", **there))
    assert not (tmp_path / "to").exists()


def test_what_a_bundle_cannot_be_made_of_leaves_nothing_to_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WheelError("no network")

    monkeypatch.setattr(bundle, "closure", refuse)
    args = argparse.Namespace(to=tmp_path / "to", platform=LINUX.platform, python="3.12", no_ray=True, without="")
    with pytest.raises(WheelError, match="no network"):
        bundle.make(args)
    assert os.listdir(tmp_path / "to") == []


def test_another_python_is_refused() -> None:
    with pytest.raises(bundle_install.InstallError, match=r"for Python 3.99 [\s\S]*another bundle"):
        bundle_install.check_machine({"python": "3.99", "platform": bundle.here().platform})
    with pytest.raises(bundle_install.InstallError, match=r"on amiga, [\s\S]*fix: make another bundle"):
        bundle_install.check_machine({"python": bundle.here().python, "platform": "amiga"})


def test_an_old_python_is_told_so_and_no_more() -> None:
    """What stands above the check of the version is all that an older Python reads before it stops."""
    source = Path(bundle_install.__file__).read_text()
    ast.parse(source, feature_version=(3, 6))
    first = next(node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
    assert ast.unparse(first) == "import sys"


def test_another_torch_only_if_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"torch": "2.11.0+cu130", "numpy": "2.5.0"}
    monkeypatch.setattr(bundle_install, "installed", here.get)
    manifest = {"machine": {"torch": "2.13.0"}, "versions": {"numpy": "2.0.2"}}
    with pytest.raises(
        bundle_install.InstallError, match=r"torch 2.11.0\+cu130, tested was 2.13.0[\s\S]*--use-system-torch"
    ):
        bundle_install.of_machine(manifest, False)
    assert bundle_install.of_machine(manifest, True) == here
    assert bundle_install.of_machine({**manifest, "machine": {"torch": "2.11.0"}}, False) == {"torch": here["torch"]}
    with pytest.raises(bundle_install.InstallError, match="has no scipy"):
        bundle_install.of_machine({**manifest, "machine": {"scipy": "1.0"}}, True)


def test_a_run_through_ray_without_ray_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FleetUnreachableError, match="Ray is not installed") as caught:
        cluster.start_local()
    assert "--no-ray" in caught.value.fix


def test_the_machines_packages_are_found_where_they_lie() -> None:
    [folder] = bundle_install.folders_of(["typer"])
    assert Path(folder) == Path(json.__file__).parents[1] / "site-packages" or Path(folder, "typer").is_dir()
    assert bundle_install.folders_of(["no-such-package"]) == []


def test_the_wheel_of_a_bundle_has_every_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: set[str] = set()

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if "wheel" in command:
            copied.update(each.name for each in Path(command[-1]).iterdir() if (each / "__init__.py").is_file())
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(bundle.subprocess, "run", run)
    bundle.build(tmp_path)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    wanted = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert copied == {name.removesuffix("*") for name in wanted}

"""The bundle for machines without a network: what goes in, how it is cut, and what its install script refuses."""

import argparse
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

from harness.errors import FleetUnreachableError
from harness.fleet import cluster
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
    assert names <= wheelhouse.pins().keys()


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


def test_another_python_is_refused() -> None:
    with pytest.raises(bundle_install.InstallError, match=r"for Python 3.99 [\s\S]*another bundle"):
        bundle_install.check_machine({"python": "3.99", "platform": "linux_x86_64"})


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

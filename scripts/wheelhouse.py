"""The wheels that another Python or platform needs, and their download, without torch.

What is needed is followed from pyproject.toml through the wheels' own metadata at the versions of constraints.txt:
pip's resolver would fetch torch, gigabytes in its CUDA build, only to read what it needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
GLIBC_MINOR = 28  # torch's own wheels require this or a newer one
MACOS_MAJOR = 13  # opencv-python-headless's wheel requires this or a newer one


class WheelError(Exception):
    """A problem that the maker of a bundle can fix."""


@dataclass(frozen=True)
class Target:
    """A kind of machine: platform is linux_x86_64, linux_aarch64 or macos_arm64; python is one of PYTHONS."""

    platform: str
    python: str

    @property
    def tags(self) -> list[str]:
        """Wheel platforms that it can install, the newest first."""
        if self.platform == "macos_arm64":
            return [f"macosx_{major}_0_arm64" for major in range(MACOS_MAJOR, 10, -1)]
        arch = self.platform.removeprefix("linux_")
        return [*(f"manylinux_2_{minor}_{arch}" for minor in range(GLIBC_MINOR, 16, -1)), f"manylinux2014_{arch}"]

    @property
    def markers(self) -> dict[str, str]:
        """The environment for the conditions of requirements."""
        is_mac = self.platform == "macos_arm64"
        return {
            "python_version": self.python, "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix",
            "sys_platform": "darwin" if is_mac else "linux", "platform_system": "Darwin" if is_mac else "Linux",
            "platform_machine": "arm64" if is_mac else self.platform.removeprefix("linux_"), "extra": "",
        }  # fmt: skip


TARGETS = tuple(
    Target(platform, python) for platform in ("linux_x86_64", "linux_aarch64", "macos_arm64") for python in PYTHONS
)


def pins(target: Target, root: Path = ROOT) -> dict[str, str]:
    """The versions that were tested together on a kind of machine, by canonical name."""
    lines = (root / "constraints.txt").read_text().splitlines()
    exact = (Requirement(line) for line in lines if line and not line.startswith("#"))
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in exact
        if _holds(each, target, {""})
    }


def needs(root: Path = ROOT) -> list[str]:
    """The requirements of cellbench, including torch, for all kinds of machines."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]


def closure(target: Target, folder: Path, without: Iterable[str] = ("torch",), root: Path = ROOT) -> dict[str, str]:
    """Fetch every wheel that the target needs into a folder; versions by name.

    without: packages that the machine has itself; they and what only they need are left out.
    """
    pinned, left_out = pins(target, root), {canonicalize_name(name) for name in without} | {"torch"}
    request = {canonicalize_name(r.name): r for r in map(Requirement, needs(root))}
    found: dict[str, str] = {}
    extras: dict[str, set[str]] = {}
    while todo := {name: r for name, r in request.items() if name not in left_out}:
        for name in todo.keys() - found.keys():
            if name not in pinned:
                raise WheelError(f"constraints.txt lacks the tested version of {name}")
        new = {name: pinned[name] for name in todo.keys() - found.keys()}
        if new:
            download(target, [f"{name}=={version}" for name, version in new.items()], folder)
        found |= new
        request = {}
        for name, requirement in todo.items():
            if requirement.extras <= extras.get(name, {""}) and name not in new:
                continue
            extras.setdefault(name, {""}).update(requirement.extras)
            for inner in _requires(_wheel(folder, name, found[name])):
                if _holds(inner, target, extras[name]):
                    known = request.setdefault(canonicalize_name(inner.name), inner)
                    known.extras |= inner.extras
    return dict(sorted(found.items()))


def download(target: Target, exact: list[str], folder: Path, *, dry_run: bool = False) -> None:
    """Download these exact versions as wheels for the target, without their requirements; dry_run only checks."""
    kind = ["install", "--dry-run", "--ignore-installed", "--target", str(folder)] if dry_run else ["download"]
    where = [] if dry_run else ["--dest", str(folder)]
    tags = [word for tag in target.tags for word in ("--platform", tag)]
    abi = f"cp{target.python.replace('.', '')}"
    command = [
        sys.executable, "-m", "pip", kind[0], *kind[1:], *where, "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", target.python,
        "--abi", abi, "--abi", "abi3", "--abi", "none", *tags, *exact,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelError("\n".join(errors) or done.stderr[-2000:])


def _holds(requirement: Requirement, target: Target, extras: set[str]) -> bool:
    """Whether a requirement applies to the target with these extras."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate(target.markers | {"extra": extra}) for extra in extras)


def _wheel(folder: Path, name: str, version: str) -> Path:
    for wheel in folder.glob("*.whl"):
        its_name, its_version = wheel.name.split("-")[:2]
        if canonicalize_name(its_name) == name and its_version == version:
            return wheel
    raise WheelError(f"pip fetched no wheel of {name} {version}")


def _requires(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        member = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        metadata = HeaderParser().parsestr(archive.read(member).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]

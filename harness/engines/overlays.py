"""Install an engine over this program's environment: a separate folder, so that torch and numpy are shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from harness.engines import environments, registry
from harness.engines.base import Engine
from harness.errors import CellbenchError

INSTALL_S = 1800.0
PLACEHOLDER = '''"""Stands in for torchvision, of which no build fits the torch of this environment.

The engine needs it for training only; every call of it raises.
"""

import importlib.abc
import importlib.machinery
import sys
import types

__version__ = "0+placeholder"


def _missing(name):
    def called(*_, **__):
        raise RuntimeError(f"torchvision is not installed here, only a placeholder for it: {name} cannot be called")

    return called


class _Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _missing(f"{self.__name__}.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("torchvision."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Finder())
'''


@dataclass(frozen=True)
class Overlay:
    """The packages of an engine's folder."""

    engine: str
    needs_torchvision: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """Exact versions, installed without their dependencies; scripts/bundle reads the same file."""
        return tuple(resources.files(f"harness.engines.{self.engine}").joinpath("requirements.txt").read_text().split())


OVERLAYS = {"cellpose4": Overlay("cellpose4", needs_torchvision=True)}


def how_to_install(engine: Engine, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """The command that installs an engine so that it can be measured.

    The metadata of cellpose 3 require numpy < 2.1, which has no wheel for Python 3.13; its other requirements are ours.
    """
    if engine.name in OVERLAYS:
        return f"cellbench engines install {engine.name}"
    bare = "--no-deps " if engine.name == "cellpose3" and python >= (3, 13) else ""
    return f"pip install {bare}'{engine.requirement}'"


def install(name: str, report: Callable[[str], None] = lambda _: None) -> Path:
    """Install an engine into its overlay, whole or not at all; CellbenchError. report: gets a line for each step."""
    wanted = OVERLAYS.get(name)
    if wanted is None:
        raise CellbenchError(f"{name} is not installed by this command", None, f"name one of {', '.join(OVERLAYS)}")
    target = environments.overlay(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
        fresh = Path(scratch, "new")
        report(f"installing {', '.join(wanted.packages)} into {target}")
        _pip("install", "--no-deps", "--target", str(fresh), *wanted.packages)
        if wanted.needs_torchvision:
            report(_torchvision(fresh))
        if problem := _problem(fresh):
            raise CellbenchError(f"{name} was installed but cannot be imported: {problem}", str(target), "report this")
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return target


def install_for(models: Iterable[str], report: Callable[[str], None] = lambda _: None) -> None:
    """Install the missing engines of these models that this program can install; CellbenchError."""
    for name in dict.fromkeys(registry.engine_of(model).name for model in models):
        if name in OVERLAYS and registry.version(name) is None:
            install(name, report)


def remove(name: str) -> bool:
    """Remove an engine's overlay; returns whether there was one."""
    target = environments.overlay(name)
    if not target.is_dir():
        return False
    shutil.rmtree(target)
    return True


def has_placeholder(name: str) -> bool:
    """Whether an engine's torchvision is only the placeholder."""
    file = environments.overlay(name) / "torchvision" / "__init__.py"
    return file.is_file() and "0+placeholder" in file.read_text(encoding="utf-8")


def _torchvision(folder: Path) -> str:
    """Install a torchvision that works with this torch, or the placeholder, into the folder; returns a sentence."""
    if _runs("import torchvision.transforms.functional", None):
        return "torchvision of this environment is used"
    # torchvision 0.N goes with torch 2.(N - 15): https://github.com/pytorch/vision#installation
    minor = int(metadata.version("torch").split("+")[0].split(".")[1])
    try:
        _pip("install", "--no-deps", "--target", str(folder), f"torchvision==0.{minor + 15}.*")
    except CellbenchError:
        pass
    else:
        if _runs("import torchvision.transforms.functional", folder):
            return f"torchvision 0.{minor + 15} fits this torch"
    for each in folder.glob("torchvision*"):
        shutil.rmtree(each)
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(PLACEHOLDER, encoding="utf-8")
    return "no torchvision fits this torch: a placeholder is used, since only training needs it"


def _problem(folder: Path) -> str | None:
    done = _python("import cellpose.models", folder)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def _runs(code: str, folder: Path | None) -> bool:
    return _python(code, folder).returncode == 0


def _python(code: str, folder: Path | None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=INSTALL_S
    )


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words],
        capture_output=True, text=True, check=False, timeout=INSTALL_S,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("WARNING")] or ["no message"]
        fix = "connect this machine to PyPI, or set your own index (PIP_INDEX_URL, PIP_FIND_LINKS)"
        raise CellbenchError(f"pip could not install it: {lines[-1][:300]}", " ".join(words), fix)

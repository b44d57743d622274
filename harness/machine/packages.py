"""Packages that another folder hides: another numpy first on the path, a script called random.py.

It uses the standard library only, since any other import may be hidden; nothing is imported for the search.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGE = Path(__file__).resolve().parents[1]
# The packages that compute and store: the module of each distribution.
MODULES = {
    "numpy": "numpy", "scipy": "scipy", "torch": "torch", "cellpose": "cellpose", "numba": "numba",
    "pyarrow": "pyarrow", "opencv-python-headless": "cv2", "duckdb": "duckdb", "pydantic": "pydantic",
    "psutil": "psutil", "ray": "ray",
}  # fmt: skip
FIX = "take that folder out of PYTHONPATH, or rename the file; or use an environment of its own: python -m venv"


def hidden(names: Iterable[str] = tuple(MODULES)) -> list[str]:
    """The packages that are installed and that another folder hides, and hidden modules of Python, as sentences."""
    from importlib.metadata import PackageNotFoundError, distribution

    found = []
    for name in names:
        try:
            known = distribution(name)
        except PackageNotFoundError:
            continue
        module = MODULES[name]
        spec, owned = PathFinder.find_spec(module), _owned(known, module)
        if spec and spec.origin and owned and not Path(spec.origin).is_relative_to(owned):
            found.append(f"{module} of {Path(spec.origin).parent} hides {name} {known.version} of {owned.parent}")
    return [*found, *_hidden_standard()]


def may_cause(error: BaseException) -> bool:
    """Whether hidden or broken packages explain an error: it came from an import, or something is hidden."""
    return _is_of_import(error) or bool(_hidden_now())


def _hidden_now() -> list[str]:
    try:
        return hidden()
    except Exception:  # a module of the search is hidden itself
        return []


def _is_of_import(error: BaseException) -> bool:
    """Whether an error came from a module of another package while it was imported."""
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
    in_module = any(frame.name == "<module>" for frame in frames)
    return isinstance(error, ImportError) or (in_module and not is_ours)


def explained(error: BaseException) -> tuple[str, str, str]:
    """The problem, its place and its fix, for an error while modules were imported."""
    frames = traceback.extract_tb(error.__traceback__)
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    what = f"{missing} is not installed" if missing else f"a package cannot be imported or used: {_line(error)}"
    pairs = _hidden_now()
    if missing and not pairs:
        return what, sys.executable, "install cellbench again: python -m pip install cellbench"
    where = "; ".join(pairs) or (frames[-1].filename if frames else sys.executable)
    return what, where, FIX if pairs else f"see what is installed, and what lies there; or {FIX}"


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _owned(known: Distribution, module: str) -> Path | None:
    """The folder of a distribution's module; None where its metadata lacks it, as in an editable installation."""
    record = known.read_text("RECORD") or ""
    return Path(str(known.locate_file(module))) if f"{module}/__init__.py," in record else None


def _hidden_standard() -> list[str]:
    """Modules of Python's own that were loaded from elsewhere."""
    homes = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    found = []
    for name in sorted(sys.stdlib_module_names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not any(Path(file).is_relative_to(home) for home in homes):
            found.append(f"{file} hides the module {name} of Python")
    return found

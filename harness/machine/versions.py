"""The software of a node, and the differences between two nodes, found before either is measured."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from harness import __version__
from harness.machine.probe import PACKAGE, distribution_version, opencv_version

Versions = Mapping[str, str | None]

# Another version of this program is another measurement; everything else may explain a difference and is stored.
BREAKS_COMPARISON = ("cellbench", "code")


@dataclass(frozen=True)
class Difference:
    """One thing that two nodes have in different versions; None where a node does not have it."""

    name: str
    here: str | None
    there: str | None

    @property
    def breaks_comparison(self) -> bool:
        return self.name in BREAKS_COMPARISON


def versions() -> dict[str, str | None]:
    """Versions of this node by name, without importing the packages; code is a hash of this program's source."""
    names = ("ray", "numpy", "torch", "numba", "pyarrow")
    return {
        "python": platform.python_version(),
        **{name: distribution_version(name) for name in names},
        "opencv": opencv_version(),
        "cellbench": __version__,
        "code": code_sha256(),
    }


def differences(here: Versions, there: Versions) -> tuple[Difference, ...]:
    """The differences, in the order of `here`; a build's suffix (2.13.0+cpu, 2.13.0+cu130) is ignored."""
    names = [*here, *(name for name in there if name not in here)]
    return tuple(
        Difference(name, here.get(name), there.get(name))
        for name in names
        if _release(here.get(name)) != _release(there.get(name))
    )


@cache
def code_sha256() -> str:
    """A hash of this program's Python files, names and contents, so that an edited copy differs."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _release(version: str | None) -> str | None:
    return version.split("+")[0] if version else None

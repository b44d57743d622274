"""Checks of the installation: versions, weights, the store's other nodes, Ray's head and token.

Each is a function of its inputs, so that it can be tested. Nothing is fetched, no store is changed, and Ray, which
takes a second to import, is not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness import files, query
from harness.engines import overlays, registry
from harness.fleet.network import greet, split_address, why_not
from harness.machine import packages
from harness.machine.checks import FAIL, OK, SKIPPED, WARN, Check
from harness.store import Store

NAMED = ("cellpose", "torch", "numpy", "numba", "opencv-python-headless", "ray")
PINNED = ("cellpose", "numba", "torch", "ray")  # packages whose own requirements are checked, too
SPARED = ("ray",)  # run --no-ray does not need it, and ray_head() reports that
# Wider than the metadata: masks and flows had the same bits (scripts/benchmarks/numpy_versions.py).
PROVEN = {("cellpose", "numpy"): SpecifierSet(">=1.20,<2.5")}
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")

PACKAGE = Path(__file__).parent.parent

Distribution = Callable[[str], Any]  # importlib.metadata.distribution, or something like it


# ---------------------------------------------------------------- packages


def tested(package: Path = PACKAGE) -> dict[str, str]:
    """The versions that were tested together, by name; none where this is neither a checkout nor from a bundle."""
    for file in (package.parent / "constraints.txt", package / "data" / "constraints.txt"):
        if file.is_file():
            pins = (Requirement(line) for line in file.read_text().splitlines() if "==" in line)
            return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins if _applies(pin)}
    return {}


def versions(
    distribution: Distribution = metadata.distribution,
    python: str | None = None,
    tested: Callable[[], Mapping[str, str]] = tested,
) -> Check:
    """Check that the installed packages are those that cellbench and its dependencies require."""
    python = python or ".".join(map(str, sys.version_info[:3]))
    found = {name: version for name in NAMED if (version := _installed(name, distribution))}
    known = tested()
    others = {name for name, version in found.items() if name in known and version.split("+")[0] != known[name]}
    evidence = ", ".join(
        f"{name} {version}{f' (tested: {known[name]})' if name in others else ''}"
        for name, version in {"Python": python, **found}.items()
    )
    if _installed("cellbench", distribution) is None:
        fix = "install the checkout: python -m pip install -e ."
        return Check(
            "versions", WARN, f"{evidence}; cellbench is not installed as a package: its needs are unknown", fix
        )

    ours = _unmet("cellbench", distribution)
    theirs = [unmet for owner in PINNED if _installed(owner, distribution) for unmet in _unmet(owner, distribution)]
    problems = [text for text, _ in ours + theirs]
    default = registry.engine(registry.DEFAULT)
    engine = Requirement(default.requirement)
    fixes = []
    if not engine.specifier.contains(found.get(engine.name, "0"), prereleases=True):
        # The most frequent case: pip's newest is another program.
        problems.append(f"{default.name} needs {engine}: only that has {default.models[0].name}")
        fixes.append(f"python -m {overlays.how_to_install(default)}")
    wanted = dict.fromkeys(f'"{each.name}{each.specifier}"' for _, each in ours + theirs if each.name != engine.name)
    if wanted:
        fixes.append(f"python -m pip install {' '.join(wanted)}")

    needs_python = distribution("cellbench").metadata["Requires-Python"] or ""
    fits = SpecifierSet(needs_python).contains(python, prereleases=True)
    if not fits:
        problems.append(f"cellbench needs Python {needs_python}")
        fixes = [f"make an environment with Python {needs_python}, and install cellbench there"]
    if not problems:
        return Check("versions", OK, evidence)
    verdict = FAIL if ours or not fits or engine.name not in found else WARN
    return Check("versions", verdict, f"{evidence}: {'; '.join(problems)}", "; ".join(fixes) or None)


def _unmet(owner: str, distribution: Distribution) -> list[tuple[str, Requirement]]:
    """The requirements of a package that the installed packages do not meet, each with a sentence about it."""
    requirements = [Requirement(text) for text in distribution(owner).requires or []]
    unmet = []
    for requirement in filter(_applies, requirements):
        requirement.specifier = PROVEN.get((owner, requirement.name), requirement.specifier)
        version = _installed(requirement.name, distribution)
        if version is None and requirement.name in SPARED:
            continue
        if version is None:
            unmet.append((f"{requirement.name} is missing, which {owner} needs", requirement))
        elif not requirement.specifier.contains(version, prereleases=True):
            unmet.append((f"{owner} needs {requirement.name} {requirement.specifier}, not {version}", requirement))
    return unmet


def _applies(requirement: Requirement) -> bool:
    """Whether a requirement is one of this Python, without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _installed(name: str, distribution: Distribution) -> str | None:
    for known in OPENCV if name in OPENCV else (name,):  # any OpenCV is OpenCV
        try:
            return distribution(known).version
        except metadata.PackageNotFoundError:
            continue
    return None


def hidden(find: Callable[[], list[str]] = packages.hidden) -> Check:
    """Check that no other folder hides a package that is installed here, or a module of Python's own."""
    if found := find():
        return Check("packages", FAIL, "; ".join(found), packages.FIX)
    return Check("packages", OK, "each is imported from its own installation")


# ---------------------------------------------------------------- other nodes


def other_nodes(out: Path, here: Mapping[str, Any]) -> Check:
    """Check that the other nodes of a store were measured with this node's versions; the store is only read."""
    columns = [name for name in here if name.endswith("_version")]
    newest = ", ".join(f"arg_max({name}, started_at) AS {name}" for name in columns)
    store = Store(files.expanded(out).resolve())
    if not Path(store.root).is_dir():
        return Check("other nodes", SKIPPED, f"no results in {store.root}")
    sql = f"SELECT node, {newest} FROM samples WHERE node <> $here GROUP BY node ORDER BY node"
    rows = query.Session(store).table(sql, here=here["node"]).to_pylist()
    if not rows:
        return Check("other nodes", SKIPPED, f"no results of other nodes in {store.root}")
    differing = []
    for row in rows:
        # After a plus is the build: a Mac and a CUDA machine never have the same.
        mine, theirs = ({c: (facts[c] or "").split("+")[0] for c in columns} for facts in (here, row))
        versions = [
            f"{c.removesuffix('_version')} {theirs[c]} there, {mine[c]} here"
            for c in columns
            if mine[c] and theirs[c] and mine[c] != theirs[c]
        ]
        differing += [f"versions differ from {row['node']}: {', '.join(versions)}"] if versions else []
    if differing:
        fix = "install the same on all nodes: python -m pip install -c constraints.txt ."
        return Check("other nodes", WARN, "; ".join(differing), fix)
    return Check("other nodes", OK, f"same versions as on {', '.join(row['node'] for row in rows)}")


# ---------------------------------------------------------------- Ray


def ray_head(
    address: str | None,
    greet: Callable[[str, int], None] = greet,
    distribution: Distribution = metadata.distribution,
) -> Check:
    """Check that Ray's head can be reached, or that a run can start Ray here."""
    version = _installed("ray", distribution)
    if version is None:
        return Check("ray", SKIPPED, "Ray is not installed", "measure with cellbench run --no-ray, or install it")
    if not address or not _is_remote(address):
        return Check("ray", OK, f"no cluster configured; each run starts a local Ray {version}")
    if address == "auto":
        return Check("ray", SKIPPED, "address auto: Ray looks for a head on this machine by itself")
    try:
        host, port = split_address(address)
    except ValueError:
        return Check("ray", FAIL, f"{address!r} is not an address", "give it as HOST:PORT; Ray's port is 6379")
    try:
        greet(host, port)
    except (OSError, ValueError) as error:
        fix = f"see on the head whether Ray runs (ray status) and whether its firewall lets port {port} through"
        return Check("ray", FAIL, f"{host}:{port} cannot be reached: {why_not(error)}", fix)
    return Check("ray", OK, f"{host}:{port} answers; here is Ray {version}")


def ray_token(address: str | None, environ: Mapping[str, str], home: Path) -> Check:
    """Check that the token by which nodes allow each other to run code exists and is secret."""
    fixes, evidence = [], []
    if _is_remote(address) and environ.get("RAY_AUTH_MODE", "").lower() != "token":
        evidence.append("RAY_AUTH_MODE is not token: programs started from here do not require it")
        fixes.append("export RAY_AUTH_MODE=token")
    if environ.get("RAY_AUTH_TOKEN"):
        evidence.insert(0, "in RAY_AUTH_TOKEN")
        return Check("ray token", WARN if fixes else OK, "; ".join(evidence), "; ".join(fixes) or None)

    chosen = environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(chosen) if chosen else home / ".ray" / "auth_token"
    get = f"copy the head's ~/.ray/auth_token (there: ray get-auth-token --generate) to {file}, and chmod 600 it"
    try:
        is_empty, mode = not file.read_text().strip(), file.stat().st_mode & 0o777
    except OSError as error:
        if not chosen and not _is_remote(address):
            return Check("ray token", OK, "none yet; Ray makes one when it is started")
        return Check("ray token", FAIL, f"{file} cannot be read: {error.strerror}", get)
    if is_empty:
        return Check("ray token", FAIL, f"{file} is empty", get)
    evidence.insert(0, f"in {file}")
    if mode & 0o077:
        evidence.append(
            f"other users of this machine may read it (mode {mode:04o}), and run code on every node with it"
        )
        fixes.append(f"chmod 600 {file}")
    return Check("ray token", WARN if fixes else OK, "; ".join(evidence), "; ".join(fixes) or None)


def _is_remote(address: str | None) -> bool:
    """Whether the address is that of another head; "local" is Ray's word for one of its own."""
    return bool(address) and address != "local"

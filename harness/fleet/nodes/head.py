"""The state of a head before this machine joins it: whether it answers, accepts the token and has these versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines import registry
from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import ray_settings
from harness.machine.versions import Difference, Versions, differences

ASK_S = 30.0  # importing ray takes a second, on a machine that measures several
INSTALLED_AS = {"ray": "ray[default]", "opencv": "opencv-python-headless", "cellpose3": "cellpose"}
OWN_CODE = ("cellbench", "code")

Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Member:
    """One node of a fleet in its head's records. name is None if it was not started by cellbench."""

    node_id: str
    name: str | None
    ip: str
    port: int
    state: str  # up, stopped (on request), lost (crashed, or silent)
    is_head: bool
    counts: Mapping[str, int]
    accelerator: str | None = None
    chip: str | None = None

    @property
    def is_up(self) -> bool:
        return self.state == "up"


@dataclass(frozen=True)
class Head:
    """A head that answered: its versions, whether cellbench started it, and the nodes it has seen, oldest first."""

    address: str
    versions: Versions
    is_ours: bool
    members: tuple[Member, ...]


def look(address: str, ask: Ask | None = None) -> Head:
    """The state of the head at HOST:PORT; it must accept this machine's token."""
    answer = (ask or _ask)("look", address)
    members = tuple(Member(**member) for member in answer["nodes"])
    return Head(address, answer["versions"], answer["is_ours"], members)


def publish(address: str, versions: Versions, ask: Ask | None = None) -> None:
    """Store this head's versions for machines that join."""
    (ask or _ask)("publish", address, versions=dict(versions))


def compare(here: Versions, head: Head) -> list[str]:
    """Reject versions that cannot work together; else sentences about those that differ.

    Ray and Python's minor version must be the same, because Ray itself requires it, and numpy's major version, because
    numpy 1 cannot read arrays of numpy 2.
    """
    found = differences({name: here.get(name) for name in head.versions}, head.versions)
    different = [each for each in found if each.name != "python" or not _same(each, 2)]
    fatal = [d for d in different if d.name in ("ray", "python") or (d.name == "numpy" and not _same(d, 1))]
    listing = ", ".join(f"{d.name} {d.here or 'is missing'} here, {d.there} there" for d in fatal or different)
    if fatal:
        raise CellbenchError(f"this machine cannot join {head.address}: {listing}", "versions", install(different))
    if not head.is_ours:
        return [f"the head at {head.address} was not started by cellbench: only Ray's and Python's versions are known"]
    if not different:
        return []
    warning = f"versions differ from the head's: {listing}; {install(different)}"
    if breaking := [d.name for d in different if d.breaks_comparison or d.name in registry.names()]:
        warning += f"; figures of machines that differ in {', '.join(breaking)} cannot be compared"
    return [warning]


def install(different: list[Difference]) -> str:
    """The commands that install the head's versions on this machine."""
    steps = []
    if python := next((d.there for d in different if d.name == "python"), None):
        minor = ".".join(python.split(".")[:2])
        steps.append(f"make an environment with Python {minor} here, with cellbench installed in it")
    if any(d.name in OWN_CODE for d in different):
        steps.append("install the same cellbench as on the head")
    packages = [
        f'"{INSTALLED_AS.get(d.name, d.name)}=={d.there.split("+")[0]}"'
        for d in different
        if d.there and d.name not in ("python", *OWN_CODE)
    ]
    if packages:
        steps.append(f"{sys.executable} -m pip install {' '.join(packages)}")
    return "; then ".join(steps) or "install the same versions as on the head"


def _same(difference: Difference, n_parts: int) -> bool:
    here, there = ((version or "").split(".")[:n_parts] for version in (difference.here, difference.there))
    return here == there


def _ask(task: str, address: str, **arguments: Any) -> Any:
    """Have control_service do a task; FleetUnreachableError if the head does not answer or rejects the token."""
    request = {"task": task, "arguments": {"address": address, **arguments}}
    environ = {**os.environ, **ray_settings.ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGES), environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.fleet.nodes.control_service"], input=json.dumps(request),
            capture_output=True, text=True, env=environ, timeout=ASK_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FleetUnreachableError(
            f"something listens at {address}, but does not answer like Ray's head within {ASK_S:g} s", address,
            "check the port: the head shows its address with cellbench node status",
        ) from None  # fmt: skip
    answer = json.loads(done.stdout) if done.stdout else {"failed": done.stderr.strip()[-500:]}
    if "refused" in answer:
        raise FleetUnreachableError(
            f"the head at {address} does not take this machine's token", answer["refused"],
            "bring the head's token here: cellbench node token --from USER@HEAD --replace",
        )  # fmt: skip
    if "failed" in answer:
        raise FleetUnreachableError(
            f"the head at {address} does not answer", answer["failed"],
            "check the port, and on the head: cellbench node status",
        )  # fmt: skip
    return answer["value"]


PACKAGES = Path(__file__).resolve().parents[3]  # this program's folder, so that its child finds it from any folder

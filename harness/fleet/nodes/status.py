"""The known state of this machine's nodes and of their fleet, as plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import FleetUnreachableError
from harness.fleet.nodes.command import TEMP_DIR
from harness.fleet.nodes.daemon import Running
from harness.fleet.nodes.head import Head


def which_head(
    address: str | None,
    here: Sequence[Running],
    environ: Mapping[str, str],
    latest: Path = Path(TEMP_DIR) / "ray_current_cluster",
) -> str:
    """HOST:PORT of a fleet's head: the given one, else, or for auto, RAY_ADDRESS, else that of a node here.

    here: nodes that cellbench started, of which the latest counts. latest: Ray's note of the node that it started
    last on this machine.
    """
    known = (address, environ.get("RAY_ADDRESS"), *(node.head for node in sorted(here, key=_started, reverse=True)))
    with suppress(OSError):
        known = (*known, latest.read_text().strip())
    for each in known:
        if each and each not in ("auto", "local"):
            return each
    raise FleetUnreachableError(
        "this machine is not a node of a fleet: none was started here, or it has ended", "this machine",
        "start one: cellbench node start --head, or --address HOST:PORT; or name a head: --address HOST:PORT",
    )  # fmt: skip


def _started(node: Running) -> float:
    return node.started_at


def rows(fleet: Head, here: Sequence[Running]) -> list[dict[str, Any]]:
    """The nodes that are up and those that are lost, with a mark for this machine."""
    up = {member.name for member in fleet.members if member.is_up}
    ours = {(node.head, node.name) for node in here}
    shown = [m for m in fleet.members if m.is_up or (m.state == "lost" and m.name is not None and m.name not in up)]
    last = {(member.name, member.ip): member for member in shown}  # of several lost ones of a name, the latest
    return [
        {
            "node": member.name or "(not started by cellbench)",
            "state": member.state,
            "role": "head" if member.is_head else "",
            "here": "here" if (fleet.address, member.name) in ours else "",
            "ip": member.ip,
            "tags": ", ".join(name if n == 1 else f"{name} {n}" for name, n in member.counts.items()),
            "accelerator": member.accelerator,
            "chip": member.chip,
        }
        for member in last.values()
    ]


def summary(fleet: Head, here: Sequence[Running]) -> dict[str, Any]:
    """The whole state, for programs."""
    return {
        "head": fleet.address,
        "here": [asdict(node) for node in here],
        "versions": dict(fleet.versions),
        "nodes": [asdict(member) for member in fleet.members],
    }


def sentence(fleet: Head, here: Sequence[Running]) -> str:
    """The state in one sentence."""
    up = sum(member.is_up for member in fleet.members)
    mine = [node for node in here if node.head == fleet.address]
    place = f"this machine is {mine[0].name}" if mine else "this machine is not one of them"
    return f"{up} node{'s' if up != 1 else ''} of the fleet of {fleet.address}; {place}"

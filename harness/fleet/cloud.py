"""The machines that a cluster file can rent, and the hours and the money that a run on them takes.

A cluster file is that of Ray's cluster launcher; its `metadata`, which Ray ignores, holds the user's prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness import files, images
from harness.errors import CellbenchError
from harness.fleet import tags
from harness.fleet.driver.cluster import RENT_S
from harness.machine.accelerators import Device
from harness.plan import blocks, estimate
from harness.plan.cases import Node
from harness.plan.config import Config

HEAD = "head"
START_S = 900.0  # until a fresh machine measures: its start, and the installation
GUESS = 3.0  # the factor within which the durations of calls are known before anything is measured
HOUR_S = 3600.0
METADATA = "see clusters/aws.yaml"


@dataclass(frozen=True)
class Offer:
    """The content of a cluster file.

    types: the nodes that it can rent, by type. machines: the provider's name of each type, the head's included.
    prices: per hour, by type. prices_from: where and when the user read them. idle_s: how long a machine is kept after
    its work.
    """

    types: Mapping[str, Node]
    machines: Mapping[str, str]
    prices: Mapping[str, float]
    currency: str
    prices_from: str | None
    idle_s: float

    @property
    def origin(self) -> str:
        """Where the prices come from; never this program."""
        return self.prices_from or "of unknown age: give prices_from in the cluster file"


@dataclass(frozen=True)
class Item:
    """One machine of a plan. about_s, most_s: the time that is paid. price: of an hour; None if not given."""

    name: str
    machine: str
    devices: tuple[str, ...]
    about_s: float
    most_s: float
    price: float | None

    def cost(self, paid_s: float) -> float | None:
        """The price of this time."""
        return None if self.price is None else self.price * paid_s / HOUR_S


def read(path: str, prices: Mapping[str, float] | None = None) -> Offer:
    """Read a cluster file; prices win over those in it."""
    place = files.expanded(path)
    try:
        content = yaml.safe_load(Path(place).read_text("utf-8"))
        return _offer(content, prices or {}, path)
    except OSError as error:
        raise CellbenchError(f"the cluster file cannot be read: {error.strerror}", path, "name a file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CellbenchError("the cluster file is not valid YAML", f"{path}: {error}", "correct that line") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CellbenchError("this is no cluster file with types to rent", f"{path}: {error}", METADATA) from error


def _offer(content: dict[str, Any], given: Mapping[str, float], path: str) -> Offer:
    listed, metadata = content["available_node_types"], content.get("metadata") or {}
    cores = metadata.get("cores") or {}
    types = {
        name: _node(name, each["resources"], int(cores.get(name, 1)))
        for name, each in listed.items()
        if tags.type_resource(name) in each["resources"]
    }
    if not types:
        raise CellbenchError("this cluster file has no type to rent", path, METADATA)
    if unknown := sorted({*given, *(metadata.get("prices") or {})} - {*types, HEAD}):
        raise CellbenchError(f"no type is called {unknown[0]}", path, f"prices are of {', '.join((HEAD, *types))}")
    settings = {name: each["node_config"] for name, each in listed.items()}
    return Offer(
        types,
        {name: str(each.get("InstanceType") or each.get("machineType") or name) for name, each in settings.items()},
        {name: float(price) for name, price in {**(metadata.get("prices") or {}), **given}.items()},
        str(metadata.get("currency", "")),
        metadata.get("prices_from"),
        60.0 * content.get("idle_timeout_minutes", 5),
    )


def _node(name: str, resources: Mapping[str, int], n_cores: int) -> Node:
    """A machine of a type before it exists: the devices that its resources list, and the CPU."""
    counts = {backend: resources.get(tags.resource(backend), 0) for backend in tags.BACKENDS} | {"cpu": 1}
    devices = [Device(backend, index, name) for backend, n in counts.items() for index in range(n)]
    return Node(name, tuple(devices), n_cores)


def check(wanted: Sequence[str], offer: Offer) -> None:
    """Reject types that cannot be rented."""
    if unknown := [name for name in wanted if name not in offer.types]:
        raise CellbenchError(
            f"no type is called {unknown[0]}", "the cluster file", f"there are {', '.join(offer.types)}"
        )


def plan(config: Config, offer: Offer, wanted: Sequence[str]) -> tuple[Item, ...]:
    """The machines that a run rents side by side, and the head, which lives as long as the last of them.

    The most is for machines that come as late as the run waits, and for calls as slow as the estimate may be wrong.
    """
    check(wanted, offer)
    nodes = blocks.choose_on(config.devices, [offer.types[name] for name in wanted])
    height_px, width_px = images.load(config.image, config.plane, config.channel).pixels.shape
    items = []
    for node in nodes:
        planned = blocks.blocks(config, height_px, width_px, [node])
        measured_s = estimate.estimate_s(planned)
        items.append(
            Item(
                node.name,
                offer.machines[node.name],
                tuple(dict.fromkeys(block.device.id for block in planned)),
                START_S + measured_s + offer.idle_s,
                RENT_S + GUESS * measured_s + offer.idle_s,
                offer.prices.get(node.name),
            )
        )
    about_s, most_s = max(item.about_s for item in items), max(item.most_s for item in items)
    head = Item(HEAD, offer.machines[HEAD], (), START_S + about_s, START_S + most_s, offer.prices.get(HEAD))
    return (*items, head)


def check_budget(items: Sequence[Item], budget: float, currency: str) -> None:
    """Reject a plan that may cost more than the budget, or whose cost is not known."""
    unknown = [item.name for item in items if item.price is None]
    if unknown:
        fix = f"--price {unknown[0]}=PRICE, or prices in the cluster file"
        raise CellbenchError(f"without the price of {', '.join(unknown)} no budget can be kept", "--budget", fix)
    most = sum(item.cost(item.most_s) or 0.0 for item in items)
    if most > budget:
        raise CellbenchError(
            f"the run may cost {most:,.2f} {currency}, and the budget is {budget:,.2f}", "--budget",
            "rent fewer types (--types), or measure less: --crops, --devices, --profile quick",
        )  # fmt: skip

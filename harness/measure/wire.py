"""The messages between this program and a measuring process, as typed values: one JSON line a message.

child  → parent    the greeting of greeting.py, whose VERSION covers all of these
parent → child     a Request, then one line per "next"
child  → parent    one JSON value an answer; null marks the end of a task
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from harness.plan.cases import Block


@dataclass(frozen=True)
class Order:
    """Everything that a process needs to perform one block.

    pixels_file: the whole image as .npy. folder: contains the model's files. constants: columns that are the same in
    every sample of the block. engine_python: the user's own interpreter for the engine.
    """

    block: Block
    pixels_file: str
    pixels_sha256: str
    folder: str
    constants: dict[str, Any]
    model_source: str = ""
    engine_python: str | None = None


@dataclass(frozen=True)
class RaceOrder(Order):
    """A block whose tasks are variants of one case, timed in rounds against each other.

    compares_masks: first each variant's masks are compared with stock's; else each makes one call to warm up.
    """

    compares_masks: bool = True


@dataclass(frozen=True)
class ThroughputOrder(Order):
    """Many images, which are in the folder, in several processes at once."""

    n_images: int = 1
    n_processes: int = 1
    n_in_flight: int = 1


@dataclass(frozen=True)
class BlockRequest:
    """Request to perform a block."""

    order: Order
    task: Literal["block"] = "block"


@dataclass(frozen=True)
class RaceRequest:
    """Request to race the variants of a block."""

    order: RaceOrder
    task: Literal["race"] = "race"


@dataclass(frozen=True)
class ShareRequest:
    """Request for one process's share of many images; which: its number, from 0."""

    order: ThroughputOrder
    which: int
    task: Literal["share"] = "share"


@dataclass(frozen=True)
class DevicesRequest:
    """Request for the devices that compute."""

    task: Literal["devices"] = "devices"


@dataclass(frozen=True)
class EnvironmentRequest:
    """Request for the facts about this machine and one of its devices."""

    device: str
    task: Literal["environment"] = "environment"


@dataclass(frozen=True)
class SelfcheckRequest:
    """Request for the checks of devices, their clocks and threads."""

    devices: tuple[str, ...]
    threads: int
    task: Literal["selfcheck"] = "selfcheck"


Request = BlockRequest | RaceRequest | ShareRequest | DevicesRequest | EnvironmentRequest | SelfcheckRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="task")])


def request_line(request: Request) -> str:
    """A request as one line."""
    return _REQUEST.dump_json(request).decode()


def request_from(line: str) -> Request:
    """The request in a line; ValueError for another line."""
    return _REQUEST.validate_json(line)

"""The answers of a measuring process to each request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.engines.base import Engine
from harness.measure import block, race, selfcheck, share, wire
from harness.measure.block import Finished
from harness.measure.wire import Request


def answers_to(request: Request, engine: Engine) -> Iterator[Any]:
    """Answer a request, as JSON values."""
    match request:
        case wire.BlockRequest(order):
            yield from (None if isinstance(each, Finished) else each for each in block.samples(order, engine))
        case wire.RaceRequest(order):
            yield from (None if isinstance(each, Finished) else each for each in race.samples(order, engine))
        case wire.ShareRequest(order, which):
            yield from map(asdict, share.share(order, which, engine))
        case wire.DevicesRequest():
            yield list(map(asdict, engine.devices()))
        case wire.EnvironmentRequest(device):
            yield block.environment_of(engine, device)
        case wire.SelfcheckRequest(devices, threads):
            yield selfcheck.run(engine, devices, threads)

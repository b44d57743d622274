"""The measuring process: a greeting, a request on stdin, answers on stdout. Started as python -m harness.measure.child.

Little is imported before the greeting, so that even an environment that lacks what measures can be named by the parent.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.engines.base import Engine
    from harness.measure.wire import Request


def answers_to(request: Request, engine: Engine) -> Iterator[Any]:
    """The answers to a request, as JSON values."""
    from harness.measure import block, race, selfcheck, share, wire
    from harness.measure.block import Finished

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


def main() -> None:
    """Greet, read a request from stdin, answer on stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    name = parser.parse_args().engine
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(70)  # the parent is gone, and nobody wants our figures any more

    def send(text: str) -> None:
        answers.write(text + "\n")
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    from harness import __version__
    from harness.engines import registry
    from harness.measure import wire

    engine = registry.engine(name)
    send(wire.hello_line(wire.Hello(wire.VERSION, __version__, name, engine.version())))
    for answer in answers_to(wire.request_from(lines.get()), engine):
        send(json.dumps(answer))
        lines.get()


if __name__ == "__main__":
    main()

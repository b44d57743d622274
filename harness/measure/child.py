"""The measuring process: a greeting, a request on stdin, answers on stdout; engines/start.py starts it.

The standard library is enough up to the greeting, so that the parent can name what an environment lacks.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading

from harness import __version__
from harness.errors import CellbenchError
from harness.measure.greeting import VERSION, Hello

PYTHON = (3, 11)


def main(name: str) -> None:
    """Greet for the engine of this name, read a request from stdin, answer on stdout."""
    # A batch system signals all processes of a job. The parent stops this one; its death would be stored as a crash.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of libraries must not look like an answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(70)  # the parent is gone, so no program reads the results any more

    def send(text: str) -> None:
        answers.write(text + "\n")
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    version = lacks = hidden = None
    try:
        if sys.version_info < PYTHON:
            raise ImportError(name=f"Python {'.'.join(map(str, PYTHON))}")
        from harness.machine import packages

        hidden = "; ".join(packages.hidden()) or None
        from harness.engines import registry
        from harness.measure import wire
        from harness.measure.answers import answers_to

        engine = registry.engine(name)
        version = engine.version()
    except ImportError as error:
        lacks = error.name or str(error)
    except CellbenchError:
        pass  # there is no such engine here, so it has no version
    send(Hello(VERSION, __version__, name, version, lacks, hidden).line())
    # The parent has read by now whether this process lacks a package: it sends a request only where none is missing.
    for answer in answers_to(wire.request_from(lines.get()), engine):  # pyright: ignore[reportPossiblyUnboundVariable]  # bound where nothing is lacking
        send(json.dumps(answer))
        lines.get()

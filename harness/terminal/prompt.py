"""A prompt for SQL with history and completion, answered as tables."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from harness import schema
from harness.errors import CellbenchError
from harness.query import MACROS, VIEWS
from harness.query.named import QUERIES
from harness.query.views import COMPUTED

WORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY ALL", "ORDER BY", "LIMIT", "JOIN", "USING", "HAVING", "QUALIFY", "DESCRIBE",
    "EXPLAIN", "SUMMARIZE", "count(*)", "median(", "avg(", "min(", "max(", "round(",
)  # fmt: skip
GREETING = "SQL, or the name of a view or a query; tab completes, Ctrl-D leaves"


def completer() -> Completer:
    """Completes SQL words, views, macros, named queries and columns."""
    macros = [signature.split("(")[0] + "(" for signature in MACROS]
    names = ["samples", *VIEWS, *QUERIES, *macros, *(column.name for column in schema.SAMPLES), *COMPUTED]
    return WordCompleter(sorted({*WORDS, *names}), ignore_case=True, WORD=True)


def history() -> History:
    """The queries of earlier sessions, where a file can be kept."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else Path.home() / ".local" / "state") / "cellbench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "query-history").touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(folder / "query-history"))


def ask(answer: Callable[[str], None], tell: Callable[[str], None], source: Input | None = None,
        sink: Output | None = None) -> None:  # fmt: skip
    """Answer queries until the user leaves; an error is printed, and the next query may follow."""
    prompt: PromptSession[str] = PromptSession(
        "cellbench> ", completer=completer(), history=history(), input=source, output=sink, complete_while_typing=False
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C stops a query here, not the command
    tell(GREETING)
    while True:
        try:
            text = prompt.prompt().strip().rstrip(";")
        except EOFError:
            return
        except KeyboardInterrupt:
            continue  # as in a shell: the line is discarded
        if text in ("exit", "quit", r"\q"):
            return
        if text:
            try:
                answer(text)
            except CellbenchError as error:
                tell(str(error))
            except KeyboardInterrupt:
                tell("stopped")

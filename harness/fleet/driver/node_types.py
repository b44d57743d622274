"""The types of nodes that a cluster's autoscaler can start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from harness.errors import CellbenchError
from harness.fleet import tags

OPTION = "--autoscaling-config="  # of the process on the head that is the autoscaler: its cluster file


def check(wanted: Sequence[str], head: str) -> None:
    """Raise CellbenchError for a type that the autoscaler does not have, as far as its types are known here."""
    known = names(head)
    if unknown := [name for name in wanted if known and name not in known]:
        raise CellbenchError(f"no type is called {unknown[0]}", "--rent", f"the cluster file has {', '.join(known)}")


def names(head: str) -> list[str]:
    """The types that can be rented from the head at this HOST:PORT; none where that is not this machine.

    Ray has no request for them before one is started, but the head has the cluster file.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        files = [word.removeprefix(OPTION) for word in words if word.startswith(OPTION)]
        if files and f"--gcs-address={head}" in words:
            with suppress(OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
                types = yaml.safe_load(Path(files[0]).expanduser().read_text("utf-8"))["available_node_types"]
                return [name for name, each in types.items() if tags.type_resource(name) in each["resources"]]
    return []

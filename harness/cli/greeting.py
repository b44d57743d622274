"""The output of the program without a command: its versions, the state of the results, and the next command."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from harness import __version__, files, settings
from harness.errors import CellbenchError, command
from harness.results.formatting import count
from harness.store import reference


def versions() -> str:
    """One line: cellbench, the engines that are installed, torch and Python."""
    from harness.engines import registry

    words = [f"cellbench {__version__}"]
    for name in registry.names():
        with suppress(CellbenchError):
            if registry.engine(name).requirement and (found := registry.version(name)):
                words.append(f"{name} {found}")
    try:
        words.append(f"torch {version('torch')}")
    except PackageNotFoundError:
        words.append("torch not installed")
    return ", ".join([*words, f"Python {platform.python_version()}"])


def text() -> str:
    """The versions, how many runs the results folder holds, and three commands to run next."""
    folder = files.expanded(settings.results_folder().path)
    stored = folder.glob("samples/month=*/[!.]*.parquet")  # <run>-<node>.parquet
    runs = sorted({"-".join(path.stem.split("-")[:2]) for path in stored})
    if runs:
        state = f"{folder}/ holds {count(len(runs), 'run')}; the latest is {runs[-1]}"
        steps = {"cellbench show": "its table", "cellbench report --open": "figures and methods in your browser"}
    else:
        state = f"there are no results in {folder}/ yet"
        steps = {"cellbench doctor": "is this machine ready?", "cellbench run": "measure it, about three minutes"}
        if reference.exists():
            steps[command("list", "--out", reference.shown())] = "the reference set: runs of other machines"
    steps["cellbench --help"] = "all commands"
    width = max(map(len, steps))
    return "\n".join([versions(), state, "", *(f"  {command:<{width}}  {what}" for command, what in steps.items())])

"""The user's settings: a TOML file for every command, and the variables of the environment that override it.

~/.config/cellbench/config.toml    out = "~/cellbench-results"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import CellbenchError

OUT = "CELLBENCH_OUT"
DEFAULT_OUT = "results"
KEYS = {"out": 'the results folder, such as out = "~/cellbench-results"'}


@dataclass(frozen=True)
class ResultsFolder:
    """The results folder without --out, and what names it: the variable, the file or "default"."""

    path: str
    origin: str


def file(environ: Mapping[str, str] = os.environ) -> Path:
    """The settings file of this user; it may be missing."""
    base = Path(environ.get("XDG_CONFIG_HOME") or "")
    return (base if base.is_absolute() else files.expanded("~/.config")) / "cellbench" / "config.toml"


def results_folder(environ: Mapping[str, str] = os.environ) -> ResultsFolder:
    """The variable, else the file, else results/ in the current folder; CellbenchError for a file with a mistake."""
    if environ.get(OUT):
        return ResultsFolder(environ[OUT], OUT)
    path = file(environ)
    found = _read(path).get("out")
    return ResultsFolder(DEFAULT_OUT, "default") if found is None else ResultsFolder(found, str(path))


def _read(path: Path) -> dict[str, str]:
    known = "; ".join(KEYS.values())
    try:
        values = tomllib.loads(files.read_text(path, "the settings file") or "")
    except tomllib.TOMLDecodeError as error:
        raise CellbenchError(f"the settings file is not TOML: {error}", str(path), f"it may hold {known}") from error
    for key, value in values.items():
        if key not in KEYS:
            raise CellbenchError(f"the setting {key!r} does not exist", str(path), f"remove it; there is {known}")
        if not isinstance(value, str) or not value:
            raise CellbenchError(f"the setting {key} is not a text", str(path), f"write {KEYS[key].split('as ')[-1]}")
        if not files.expanded(value).is_absolute() and "://" not in value:
            fix = 'write the whole path, or begin with "~/"'
            raise CellbenchError(f"the setting {key} depends on the current folder: {value}", str(path), fix)
    return values

"""The reference set: results that come with a clone, for comparison with one's own; no command writes to it."""

from __future__ import annotations

from pathlib import Path, PurePath

from harness.errors import CellbenchError, NoResultsError, command

FOLDER = Path(__file__).resolve().parents[2] / "results" / "reference"
SOURCE = "reference"  # in the column `source` of its rows, where they are shown next to one's own


def exists() -> bool:
    """Whether this installation has the set; a wheel has none."""
    return (FOLDER / "samples").is_dir()


def check_not(root: PurePath) -> None:
    """CellbenchError if this folder is the reference set, before anything is written to it."""
    if root == FOLDER:
        raise CellbenchError(
            "the reference set is read-only", str(root), "name a folder for your own results: --out FOLDER"
        )


def no_results(root: PurePath | str, run: str) -> NoResultsError:
    """The error for a folder without results; run: the command that makes some."""
    other = f"see those of other machines: {command('list', '--out', shown())}; or " if exists() else ""
    return NoResultsError("there are no results here yet", str(root), f"{other}make some: {run}")


def shown() -> str:
    """The folder as a user types it: relative to the current folder where it is below."""
    here = Path.cwd()
    return str(FOLDER.relative_to(here) if FOLDER.is_relative_to(here) else FOLDER)

"""Cellpose-SAM's weights: published ones, the user's own files, or the identical network from a seed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from harness import files
from harness.engines import downloads
from harness.engines.base import ModelFiles
from harness.engines.cellpose4 import surrogate
from harness.engines.downloads import Download
from harness.errors import CellbenchError

URL = "https://huggingface.co/mouseland/cellpose-sam/resolve/main"
URL_VARIABLE = "CELLBENCH_CPSAM_URL"
FEWEST_BYTES = 600_000_000  # the network has 304.6 M parameters, so a file of it is larger in any precision


def resolve(model: str, choice: str = "auto") -> ModelFiles:
    """Turn "auto", "published" (or the model's name), "standin" or a path into a file; CellbenchError.

    "auto" and "published" fetch what is missing. Only "auto" falls back to the stand-in, with a warning.
    """
    if choice == "standin":
        return _standin(model)
    if choice in ("auto", "published", model):
        try:
            return _published(model)
        except CellbenchError as error:
            if choice != "auto":
                raise
            return _standin(model, f"{error.what} ({error.where})")
    path = Path(os.path.expanduser(choice)).absolute()
    path = path / model if os.path.isdir(path) else path
    if flaw := flaw_of(path):
        what = f"the weights file {path.name} {flaw}"
        raise CellbenchError(what, str(path), "use auto, published, standin or a path")
    return ModelFiles(model, "custom", (), _columns("custom", files.sha256(path)), source=str(path))


def file_of(model: str, source: str) -> Path:
    """The file on this machine: published, fetched if it is missing, or at a path."""
    if source != "published":
        return Path(source)
    _published(model)
    return folder() / model


def folder() -> Path:
    """Cellpose's own folder of models."""
    return Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or os.path.expanduser("~/.cellpose/models")).absolute()


def flaw_of(path: Path) -> str | None:
    """The flaw of a file of weights that shows without loading it."""
    if not os.path.isfile(path):
        return "is not a file" if os.path.exists(path) else "does not exist"
    if path.stat().st_size < FEWEST_BYTES:
        return f"has {path.stat().st_size:,} bytes, too few for Cellpose-SAM"
    try:
        zipfile.ZipFile(path).close()
    except (OSError, zipfile.BadZipFile, ValueError):
        return "is cut off or not a weights file"
    return None


def _damage(path: Path) -> str | None:
    """The flaw of a fetched file, its checksums included."""
    return flaw_of(path) or downloads.damaged_member(path)


def _published(model: str) -> ModelFiles:
    """The published file in cellpose's own model folder, fetched if it is missing."""
    path = folder() / model
    fix = f"connect this machine, or copy {model} into {path.parent}, or use --weights standin"
    if not path.exists():
        url = os.environ.get(URL_VARIABLE) or URL
        downloads.fetch(Download(f"{url.rstrip('/')}/{model}", path, fix, _damage))
    if flaw := flaw_of(path):
        raise CellbenchError(f"the weights file {path.name} {flaw}", str(path), "delete the file and run again")
    warning = f"No sha256 of the published {model} is on record, so the weights in {path.parent} were not checked."
    columns = _columns("published", files.sha256(path))
    return ModelFiles(model, "published", (), columns, warning, "published")


def _standin(model: str, reason: str | None = None) -> ModelFiles:
    """The network from a seed; its file is made in a process that has the engine, before anything is measured."""
    because = f" because {reason}" if reason else ""
    warning = (
        f"Stand-in weights are used for {model}{because}. The network is {model}'s and takes as long; its output is "
        "replaced by flows drawn from the image: masks and cell counts are not the model's."
    )
    return ModelFiles(model, "standin", (), _columns("standin", f"seed-{surrogate.SEED}"), warning, "standin")


def _columns(kind: str, sha256: str) -> dict[str, str]:
    return {"weights": kind, "weights_sha256": sha256}

"""The weights: cyto3 as published, the bundled stand-in, or files of the user's own.

Cellpose reads `cyto3` and `size_cyto3.npy` from the folder that CELLPOSE_LOCAL_MODELS_PATH names, so a
choice always ends as such a folder. Nothing is loaded here, only looked at; fetching is done before any timing.
"""

from __future__ import annotations

import hashlib
import io
import os
import ssl
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from uuid import uuid4

from harness.errors import CellbenchError

NETWORK, SIZE_MODEL = "cyto3", "size_cyto3.npy"  # the names under which cellpose looks for them
DEFAULT_URL = "https://www.cellpose.org/models"
DEADLINE_S = 300.0  # for one file, however slowly a server answers; 26.6 MB take that long at 0.7 Mbit/s
STANDIN_FOLDER = Path(__file__).parent / "standin"


@dataclass(frozen=True)
class Published:
    """A published file; its size and hash come from one third-party record."""

    name: str
    n_bytes: int
    sha256: str


PUBLISHED = (
    Published(NETWORK, 26_566_255, "2dc3087a8abd7da46d1ab0ddd5824639933cc3ff63b382af3fa1939a392db93c"),
    Published(SIZE_MODEL, 3_627, "87f91feb48019b4dfb0400e7bbb89aca5873368686815aa7b4431c0faee97fc5"),
)


@dataclass(frozen=True)
class Weights:
    """A folder for CELLPOSE_LOCAL_MODELS_PATH and what is in it.

    kind: "published", "standin" or "custom". folder: absolute; holds cyto3 and size_cyto3.npy.
    warning: to be shown loudly, or None.
    """

    kind: str
    folder: str
    net_sha256: str
    size_sha256: str
    warning: str | None = None


def resolve(
    choice: str = "auto", *, trust: str | None = None, base_url: str | None = None, timeout_s: float = 10.0
) -> Weights:
    """Turn "auto", "cyto3", "standin" or a path into a folder that cellpose can load from.

    "auto" and "cyto3" fetch what is missing from base_url (default: CELLBENCH_WEIGHTS_URL, cellpose.org);
    timeout_s bounds each wait for the server. trust: sha256 of a size model that the user vouches for.
    Raises CellbenchError; only "auto" falls back, with a warning.
    """
    base_url = base_url or os.environ.get("CELLBENCH_WEIGHTS_URL") or DEFAULT_URL
    if choice == "auto":
        try:
            return _published(base_url, timeout_s, trust)
        except CellbenchError as error:
            return _standin(f"{error.what} ({error.where})")
    if choice == "cyto3":
        return _published(base_url, timeout_s, trust)
    if choice == "standin":
        return _standin()
    return _trusted(_custom(choice), trust)


def _trusted(weights: Weights, trust: str | None) -> Weights:
    """Let weights pass whose size model may be unpickled, which runs whatever code the file holds.

    Cellpose loads the network with weights_only, but its size model with allow_pickle.
    """
    known = {file.sha256 for file in PUBLISHED} | {_sha256(STANDIN_FOLDER / SIZE_MODEL), trust}
    if weights.size_sha256 in known:
        return weights
    raise CellbenchError(
        f"the size model {SIZE_MODEL} is unknown here, and cellpose would run code that is in it",
        f"{weights.folder}, sha256 {weights.size_sha256}",
        f"if you know where it comes from: --trust {weights.size_sha256}; if not: --weights standin",
    )


def _published(base_url: str, timeout_s: float, trust: str | None) -> Weights:
    """The published files in cellpose's own model folder; what is missing there is fetched."""
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or os.path.expanduser("~/.cellpose/models")).absolute()
    missing = [file for file in PUBLISHED if not os.path.exists(folder / file.name)]
    for file in PUBLISHED:
        if file not in missing:
            _check(folder / file.name, "delete the file and run again, or use --weights standin", file.n_bytes)
    for file in missing:
        _fetch(file, folder, base_url, timeout_s)
    weights = _trusted(_weights("published", folder), trust)
    if (weights.net_sha256, weights.size_sha256) == tuple(file.sha256 for file in PUBLISHED):
        return weights
    warning = (
        f"The weights in {folder} have another sha256 than the one on record and may not be those published as cyto3."
    )
    return replace(weights, warning=warning)


def _standin(reason: str | None = None) -> Weights:
    """The bundled stand-in; reason says why it is used though it was not asked for."""
    fix = "install cellbench again: its stand-in weights are incomplete"
    if reason:
        fix += f". Or mend what keeps cyto3 away: {reason}"
    for name in (NETWORK, SIZE_MODEL):
        _check(STANDIN_FOLDER / name, fix)
    because = f" because {reason}" if reason else ""
    warning = (
        f"Stand-in weights are used{because}. "
        "The network costs the same as cyto3's, but masks and cell counts are not cyto3's."
    )
    return _weights("standin", STANDIN_FOLDER, warning)


def _custom(choice: str) -> Weights:
    """A folder with both files, or a network file with its size model beside it."""
    path = Path(os.path.expanduser(choice)).absolute()
    fix = (
        "use auto, cyto3, standin, a folder that holds cyto3 and size_cyto3.npy, "
        "or a network file NAME with its size model size_NAME.npy or NAME_size.npy beside it"
    )
    if os.path.isdir(path):
        network, size_model = path / NETWORK, path / SIZE_MODEL
    else:
        network, size_model = path, path.with_name(f"size_{path.name}.npy")
        if not os.path.exists(size_model):
            size_model = path.with_name(f"{path.name}_size.npy")
    _check(network, fix)
    _check(size_model, fix)
    if network != path:
        return _weights("custom", path)
    content = f"{_sha256(network)[:16]}-{_sha256(size_model)[:8]}"
    folder = Path(os.path.expanduser("~/.cache/cellbench/weights"), content)
    _link(network, folder / NETWORK)
    _link(size_model, folder / SIZE_MODEL)
    return _weights("custom", folder)


def _weights(kind: str, folder: Path, warning: str | None = None) -> Weights:
    """What a checked folder holds."""
    return Weights(kind, str(folder), _sha256(folder / NETWORK), _sha256(folder / SIZE_MODEL), warning)


def _check(file: Path, fix: str, n_bytes: int | None = None) -> None:
    """Refuse a file that is missing, unreadable or no weights."""
    try:
        if file.is_file():
            with file.open("rb") as stream:
                flaw = _flaw(stream, file.name, n_bytes)
        else:
            flaw = "is not a file" if file.exists() else "does not exist"
    except OSError as error:
        flaw = f"cannot be read: {error.strerror}"
    if flaw:
        raise CellbenchError(f"the weights file {file.name} {flaw}", str(file), fix)


def _flaw(stream: BinaryIO, name: str, n_bytes: int | None) -> str | None:
    """What is wrong with a network (or, if its name ends so, .npy) as far as it shows without loading it."""
    start = stream.read(512)
    found_bytes = stream.seek(0, os.SEEK_END)
    if not start:
        return "is empty"
    if start.lstrip().startswith(b"<"):
        return "is a web page, not weights"
    if n_bytes is not None and found_bytes != n_bytes:
        return f"has {found_bytes:,} bytes instead of {n_bytes:,}"
    if name.endswith(".npy"):
        plausible = start.startswith(b"\x93NUMPY")
    else:
        plausible = start.startswith(b"\x80\x02") or _is_zip(stream)  # torch wrote pickles before 1.6, zips since
    return None if plausible else "is cut off or no weights at all"


def _is_zip(stream: BinaryIO) -> bool:
    """Whether a zip archive's directory, which is its end, can be read."""
    try:
        zipfile.ZipFile(stream).close()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return True


def _fetch(file: Published, folder: Path, base_url: str, timeout_s: float) -> None:
    """Download one published file into a folder, whole and plausible or not at all."""
    url = f"{base_url.rstrip('/')}/{file.name}"
    fix = f"connect this machine, or copy {NETWORK} and {SIZE_MODEL} into {folder}, or use --weights standin"
    try:
        with _replacing(folder / file.name) as temporary, temporary.open("xb") as stream:
            stream.write(_download(url, file, timeout_s, fix))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise CellbenchError(f"{file.name} cannot be saved: {error.strerror}", str(folder), fix) from error


def _download(url: str, file: Published, timeout_s: float, fix: str) -> bytes:
    """Get one published file from a server within DEADLINE_S, or say in one line why not."""
    answer: Future[bytes] = Future()

    def ask() -> None:
        try:
            # Cellpose, once imported, turns TLS verification off for the whole process; not for this.
            verified = ssl.create_default_context()
            with urllib.request.urlopen(url, timeout=timeout_s, context=verified) as response:
                answer.set_result(response.read(file.n_bytes + 1))
        except Exception as error:  # handed over to the waiting thread
            answer.set_exception(error)

    # No timeout bounds the look-up of a name or an answer that comes byte by byte; waiting for a thread does.
    threading.Thread(target=ask, daemon=True).start()
    try:
        data = answer.result(DEADLINE_S)
    except HTTPError as error:
        error.close()
        reason = str(error)
    except URLError as error:
        reason = str(error.reason)
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or f"not done within {DEADLINE_S:g} s"
    else:
        flaw = _flaw(io.BytesIO(data), file.name, file.n_bytes)
        if not flaw:
            return data
        reason = f"what the server sent {flaw}"
    raise CellbenchError(f"{file.name} could not be fetched: {' '.join(reason.split())}", url, fix)


def _link(target: Path, link: Path) -> None:
    """Point a symbolic link at a file; whoever reads it meanwhile finds the old one or the new one."""
    try:
        with _replacing(link) as temporary:
            temporary.symlink_to(target)
    except OSError as error:
        fix = f"make {link.parent} writable, or put both files into one folder as {NETWORK} and {SIZE_MODEL}"
        raise CellbenchError(f"the weights cannot be linked: {error.strerror}", str(link), fix) from error


@contextmanager
def _replacing(final: Path) -> Iterator[Path]:
    """A path beside final that takes its place if all goes well, and is gone otherwise."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{uuid4().hex}.part")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

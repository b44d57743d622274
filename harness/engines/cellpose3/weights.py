"""The weights: published ones, the bundled stand-in for cyto3, or the user's own files.

Cellpose reads a network and its size model, such as `cyto3` and `size_cyto3.npy`, from the folder that
CELLPOSE_LOCAL_MODELS_PATH names, so a choice always ends as such a folder. Nothing is loaded here, only inspected;
fetching is done before any timing.
"""

from __future__ import annotations

import hashlib
import io
import os
import ssl
import threading
import urllib.request
import zipfile
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError

from harness import files
from harness.engines import downloads
from harness.errors import CellbenchError
from harness.machine.checks import OK, WARN, Check

DEFAULT_URL = "https://www.cellpose.org/models"
DEADLINE_S = 300.0  # for one file, however slowly a server answers; 26.6 MB take that long at 0.7 Mbit/s
STANDIN_FOLDER = Path(__file__).parent / "standin"


@dataclass(frozen=True)
class Published:
    """A published file; its size and hash come from one third-party record, or are None where there is no record."""

    name: str
    n_bytes: int | None = None
    sha256: str | None = None


# The network and the size model of each model, under the names by which cellpose looks for them.
PUBLISHED = {
    "cyto3": (
        Published("cyto3", 26_566_255, "2dc3087a8abd7da46d1ab0ddd5824639933cc3ff63b382af3fa1939a392db93c"),
        Published("size_cyto3.npy", 3_627, "87f91feb48019b4dfb0400e7bbb89aca5873368686815aa7b4431c0faee97fc5"),
    ),
    "cyto2": (Published("cyto2torch_0"), Published("size_cyto2torch_0.npy")),
    "nuclei": (Published("nucleitorch_0"), Published("size_nucleitorch_0.npy")),
}
STANDIN_FOR = "cyto3"
MOST_BYTES = 200_000_000  # of a published file whose size is not on record


@dataclass(frozen=True)
class Weights:
    """A folder for CELLPOSE_LOCAL_MODELS_PATH and its files.

    kind: "published", "standin" or "custom". folder: absolute. names: of the network and the size model in it.
    warning: to be shown clearly, or None.
    """

    kind: str
    folder: str
    names: tuple[str, str]
    net_sha256: str
    size_sha256: str
    warning: str | None = None


def resolve(
    choice: str = "auto",
    model: str = STANDIN_FOR,
    *,
    trust: Collection[str] = (),
    base_url: str | None = None,
    timeout_s: float = 10.0,
) -> Weights:
    """Turn "auto", "published" (or the model's name), "standin" or a path into a folder that cellpose can load from.

    "auto" and "published" fetch what is missing from base_url (default: CELLBENCH_WEIGHTS_URL, cellpose.org);
    timeout_s bounds each wait for the server. trust: hashes (sha256) of size models that the user accepts.
    Raises CellbenchError; only "auto" falls back, with a warning.
    """
    base_url = base_url or os.environ.get("CELLBENCH_WEIGHTS_URL") or DEFAULT_URL
    if choice == "auto":
        try:
            return _published(model, base_url, timeout_s, trust)
        except CellbenchError as error:
            if model != STANDIN_FOR:
                raise
            return _standin(model, f"{error.what} ({error.where})")
    if choice in ("published", model):
        return _published(model, base_url, timeout_s, trust)
    if choice == "standin":
        return _standin(model)
    return _trusted(_custom(model, choice), model, trust)


def check(model: str) -> Check:
    """Find which weights of a model a run would use, without fetching them."""
    folder = files.expanded(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or "~/.cellpose/models")
    missing = [file.name for file in PUBLISHED[model] if not (folder / file.name).exists()]
    get = f"fetch them where there is a network: cellbench run --models {model} --weights published"
    get += f"; or copy both files into {folder}"
    if missing:
        evidence = f"no {' and no '.join(missing)} in {folder}: a run fetches {model} if it can, or else "
        return Check("weights", WARN, evidence + _instead(model), get)
    try:
        found = resolve("published", model)  # both files are there, so nothing is fetched
    except CellbenchError as error:
        evidence = f"{error.what} ({error.where}): a run {_instead(model)}"
        return Check("weights", WARN, evidence, f"{error.fix}; or {get}")
    if found.warning:
        return Check("weights", WARN, found.warning, f"delete the files; {get}")
    return Check("weights", OK, f"{model} as on record (sha256 {found.net_sha256[:12]}…) in {folder}")


def _instead(model: str) -> str:
    """The behaviour of a run without the published files, as part of a sentence."""
    if model != STANDIN_FOR:
        return "fails, since there are no stand-in weights for this model"
    standin = resolve("standin")
    cost = f"which costs the same but does not find {model}'s cells"
    return f"uses the stand-in (sha256 {standin.net_sha256[:12]}…), {cost}"


def _otherwise(model: str) -> str:
    """The fix for a user without the published files."""
    return "use --weights standin" if model == STANDIN_FOR else f"leave {model} out"


def _trusted(weights: Weights, model: str, trust: Collection[str]) -> Weights:
    """Accept weights whose size model may be unpickled, which runs any code in the file.

    Cellpose loads the network with weights_only, but its size model with allow_pickle.
    """
    standin = STANDIN_FOLDER / PUBLISHED[STANDIN_FOR][1].name
    known = {file.sha256 for pair in PUBLISHED.values() for file in pair} | {files.sha256(standin)}
    if weights.size_sha256 in known or weights.size_sha256 in trust:
        return weights
    raise CellbenchError(
        f"the size model {weights.names[1]} is unknown here, and cellpose would run code that is in it",
        f"{weights.folder}, sha256 {weights.size_sha256}",
        f"if you know where it comes from: --trust {weights.size_sha256}; if not, {_otherwise(model)}",
    )


def _published(model: str, base_url: str, timeout_s: float, trust: Collection[str]) -> Weights:
    """The published files in cellpose's own model folder; what is missing there is fetched."""
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or os.path.expanduser("~/.cellpose/models")).absolute()
    published = PUBLISHED[model]
    missing = [file for file in published if not os.path.exists(folder / file.name)]
    for file in published:
        if file not in missing:
            _check(folder / file.name, f"delete the file and run again, or {_otherwise(model)}", file.n_bytes)
    for file in missing:
        _fetch(file, folder, base_url, timeout_s, _otherwise(model))
    weights = _trusted(_weights("published", folder, model), model, trust)
    if (weights.net_sha256, weights.size_sha256) == tuple(file.sha256 for file in published):
        return weights
    warning = (
        f"The weights in {folder} have another sha256 than the one on record and may not be those published as {model}."
        if published[0].sha256
        else f"No sha256 of the published {model} is on record, so the weights in {folder} were not checked."
    )
    return replace(weights, warning=warning)


def _standin(model: str, reason: str | None = None) -> Weights:
    """The bundled stand-in; reason: why it replaces the requested weights."""
    if model != STANDIN_FOR:
        what = f"there are no stand-in weights for {model}"
        raise CellbenchError(what, "--weights standin", f"use --models {STANDIN_FOR}, or --weights published or a path")
    fix = "install cellbench again: its stand-in weights are incomplete"
    if reason:
        fix += f". Or correct the problem with {model}: {reason}"
    for file in PUBLISHED[model]:
        _check(STANDIN_FOLDER / file.name, fix)
    because = f" because {reason}" if reason else ""
    warning = (
        f"Stand-in weights are used{because}. Times of the network are comparable with {model}'s, masks and cell "
        "counts are not. Your own weights: --weights PATH."
    )
    return _weights("standin", STANDIN_FOLDER, model, warning)


def _custom(model: str, choice: str) -> Weights:
    """A folder with both files, or a network file with its size model next to it."""
    path = Path(os.path.expanduser(choice)).absolute()
    network_name, size_name = (file.name for file in PUBLISHED[model])
    fix = (
        f"use auto, published, standin, a folder that holds {network_name} and {size_name}, "
        "or a network file NAME with its size model size_NAME.npy or NAME_size.npy next to it"
    )
    if os.path.isdir(path):
        network, size_model = path / network_name, path / size_name
    else:
        network, size_model = path, path.with_name(f"size_{path.name}.npy")
        if not os.path.exists(size_model):
            size_model = path.with_name(f"{path.name}_size.npy")
    _check(network, fix)
    _check(size_model, fix)
    if network != path:
        return _weights("custom", path, model)
    content = f"{files.sha256(network)[:16]}-{files.sha256(size_model)[:8]}"
    folder = Path(os.path.expanduser("~/.cache/cellbench/weights"), content)
    files.link(folder / network_name, network, what="a link to the weights")
    files.link(folder / size_name, size_model, what="a link to the weights")
    return _weights("custom", folder, model)


def _weights(kind: str, folder: Path, model: str, warning: str | None = None) -> Weights:
    """The content of a checked folder."""
    network, size_model = (file.name for file in PUBLISHED[model])
    names = (network, size_model)
    return Weights(kind, str(folder), names, files.sha256(folder / network), files.sha256(folder / size_model), warning)


def _check(file: Path, fix: str, n_bytes: int | None = None) -> None:
    """Reject a file that is missing, unreadable or not weights."""
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
    """The flaw of a network (or, if its name ends so, .npy) that shows without loading it."""
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
    return None if plausible else "is cut off or not a weights file"


def _is_zip(stream: BinaryIO) -> bool:
    """Whether a zip archive's directory, which is its end, can be read."""
    try:
        zipfile.ZipFile(stream).close()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return True


def _fetch(file: Published, folder: Path, base_url: str, timeout_s: float, otherwise: str) -> None:
    """Download one published file into a folder, whole and plausible or not at all."""
    url = f"{base_url.rstrip('/')}/{file.name}"
    fix = f"connect this machine, or copy {file.name} into {folder}, or {otherwise}"
    with files.replacing(folder / file.name, make_folder=True, what=file.name) as stream:
        stream.write(_download(url, file, timeout_s, fix))


def _download(url: str, file: Published, timeout_s: float, fix: str) -> bytes:
    """Get one published file from a server within DEADLINE_S; CellbenchError with the reason in one line."""
    answer: Future[bytes] = Future()

    def ask() -> None:
        try:
            # Cellpose, once imported, turns TLS verification off for the whole process; not for this.
            verified = ssl.create_default_context()
            with urllib.request.urlopen(url, timeout=timeout_s, context=verified) as response:
                answer.set_result(response.read((file.n_bytes or MOST_BYTES) + 1))
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
        flaw = _flaw(io.BytesIO(data), file.name, file.n_bytes) or _damage(data, file)
        if file.n_bytes is None and len(data) > MOST_BYTES:
            flaw = f"has more than {MOST_BYTES:,} bytes"
        if not flaw:
            return data
        reason = f"the server's answer {flaw}"
    raise CellbenchError(f"{file.name} could not be fetched: {' '.join(reason.split())}", url, fix)


def _damage(data: bytes, file: Published) -> str | None:
    """The damage of a download of the right size and kind, as far as a hash or a checksum shows it."""
    if file.sha256:
        is_whole = hashlib.sha256(data).hexdigest() == file.sha256
        return None if is_whole else "has another sha256 than the one on record"
    return downloads.damaged_member(io.BytesIO(data))

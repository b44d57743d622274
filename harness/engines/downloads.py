"""Fetch large files of weights: resumed after an interrupted transfer, checked, and saved whole or not at all."""

from __future__ import annotations

import os
import ssl
import sys
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError

from harness import locks
from harness.errors import CellbenchError, StorageError

CHUNK_BYTES = 1 << 20
SILENCE_S = 30.0  # without a byte
TRIES = 5  # each resumes where the one before was interrupted
LINE_EVERY_S = 5.0


@dataclass(frozen=True)
class Download:
    """A file to fetch. fix: the way without it. flaw: describes the fault of the whole file, None where it is good."""

    url: str
    target: Path
    fix: str
    flaw: Callable[[Path], str | None] = lambda _: None


def fetch(wanted: Download) -> None:
    """Fetch a file, or the rest of a partial one; CellbenchError where that is impossible."""
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "ON", "YES"):
        raise CellbenchError(f"{wanted.target.name} is not here, and HF_HUB_OFFLINE is set", wanted.url, wanted.fix)
    part = wanted.target.with_name(f".{wanted.target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as held:
            with suppress(StorageError):  # on a share without locks, two transfers at once are not noticed
                locks.lock(held, part, f"another process fetches {wanted.target.name}")
            try:
                if not wanted.target.exists():  # that other process may have ended just now
                    _complete(wanted, part)
                    os.replace(part, wanted.target)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
    except OSError as error:
        raise CellbenchError(
            f"{wanted.target.name} cannot be saved: {error.strerror}", str(part.parent), wanted.fix
        ) from error


def _complete(wanted: Download, part: Path) -> None:
    """Fetch what a partial file lacks; where the whole file is faulty it is removed."""
    for last in (number == TRIES - 1 for number in range(TRIES)):
        reason = _continue(wanted, part)
        if reason is None:
            break
        if last or not part.stat().st_size:
            what = f"{wanted.target.name} could not be fetched: {reason}"
            raise CellbenchError(what, wanted.url, f"{wanted.fix}; what has come so far is kept")
    if flaw := wanted.flaw(part):
        part.unlink()
        raise CellbenchError(
            f"{wanted.target.name} arrived damaged: it {flaw}", wanted.url, f"run again, or {wanted.fix}"
        )


def damaged_member(stream: BinaryIO | Path) -> str | None:
    """The part of a zip archive, as torch writes them, that does not match its checksum; None where all match."""
    try:
        with zipfile.ZipFile(stream) as archive:
            name = archive.testzip()
    except (OSError, ValueError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile):
        return None if not zipfile.is_zipfile(stream) else "is damaged"
    return f"is damaged at {name}" if name else None


def _continue(wanted: Download, part: Path) -> str | None:
    """Fetch the missing rest of a partial file; None when it is whole, else the reason why not."""
    have_bytes = part.stat().st_size
    request = urllib.request.Request(wanted.url, headers={"Range": f"bytes={have_bytes}-"} if have_bytes else {})
    try:
        # An engine may have turned TLS verification off for the whole process; not for this.
        with urllib.request.urlopen(request, timeout=SILENCE_S, context=ssl.create_default_context()) as response:
            return _save(response, part, have_bytes if response.status == 206 else 0)
    except HTTPError as error:
        error.close()
        return None if error.code == 416 and have_bytes else str(error)
    except URLError as error:
        return str(error.reason)
    except (HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        return str(error) or type(error).__name__


def _save(response: HTTPResponse, part: Path, have_bytes: int) -> str | None:
    left_bytes = int(response.headers.get("Content-Length") or 0)
    total_bytes, said_s = have_bytes + left_bytes, time.monotonic()
    with part.open("ab" if have_bytes else "wb") as stream:
        while chunk := response.read(CHUNK_BYTES):
            stream.write(chunk)
            have_bytes += len(chunk)
            if time.monotonic() - said_s > LINE_EVERY_S:
                said_s = time.monotonic()
                share = f" of {total_bytes / 1e6:,.0f}" if total_bytes else ""
                print(f"fetching {part.name[1:-5]}: {have_bytes / 1e6:,.0f}{share} MB", file=sys.stderr)
    if total_bytes and have_bytes < total_bytes:
        return f"the connection ended after {have_bytes:,} of {total_bytes:,} bytes"
    return None

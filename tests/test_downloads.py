"""A large file that arrives damaged is refused and never stays where an engine would find it."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from harness import locks
from harness.engines import downloads
from harness.engines.cellpose4 import weights
from harness.errors import BusyError, CellbenchError, StorageError

CONTENT = np.random.default_rng(0).bytes(40_000)


def archive() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo("cpsam/data/0"), CONTENT)
    return stream.getvalue()


@pytest.mark.parametrize("place", [0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_damaged_file_does_not_stay(
    place: float, resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FEWEST_BYTES", 100)
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "models"))
    content = bytearray(archive())
    content[int(place * len(content))] ^= 1
    sent = [bytes(content), archive()]
    if resumed:  # the damage is in the part that was there before
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / ".cpsam.part").write_bytes(content)

    def transfer(_: object, part: Path) -> None:
        if not part.stat().st_size:
            part.write_bytes(sent[1] if resumed else sent.pop(0))

    monkeypatch.setattr(downloads, "_continue", transfer)
    with pytest.raises(CellbenchError, match="arrived damaged"):
        weights.resolve("cpsam", "published")
    assert list((tmp_path / "models").iterdir()) == []
    assert weights.resolve("cpsam", "published").kind == "published"
    assert (tmp_path / "models" / "cpsam").read_bytes() == archive()


def test_two_processes_never_write_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = downloads.Download("http://127.0.0.1:9/file", tmp_path / "file", "copy it there")
    calls: list[str] = []

    def transfer(_: object, part: Path) -> None:
        with pytest.raises(BusyError, match="another process fetches file"):  # while the first one is under way
            downloads.fetch(wanted)
        calls.append(part.name)
        part.write_bytes(b"whole")

    monkeypatch.setattr(downloads, "_continue", transfer)
    downloads.fetch(wanted)
    assert (calls, [path.name for path in tmp_path.iterdir()]) == ([".file.part"], ["file"])
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_share_without_locks_gets_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(*_: object) -> None:
        raise StorageError("files cannot be locked there", "here", "elsewhere")

    monkeypatch.setattr(locks, "lock", lock)
    monkeypatch.setattr(downloads, "_continue", lambda _, part: part.write_bytes(b"whole") and None)
    downloads.fetch(downloads.Download("http://127.0.0.1:9/file", tmp_path / "file", "copy it there"))
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_nothing_stays_of_a_file_that_cannot_be_had(tmp_path: Path) -> None:
    wanted = downloads.Download("http://127.0.0.1:9/file", tmp_path / "file", "copy it there")
    with pytest.raises(CellbenchError, match="could not be fetched"):
        downloads.fetch(wanted)
    assert list(tmp_path.iterdir()) == []


class Interrupted(BaseHTTPRequestHandler):
    """A server whose answers end after a third of the file; knows_ranges: whether it answers a part."""

    knows_ranges = True
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.knows_ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        n_sent = len(CONTENT) // 3 + 1 if self.knows_ranges or len(self.asked) < 3 else len(CONTENT)
        self.wfile.write(CONTENT[begin : begin + n_sent])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def interrupted(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """The address of such a server, and the ranges that it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Interrupted,), {"knows_ranges": request.param, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/file", asked
        server.shutdown()


def test_an_interrupted_transfer_is_resumed(interrupted: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = interrupted
    downloads.fetch(downloads.Download(url, tmp_path / "file", "copy it there"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    third = len(CONTENT) // 3 + 1
    assert asked == ["", f"bytes={third}-", f"bytes={2 * third}-"] or asked[1:] == [f"bytes={third}-"] * 2

"""Weights: found, fetched from a real local server, or refused with a reason; never half a file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from harness.engines.cellpose3 import weights
from harness.errors import CellbenchError
from harness.machine.checks import OK, WARN

HTML = b"<!DOCTYPE html><html><body>Sign in to the guest network</body></html>"


def network_bytes(seed: int = 0) -> bytes:
    """A small file of the kind torch writes."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("cyto3/data/0"), np.random.default_rng(seed).bytes(2000))
    return archive.getvalue()


def size_model_bytes() -> bytes:
    archive = BytesIO()
    np.save(archive, np.arange(10.0))
    return archive.getvalue()


NETWORK, SIZE_MODEL = network_bytes(), size_model_bytes()
GOOD = {"cyto3": NETWORK, "size_cyto3.npy": SIZE_MODEL}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without weights, small published files and stand-in, and no way out to the network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("CELLBENCH_WEIGHTS_URL", "http://127.0.0.1:9/no-such-server")
    monkeypatch.delenv("CELLPOSE_LOCAL_MODELS_PATH", raising=False)
    published = tuple(weights.Published(name, len(content), sha256(content)) for name, content in GOOD.items())
    monkeypatch.setitem(weights.PUBLISHED, "cyto3", published)
    standin = write(tmp_path / "standin", {"cyto3": network_bytes(1), "size_cyto3.npy": SIZE_MODEL})
    monkeypatch.setattr(weights, "STANDIN_FOLDER", standin)
    return tmp_path


@pytest.fixture
def models(here: Path) -> Path:
    """Where cellpose keeps its models when nothing else is said."""
    return here / ".cellpose" / "models"


class Server(ThreadingHTTPServer):
    """Serves GOOD, unless `answer` is replaced; counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.closing = threading.Event()
        self.answer: Callable[[Handler, str], None] = lambda handler, name: handler.send(GOOD[name])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/models/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.requests.append(name)
        self.server.answer(self, name)

    def send(self, content: bytes, declared_bytes: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(declared_bytes or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


def test_published_files_are_fetched_once(server: Server, models: Path) -> None:
    first = weights.resolve("auto", base_url=server.url)
    assert first == weights.Weights(
        "published", str(models), ("cyto3", "size_cyto3.npy"), sha256(NETWORK), sha256(SIZE_MODEL), None
    )
    assert {path.name: path.read_bytes() for path in models.iterdir()} == GOOD
    assert weights.resolve("cyto3", base_url=server.url) == first
    assert sorted(server.requests) == ["cyto3", "size_cyto3.npy"]


def test_fetched_files_can_be_read_by_others_as_far_as_the_umask_allows(server: Server, models: Path) -> None:
    weights.resolve("cyto3", base_url=server.url)
    plain = models / "plain"
    plain.touch()
    assert (models / "cyto3").stat().st_mode == plain.stat().st_mode


def test_only_the_missing_file_is_fetched(server: Server, models: Path) -> None:
    write(models, {"cyto3": NETWORK})
    assert weights.resolve("cyto3", base_url=server.url).kind == "published"
    assert server.requests == ["size_cyto3.npy"]


def test_the_environment_names_server_and_folder(server: Server, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLBENCH_WEIGHTS_URL", server.url)
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(here / "lab"))
    assert weights.resolve().folder == str(here / "lab")


def bad_answers(handler: Handler, name: str, kind: str) -> None:
    good = GOOD[name]
    match kind:
        case "not found":
            handler.send_error(404)
        case "web page":
            handler.send(HTML)
        case "web page of the right size":
            handler.send(HTML.ljust(len(good)))
        case "empty":
            handler.send(b"")
        case "connection lost":
            handler.send(good[:50], declared_bytes=len(good))
        case "short":
            handler.send(good[:-1])
        case "long":
            handler.send(good + b"\0")
        case "garbage":
            handler.send(b"x" * len(good))
        case "silent":
            handler.server.closing.wait(5)
        case "dripping":
            handler.send_response(200)
            handler.end_headers()
            while not handler.server.closing.wait(0.02):
                handler.wfile.write(b"x")
        case "no http":
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("not found", "404"),
        ("web page", "web page"),
        ("web page of the right size", "web page"),
        ("empty", "empty"),
        ("connection lost", "50 bytes instead of"),
        ("short", "bytes instead of"),
        ("long", "bytes instead of"),
        ("garbage", "not a weights file"),
        ("silent", "timed out"),
        ("dripping", "not done within 0.3 s"),
        ("no http", "SSH-2.0"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(
    kind: str, reason: str, server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = lambda handler, name: bad_answers(handler, name, kind)
    if kind == "dripping":
        monkeypatch.setattr(weights, "DEADLINE_S", 0.3)
    start_s = time.monotonic()
    with pytest.raises(CellbenchError) as caught:
        weights.resolve("cyto3", base_url=server.url, timeout_s=0.2)
    assert time.monotonic() - start_s < 4
    assert reason in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.where == f"{server.url}cyto3"
    assert str(models) in caught.value.fix
    assert "--weights standin" in caught.value.fix
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("on_record", [True, False])
@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_answer_of_the_right_size_leaves_nothing_behind(
    place: float, on_record: bool, server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_record:
        monkeypatch.setitem(weights.PUBLISHED, "cyto3", tuple(map(weights.Published, GOOD)))

    def answer(handler: Handler, name: str) -> None:
        content = bytearray(GOOD[name])
        content[int(place * len(content))] ^= 0x10
        handler.send(bytes(content))

    server.answer = answer
    with pytest.raises(CellbenchError, match=r"sha256|damaged|no weights") as caught:
        weights.resolve("cyto3", base_url=server.url)
    assert (caught.value.where, list(models.iterdir())) == (f"{server.url}cyto3", [])
    server.answer = lambda handler, name: handler.send(GOOD[name])
    trust = (sha256(SIZE_MODEL),)
    assert weights.resolve("cyto3", base_url=server.url, trust=trust).net_sha256 == sha256(NETWORK)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "nonsense", "http://[", "nope://x"]
)
def test_a_server_that_cannot_be_asked(url: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, *args: object, **kwargs: object) -> list:
        raise OSError(-2, "Name or service not known")

    if "invalid" in url:
        monkeypatch.setattr("socket.getaddrinfo", look_up)
    with pytest.raises(CellbenchError, match=r"cyto3 could not be fetched: ."):
        weights.resolve("cyto3", base_url=url)
    assert list(models.iterdir()) == []


def test_a_second_file_that_fails_is_an_error_though_the_first_came(server: Server, models: Path) -> None:
    server.answer = lambda handler, name: handler.send(NETWORK) if name == "cyto3" else handler.send_error(503)
    with pytest.raises(CellbenchError, match=r"size_cyto3.npy could not be fetched: HTTP Error 503"):
        weights.resolve("cyto3", base_url=server.url)
    assert [path.name for path in models.iterdir()] == ["cyto3"]


def test_certificates_are_checked_though_cellpose_turns_that_off(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=here, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(here / "certificate.pem", here / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    with pytest.raises(CellbenchError, match="CERTIFICATE_VERIFY_FAILED"):
        weights.resolve("cyto3", base_url=server.url.replace("http:", "https:"))
    assert server.requests == []


def test_auto_falls_back_to_the_standin_and_says_why(server: Server, here: Path) -> None:
    server.answer = lambda handler, name: handler.send_error(404)
    found = weights.resolve("auto", base_url=server.url)
    assert (found.kind, found.folder) == ("standin", str(here / "standin"))
    assert found.net_sha256 == sha256(network_bytes(1))
    assert "Stand-in" in found.warning
    assert "404" in found.warning
    assert "masks and cell counts are not" in found.warning


def test_the_standin_can_be_asked_for(server: Server, models: Path) -> None:
    found = weights.resolve("standin", base_url=server.url)
    assert found.kind == "standin"
    assert found.warning.startswith("Stand-in weights are used. ")
    assert server.requests == []
    assert not models.exists()


@pytest.mark.parametrize("choice", ["standin", "auto"])
def test_an_incomplete_installation(choice: str, here: Path) -> None:
    (here / "standin" / "size_cyto3.npy").unlink()
    with pytest.raises(CellbenchError) as caught:
        weights.resolve(choice)
    assert caught.value.where == str(here / "standin" / "size_cyto3.npy")
    assert "install cellbench again" in caught.value.fix
    assert ("could not be fetched" in caught.value.fix) == (choice == "auto")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (HTML, "web page"),
        (NETWORK[:-500], "bytes instead of"),
        (b"x" * len(NETWORK), "not a weights file"),
    ],
)
def test_a_bad_file_in_the_model_folder_is_named_and_left_alone(
    content: bytes, reason: str, server: Server, models: Path
) -> None:
    write(models, {"cyto3": content})
    with pytest.raises(CellbenchError, match=reason) as caught:
        weights.resolve("cyto3", base_url=server.url)
    assert caught.value.where == str(models / "cyto3")
    assert "delete" in caught.value.fix
    found = weights.resolve("auto", base_url=server.url)
    assert found.kind == "standin"
    assert str(models / "cyto3") in found.warning
    assert reason in found.warning
    assert server.requests == []
    assert (models / "cyto3").read_bytes() == content


def test_another_hash_of_the_right_size_warns_and_goes_on(models: Path) -> None:
    write(models, {"cyto3": network_bytes(2), "size_cyto3.npy": SIZE_MODEL})
    found = weights.resolve("cyto3")
    assert (found.kind, found.net_sha256) == ("published", sha256(network_bytes(2)))
    assert "another sha256" in found.warning


def test_a_folder_that_cannot_be_written(server: Server, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").touch()
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(here / "file" / "models"))
    with pytest.raises(CellbenchError, match="cyto3 cannot be written: Not a directory") as caught:
        weights.resolve("cyto3", base_url=server.url)
    assert caught.value.where == str(here / "file" / "models" / "cyto3")
    assert weights.resolve("auto", base_url=server.url).kind == "standin"
    assert server.requests == []


def test_a_full_disk_leaves_nothing_behind(server: Server, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CellbenchError, match="cannot be written: No space left on device"):
        weights.resolve("cyto3", base_url=server.url)
    assert list(models.iterdir()) == []


def test_several_may_fetch_at_once(server: Server, models: Path) -> None:
    kinds: list[str] = []
    threads = [
        threading.Thread(target=lambda: kinds.append(weights.resolve("cyto3", base_url=server.url).kind))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds == ["published"] * 8
    assert {path.name: path.read_bytes() for path in models.iterdir()} == GOOD


def test_a_folder_of_ones_own(here: Path) -> None:
    mine = write(here / "mine", GOOD)
    expected = weights.Weights(
        "custom", str(mine), ("cyto3", "size_cyto3.npy"), sha256(NETWORK), sha256(SIZE_MODEL), None
    )
    assert weights.resolve(str(mine)) == expected
    assert weights.resolve("~/mine") == expected


@pytest.mark.parametrize("size_name", ["size_leaf.npy", "leaf_size.npy"])
@pytest.mark.parametrize("network", [NETWORK, b"\x80\x02}q\x00."], ids=["zip", "pickle"])
def test_a_network_file_with_its_size_model_beside_it(size_name: str, network: bytes, here: Path) -> None:
    mine = write(here / "mine", {"leaf": network, size_name: SIZE_MODEL})
    found = weights.resolve(str(mine / "leaf"))
    assert weights.resolve(str(mine / "leaf")) == found
    folder = Path(found.folder)
    assert found.kind == "custom"
    assert (found.net_sha256, found.size_sha256) == (sha256(network), sha256(SIZE_MODEL))
    assert folder.is_relative_to(here / ".cache" / "cellbench" / "weights")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**GOOD, "cyto3": network}


def test_links_follow_a_network_that_moved(here: Path) -> None:
    first = weights.resolve(str(write(here / "a", {"leaf": NETWORK, "size_leaf.npy": SIZE_MODEL}) / "leaf"))
    (here / "a").rename(here / "b")
    assert weights.resolve(str(here / "b" / "leaf")) == first
    assert (Path(first.folder) / "cyto3").read_bytes() == NETWORK


@pytest.mark.parametrize(
    ("files", "choice", "reason"),
    [
        ({}, "cyto2", "cyto2 does not exist"),
        ({}, "n" * 300, "cannot be read"),
        ({"cyto3": NETWORK}, ".", "size_cyto3.npy does not exist"),
        ({"leaf": NETWORK}, "leaf", "leaf_size.npy does not exist"),
        ({"leaf": HTML, "size_leaf.npy": SIZE_MODEL}, "leaf", "leaf is a web page"),
        ({"leaf": b"", "size_leaf.npy": SIZE_MODEL}, "leaf", "leaf is empty"),
        ({"leaf": NETWORK[:-30], "size_leaf.npy": SIZE_MODEL}, "leaf", "leaf is cut off"),
        ({"leaf": NETWORK, "size_leaf.npy": NETWORK}, "leaf", "size_leaf.npy is cut off or not a weights file"),
    ],
)
def test_bad_files_of_ones_own(
    files: dict[str, bytes], choice: str, reason: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(here / "mine", files))
    with pytest.raises(CellbenchError, match=reason) as caught:
        weights.resolve(choice)
    assert str(here / "mine") in caught.value.where
    assert "size_NAME.npy" in caught.value.fix
    assert not (here / ".cache").exists()


def test_a_cache_that_cannot_be_written(here: Path) -> None:
    (here / ".cache").touch()
    mine = write(here / "mine", {"leaf": NETWORK, "size_leaf.npy": SIZE_MODEL})
    with pytest.raises(CellbenchError, match="a link to the weights cannot be written") as caught:
        weights.resolve(str(mine / "leaf"))
    assert "another place" in caught.value.fix


def test_the_record_is_that_of_the_published_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    known = [file for files in weights.PUBLISHED.values() for file in files if file.sha256]
    assert {file.name: (file.n_bytes, file.sha256[:8]) for file in known} == {
        "cyto3": (26_566_255, "2dc3087a"),
        "size_cyto3.npy": (3_627, "87f91feb"),
    }


def test_the_bundled_standin_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not weights.STANDIN_FOLDER.exists():
        pytest.skip(f"no stand-in weights in {weights.STANDIN_FOLDER}: see scripts/train_standin.py")
    assert weights.resolve("standin").kind == "standin"


def pickled(value: object) -> bytes:
    archive = BytesIO()
    np.save(archive, np.array(value, dtype=object), allow_pickle=True)
    return archive.getvalue()


@pytest.mark.parametrize("choice", ["auto", "cyto3", "mine"])
def test_an_unknown_size_model_is_not_unpickled_before_the_user_says_so(
    choice: str, models: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = pickled({"A": 1.0}).ljust(len(SIZE_MODEL))[: len(SIZE_MODEL)]
    write(models, {"cyto3": NETWORK, "size_cyto3.npy": strange})
    monkeypatch.chdir(here)
    write(here / "mine", {"cyto3": NETWORK, "size_cyto3.npy": strange})
    if choice == "auto":
        found = weights.resolve("auto")
        assert found.kind == "standin"
        assert "unknown here" in found.warning
    else:
        with pytest.raises(CellbenchError, match="cellpose would run code") as caught:
            weights.resolve(choice)
        assert f"--trust {sha256(strange)}" in caught.value.fix
        with pytest.raises(CellbenchError, match="cellpose would run code"):
            weights.resolve(choice, trust=("0" * 64,))
    assert weights.resolve(choice, trust=("0" * 64, sha256(strange))).size_sha256 == sha256(strange)


# ------------------------------------------------------------------ what doctor says, without fetching anything


def test_weights_that_are_not_there_are_a_warning(
    models: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLBENCH_WEIGHTS_URL", server.url)
    check = weights.check("cyto3")
    assert check.verdict == WARN
    assert "no cyto3 and no size_cyto3.npy in" in check.evidence
    assert "uses the stand-in" in check.evidence
    assert str(models) in check.fix
    assert not models.exists()
    write(models, {"cyto3": NETWORK})
    assert "no size_cyto3.npy in" in weights.check("cyto3").evidence
    assert server.requests == []


def test_the_published_weights_are_fine(models: Path) -> None:
    write(models, GOOD)
    check = weights.check("cyto3")
    assert (check.verdict, check.fix) == (OK, None)
    assert "as on record" in check.evidence


@pytest.mark.parametrize(("content", "output"), [(network_bytes(2), "another sha256"), (HTML, "web page")])
def test_weights_that_are_not_those_on_record_are_a_warning(content: bytes, output: str, models: Path) -> None:
    write(models, {**GOOD, "cyto3": content})
    check = weights.check("cyto3")
    assert check.verdict == WARN
    assert output in check.evidence
    assert "delete" in check.fix


def test_without_even_the_stand_in_there_is_nothing_to_measure_with(here: Path) -> None:
    shutil.rmtree(here / "standin")
    with pytest.raises(CellbenchError, match="does not exist"):
        weights.check("cyto3")


# ------------------------------------------------------------------ models whose files are not on record

OTHER_MODELS = ("cyto2", "nuclei")
STRANGE = pickled({"A": 2.0})
IN_A_FOLDER = ("auto", "published", "its name", "a folder")


def files_of(model: str) -> dict[str, bytes]:
    """A network and an unknown size model under a model's published names."""
    network, size_model = weights.PUBLISHED[model]
    return {network.name: network_bytes(3), size_model.name: STRANGE}


def chosen(word: str, model: str, folder: Path) -> str:
    return {"its name": model, "a folder": str(folder)}.get(word, word)


@pytest.mark.parametrize("model", OTHER_MODELS)
@pytest.mark.parametrize("word", IN_A_FOLDER)
def test_other_models_are_read_from_files_of_their_names_once_the_size_model_is_trusted(
    model: str, word: str, models: Path, server: Server
) -> None:
    names = tuple(write(models, files_of(model)) / name for name in files_of(model))
    choice = chosen(word, model, models)
    with pytest.raises(CellbenchError, match=f"size model {names[1].name} is unknown here") as caught:
        weights.resolve(choice, model, base_url=server.url)
    assert f"--trust {sha256(STRANGE)}" in caught.value.fix
    assert "standin" not in caught.value.fix
    found = weights.resolve(choice, model, trust=(sha256(STRANGE),), base_url=server.url)
    assert (found.folder, found.names) == (str(models), tuple(path.name for path in names))
    assert (found.net_sha256, found.size_sha256) == (sha256(network_bytes(3)), sha256(STRANGE))
    assert found.kind == ("custom" if word == "a folder" else "published")
    assert bool(found.warning) == (found.kind == "published"), "that no hash is on record is said"
    assert server.requests == []


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_a_file_of_ones_own_takes_the_name_by_which_cellpose_looks_for_it(model: str, here: Path) -> None:
    mine = write(here / "mine", {"leaf": NETWORK, "leaf_size.npy": SIZE_MODEL}) / "leaf"
    folder = Path(weights.resolve(str(mine), model).folder)
    assert {path.name for path in folder.iterdir()} == {file.name for file in weights.PUBLISHED[model]}


@pytest.mark.parametrize("model", OTHER_MODELS)
@pytest.mark.parametrize("word", ["auto", "published"])
def test_other_models_are_fetched_by_their_names(model: str, word: str, models: Path, server: Server) -> None:
    server.answer = lambda handler, name: handler.send(files_of(model)[name])
    found = weights.resolve(word, model, trust=(sha256(STRANGE),), base_url=server.url)
    assert found.kind == "published"
    assert "not checked" in found.warning
    assert server.requests == list(files_of(model))
    assert {path.name: path.read_bytes() for path in models.iterdir()} == files_of(model)


@pytest.mark.parametrize("model", OTHER_MODELS)
@pytest.mark.parametrize("content", [HTML, b"", b"x" * 100, b"\x80\x02".ljust(20_000), b"\x93NUMPY".ljust(20_000)])
def test_a_bad_answer_is_refused_though_its_size_is_not_on_record(
    model: str, content: bytes, models: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MOST_BYTES", 10_000)
    server.answer = lambda handler, name: handler.send(content)
    with pytest.raises(CellbenchError, match="the server's answer"):
        weights.resolve("published", model, base_url=server.url)
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("model", OTHER_MODELS)
@pytest.mark.parametrize("word", ["auto", "standin", "published"])
def test_there_is_no_stand_in_for_other_models(model: str, word: str) -> None:
    with pytest.raises(CellbenchError) as caught:
        weights.resolve(word, model)
    assert model in f"{caught.value.what} {caught.value.where}"
    assert "--weights standin" not in caught.value.fix
    assert caught.value.fix


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_what_a_run_of_another_model_would_use(model: str, models: Path) -> None:
    assert f"a run fetches {model} if it can, or else fails" in weights.check(model).evidence
    write(models, files_of(model))
    unknown = weights.check(model)
    assert "cellpose would run code" in unknown.evidence
    assert f"--trust {sha256(STRANGE)}" in unknown.fix
    write(models, {weights.PUBLISHED[model][1].name: SIZE_MODEL})  # one that is on record as another model's
    assert "No sha256" in weights.check(model).evidence


def test_two_models_of_unknown_size_models_can_both_be_trusted(here: Path) -> None:
    folder = here / "both"
    hashes = []
    for number, model in enumerate(OTHER_MODELS):
        files = files_of(model)
        files[weights.PUBLISHED[model][1].name] = pickled({"A": number})
        hashes.append(sha256(files[weights.PUBLISHED[model][1].name]))
        write(folder, files)
    assert [weights.resolve(str(folder), model, trust=hashes).size_sha256 for model in OTHER_MODELS] == hashes


@pytest.mark.slow
def test_cellpose_looks_for_the_files_of_the_record(tmp_path: Path) -> None:
    script = "import json, sys; from cellpose import models as m; " + (
        "print(json.dumps([[m.model_path(n), m.size_model_path(n)] for n in sys.argv[1:]]))"
    )
    for files in weights.PUBLISHED.values():
        write(tmp_path / "models", {file.name: b"" for file in files})
    environ = os.environ | {"CELLPOSE_LOCAL_MODELS_PATH": str(tmp_path / "models")}
    done = subprocess.run(
        [sys.executable, "-c", script, *weights.PUBLISHED], capture_output=True, text=True, check=False, env=environ
    )
    assert [[Path(path).name for path in pair] for pair in json.loads(done.stdout.splitlines()[-1])] == [
        [file.name for file in files] for files in weights.PUBLISHED.values()
    ], done.stderr


def test_cellpose_loads_the_network_without_unpickling_code() -> None:
    source = Path(importlib.util.find_spec("cellpose").origin).with_name("resnet_torch.py").read_text()
    calls = re.findall(r"torch\.load\(((?:[^()]|\([^()]*\))*)\)", source)
    assert calls
    assert all("weights_only=True" in call for call in calls)

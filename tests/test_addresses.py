"""Addresses where something else than Ray answers: every command that takes one ends soon with one error."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.doctor import installation
from harness.errors import FleetUnreachableError
from harness.fleet import network
from harness.machine.checks import FAIL
from tests.conftest import REPOSITORY

END_S = 20.0  # of a command on a busy machine; what the network takes is bounded by 5 s below

# What may listen where a head is expected: what each says to a client, and whether it then hangs up.
SERVICES: dict[str, tuple[bytes, bool]] = {
    "silent": (b"", False),
    "hangs up": (b"", True),
    "http/1": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", True),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", False),
    "smtp": (b"220 mail ESMTP\r\n", False),
    "mysql": (bytes([74, 0, 0, 0]) + b"\n8.0.36\0", False),
    "postgres": (b"E", True),
    "redis": (b"-ERR unknown command 'PRI'\r\n", False),
    "tls alert": (bytes([21, 3, 3, 0, 2, 2, 10]), True),
    "three bytes": (b"\0\0\0", True),
    "another frame first": (b"\0\0\0\6\0\0\0\0\0", False),
}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_no_ray_is_refused_within_five_seconds(
    name: str, serve: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "CONNECT_S", 0.2 if name == "silent" else 2.0)
    address = f"127.0.0.1:{serve(*SERVICES[name])}"
    begin_s = time.monotonic()
    with pytest.raises(FleetUnreachableError, match="there is no head") as refused:
        network.reach(address)
    assert time.monotonic() - begin_s < 5
    assert (refused.value.where, refused.value.exit_code) == (address, 4)
    assert installation.ray_head(address).verdict == FAIL


def test_what_speaks_as_ray_does_is_reached(serve: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    network.reach(f"127.0.0.1:{serve()}")
    monkeypatch.setenv("RAY_USE_TLS", "1")  # then its first words are of the encryption
    network.reach(f"127.0.0.1:{serve(b'', False)}")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", "--profile", "quick"), ("node", "start"), ("node", "status")], ids=" ".join)
def test_commands_say_it_in_one_error(words: tuple[str, ...], serve: Callable[..., int], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "results"), "--crops", "64", "--models", "sleep") if words[0] == "run" else ()
    command = [*words, "--address", f"127.0.0.1:{serve(b'', False)}", *out]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=False, cwd=REPOSITORY,
        timeout=END_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (4, 3), done.stderr
    assert "does not answer as Ray does" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network of its own")
@pytest.mark.parametrize(("setup", "works"), [("true", False), ("ip link set lo up", True)])
def test_a_machine_that_cannot_reach_itself(setup: str, works: bool) -> None:
    look = "from harness.fleet import network; network.check_loopback()"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, look],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=END_S,
    )  # fmt: skip
    assert (done.returncode == 0) == works, done.stderr
    assert works or "--no-ray" in done.stderr

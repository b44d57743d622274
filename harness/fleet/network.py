"""Addresses on the network: parse them, test whether a service answers, find this machine's own address."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from urllib.parse import urlsplit

from harness.errors import CellbenchError, FleetUnreachableError

CONNECT_S = 2.0
ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737): any other machine; nothing is ever sent there
# The first bytes of an HTTP/2 client, and the type of the frame of every server's answer (RFC 9113, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS = 4


class ForeignServiceError(OSError):
    """Another service than Ray answers at an address."""


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, [IPv6]:PORT or either after a scheme; ValueError unless there are both."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    host, port = parts.hostname, parts.port  # reading the port raises ValueError itself if it is not a number
    if not host or not port:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, port


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect(host: str, port: int) -> None:
    """Raise OSError unless a service answers on a TCP port within CONNECT_S, name look-up included."""
    _within(CONNECT_S, lambda: socket.create_connection((host, port), CONNECT_S).close())


def greet(host: str, port: int) -> None:
    """As connect(), and raise ForeignServiceError unless the service uses HTTP/2, as Ray's servers do."""

    def ask() -> None:
        with socket.create_connection((host, port), CONNECT_S) as peer:
            if os.environ.get("RAY_USE_TLS") in ("1", "true"):
                return
            try:
                peer.sendall(PREFACE)
                answer = peer.recv(4)
            except OSError as error:
                raise ForeignServiceError("something listens there that does not answer as Ray does") from error
            if answer[3:] != bytes([SETTINGS]):
                raise ForeignServiceError("another service than Ray answers there")

    _within(2 * CONNECT_S, ask)


def _within(limit_s: float, ask: Callable[[], None]) -> None:
    """Call ask in a thread with a time limit; no timeout bounds the look-up of a name."""
    answer: Future[None] = Future()

    def run() -> None:
        try:
            ask()
        except (OSError, UnicodeError) as error:  # handed over to the waiting thread
            answer.set_exception(error)
        else:
            answer.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    answer.result(limit_s + 1)


def check_loopback() -> None:
    """Raise FleetUnreachableError where this machine cannot reach itself, as in a namespace without a network."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            connect(*server.getsockname())
    except OSError as error:
        raise FleetUnreachableError(
            f"this machine cannot reach itself at 127.0.0.1, which Ray needs: {why_not(error)}", "this machine",
            "measure without it: cellbench run --no-ray; or bring the loopback up: ip link set lo up",
        ) from error  # fmt: skip


def why_not(error: Exception) -> str:
    """The reason why connect() failed, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return getattr(error, "strerror", None) or str(error)


def reach(address: str, greet: Callable[[str, int], None] = greet) -> None:
    """Reject an invalid address, and one where no Ray answers."""
    try:
        host, port = split_address(address)
    except ValueError:
        raise CellbenchError(
            f"{address!r} is not the address of a head", "--address", "give it as HOST:PORT; the usual port is 6379"
        ) from None
    try:
        greet(host, port)
    except ForeignServiceError as error:
        raise FleetUnreachableError(
            f"there is no head at {address}: {why_not(error)}", address,
            "check host and port: the head shows its address with cellbench node status",
        ) from error  # fmt: skip
    except (OSError, ValueError) as error:
        raise FleetUnreachableError(
            f"no head can be reached at {address}: {why_not(error)}", "this machine, on the way there",
            "on the head, see whether it runs (cellbench node status) and whether its firewall lets this machine "
            f"through to port {port}; on a Mac, allow it the local network (System Settings, Privacy & Security)",
        ) from error  # fmt: skip


def resolve(host: str) -> str:
    """The address of a host, IPv4 if it has one; OSError for an unknown name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(sorted(found, key=lambda each: each[0] != socket.AF_INET)[0][4][0])


def own_ip(towards: str = ELSEWHERE) -> str | None:
    """This machine's address on the route to another one (its address); None where there is no route."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as unsent:
            unsent.connect((towards, 9))
            return unsent.getsockname()[0]
    except OSError:
        return None


def is_loopback(ip: str) -> bool:
    """Whether only this machine itself can reach this address; ValueError if it is not an address."""
    return ip_address(ip).is_loopback


def is_ours(ip: str) -> bool:
    """Whether this is an address of this machine."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as server:
            server.bind((ip, 0))
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port here."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do after a restart
        try:
            server.bind(("", port))
        except OSError:
            return False
    return True

"""Addresses, on this machine's own."""

import socket

import pytest

from harness.fleet import network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("desk:6379", ("desk", 6379)), ("ray://desk:10001", ("desk", 10001)), ("[fe80::1]:6379", ("fe80::1", 6379)),
        ("10.0.0.5:1", ("10.0.0.5", 1)),
    ],
)  # fmt: skip
def test_addresses_are_read_and_written(text: str, expected: tuple[str, int]) -> None:
    assert network.split_address(text) == expected
    assert network.split_address(network.join_address(*expected)) == expected


@pytest.mark.parametrize("text", ["", "desk", "desk:", ":6379", "desk:port", "desk:99999", "desk:0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        network.split_address(text)


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not network.is_free(port)
        network.connect("127.0.0.1", port)
    assert network.is_free(port)
    with pytest.raises(ConnectionRefusedError) as refused:
        network.connect("127.0.0.1", port)
    assert network.why_not(refused.value) == "Connection refused"
    assert network.why_not(TimeoutError()) == "no answer within 2 s"


def test_own_addresses() -> None:
    assert network.own_ip("127.0.0.1") == "127.0.0.1"
    assert network.is_ours("127.0.0.1")
    assert not network.is_ours("198.51.100.7")
    assert network.is_loopback("127.0.0.2")
    assert network.is_loopback("::1")
    assert not network.is_loopback("10.0.0.5")
    with pytest.raises(ValueError):
        network.is_loopback("desk")
    assert network.resolve("localhost") == "127.0.0.1"

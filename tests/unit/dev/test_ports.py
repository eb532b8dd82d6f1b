"""Ports that are asked for, and ports that are found."""

from __future__ import annotations

import socket

import pytest

from penstock.dev.errors import PortBusyError
from penstock.dev.ports import HOST, LEFT_ALONE, take_port


def test_busy_port_is_named_with_its_flag() -> None:
    with socket.socket() as other:
        # As gRPC listens: willing to share.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HOST, 0))
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(PortBusyError, match=f"port {port} .*--http-port"):
            take_port(port, "--http-port")


def test_zero_is_a_free_port_that_can_be_taken_again() -> None:
    port = take_port(0, "--port")
    assert port in LEFT_ALONE
    assert take_port(port, "--port") == port

"""Ports that are asked for, and ports that are found."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections import deque

import pytest

from penstock.dev import ports
from penstock.dev.errors import PortBusyError
from penstock.dev.ports import HOST, LEFT_ALONE, claim, take_port


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


def test_a_port_that_was_found_is_found_by_nobody_else_before_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = take_port(0, "--port"), next(port for port in LEFT_ALONE if claim(port))
    ask = f"from penstock.dev.ports import claim; print(claim({first}), claim({second}), claim({LEFT_ALONE.stop}))"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert said == "False False True\n"
    monkeypatch.setattr(random, "sample", lambda *_: [first, second, *LEFT_ALONE])
    assert take_port(0, "--port") not in (first, second), "its own neither"


def test_the_oldest_of_many_claims_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made: deque[socket.socket] = deque()
    monkeypatch.setattr(ports, "_CLAIMS", made)
    assert all(claim(port) for port in range(100_000, 100_300))
    assert claim(100_000)
    assert not claim(100_299)
    for each in made:
        each.close()

"""Ports on this machine's own address."""

from __future__ import annotations

import socket

from penstock.dev.errors import PortBusyError

HOST = "127.0.0.1"


def take_port(port: int, flag: str) -> int:
    """The port, if it is free; a free one for 0. Raises `PortBusyError`, which names the flag.

    The probe shares nothing: gRPC binds with SO_REUSEPORT, so two coordinators would share a port without a word.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            raise PortBusyError(
                f"port {port} on {HOST} cannot be used: {error.strerror}",
                remedy=f"give another one with {flag}, or {flag} 0 for any that is free",
            ) from None
        taken: int = probe.getsockname()[1]
        return taken

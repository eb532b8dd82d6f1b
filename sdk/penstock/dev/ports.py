"""Ports on this machine's own address."""

from __future__ import annotations

import random
import socket

from penstock.dev.errors import PortBusyError

HOST = "127.0.0.1"
LEFT_ALONE = range(16_384, 32_768)
"""Ports that systems do not give to connections as they go out. One of those that they do give may be another's while
who listens on it is started again, or even be that of a client that comes to ask for him."""
_TRIES = 100


def take_port(port: int, flag: str) -> int:
    """The port, if it is free; for 0 a free one, which stays so while nobody listens on it. Raises `PortBusyError`,
    which names the flag.

    The probe shares nothing: gRPC binds with SO_REUSEPORT, so two coordinators would share a port without a word.
    """
    if not port:
        for candidate in random.sample(LEFT_ALONE, _TRIES):
            try:
                return take_port(candidate, flag)
            except PortBusyError:
                continue
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

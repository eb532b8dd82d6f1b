"""Ports on this machine's own address."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque

from penstock.dev.errors import PortBusyError

HOST = "127.0.0.1"
LEFT_ALONE = range(16_384, 32_768)
"""Ports that systems do not give to connections as they go out. One of those that they do give may be another's while
who listens on it is started again, or even be that of a client that comes to ask for him."""
_TRIES = 100
_CLAIMS: deque[socket.socket] = deque()
_MOST_CLAIMS = 256
"""Each is an open file."""


def claim(port: int) -> bool:
    """Whether no other process on this machine has this port for its own, though nobody may listen on it yet, or while
    who does is started again. It is this process's from then on, until that ends or has claimed many more.

    Kept by a name that the system gives to one process only, in the network that the port is in. Where there are no
    such names every claim is granted.
    """
    if not sys.platform.startswith("linux"):
        return True
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0penstock-port-{port}")
    except OSError:
        name.close()
        return False
    _CLAIMS.append(name)
    if len(_CLAIMS) > _MOST_CLAIMS:
        _CLAIMS.popleft().close()
    return True


def take_port(port: int, flag: str) -> int:
    """The port, if it is free; for 0 a free one, which stays so while nobody listens on it, and is given to nobody else
    who asks here. Raises `PortBusyError`, which names the flag.

    The probe shares nothing: gRPC binds with SO_REUSEPORT, so two coordinators would share a port without a word.
    """
    if not port:
        for candidate in random.sample(LEFT_ALONE, _TRIES):
            try:
                free = take_port(candidate, flag)
            except PortBusyError:
                continue
            if claim(free):
                return free
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

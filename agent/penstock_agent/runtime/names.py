"""The addresses behind a name: a name with several of them stands for several coordinators."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress


async def behind(addresses: list[str]) -> list[str]:
    """host:port of each, in order; a name with several addresses becomes all of them. A name that is not known now
    stays as it is: whoever connects tells why."""
    found: list[str] = []
    for address in addresses:
        found += await _behind(address)
    return list(dict.fromkeys(found))


async def _behind(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    if host == "localhost" or _is_ip(host):
        return [address]
    numbers: list[str] = []
    # A loop that knows no names is one on which nothing is looked up.
    with suppress(OSError, NotImplementedError, UnicodeError):
        infos = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        numbers = sorted({str(info[4][0]) for info in infos})
    if len(numbers) < 2:
        return [address]
    return [f"[{number}]:{port}" if ":" in number else f"{number}:{port}" for number in numbers]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True

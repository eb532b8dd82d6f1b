"""Machines of their own: namespaces of the network, from which some addresses of this one cannot be reached."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

NOBODY = "02:00:00:00:00:77"
FIRST_RULE, LOCAL_RULE = 10, 100
"""Rules of routing: those that lose packets come before the one that delivers them."""


class Near:
    """Addresses of this machine that nobody else has, so many; far machines reach them."""

    def __init__(self, count: int) -> None:
        number = os.getpid() % 16_384
        self.subnet = f"10.{128 + number // 256}.{number % 256}"
        self.addresses = [f"{self.subnet}.{100 + each}" for each in range(count)]

    def __enter__(self) -> Near:
        for address in self.addresses:
            _ip("addr", "add", f"{address}/32", "dev", "lo")
        return self

    def __exit__(self, *_exception: object) -> None:
        for address in self.addresses:
            _quietly("addr", "del", f"{address}/32", "dev", "lo")


class Far:
    """One far machine."""

    def __init__(self, near: Near, number: int) -> None:
        """`number`: from 0 to 9."""
        self.name = f"pf{os.getpid()}-{number}"
        self._link = f"pf{os.getpid() % 100_000}n{number}"
        first = number * 8
        # The last one is nobody's.
        self._this_end, self._own, self._nobody = (f"{near.subnet}.{first + each}" for each in (1, 2, 3))

    def __enter__(self) -> Far:
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
            _ip("netns", "add", self.name)
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "far", "netns", self.name)
            _ip("addr", "add", f"{self._this_end}/29", "dev", self._link)
            _ip("link", "set", self._link, "up")
            self._ip("addr", "add", f"{self._own}/29", "dev", "far")
            for device in ("lo", "far"):
                self._ip("link", "set", device, "up")
            self._ip("route", "add", "default", "via", self._this_end)
            self._ip("neigh", "replace", self._nobody, "lladdr", NOBODY, "dev", "far", "nud", "permanent")
            # Rules of routing can lose what comes in; else it is delivered before any is asked.
            self._ip("rule", "add", "pref", str(LOCAL_RULE), "lookup", "local")
            self._ip("rule", "del", "pref", "0")
            early = "echo 0 > /proc/sys/net/ipv4/ip_early_demux"
            subprocess.run([*self.prefix, "sh", "-c", early], check=True)
            stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        _quietly("netns", "del", self.name)
        _quietly("link", "del", self._link)

    @property
    def prefix(self) -> list[str]:
        """Of a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    @contextlib.contextmanager
    def cut_off(self, address: str, *, says: bool = True, hears: bool = True) -> Iterator[None]:
        """What the machine says to the address is lost without a word, or what comes from there, or both; also of open
        connections."""
        if says:
            self._ip("route", "replace", f"{address}/32", "via", self._nobody)
        if hears:
            self._ip("rule", "add", "pref", str(FIRST_RULE), "from", address, "iif", "far", "blackhole")
        try:
            yield
        finally:
            _quietly("-n", self.name, "route", "del", f"{address}/32")
            _quietly("-n", self.name, "rule", "del", "pref", str(FIRST_RULE))

    def _ip(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _quietly(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], stderr=subprocess.DEVNULL, check=False)

"""Machines of the chaos test's own: network namespaces, with links between them that lose what they are told to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

INSIDE = "PENSTOCK_CHAOS_PLACES"
"""Set in the process that runs inside: the names of the namespaces."""
NOBODY = "02:00:00:00:00:99"
CAN_LOSE = shutil.which("nft") is not None
"""Some of the packets, and not all."""
FIRST_RULE, LOCAL_RULE = 10, 100
"""Rules of routing: those that lose packets come before the one that delivers them; each place has its own number."""


def run_inside(arguments: Sequence[str], far: int) -> int | None:
    """Make one namespace for this test, and `far` others linked to it; run the test in the first, and remove them all.
    Returns its exit code; None if no namespaces can be made here, as without root."""
    main = f"pc{os.getpid()}"
    names = [f"{main}-{number}" for number in range(1, far + 1)]
    try:
        _ip("netns", "add", main)
    except (OSError, subprocess.CalledProcessError):
        return None
    try:
        _ip("-n", main, "link", "set", "lo", "up")
        for number, name in enumerate(names, 1):
            _link(main, name, number)
        for name in (main, *names):
            _route(name)
        command = ["ip", "netns", "exec", main, sys.executable, "-m", "tests.chaos", *arguments]
        inside = subprocess.Popen(command, env={**os.environ, INSIDE: ",".join(names)})
        signal.signal(signal.SIGTERM, lambda *_: inside.terminate())
        try:
            return inside.wait()
        except KeyboardInterrupt:
            return inside.wait()
    finally:
        for name in (*names, main):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def _link(main: str, name: str, number: int) -> None:
    near, far = f"near{number}", f"far{number}"
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", main, "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
    _ip("-n", main, "addr", "add", f"{near_address(number)}/24", "dev", near)
    _ip("-n", name, "addr", "add", f"{far_address(number)}/24", "dev", far)
    _ip("-n", main, "link", "set", near, "up")
    _ip("-n", name, "link", "set", far, "up")
    _ip("-n", name, "route", "add", "default", "via", near_address(number))


def _route(name: str) -> None:
    """Far namespaces reach each other by the first one; rules of routing can lose what comes in, whoever it is for."""
    _ip("-n", name, "rule", "add", "pref", str(LOCAL_RULE), "lookup", "local")
    _ip("-n", name, "rule", "del", "pref", "0")
    # Else what comes for an open connection is not asked about.
    settings = "echo 0 > /proc/sys/net/ipv4/ip_early_demux; echo 1 > /proc/sys/net/ipv4/ip_forward"
    _ip("netns", "exec", name, "sh", "-c", settings)


def far_address(number: int) -> str:
    return f"10.231.{number}.2"


def near_address(number: int) -> str:
    """Where the namespace of that number finds the first one."""
    return f"10.231.{number}.1"


def names() -> list[str]:
    """The far namespaces, in the process that runs inside."""
    return [name for name in os.environ.get(INSIDE, "").split(",") if name]


class Place:
    """One far namespace."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def cut_outgoing(self) -> None:
        """Its packets go astray: it believes that its neighbour has an address that nobody has."""
        _ip("-n", self.name, *_neighbour(near_address(self.number), f"far{self.number}"))

    def cut_incoming(self) -> None:
        """What is sent to it goes astray."""
        _ip(*_neighbour(self._address, f"near{self.number}"))

    def drop(self, incoming: Sequence[Sequence[str]], outgoing: Sequence[Sequence[str]]) -> None:
        """Packets in and out that the selectors (words of `ip rule`) fit vanish, also those of open connections. One
        without words fits all."""
        pref = str(FIRST_RULE + self.number)
        for words in outgoing:
            _ip("rule", "add", "pref", pref, "iif", f"near{self.number}", *words, "blackhole")
        for words in incoming:
            _ip("-n", self.name, "rule", "add", "pref", pref, "iif", f"far{self.number}", *words, "blackhole")

    def lose(self, percent: int) -> None:
        """So much of its packets, in and out."""
        rule = f"numgen random mod 100 < {percent} drop"
        self._nft(
            "add table inet chaos\n"
            "add chain inet chaos input { type filter hook input priority 0; }\n"
            "add chain inet chaos output { type filter hook output priority 0; }\n"
            f"add rule inet chaos input meta iifname != lo {rule}\n"
            f"add rule inet chaos output meta oifname != lo {rule}\n"
        )

    def heal(self) -> None:
        for where, address, device in (
            (["-n", self.name], near_address(self.number), f"far{self.number}"),
            ([], self._address, f"near{self.number}"),
        ):
            command = ["ip", *where, "neigh", "flush", "to", address, "dev", device, "nud", "permanent"]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
            forget = ["ip", *where, "rule", "del", "pref", str(FIRST_RULE + self.number)]
            while subprocess.run(forget, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                pass
        if CAN_LOSE:
            self._nft("add table inet chaos\ndelete table inet chaos\n")

    @property
    def _address(self) -> str:
        return far_address(self.number)

    def _nft(self, rules: str) -> None:
        subprocess.run([*self.prefix, "nft", "-f", "-"], input=rules, text=True, check=True)


def _neighbour(address: str, device: str) -> list[str]:
    return ["neigh", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent"]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)

"""Machines of the chaos test's own: network namespaces, with links between them that lose what they are told to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

INSIDE = "PENSTOCK_CHAOS_PLACES"
"""Set in the process that runs inside: the names of the namespaces."""


def can_be_made() -> bool:
    return os.geteuid() == 0


def run_inside(arguments: Sequence[str], far: int) -> int:
    """Make one namespace for this test, and `far` others linked to it; run the test in the first, and remove them all.
    Returns its exit code."""
    main = f"pc{os.getpid()}"
    names = [f"{main}-{number}" for number in range(1, far + 1)]
    try:
        _ip("netns", "add", main)
        _ip("-n", main, "link", "set", "lo", "up")
        for number, name in enumerate(names, 1):
            _link(main, name, number)
        command = ["ip", "netns", "exec", main, sys.executable, "-m", "tests.chaos", *arguments]
        inside = subprocess.Popen(command, env={**os.environ, INSIDE: ",".join(names)})
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
    _ip("-n", name, "addr", "add", f"10.231.{number}.2/24", "dev", far)
    _ip("-n", main, "link", "set", near, "up")
    _ip("-n", name, "link", "set", far, "up")


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

    def lose(self, percent: int, *, incoming: bool = True, outgoing: bool = True) -> None:
        """So much of its packets, until `heal`."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
        rules = [
            f"add chain inet chaos {hook} {{ type filter hook {hook} priority 0; }}\n" for hook in ("input", "output")
        ]
        wanted = [hook for hook, asked in (("input", incoming), ("output", outgoing)) if asked]
        rules += [f"add rule inet chaos {hook} meta iifname != lo {chance}drop\n" for hook in wanted if hook == "input"]
        rules += [
            f"add rule inet chaos {hook} meta oifname != lo {chance}drop\n" for hook in wanted if hook == "output"
        ]
        self._nft("add table inet chaos\n" + "".join(rules))

    def heal(self) -> None:
        self._nft("add table inet chaos\ndelete table inet chaos\n")

    def _nft(self, rules: str) -> None:
        subprocess.run([*self.prefix, "nft", "-f", "-"], input=rules, text=True, check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)

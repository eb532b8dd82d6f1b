"""Control groups that hold attempts to their memory, in a part of the tree that is this agent's to divide.

Whose part it is is never guessed: a group that was delegated (systemd marks it, or gives it to the agent's user), the
root of a container's own tree, or one that the operator names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock_agent.own_log import OwnLog
from penstock_agent.resources import cgroups

log = OwnLog(__name__)

AUTO, NONE = "auto", "none"
AGENT_GROUP = "penstock-agent"
"""Version 2: a group that divides its memory has no processes of its own, so the agent moves there."""
_MARKS = ("trusted.delegate", "user.delegate")
_SHOWN_OF_KILLS = {2: "memory.events", 1: "memory.oom_control"}
_LIMITS = {2: "memory.max", 1: "memory.limit_in_bytes"}
_HELD = {2: ("anon", "shmem"), 1: ("total_rss", "total_shmem")}


class NoGroups(Exception):
    """Why memory cannot be limited by groups here, for people."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """All processes that are put into it, and all that they start, share one limit."""

    path: Path
    version: int

    def add(self, pid: int) -> None:
        """Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many of its processes the kernel has killed because of its limit."""
        return _counted(self.path / _SHOWN_OF_KILLS[self.version], "oom_kill")

    def held(self) -> int:
        """Bytes, without what is only a cache of files."""
        return sum(_counted(self.path / "memory.stat", name) for name in _HELD[self.version])

    def remove(self) -> None:
        """Nothing runs in it any more. What is busy for another moment is removed at the agent's next start."""
        with suppress(OSError):
            self.path.rmdir()


class MemoryGroups:
    """Below `base`; `prefix` is of this agent's data folder, `boot_id` of this start."""

    def __init__(self, base: Path, version: int, prefix: str, boot_id: str) -> None:
        self.base, self.version = base, version
        self._name = f"penstock-{prefix}-{boot_id[:12]}"
        self._numbers = 0
        for left in base.glob(f"penstock-{prefix}-*"):
            MemoryGroup(left, version).remove()

    def make(self, limit: int) -> MemoryGroup | None:
        """None: it cannot be had, and memory is looked at instead."""
        self._numbers += 1
        group = MemoryGroup(self.base / f"{self._name}-{self._numbers}", self.version)
        try:
            group.path.mkdir()
            (group.path / _LIMITS[self.version]).write_text(str(limit))
            self._without_swap(group.path, limit)
        except OSError as error:
            log.warning("memory_group_not_made", group=group.path.name, reason=str(error))
            group.remove()
            return None
        return group

    def _without_swap(self, path: Path, limit: int) -> None:
        """Where the kernel counts swap. Of version 2, too, what is killed is all of it."""
        wanted = [("memory.memsw.limit_in_bytes", str(limit))]
        if self.version == 2:
            wanted = [("memory.swap.max", "0"), ("memory.oom.group", "1")]
        for name, value in wanted:
            if (path / name).exists():
                (path / name).write_text(value)


def find(wanted: str, prefix: str, boot_id: str, proc: Path = Path("/proc/self")) -> MemoryGroups:
    """`wanted`: auto, none, or the path of a group. Raises `NoGroups`."""
    if wanted == NONE:
        raise NoGroups("PENSTOCK_AGENT_MEMORY_GROUP is none")
    base, version = _own(proc) if wanted == AUTO else _named(Path(wanted))
    try:
        if version == 2:
            _divide(base)
        groups = MemoryGroups(base, version, prefix, boot_id)
        tried = groups.make(1 << 30)
    except OSError as error:
        raise NoGroups(f"the control group {base} cannot be divided: {error.strerror}") from None
    if tried is None:
        raise NoGroups(f"the control group {base} takes no groups below it")
    tried.remove()
    return groups


def _named(path: Path) -> tuple[Path, int]:
    if (path / "memory.limit_in_bytes").exists():
        return path, 1
    if (path / "cgroup.controllers").exists():
        return path, 2
    raise NoGroups(f"PENSTOCK_AGENT_MEMORY_GROUP: {path} is no control group with a memory controller")


def _own(proc: Path) -> tuple[Path, int]:
    why = "no control group of memory is found"
    for path, version in _candidates(proc):
        if not os.access(path / "cgroup.procs", os.W_OK):
            why = f"its control group {path} cannot be written to"
        elif not _is_delegated(path, version):
            why = f"its control group {path} was not delegated to it (systemd: Delegate=yes)"
        else:
            return path, version
    raise NoGroups(f"{why}; PENSTOCK_AGENT_MEMORY_GROUP can name one")


def _candidates(proc: Path) -> Iterator[tuple[Path, int]]:
    for path in cgroups.own_folders(proc):
        if (path / "memory.limit_in_bytes").exists():
            yield path, 1
        elif "memory" in _words(path / "cgroup.controllers"):
            yield path, 2


def _is_delegated(path: Path, version: int) -> bool:
    with suppress(OSError):
        if os.getuid() != 0 and path.stat().st_uid == os.getuid():
            return True
    for mark in _MARKS:
        with suppress(OSError):
            if os.getxattr(path, mark) == b"1":
                return True
    # Of a container: the machine's own root has no events.
    return version == 2 and (path / "cgroup.events").exists() and not (path.parent / "cgroup.controllers").exists()


def _divide(base: Path) -> None:
    """Version 2: the groups below may limit memory. Raises OSError."""
    if "memory" in _words(base / "cgroup.subtree_control"):
        return
    if str(os.getpid()) in _words(base / "cgroup.procs"):
        own = base / AGENT_GROUP
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))
    (base / "cgroup.subtree_control").write_text("+memory")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _counted(path: Path, name: str) -> int:
    words = _words(path)
    with suppress(ValueError, IndexError):
        return int(words[words.index(name) + 1])
    return 0

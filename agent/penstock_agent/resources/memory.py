"""How much memory trees of processes hold, and whether the kernel has killed for lack of it.

What a tree holds is the sum of what its processes hold. Pages that several of them share are counted once, but that
takes long to find out: it is asked for only where the plain sum is over the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_agent.resources.memory_groups import MemoryGroup

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Watched:
    """One attempt's tree."""

    root: int
    limit: int
    """Bytes; 0: none."""
    with_root: bool
    """The root runs the step itself; or else it is the agent's own, and only what it has started counts."""
    contained: bool = False
    """Only what runs in a container counts: not the engine's own processes."""
    group: MemoryGroup | None = None
    """The kernel holds it to its limit."""


def held(watched: Iterable[Watched]) -> list[int]:
    """Bytes that each tree holds now, in their order. Blocks for some milliseconds."""
    asked = list(watched)
    children = _children() if any(each.group is None for each in asked) else {}
    return [_held_by(each, _counted(each, children)) if each.group is None else _past(each) for each in asked]


def _past(watched: Watched) -> int:
    """More than the limit, once the kernel has killed for it: the others of the tree are to follow."""
    assert watched.group is not None
    held = watched.group.held()
    return max(held, watched.limit + 1) if watched.group.kills() else min(held, watched.limit)


def resident(pid: int) -> int:
    """Bytes of one process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _held_by(watched: Watched, tree: list[int]) -> int:
    plain = sum(map(resident, tree))
    if plain <= watched.limit:
        return plain
    if not watched.with_root:
        tree = [pid for pid in tree if not _is_copy(pid, watched.root)]
    return sum(map(_proportional if len(tree) > 1 else resident, tree))


def _is_copy(pid: int, root: int) -> bool:
    """It is about to become what the root starts. Until then what it holds is the root's, which does not count."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{root}/cmdline").read_bytes()
    return False


def _proportional(pid: int) -> int:
    """Of a shared page each of those who share it has its part. Where that is not told, all of it."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return resident(pid)


def _counted(watched: Watched, children: Mapping[int, list[int]]) -> list[int]:
    tree = _tree(watched, children)
    return [pid for pid in tree if _is_contained(pid)] if watched.contained else tree


def _is_contained(pid: int) -> bool:
    """It numbers its processes for itself. What is gone is not."""
    with suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - many
    return False


def _tree(watched: Watched, children: Mapping[int, list[int]]) -> list[int]:
    found = [watched.root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found if watched.with_root else found[1:]


def _children() -> dict[int, list[int]]:
    """By parent, of all processes that can be seen."""
    found: dict[int, list[int]] = {}
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with suppress(OSError, IndexError, ValueError):
                    stat = Path(entry.path, "stat").read_bytes()
                    # The name may hold anything, also brackets and blanks.
                    found.setdefault(int(stat.rpartition(b")")[2].split()[1]), []).append(int(entry.name))
    return found


class KernelKills:
    """Tells whether the kernel has killed a process for lack of memory just now: in this machine or container, by its
    count of such kills. `note` is called about once a second."""

    def __init__(self, counts: Path = Path("/proc/vmstat")) -> None:
        self._counts = counts
        self._before = self._last = self._read()

    def note(self) -> None:
        self._before, self._last = self._last, self._read()

    def lately(self) -> bool:
        """Since the last call of `note` but one."""
        return self._read() > self._before

    def _read(self) -> int:
        with suppress(OSError, ValueError):
            for line in self._counts.read_bytes().splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
        return 0

"""What the control groups of this process leave it of the machine: version 2, version 1, or both beside each other.

A limit counts from wherever it stands on the way up to the root of what can be seen: in a container that root is the
container's own group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 has no word for it, but a number of pages that no machine has."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no group limits it."""

    cpu: float | None = None
    """Cores."""
    memory_bytes: int | None = None


def limits(proc: Path = Path("/proc/self")) -> Limits:
    """The tightest of each. What cannot be read limits nothing."""
    cpus: list[float] = []
    memories: list[int] = []
    for folder in _folders(proc):
        for found in (_quota_of_two(folder), _quota_of_one(folder)):
            if found is not None:
                cpus.append(found)
        for name in ("memory.max", "memory.limit_in_bytes"):
            number = _number(folder / name)
            if number is not None and number < _NO_LIMIT:
                memories.append(number)
    return Limits(min(cpus, default=None), min(memories, default=None))


def own_folders(proc: Path) -> Iterator[Path]:
    """Of each group that the process is in, its folder."""
    mounts = list(_mounts(proc))
    for controllers, path in _groups(proc):
        for at, root, options in mounts:
            if _is_mount_of(controllers, options):
                yield at / _below(path, root)


def _is_mount_of(controllers: set[str], options: set[str]) -> bool:
    return controllers <= options and bool(controllers) is not (options == {"cgroup2"})


def _folders(proc: Path) -> Iterator[Path]:
    """Of all groups that the process is in, each from its own folder up to where its tree is mounted."""
    mounts = list(_mounts(proc))
    for controllers, path in _groups(proc):
        for at, root, options in mounts:
            if _is_mount_of(controllers, options):
                yield from _upwards(at, _below(path, root))


def _groups(proc: Path) -> Iterator[tuple[set[str], str]]:
    """(controllers, path); version 2 has no controllers to name."""
    for line in _lines(proc / "cgroup"):
        _, names, path = line.split(":", 2)
        yield {name for name in names.split(",") if name}, path


def _mounts(proc: Path) -> Iterator[tuple[Path, str, set[str]]]:
    """(where, which group is its root, the options of version 1 or "cgroup2")"""
    for line in _lines(proc / "mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = [*rest.split(" ", 2), "", ""][:3]
        if kind in ("cgroup", "cgroup2"):
            root, at = fields.split(" ")[3:5]
            yield Path(at), root, {"cgroup2"} if kind == "cgroup2" else set(options.split(","))


def _below(path: str, root: str) -> Path:
    """The group's path under the mount; a group outside of it is taken for its root."""
    with suppress(ValueError):
        return Path(path).relative_to(root)
    return Path()


def _upwards(at: Path, below: Path) -> Iterator[Path]:
    folder = at / below
    yield folder
    while folder != at:
        folder = folder.parent
        yield folder


def _quota_of_two(folder: Path) -> float | None:
    for line in _lines(folder / "cpu.max"):
        quota, _, period = line.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return None


def _quota_of_one(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None


def _number(path: Path) -> int | None:
    for line in _lines(path):
        with suppress(ValueError):
            return int(line)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []

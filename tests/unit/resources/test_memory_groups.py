"""Which control group an agent may divide, and what it writes there: in folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock_agent.resources.memory_groups import AGENT_GROUP, MemoryGroup, MemoryGroups, NoGroups, find


def tree(folder: Path, version: int, path: str = "/unit", **files: str) -> Path:
    """A process in that group: what `find` is told in place of /proc/self."""
    mount, proc = folder / "cgroup", folder / "proc"
    group = mount / path[1:]
    group.mkdir(parents=True)
    proc.mkdir()
    (mount / "cgroup.controllers").write_text("memory\n") if version == 2 else None
    kind, controllers = ("cgroup2", "") if version == 2 else ("cgroup", "memory")
    (proc / "mountinfo").write_text(f"1 1 0:1 / {mount} rw - {kind} {kind} rw,{controllers}\n")
    (proc / "cgroup").write_text(f"{0 if version == 2 else 4}:{controllers}:{path}\n")
    defaults = {"cgroup.procs": f"{os.getpid()}\n"}
    if version == 2:
        defaults |= {"cgroup.controllers": "cpu memory\n", "cgroup.subtree_control": "\n", "cgroup.events": ""}
    else:
        defaults |= {"memory.limit_in_bytes": "9223372036854771712\n"}
    for name, text in (defaults | files).items():
        (group / name).write_text(text)
    return proc


def delegate(group: Path) -> None:
    os.setxattr(group, "trusted.delegate" if os.getuid() == 0 else "user.delegate", b"1")


def test_version_two_is_divided_if_it_is_delegated(tmp_path: Path) -> None:
    proc = tree(tmp_path, 2)
    unit = tmp_path / "cgroup" / "unit"
    if os.getuid() == 0:
        with pytest.raises(NoGroups, match="was not delegated to it"):
            find("auto", "aa", "b" * 32, proc)
        delegate(unit)
    groups = find("auto", "aa", "b" * 32, proc)
    assert (groups.base, groups.version) == (unit, 2)
    assert (unit / AGENT_GROUP / "cgroup.procs").read_text() == str(os.getpid()), "it has no processes of its own"
    assert (unit / "cgroup.subtree_control").read_text() == "+memory"
    group = groups.make(64 << 20)
    assert group is not None
    assert group.path.name.startswith("penstock-aa-bbbbbbbbbbbb-")
    assert (group.path / "memory.max").read_text() == str(64 << 20)


def test_version_one_is_divided_if_it_is_named(tmp_path: Path) -> None:
    tree(tmp_path, 1)
    unit = tmp_path / "cgroup" / "unit"
    groups = find(str(unit), "aa", "b" * 32)
    group = groups.make(64 << 20)
    assert group is not None
    assert (groups.version, (group.path / "memory.limit_in_bytes").read_text()) == (1, str(64 << 20))
    with pytest.raises(NoGroups, match="is no control group with a memory controller"):
        find(str(tmp_path), "aa", "b" * 32)
    with pytest.raises(NoGroups, match="is none"):
        find("none", "aa", "b" * 32)


def test_a_group_without_the_controller_is_none(tmp_path: Path) -> None:
    proc = tree(tmp_path, 2, **{"cgroup.controllers": "cpu\n"})
    with pytest.raises(NoGroups, match="no control group of memory is found"):
        find("auto", "aa", "b" * 32, proc)


def test_the_kernels_counts_are_read(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n")
    (tmp_path / "memory.stat").write_text("anon 1000\nfile 5000\nshmem 24\n")
    two = MemoryGroup(tmp_path, 2)
    assert (two.kills(), two.held()) == (3, 1024)
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    (tmp_path / "memory.stat").write_text("cache 9\nrss 1\ntotal_cache 5000\ntotal_rss 100\ntotal_shmem 28\n")
    one = MemoryGroup(tmp_path, 1)
    assert (one.kills(), one.held()) == (4, 128)
    gone = MemoryGroup(tmp_path / "gone", 2)
    assert (gone.kills(), gone.held()) == (0, 0)


def test_what_a_former_start_left_is_removed(tmp_path: Path) -> None:
    for name in ("penstock-aa-old-1", "penstock-bb-old-1", "other"):
        (tmp_path / name).mkdir()
    MemoryGroups(tmp_path, 2, "aa", "b" * 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "penstock-bb-old-1"]

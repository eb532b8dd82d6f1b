"""What the agent finds on its machine, in its control groups and in its environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock_agent.resources import cgroups, gpus, machine
from penstock_agent.settings import AgentSettings


class Groups:
    """The files in which the kernel tells of control groups."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.tree = folder / "proc", folder / "tree"
        self.proc.mkdir()
        self.tree.mkdir()
        self._groups: list[str] = []
        self._mounts: list[str] = []

    def two(self, path: str, **files: str) -> None:
        self._groups.append(f"0::{path}")
        self._mounts.append(f"30 23 0:26 / {self.tree} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate")
        self.write(path, files)

    def one(self, controller: str, path: str, root: str = "/", **files: str) -> None:
        at = self.tree / controller
        self._groups.append(f"4:{controller}:{path}")
        self._mounts.append(f"31 23 0:27 {root} {at} rw - cgroup cgroup rw,{controller}")
        self.write(f"{controller}/{path}", files)

    def write(self, path: str, files: dict[str, str]) -> None:
        folder = self.tree / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(f"{text}\n")
        (self.proc / "cgroup").write_text("\n".join(self._groups))
        (self.proc / "mountinfo").write_text("\n".join(self._mounts))


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_the_tightest_group_on_the_way_up_counts(groups: Groups) -> None:
    groups.two("/a/b", cpu__max="max 100000", memory__max="3000")
    groups.write("/a", {"cpu__max": "150000 100000", "memory__max": "2000"})
    assert cgroups.limits(groups.proc) == cgroups.Limits(1.5, 2000)


def test_no_limit_is_none(groups: Groups) -> None:
    groups.two("/a", cpu__max="max 100000", memory__max="max")
    assert cgroups.limits(groups.proc) == cgroups.Limits()


def test_the_first_version_has_a_tree_for_each_controller(groups: Groups) -> None:
    groups.one("cpu", "/x", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    groups.one("memory", "/y", memory__limit_in_bytes=str(1 << 30))
    assert cgroups.limits(groups.proc) == cgroups.Limits(0.5, 1 << 30)


def test_the_first_version_says_no_limit_by_numbers(groups: Groups) -> None:
    groups.one("cpu", "/x", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    groups.one("memory", "/y", memory__limit_in_bytes="9223372036854771712")
    assert cgroups.limits(groups.proc) == cgroups.Limits()


def test_a_container_sees_its_own_group_as_the_root(groups: Groups) -> None:
    groups.one("memory", "/docker/0f0f", root="/docker/0f0f")
    groups.write("memory", {"memory__limit_in_bytes": "7000"})
    assert cgroups.limits(groups.proc).memory_bytes == 7000


def test_what_cannot_be_read_limits_nothing(tmp_path: Path) -> None:
    assert cgroups.limits(tmp_path) == cgroups.Limits()


def program(folder: Path, script: str) -> dict[str, str]:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_devices_are_those_that_nvidia_smi_lists(tmp_path: Path) -> None:
    assert gpus.found(program(tmp_path, "printf '0\\n1\\n'"), tmp_path / "none") == ("0", "1")


def test_where_it_fails_the_driver_is_asked(tmp_path: Path) -> None:
    driver = tmp_path / "gpus"
    (driver / "0000:3b:00.0").mkdir(parents=True)
    assert gpus.found(program(tmp_path, "echo no driver; exit 9"), driver) == ("0",)


def test_the_agents_own_environment_says_which_it_may_use(tmp_path: Path) -> None:
    environment = program(tmp_path, "printf '0\\n1\\n'") | {"CUDA_VISIBLE_DEVICES": "1, GPU-aa,-1,3"}
    assert gpus.found(environment, tmp_path) == ("1", "GPU-aa")


def test_no_program_and_no_driver_is_no_device(tmp_path: Path) -> None:
    assert gpus.found({"PATH": str(tmp_path)}, tmp_path / "none") == ()


def test_what_is_declared_wins_over_what_is_found() -> None:
    look = machine.look({"cpu": 0.5, "licence": 3.0}, ("2", "3"))
    assert (look.resources["cpu"], look.resources["licence"], look.resources["gpu"]) == (0.5, 3.0, 2.0)
    assert look.devices == ("2", "3")
    assert look.resources["memory_bytes"] >= 1 << 20


@pytest.mark.parametrize(
    ("gpu", "named", "expected"),
    [(1.0, ("4", "5"), ("4",)), (3.0, ("1",), ("1", "0", "2")), (0.0, ("1",), ()), (1.5, (), ("0", "1"))],
)
def test_there_are_as_many_devices_as_are_announced(
    gpu: float, named: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert machine.look({"gpu": gpu}, named).devices == expected


def test_settings_name_devices() -> None:
    assert AgentSettings(gpus="1,3").devices == ("1", "3")
    assert AgentSettings(gpus="none").devices == ()
    assert AgentSettings().devices is None


@pytest.mark.parametrize("number", ["-1", "nan", "inf"])
def test_a_resource_is_a_number_that_can_be_given(number: str) -> None:
    with pytest.raises(ValidationError, match="use a number that is 0 or more"):
        AgentSettings(resources=[f"gpu={number}"])  # type: ignore[arg-type]  # as the command line gives it

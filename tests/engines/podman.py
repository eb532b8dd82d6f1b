"""The Podman of this machine, where it has one that can run containers: with storage, settings and images of the test's
own, and in a mount namespace in which its runtime finds control groups that it understands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path

IMAGE = "localhost/penstock-test:1"
"""Has a shell and this machine's Python."""
BARE_IMAGE = "localhost/penstock-bare:1"
"""Has a shell and no Python."""
_CONFIGURATION = """
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
_PROGRAMS = (
    "/bin/sh",
    "/bin/cat",
    "/bin/sleep",
    "/bin/ls",
    "/usr/bin/id",
    "/usr/bin/env",
    "/bin/ln",
    "/usr/bin/printf",
)
_UNSHARE = (
    "unshare", "--mount", "--propagation", "private", "sh", "-c",
    "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec \"$@\"", "sh",
)  # fmt: skip


def prefix() -> tuple[str, ...]:
    """What a program that calls Podman is to be started with."""
    return _UNSHARE


def variables(folder: Path) -> dict[str, str]:
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "PENSTOCK_CONTAINER_ENGINE": "podman",
    }


def set_up(folder: Path) -> None:
    """CalledProcessError, OSError: Podman cannot run here."""
    (folder / "containers.conf").write_text(_CONFIGURATION)
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    _import(folder, BARE_IMAGE, _base(folder / "bare"))
    python = _base(folder / "python")
    _add_python(python)
    _import(folder, IMAGE, python)
    call(folder, "run", "--rm", IMAGE, "python3", "-c", "pass")


def call(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*_UNSHARE, "podman", *arguments],
        env={**os.environ, **variables(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout


@cache
def is_here() -> bool:
    """Podman is installed, and may do what it needs: root in a machine of its own."""
    return shutil.which("podman") is not None and os.getuid() == 0 and _can_unshare()


def _can_unshare() -> bool:
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def _import(folder: Path, name: str, root: Path) -> None:
    archive = root.with_suffix(".tar")
    with tarfile.open(archive, "w") as file:
        file.add(root, arcname=".")
    path = f"{Path(sys.base_prefix, 'bin')}:/usr/local/bin:/usr/bin:/bin"
    call(folder, "import", "--change", f"ENV=PATH={path}", str(archive), name)
    archive.unlink()
    shutil.rmtree(root)


def _base(root: Path) -> Path:
    (root / "tmp").mkdir(parents=True)
    for program in _PROGRAMS:
        _copy(root, Path(program))
    return root


def _add_python(root: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sys.base_prefix, "lib", version)
    skipped = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "idlelib", "tkinter", "config-*")
    shutil.copytree(library, root / str(library)[1:], ignore=skipped, symlinks=True)
    for module in library.glob("lib-dynload/*.so"):
        _copy_libraries(root, module)
    program = Path(sys.base_prefix, "bin", version)
    _copy(root, program)
    (root / str(program)[1:]).with_name("python3").symlink_to(version)


def _copy(root: Path, program: Path) -> None:
    target = root / str(program)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    _copy_libraries(root, program)


def _copy_libraries(root: Path, program: Path) -> None:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    for word in said.split():
        target = root / word[1:]
        if word.startswith("/") and not word.endswith(":") and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(word, target)

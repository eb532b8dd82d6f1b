"""The files of a source tree that go into its bundle."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.bundle.exclusions import IgnoreRules, is_left_out, rules_of
from penstock.errors import BundleError
from penstock.quantities import format_size

MAX_FILES = 20_000
MAX_BYTES = 64 * 2**20
_NAMED = 5

IGNORE_REMEDY = "name it in .penstockignore (same form as .gitignore)"


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file to ship. `name` is its path from the root with '/'."""

    name: str
    path: Path
    size: int
    executable: bool


def list_files(root: Path) -> list[TreeFile]:
    """In the order of their names' bytes. Sockets, pipes and devices are left out. BundleError past a limit."""
    files: list[TreeFile] = []
    pending: list[tuple[Path, IgnoreRules]] = [(root, rules_of(root))]
    while pending:
        folder, rules = pending.pop()
        for entry in _scan(folder):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if not is_left_out(path) and not rules.ignores(path, is_folder=True):
                    pending.append((path, rules.within(path)))
            elif entry.is_symlink() and is_left_out(path):
                continue
            elif not rules.ignores(path, is_folder=False):
                file = _tree_file(root, path, entry)
                if file is not None:
                    files.append(file)
        if len(files) > MAX_FILES:
            raise _too_many(root, files)
    _check_bytes(root, files)
    _tell_apart(files)
    return sorted(files, key=lambda file: file.name.encode())


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BundleError(
            f"the folder cannot be read: {error.strerror}", field=str(folder), remedy=IGNORE_REMEDY
        ) from error


def _tree_file(root: Path, path: Path, entry: os.DirEntry[str]) -> TreeFile | None:
    name = _name(root, path)
    if entry.is_symlink():
        path = _follow(root, path, name)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return None
    return TreeFile(name, path, status.st_size, bool(status.st_mode & 0o111))


def _name(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BundleError("the name of the file is no UTF-8", field=repr(name), remedy="rename it") from None
    return name


def _follow(root: Path, path: Path, name: str) -> Path:
    """A link to a file of the tree is shipped as that file; every other link is refused."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise BundleError("the symbolic link leads nowhere", field=name, remedy=IGNORE_REMEDY) from None
    if not target.is_relative_to(root):
        raise BundleError(f"the symbolic link leads out of the tree, to {target}", field=name, remedy=IGNORE_REMEDY)
    if target.is_dir():
        raise BundleError("the symbolic link leads to a folder", field=name, remedy=IGNORE_REMEDY)
    return target


def _too_many(root: Path, files: list[TreeFile]) -> BundleError:
    folders = Counter(file.name.rpartition("/")[0] or "." for file in files)
    fullest = ", ".join(f"{name} ({count:,})" for name, count in folders.most_common(_NAMED))
    return BundleError(
        f"{root} holds more than {MAX_FILES:,} files; most are in: {fullest}",
        field="bundle",
        remedy="name what the steps do not need in .penstockignore, or put one into the folder to ship",
    )


def _tell_apart(files: list[TreeFile]) -> None:
    """No two names may be one file where a file system looks at neither case nor the form of Unicode."""
    seen: dict[str, str] = {}
    for name in sorted({part for file in files for part in _and_parents(file.name)}):
        other = seen.setdefault(_folded(name), name)
        if other != name:
            raise BundleError(
                f"{other!r} has the same name on machines that do not tell them apart by case or Unicode form",
                field=name,
                remedy=f"rename one of them, or {IGNORE_REMEDY}",
            )


def _and_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition("/")[0]


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())


def _check_bytes(root: Path, files: list[TreeFile]) -> None:
    total = sum(file.size for file in files)
    if total <= MAX_BYTES:
        return
    largest = sorted(files, key=lambda file: (-file.size, file.name))[:_NAMED]
    listed = ", ".join(f"{file.name} ({format_size(file.size)})" for file in largest)
    raise BundleError(
        f"{root} holds {format_size(total)}, and a bundle at most {format_size(MAX_BYTES)}; the largest: {listed}",
        field="bundle",
        remedy="name what the steps do not need in .penstockignore, or put one into the folder to ship",
    )

"""A bundle: a source tree as a gzip-compressed tar archive whose bytes depend on the tree alone.

Names are sorted; owners, times and all of the mode but the x bit are fixed. The gzip stream holds stored blocks,
written here: what a compressor makes of the same input differs between builds of zlib, and then the same tree
would be another bundle, and another version of the pipeline, on another machine.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from penstock.bundle.layout import SCRIPT_FOLDER_INIT
from penstock.bundle.tree import MAX_BYTES, TreeFile, list_files
from penstock.errors import BundleError
from penstock.quantities import format_size

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK = 0xFFFF


@dataclass(frozen=True, slots=True)
class Bundle:
    """`digest` is the hex SHA-256 of `data`."""

    root: Path
    digest: str
    data: bytes
    file_count: int
    names: frozenset[str] = frozenset()
    """Of its files, from the root with '/'."""


def build_bundle(root: Path, script_folders: Iterable[Path] = ()) -> Bundle:
    """The bundle of the tree below `root`; `script_folders` (relative) get a generated `__init__.py`.

    BundleError: a link leads out of the tree, a file cannot be read, or a limit is passed (20,000 files, 64 MiB).
    """
    root = root.resolve()
    files = list_files(root)
    if not files:
        raise BundleError("the folder holds no file to ship", field=str(root), remedy="check .penstockignore")
    generated = {(folder / "__init__.py").as_posix(): SCRIPT_FOLDER_INIT for folder in script_folders}
    data = _gzip(_tar(files, generated))
    if len(data) > MAX_BYTES:
        raise BundleError(
            f"the archive has {format_size(len(data))}, and a bundle at most {format_size(MAX_BYTES)}",
            field="bundle",
            remedy="name what the steps do not need in .penstockignore",
        )
    names = frozenset(file.name for file in files) | frozenset(generated)
    return Bundle(root, hashlib.sha256(data).hexdigest(), data, len(files) + len(generated), names)


def _tar(files: list[TreeFile], generated: dict[str, bytes]) -> bytes:
    shipped = {file.name: file for file in files if file.name not in generated}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted([*shipped, *generated], key=str.encode):
            file = shipped.get(name)
            content = _read(file) if file else generated[name]
            header = _header(name, len(content), file is not None and file.executable)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def _read(file: TreeFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"the file cannot be read: {error.strerror}",
            field=file.name,
            remedy="make it readable, or name it in .penstockignore",
        ) from error


def _header(name: str, size: int, executable: bool) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o755 if executable else 0o644
    return header


def _gzip(data: bytes) -> bytes:
    parts = [_GZIP_HEADER]
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        parts.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF))
        parts.append(block)
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)

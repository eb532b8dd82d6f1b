"""Files and folders of an attempt on their way out: put aside, measured, named by their digest.

What lies in the attempt's own folder is moved; anything else may change under its owner's hands, and is copied.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from penstock_agent.executors.channel import Produced
from penstock_agent.executors.references import KEY
from penstock_agent.executors.worker.packing import Unpackable, pack

PIECE = 1 << 20
MOST_ARTIFACTS = 1_000
"""Of one attempt."""
DEFAULT_MEDIA_TYPE = "application/octet-stream"


class BadArtifact(Exception):
    """What a step declared cannot be stored: says what and why."""


class Outgoing:
    """Of one attempt: `folder` is made when the first file goes there, and is the agent's from then on."""

    def __init__(self, folder: Path, work_dir: Path) -> None:
        self._folder = folder
        self._work_dir = work_dir
        self._moved: dict[str, dict[str, Any]] = {}
        self._written = 0
        self.produced: list[Produced] = []

    def discard(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, path: Path, kind: str, name: str, media_type: str = "", metadata: bytes = b"") -> dict[str, Any]:
        """The reference to a file or folder of the step. Raises `BadArtifact`."""
        real = os.path.realpath(path)
        former = self._moved.get(real)
        if former is not None:
            return former
        try:
            target, digest, size = self._take_folder(Path(real)) if kind == "dir" else self._take_file(Path(real))
        except OSError as error:
            raise BadArtifact(f"the {_WORDS[kind]} {str(path)!r} cannot be kept: {error.strerror or error}") from None
        media = media_type or (mimetypes.guess_type(name)[0] if kind == "file" else None) or _MEDIA_TYPES[kind]
        reference = self._add(Produced(str(target), name, digest, size, media, kind, "", metadata))
        self._moved[real] = reference
        return reference

    def write(
        self,
        write: Callable[[Path], None],
        *,
        codec: str,
        media_type: str,
        name: str = "",
        suffix: str = "",
        metadata: bytes = b"",
    ) -> dict[str, Any]:
        """The reference to a value; `write` puts it into a file. Raises what `write` raises, and `BadArtifact`."""
        target = self._new_file()
        write(target)
        digest, size = _hash(target)
        self._written += 1
        number = "" if self._written == 1 else f"-{self._written}"
        given = name or f"output{number}{suffix}"
        return self._add(Produced(str(target), given, digest, size, media_type, "value", codec, metadata))

    def _add(self, produced: Produced) -> dict[str, Any]:
        if len(self.produced) >= MOST_ARTIFACTS:
            raise BadArtifact(f"the output has more than {MOST_ARTIFACTS:,} artifacts; return a folder (Artifact.dir)")
        self.produced.append(produced)
        return reference_to(produced)

    def _new_file(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / str(len(self.produced))

    def _take_file(self, source: Path) -> tuple[Path, str, int]:
        if not stat.S_ISREG(source.stat().st_mode):
            raise BadArtifact(f"{str(source)!r} is no regular file; a folder is declared as one (Artifact.dir)")
        target = self._new_file()
        if source.is_relative_to(os.path.realpath(self._work_dir)):
            # In a container the two folders are mounted one by one, and nothing is renamed from one mount to another.
            with suppress(OSError):
                source.rename(target)
                return target, *_hash(target)
        with source.open("rb") as content, target.open("wb") as file:
            copy = _HashingWriter(file)
            shutil.copyfileobj(content, copy, PIECE)
        return target, copy.digest, copy.size

    def _take_folder(self, source: Path) -> tuple[Path, str, int]:
        if not source.is_dir():
            raise BadArtifact(f"{str(source)!r} is no folder")
        target = self._new_file()
        with target.open("wb") as file:
            archive = _HashingWriter(file)
            try:
                pack(source, archive)  # type: ignore[arg-type]  # it writes to it and nothing else
            except Unpackable as error:
                raise BadArtifact(f"the folder {str(source)!r} cannot be kept: {error}") from None
        return target, archive.digest, archive.size


_WORDS = {"file": "file", "dir": "folder"}
_MEDIA_TYPES = {"file": DEFAULT_MEDIA_TYPE, "dir": "application/x-tar"}


def reference_to(produced: Produced) -> dict[str, Any]:
    said: dict[str, Any] = {
        "digest": produced.digest,
        "size": produced.size,
        "media_type": produced.media_type,
        "kind": produced.kind,
        "name": produced.name,
    }
    if produced.codec:
        said["codec"] = produced.codec
    if produced.metadata:
        said["metadata"] = msgspec.json.decode(produced.metadata)
    return {KEY: said}


class _HashingWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _hash(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"sha256:{digest}", file.tell()

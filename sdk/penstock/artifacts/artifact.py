"""`Artifact`: what a step returns to keep a file, a folder or a value, and what the next step gets."""

from __future__ import annotations

import json
import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

from penstock.artifacts.codecs import codec_for_file, codec_named
from penstock.errors import ArtifactError

Kind = Literal["value", "file", "dir"]

LONGEST_NAME = 255
MOST_METADATA_BYTES = 16 * 1024


class Artifact:
    """A file or folder with a name, a media type and metadata.

    Made with `Artifact.file`, `Artifact.dir` or `Artifact.value` and returned from a step, alone or anywhere inside
    lists and dicts. A step that gets it as an input finds a read-only copy at `path`; `digest` and `size` are known
    then. Immutable; two are equal if they have the same digest, or else the same source.
    """

    __slots__ = ("_codec", "_digest", "_kind", "_media_type", "_metadata", "_name", "_path", "_size", "_value")

    def __init__(
        self,
        kind: Kind,
        *,
        path: Path | None = None,
        value: Any = None,
        codec: str = "",
        name: str = "",
        media_type: str = "",
        metadata: Mapping[str, Any] | None = None,
        digest: str = "",
        size: int | None = None,
    ) -> None:
        """Use `file`, `dir` and `value` instead."""
        self._kind: Kind = kind
        self._path = path
        self._value = value
        self._codec = codec
        self._name = _check_name(name)
        self._media_type = media_type
        self._metadata = _check_metadata(metadata)
        self._digest = digest
        self._size = size

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str = "",
        media_type: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """A file that exists when the step returns. `name`: the file's own if not given. `media_type`: guessed from
        the name if not given. A file in the attempt's working folder is taken away from there; any other is copied.
        """
        where = Path(path)
        given = name or where.name
        guessed = media_type or mimetypes.guess_type(given)[0] or "application/octet-stream"
        return cls("file", path=where, name=given, media_type=guessed, metadata=metadata)

    @classmethod
    def dir(
        cls, path: str | os.PathLike[str], *, name: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Artifact:
        """A folder, kept as one tar archive of its files, folders and links that stay inside. The same content gives
        the same digest, whatever the times and owners of the files are."""
        where = Path(path)
        given = name or Path(os.path.abspath(where)).name  # noqa: PTH100 - links in it keep their names
        return cls("dir", path=where, name=given, media_type="application/x-tar", metadata=metadata)

    @classmethod
    def value(
        cls, value: Any, *, codec: str = "", name: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Artifact:
        """A value that goes to the store whatever its size; the next step gets the value itself. `codec`: that of its
        type if not given, else "json". "pickle" only where the pipeline allows it (`allow_pickle`)."""
        if codec:
            codec_named(codec)
        return cls("value", value=value, codec=codec, name=name, metadata=metadata)

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def name(self) -> str:
        return self._name

    @property
    def media_type(self) -> str:
        return self._media_type

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self._metadata)

    @property
    def digest(self) -> str:
        """ "sha256:" and 64 hex digits. Empty as long as it is not stored: the step that makes it has not returned."""
        return self._digest

    @property
    def size(self) -> int | None:
        """In bytes; of a folder: of its archive. None as long as it is not stored."""
        return self._size

    @property
    def path(self) -> Path:
        """Of the file or folder on this machine. An input is there as long as the attempt lasts, read-only."""
        if self._path is None:
            raise ArtifactError(
                f"the bytes of {self!r} are not on this machine", remedy="take it as an input of a step"
            )
        return self._path

    def open(self, mode: Literal["r", "rb"] = "rb", encoding: str | None = None) -> IO[Any]:
        """The file, for reading. OSError as `open` has it."""
        if mode not in ("r", "rb"):
            raise ArtifactError(
                f"mode {mode!r} would change an artifact", remedy="write another file and return Artifact.file(path)"
            )
        if self._kind == "dir":
            raise ArtifactError(f"{self!r} is a folder", remedy="open the files below its .path")
        return self.path.open(mode, encoding=encoding or ("utf-8" if mode == "r" else None))

    def load(self, codec: str = "") -> Any:
        """The content as a value: by `codec`, else by the ending of the name (.json, .csv and .txt as text, .npy,
        .parquet as a pandas DataFrame), else bytes. Never a pickle. ArtifactError for a folder."""
        if self._kind == "dir":
            raise ArtifactError(f"{self!r} is a folder", remedy="load the files below its .path")
        if codec == "pickle":
            raise ArtifactError(
                "a file is never loaded as a pickle", remedy='return Artifact.value(value, codec="pickle") instead'
            )
        chosen = codec_named(codec) if codec else codec_for_file(self._name)
        return chosen.read(self.path)

    def penstock_declaration(self) -> dict[str, Any]:
        """What the worker that runs the step needs to store it."""
        return {
            "kind": self._kind,
            "path": self._path,
            "value": self._value,
            "codec": self._codec,
            "name": self._name,
            "media_type": self._media_type,
            "metadata": self._metadata,
            "digest": self._digest,
            "size": self._size,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Artifact):
            return NotImplemented
        if self._digest or other._digest:
            return self._digest == other._digest
        return self._kind == other._kind and self._path == other._path and self._value is other._value

    def __hash__(self) -> int:
        return hash(self._digest or (self._kind, self._path, id(self._value)))

    def __repr__(self) -> str:
        details = [repr(self._name)] if self._name else []
        details += [f"{self._size:,} bytes"] if self._size is not None else []
        details += [self._digest[:19]] if self._digest else []
        return f"<Artifact {self._kind}{' ' if details else ''}{', '.join(details)}>"


def _check_name(name: str) -> str:
    plain = name not in (".", "..") and not any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in name)
    if not plain or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise ArtifactError(
            f"{name[:300]!r} is no name of an artifact",
            remedy=f"use one part of a path, of at most {LONGEST_NAME} bytes",
        )
    return name


def _check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    if not metadata:
        return {}
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"metadata has no JSON form: {error}", remedy="use text, numbers, lists and dicts"
        ) from None
    if '"$artifact"' in text:
        raise ArtifactError("metadata has the key '$artifact', which is Penstock's own", remedy="rename the key")
    if len(text) > MOST_METADATA_BYTES:
        raise ArtifactError(f"metadata has {len(text):,} bytes", remedy=f"at most {MOST_METADATA_BYTES:,} are kept")
    return dict(json.loads(text))

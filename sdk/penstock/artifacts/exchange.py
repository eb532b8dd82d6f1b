"""What the worker that runs a step asks of this library: it loads this module by its name, and neither side imports
the other.

Both functions raise `ArtifactError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.artifacts.artifact import Artifact
from penstock.artifacts.codecs import PICKLE, Codec, codec_named, codec_of
from penstock.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Declaration:
    """Something to be stored: a file or folder at `path`, what `write` puts into a file, or `json_value`. With a
    `digest` it is stored already."""

    kind: str
    codec: str = ""
    name: str = ""
    suffix: str = ""
    media_type: str = ""
    metadata: Mapping[str, Any] | None = None
    path: Path | None = None
    write: Callable[[Path], None] | None = None
    is_json: bool = False
    json_value: Any = None
    digest: str = ""
    size: int = 0


def declare(value: object, step: str, allow_pickle: bool) -> Declaration | None:
    """How a value that is no JSON is stored; None: this library does not know."""
    if isinstance(value, Artifact):
        return _of_artifact(value.penstock_declaration(), step, allow_pickle)
    codec = codec_of(value)
    return None if codec is None else _of_value(value, codec, {})


def declare_pickle(value: object) -> Declaration:
    """For values that nothing else can write, in a step that may."""
    return _of_value(value, codec_named(PICKLE), {})


def restore(reference: Mapping[str, Any], path: str | None, step: str, allow_pickle: bool) -> Any:
    """The value, or the `Artifact`, that a reference stands for. `path`: of the file or folder on this machine."""
    where = None if path is None else Path(path)
    if reference.get("kind") != "value":
        return Artifact(
            "dir" if reference.get("kind") == "dir" else "file",
            path=where,
            name=str(reference.get("name", "")),
            media_type=str(reference.get("media_type", "")),
            metadata=reference.get("metadata") or {},
            codec=str(reference.get("codec", "")),
            digest=str(reference["digest"]),
            size=int(reference["size"]),
        )
    name = str(reference.get("codec", ""))
    if name == PICKLE and not allow_pickle:
        raise _refused(step, "read")
    if where is None:
        raise ArtifactError(f"the value {reference['digest']} is not on this machine")
    return codec_named(name).read(where)


def _of_artifact(said: dict[str, Any], step: str, allow_pickle: bool) -> Declaration:
    if said["kind"] != "value":
        return Declaration(
            kind=said["kind"],
            codec=said["codec"],
            name=said["name"],
            media_type=said["media_type"],
            metadata=said["metadata"],
            path=said["path"],
            digest=said["digest"],
            size=said["size"] or 0,
        )
    value = said["value"]
    codec = codec_named(said["codec"]) if said["codec"] else codec_of(value)
    if codec is None or codec.name == "json":
        json_codec = codec_named("json")
        return Declaration(
            kind="value",
            codec="json",
            name=said["name"],
            suffix=json_codec.suffix,
            media_type=json_codec.media_type,
            metadata=said["metadata"],
            is_json=True,
            json_value=value,
        )
    if codec.name == PICKLE and not allow_pickle:
        raise _refused(step, "write")
    return _of_value(value, codec, said)


def _of_value(value: Any, codec: Codec, said: Mapping[str, Any]) -> Declaration:
    return Declaration(
        kind="value",
        codec=codec.name,
        name=said.get("name", ""),
        suffix=codec.suffix,
        media_type=codec.media_type,
        metadata=said.get("metadata"),
        write=lambda path: codec.write(value, path),
    )


def _refused(step: str, verb: str) -> ArtifactError:
    return ArtifactError(
        f"step {step!r} may not {verb} pickles",
        remedy=f'allow it by name: @pipeline(allow_pickle=["{step}"]); or register_codec for the type',
    )

"""Values in an output that are in the artifact store, as the values that they are."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from penstock.artifacts.codecs import PICKLE, codec_named
from penstock.errors import ArtifactError

REFERENCE = "$artifact"
MOST_BYTES = 1 << 30
"""Of all stored values of one output together, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    digest: str
    codec: str
    size: int


async def with_values(
    output: Any, read: Callable[[str, IO[bytes]], Awaitable[object]], *, allow_pickle: bool, max_bytes: int
) -> Any:
    """The output with the values that its references stand for, each read once, by way of a file that is gone then.

    Files and folders stay references, and pickles unless they are allowed. ArtifactError: they have more than
    `max_bytes`, or their codec or its library is not here.
    """
    wanted = [each for each in dict.fromkeys(_stored(output)) if allow_pickle or each.codec != PICKLE]
    total = sum(each.size for each in wanted)
    if total > max_bytes:
        raise ArtifactError(
            f"the values of the output have {total:,} bytes, and {max_bytes:,} are read",
            remedy="raise max_bytes, or download them to files (client.artifacts.download)",
        )
    known = {each: await _decoded(each, read) for each in wanted}
    return _filled(output, known) if known else output


async def _decoded(value: StoredValue, read: Callable[[str, IO[bytes]], Awaitable[object]]) -> Any:
    codec = codec_named(value.codec)
    with tempfile.TemporaryDirectory(prefix="penstock-value-") as folder:
        path = Path(folder, f"value{codec.suffix}")
        with path.open("wb") as file:  # noqa: ASYNC230  # of its own folder, and at once
            await read(value.digest, file)
        try:
            return await asyncio.to_thread(codec.read, path)
        except ArtifactError:
            raise
        except Exception as error:  # codecs are anybody's
            raise ArtifactError(
                f"the codec {value.codec!r} cannot read {value.digest}: {type(error).__name__}: {error}",
                remedy="use the same version of its library as the step that wrote it",
            ) from error


def _reference(value: dict[str, Any]) -> StoredValue | None:
    """None if it stands for no value."""
    said = value.get(REFERENCE) if len(value) == 1 else None
    if isinstance(said, dict) and said.get("kind") == "value" and said.get("digest"):
        return StoredValue(str(said["digest"]), str(said.get("codec") or "json"), int(said.get("size") or 0))
    return None


def _stored(value: Any) -> Iterator[StoredValue]:
    if isinstance(value, dict):
        if reference := _reference(value):
            yield reference
        else:
            value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from _stored(member)


def _filled(value: Any, known: Mapping[StoredValue, Any]) -> Any:
    if isinstance(value, dict):
        reference = _reference(value)
        if reference is None:
            return {name: _filled(member, known) for name, member in value.items()}
        return known.get(reference, value)
    return [_filled(member, known) for member in value] if isinstance(value, list) else value

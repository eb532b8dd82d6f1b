"""The output of an attempt: one JSON value, and the artifacts that it refers to.

A small plain value costs what writing it as JSON costs, and a look for the key that is not the user's to use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from penstock_agent.executors.channel import Failure, Produced, Task
from penstock_agent.executors.references import JSON_CODEC, KEY, MARK
from penstock_agent.executors.worker import library
from penstock_agent.executors.worker.json_output import (
    Unserialisable,
    json_encoder,
    plain,
    refuse,
    too_large,
)
from penstock_agent.executors.worker.outgoing import BadArtifact, Outgoing

LARGEST_VALUE = 1 << 30
"""Bytes of JSON."""
LARGEST_WITH_REFERENCES = 32 << 20
"""Who reads a value looks for the references in it first."""
OUTPUT_NAME = "output"
_JSON_MEDIA_TYPE = "application/json"


class TooLarge(Exception):
    """Of the output as JSON."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class OutputEncoder:
    """Of one worker: for one attempt after the other."""

    def __init__(self, outgoing_dir: str, work_dir: str) -> None:
        self._outgoing_dir = Path(outgoing_dir)
        self._work_dir = Path(work_dir)
        self._encoder = json_encoder(self._default)
        self._task: Task | None = None
        self._outgoing: Outgoing | None = None
        self._references = 0

    def begin(self, task: Task, work_dir: Path | None = None) -> None:
        """`work_dir`: that of the attempt, if it is not the worker's."""
        self._task = task
        self._outgoing = None
        self._references = 0
        if work_dir is not None:
            self._work_dir = work_dir

    def encode(self, value: object) -> bytes:
        """In UTF-8; nothing at all for None. Raises `Unserialisable`, `TooLarge`, and what a codec raises."""
        if value is None:
            return b""
        output = self._json(value)
        task = self._task
        assert task is not None
        if len(output) <= (task.inline_output_bytes or task.max_output_bytes):
            return output
        return self._spill(task, output)

    @property
    def produced(self) -> list[Produced]:
        return [] if self._outgoing is None else self._outgoing.produced

    def discard(self) -> None:
        """What was put aside is not wanted: the attempt failed."""
        if self._outgoing is not None:
            self._outgoing.discard()
            self._outgoing = None

    def keep(self, path: Path, name: str) -> dict[str, Any]:
        """The reference to a file or folder that a command wrote. Raises `BadArtifact`."""
        self._references += 1
        return self._out().take(path, "dir" if path.is_dir() else "file", name)

    def _json(self, value: object) -> bytes:
        try:
            output = self._encoder.encode(value).encode()
        except (TypeError, ValueError, RecursionError):
            refuse(value, self._form)
            raise
        except BadArtifact as error:
            raise Unserialisable("output", str(error), "") from error
        if MARK in output:
            self._check_keys(output)
        return output

    def _check_keys(self, output: bytes) -> None:
        """All objects with the reserved key are references that were made here."""
        found = 0

        def count(members: dict[str, Any]) -> dict[str, Any]:
            nonlocal found
            found += KEY in members
            return members

        json.loads(output, object_hook=count)
        if found > self._references:
            raise Unserialisable("output", f"it has the key {KEY!r}, which is Penstock's own", "rename the key")

    def _spill(self, task: Task, output: bytes) -> bytes:
        if not task.inline_output_bytes:
            raise TooLarge(too_large(len(output), task.max_output_bytes))
        limit = LARGEST_WITH_REFERENCES if MARK in output else LARGEST_VALUE
        if len(output) > limit:
            raise TooLarge(too_large(len(output), limit))
        reference = self._out().write(
            lambda path: _write(path, output), codec=JSON_CODEC, media_type=_JSON_MEDIA_TYPE, name=OUTPUT_NAME
        )
        return msgspec.json.encode(reference)

    def _default(self, value: Any) -> Any:
        """One step towards JSON. TypeError: there is none. Raises `BadArtifact`."""
        declared = self._declared(value)
        if declared is not None:
            return self._refer(declared)
        assert self._task is not None
        try:
            return plain(value)
        except TypeError:
            if not self._task.allow_pickle:
                raise
            return self._refer(library.load().declare_pickle(value))

    def _form(self, value: Any) -> Any:
        """As `_default`, without making anything."""
        with suppress(BadArtifact):
            if self._declared(value) is None:
                return plain(value)
        return None

    def _declared(self, value: object) -> library.Declaration | None:
        if not library.may_be_declared(value):
            return None
        assert self._task is not None
        with _as_bad_artifact():
            return library.load().declare(value, self._task.step, self._task.allow_pickle)

    def _refer(self, declared: library.Declaration) -> dict[str, Any]:
        with _as_bad_artifact():
            reference = self._store(declared)
        self._references += 1
        return reference

    def _store(self, declared: library.Declaration) -> dict[str, Any]:
        metadata = _metadata(declared.metadata)
        if declared.digest:
            return _passed_on(declared)
        if declared.kind != "value":
            assert declared.path is not None
            return self._out().take(declared.path, declared.kind, declared.name, declared.media_type, metadata)
        write = declared.write
        if declared.is_json:
            data = self._json(declared.json_value)
            write = lambda path: _write(path, data)  # noqa: E731 - one of two ways to the same file
        assert write is not None
        return self._out().write(
            write,
            codec=declared.codec,
            media_type=declared.media_type,
            name=declared.name,
            suffix=declared.suffix,
            metadata=metadata,
        )

    def _out(self) -> Outgoing:
        task = self._task
        assert task is not None
        if not task.inline_output_bytes:
            raise BadArtifact("this coordinator has no artifact store; return a small JSON value, or upgrade it")
        if self._outgoing is None:
            self._outgoing = Outgoing(self._outgoing_dir / str(task.handle), self._work_dir)
        return self._outgoing


@contextmanager
def _as_bad_artifact() -> Iterator[None]:
    """Codecs are anybody's."""
    try:
        yield
    except (BadArtifact, Unserialisable, TooLarge, MemoryError):
        raise
    except Exception as error:
        raise BadArtifact(f"{type(error).__name__}: {error}") from error


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data or b"null")


def _metadata(metadata: Mapping[str, Any] | None) -> bytes:
    return msgspec.json.encode(dict(metadata)) if metadata else b""


def _passed_on(declared: library.Declaration) -> dict[str, Any]:
    """An artifact that the step got is stored already."""
    said: dict[str, Any] = {
        "digest": declared.digest,
        "size": declared.size,
        "media_type": declared.media_type,
        "kind": declared.kind,
        "name": declared.name,
    }
    if declared.codec:
        said["codec"] = declared.codec
    if declared.metadata:
        said["metadata"] = dict(declared.metadata)
    return {KEY: said}

"""Values of an output that are in the store: what is read, what stays a reference, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from penstock.client.stored_values import with_values
from penstock.errors import ArtifactError


class Store:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []

    def keep(self, content: bytes, codec: str | None = "json", kind: str = "value") -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.content[digest] = content
        said = {"digest": digest, "size": len(content), "kind": kind, "codec": codec, "name": "x", "media_type": "a/b"}
        return {"$artifact": said}

    async def read(self, digest: str, file: IO[bytes]) -> None:
        self.asked.append(digest)
        file.write(self.content[digest])

    async def values(self, output: Any, *, allow_pickle: bool = False, max_bytes: int = 1 << 20) -> Any:
        return await with_values(output, self.read, allow_pickle=allow_pickle, max_bytes=max_bytes)


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def array_of(*numbers: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(numbers))
    return file.getvalue()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Store()


async def test_values_stand_where_their_references_stood(store: Store, tmp_path: Path) -> None:
    number, array = store.keep(b"[1, 2]", None), store.keep(array_of(1, 2), "npy")
    file = store.keep(b"file", None, "file")
    found = await store.values({"a": [number, number], "b": {"c": array}, "d": file, "e": 5})
    assert found["a"] == [[1, 2], [1, 2]]
    assert found["b"]["c"].tolist() == [1, 2]
    assert (found["d"], found["e"]) == (file, 5)
    assert len(store.asked) == 2
    assert left_in(tmp_path) == []


async def test_pickles_are_read_when_they_are_allowed_alone(store: Store) -> None:
    kept = store.keep(pickle.dumps({1}), "pickle")
    assert await store.values([kept]) == [kept]
    assert store.asked == []
    assert await store.values([kept], allow_pickle=True) == [{1}]


async def test_what_is_too_large_in_all_is_not_read(store: Store) -> None:
    values = [store.keep(json.dumps("x" * size).encode()) for size in (50, 60)]
    with pytest.raises(ArtifactError, match=r"114 bytes, and 113 are read.*max_bytes"):
        await store.values(values, max_bytes=113)
    assert store.asked == []
    assert len(await store.values(values, max_bytes=114)) == 2


async def test_what_cannot_be_decoded_says_why(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=r"no codec 'mesh' here.*import the module that registers it"):
        await store.values(store.keep(b"x", "mesh"))
    with pytest.raises(ArtifactError, match=r"'npy' cannot read sha256:.*the same version"):
        await store.values(store.keep(b"no array", "npy"))
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ArtifactError, match=r"polars, which is not installed.*install polars"):
        await store.values(store.keep(b"x", "polars-parquet"))
    assert left_in(tmp_path) == []

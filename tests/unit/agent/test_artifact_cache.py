"""The cache of artifacts on an agent's disk, and references in values."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from penstock_agent.artifacts.cache import ArtifactCache
from penstock_agent.artifacts.failures import StoreFailure
from penstock_agent.executors.references import BadReference, find


def name(number: int) -> str:
    return f"sha256:{number:064x}"


def cache_in(
    folder: Path, *, most: int = 10_000, floor: int = 0, free: int = 10**9, machine: str = "m"
) -> ArtifactCache:
    return ArtifactCache(folder, most, floor, lambda: free, machine)


def add(cache: ArtifactCache, number: int, size: int = 1000) -> Path:
    cache.part(name(number)).write_bytes(b"x" * size)
    return cache.keep(name(number))


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, most=3000)
    for number in range(3):
        add(cache, number)
    assert cache.find(name(0))
    add(cache, 3)
    assert [number for number in range(4) if cache.find(name(number))] == [0, 2, 3]
    assert cache.size == 3000


def test_no_more_files_are_kept_than_may_be(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, 10_000, 0, lambda: 10**9, "m", most=2)
    cache.pin(name(0))
    for number in range(4):
        add(cache, number, 1)
    assert [number for number in range(4) if cache.find(name(number))] == [0, 3]


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, most=1000)
    cache.pin(name(0))
    path = add(cache, 0, 5000)
    add(cache, 1)
    assert path.exists()
    cache.unpin(name(0))
    assert not path.exists()


def test_what_was_changed_is_not_given_out(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    path = add(cache, 0)
    link = tmp_path / "link"
    os.link(path, link)
    assert cache.find(name(0)) == path
    link.chmod(0o644)
    link.write_bytes(b"y" * 1000)
    os.utime(link, ns=(0, 1))
    assert cache.find(name(0)) is None
    assert not path.exists()


def test_it_is_kept_over_a_restart_of_the_agent_and_not_of_the_machine(tmp_path: Path) -> None:
    add(cache_in(tmp_path), 0)
    (tmp_path / f"{1:064x}.part").write_bytes(b"half")
    again = cache_in(tmp_path)
    assert again.find(name(0))
    assert again.size == 1000
    assert not list(tmp_path.glob("*.part"))
    assert cache_in(tmp_path, machine="started anew").find(name(0)) is None


def test_room_is_made_down_to_the_floor(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, 10_000, 500, lambda: 2000 - cache.size, "m")
    add(cache, 0)
    cache.make_room(1200)
    assert cache.size == 0
    with pytest.raises(StoreFailure, match="PENSTOCK_AGENT_DISK_FLOOR_BYTES"):
        cache.make_room(1600)


def test_references_are_found_wherever_they_are() -> None:
    first = {"$artifact": {"digest": name(1), "size": 1, "kind": "file", "metadata": {"a": {"b": 1}}}}
    second = {"$artifact": {"digest": name(2), "size": 2, "kind": "value", "codec": "json"}}
    found = find([json.dumps({"a": [first, "$artifact"]}).encode(), json.dumps(second).encode(), b"[1]"])
    assert {digest: each.is_json for digest, each in found.items()} == {name(1): False, name(2): True}


@pytest.mark.parametrize(
    "said",
    [1, {}, {"digest": "x", "size": 1, "kind": "file"}, {"digest": name(1), "size": -1, "kind": "file"},
     {"digest": name(1), "size": 1, "kind": "other"}, {"digest": name(1), "size": 1, "kind": "value", "codec": 1}],
)  # fmt: skip
def test_malformed_references_are_refused(said: object) -> None:
    with pytest.raises(BadReference):
        find([json.dumps({"$artifact": said}).encode()])

"""The folder of environments: whole ones are found, unused ones go, half ones count for nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from penstock_agent.environments.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "environments")


def build(shelf: Shelf, key: str, size: int = 0) -> None:
    """As uv does, and used later than those before it."""
    lock = shelf.lock(key, alone=True)
    assert lock is not None
    new = shelf.new_home(key)
    (new / "bin").mkdir(parents=True)
    (new / "bin" / "python").symlink_to(sys.executable)
    (new / "pyvenv.cfg").write_text("home = /x\nversion_info = 3.12.1\n")
    (new / "content").write_bytes(b"x" * size)
    shelf.finish(key, new)
    lock.release()
    used_at = len(kept(shelf))
    os.utime(shelf.folder / f"{key}.lock", (used_at, used_at))


def kept(shelf: Shelf) -> list[str]:
    return sorted(entry.name for entry in shelf.folder.iterdir() if "." not in entry.name)


def test_what_is_built_is_found_with_its_version(shelf: Shelf) -> None:
    build(shelf, "a")
    built = shelf.find("a")
    assert built is not None
    assert (built.home, built.version) == (str(shelf.folder / "a"), (3, 12, 1))
    assert shelf.find("b") is None


def test_what_is_being_built_is_not_found(shelf: Shelf) -> None:
    new = shelf.new_home("a")
    new.mkdir()
    assert shelf.find("a") is None
    with pytest.raises(OSError, match=r"pyvenv\.cfg"):
        shelf.finish("a", new)
    shelf.discard("a")
    assert list(shelf.folder.iterdir()) == []


def test_an_environment_whose_interpreter_is_gone_is_built_anew(shelf: Shelf) -> None:
    build(shelf, "a")
    python = shelf.folder / "a" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert shelf.find("a") is None
    build(shelf, "a")
    assert shelf.find("a") is not None


def test_those_used_longest_ago_go_first(shelf: Shelf) -> None:
    for key in "abc":
        build(shelf, key)
    os.utime(shelf.folder / "a.lock")
    assert shelf.shrink(3, 1 << 30) == []
    assert shelf.shrink(2, 1 << 30) == ["b"]
    assert (kept(shelf), (shelf.folder / "b.lock").exists()) == (["a", "c"], False)


def test_the_bytes_are_bounded(shelf: Shelf) -> None:
    for key in "abc":
        build(shelf, key, 10_000)
    assert shelf.shrink(10, 25_000) == ["a"]
    assert shelf.shrink(10, 0) == ["b", "c"]


def test_one_in_use_stays(shelf: Shelf) -> None:
    for key in "ab":
        build(shelf, key)
    used = shelf.lock("a", alone=False)
    assert used is not None
    assert shelf.shrink(0, 0) == ["b"]
    assert shelf.find("a") is not None
    used.release()
    assert shelf.shrink(0, 0) == ["a"]


def test_a_lock_is_shared_or_held_alone(shelf: Shelf) -> None:
    first, second = shelf.lock("a", alone=False), shelf.lock("a", alone=False)
    assert first is not None
    assert second is not None
    assert shelf.lock("a", alone=True) is None
    first.release()
    second.release()
    alone = shelf.lock("a", alone=True)
    assert alone is not None
    assert shelf.lock("a", alone=False) is None
    # Who removes an environment removes its lock file: the next one locks another file.
    alone.path.unlink()
    assert shelf.lock("a", alone=True) is not None


def test_what_killed_agents_left_is_swept_away(shelf: Shelf) -> None:
    shelf.new_home("a").mkdir()
    (shelf.folder / "b.gone").mkdir()
    under_way = shelf.new_home("c")
    under_way.mkdir()
    building = shelf.lock("c", alone=True)
    build(shelf, "d")
    shelf.sweep()
    left = {entry.name for entry in shelf.folder.iterdir() if entry.suffix != ".lock"}
    assert left == {under_way.name, "d"}
    assert building is not None

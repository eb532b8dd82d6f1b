"""The same hostile archives at every place where an archive of a stranger is looked at or unpacked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.archives.hostile_archives import FINE, HOSTILE, OUTSIDE, TOO_LARGE, Hostile

from penstock_agent.runtime.archive import BadArchive, Bounds, unpack, unpack_folder
from penstock_coordinator.api.bundle_archive import ArchiveLimits, HostileArchive, TooLarge, check_archive

LIMITS = ArchiveLimits(packed_bytes=64 << 20, unpacked_bytes=8 << 20, files=1_000)
BOUNDS = Bounds("bundle", files=LIMITS.files, bytes=LIMITS.unpacked_bytes)
ALL = HOSTILE | TOO_LARGE
LONGEST_SECONDS = 20


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All below a folder: kind and rights of each, and what is in it."""
    found = {}
    for where, folders, files in os.walk(folder):
        for path in [Path(where, name) for name in (*folders, *files)]:
            mode = path.lstat().st_mode
            content = b"" if path.is_dir() else os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = (mode, content)
    return found


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder with something beside it and above it that must stay as it is."""
    (tmp_path / "x").write_text("above")
    folder = tmp_path / "data" / "inside"
    folder.mkdir(parents=True)
    (tmp_path / "data" / "x").write_text("beside")
    return folder


def refusal(unpack_it: Callable[[], object], error: type[Exception] | tuple[type[Exception], ...]) -> str:
    begun = time.process_time()
    with pytest.raises(error) as caught:
        unpack_it()
    assert time.process_time() - begun < LONGEST_SECONDS
    return str(caught.value)


def check_text(text: str, case: Hostile) -> None:
    assert any(each in text for each in case.says.split("|")), text
    assert 10 < len(text) < 400
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("name", ALL)
def test_the_coordinator_refuses_it(name: str) -> None:
    error = TooLarge if name in TOO_LARGE else HostileArchive
    check_text(refusal(lambda: check_archive(ALL[name].pack(), LIMITS), (error,)), ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_the_agent_refuses_it_as_a_bundle_and_leaves_nothing(name: str, tmp_path: Path, inside: Path) -> None:
    archive = inside / "archive"
    archive.write_bytes(ALL[name].pack())
    before = everything(tmp_path)
    check_text(refusal(lambda: unpack(archive, inside / "out", BOUNDS), BadArchive), ALL[name])
    assert everything(tmp_path) == before
    assert not os.path.lexists(OUTSIDE)


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if not case.of_gzip])
def test_the_agent_refuses_it_as_a_folder_and_leaves_nothing(name: str, tmp_path: Path, inside: Path) -> None:
    case = ALL[name]
    archive = inside / "archive"
    archive.write_bytes(case.plain())
    before = everything(tmp_path)
    if case.folder == "fine":
        unpack_folder(archive, inside / "out")
    else:
        check_text(refusal(lambda: unpack_folder(archive, inside / "out"), BadArchive), case)
    after = everything(tmp_path)
    below = {path: after.pop(path) for path in list(after) if path.startswith("data/inside/out")}
    assert after == before
    assert bool(below) == (case.folder == "fine")
    assert not os.path.lexists(OUTSIDE)


@pytest.mark.parametrize("name", FINE)
def test_what_the_coordinator_takes_the_agent_unpacks(name: str, inside: Path) -> None:
    archive = inside / "archive"
    archive.write_bytes(FINE[name]())
    check_archive(archive.read_bytes(), LIMITS)
    unpack(archive, inside / "out", BOUNDS)
    found = everything(inside / "out")
    assert found
    assert not any(mode & 0o7022 for path, (mode, _) in found.items() if not (inside / "out" / path).is_symlink())


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 60

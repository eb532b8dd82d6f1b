"""Folders as archives: packed by a worker, unpacked by an agent that does not trust it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from penstock_agent.executors.worker.packing import Unpackable, pack
from penstock_agent.runtime.archive import BadArchive, unpack_folder


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    pack(folder, buffer)
    return buffer.getvalue()


def tree(folder: Path) -> Path:
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "deep" / ("ä" * 60 + "x" * 100)).write_bytes(b"long name")
    (folder / "script").write_text("#!/bin/sh")
    (folder / "script").chmod(0o700)
    (folder / "deep" / "up").symlink_to("../script")
    return folder


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
    os.utime(second / "script", (1, 1))
    (second / "deep").chmod(0o700)
    assert packed(first) == packed(second)
    (second / "script").write_text("other")
    assert packed(first) != packed(second)


def test_what_was_packed_comes_out(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(packed(tree(tmp_path / "a")))
    unpack_folder(archive, tmp_path / "b")
    assert packed(tmp_path / "b") == archive.read_bytes()
    assert (tmp_path / "b" / "deep" / "up").resolve() == tmp_path / "b" / "script"


@pytest.mark.parametrize("target", ["/etc/passwd", "../out", "a/../../out"])
def test_links_that_lead_out_are_not_packed(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(Unpackable, match=r"leads out|does not lead to a relative path"):
        packed(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x9bb", "a\udcffb"])
def test_names_that_no_unpacker_takes_are_not_packed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(Unpackable, match="rename the file"):
        packed(tmp_path)


def test_unusual_names_that_harm_nobody_come_out(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("at\u202f3 PM.png", "\u3000", "A", "a", "soft\u00adhyphen", "🙂"):
        (folder / name).write_text(name)
    (tmp_path / "x.tar").write_bytes(packed(folder))
    unpack_folder(tmp_path / "x.tar", tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../out", tarfile.REGTYPE, ""),
        ("/out", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "/etc"),
        ("link", tarfile.LNKTYPE, "/etc/passwd"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(BadArchive):
        unpack_folder(tmp_path / "x.tar", tmp_path / "out")


def test_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive at all" * 100)
    with pytest.raises(BadArchive):
        unpack_folder(tmp_path / "x", tmp_path / "out")

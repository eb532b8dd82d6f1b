"""Archives that nobody vouches for."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock_agent.runtime.archive import BadArchive, Bounds, unpack


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def packed(path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each in members:
            info, content = each if isinstance(each, tuple) else (each, b"")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue(), 1))
    return path


def test_files_folders_and_links_inside_are_made(tmp_path: Path) -> None:
    source = packed(
        tmp_path / "a.tgz",
        (member("deep/er/file.py"), b"content"),
        (member("run.sh", mode=0o4777), b"#!/bin/sh"),
        member("empty", tarfile.DIRTYPE),
        member("deep/link", tarfile.SYMTYPE, link="er/file.py"),
        member("deep/er/up", tarfile.SYMTYPE, link="../../run.sh"),
    )
    assert unpack(source, tmp_path / "out") == len(b"content#!/bin/sh")
    out = tmp_path / "out"
    assert (out / "deep/link").read_bytes() == b"content"
    assert (out / "deep/er/up").read_bytes() == b"#!/bin/sh"
    assert (out / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (out / "empty").is_dir()


HOSTILE: dict[str, Callable[[], list[tarfile.TarInfo]]] = {
    "absolute": lambda: [member("/etc/passwd")],
    "climbs": lambda: [member("../evil")],
    "climbs inside": lambda: [member("a/../../evil")],
    "dots that stay": lambda: [member("a/../b")],
    "empty name": lambda: [member("")],
    "absolute link": lambda: [member("a", tarfile.SYMTYPE, link="/etc/passwd")],
    "link up": lambda: [member("a", tarfile.SYMTYPE, link="../x")],
    "link up from below": lambda: [member("a/b", tarfile.SYMTYPE, link="../../x")],
    "link down and up": lambda: [member("a", tarfile.SYMTYPE, link="b/../../x")],
    "link to nothing": lambda: [member("a", tarfile.SYMTYPE, link="")],
    "through a link": lambda: [member("a", tarfile.SYMTYPE, link="b"), member("a/x")],
    "over a link": lambda: [member("a", tarfile.SYMTYPE, link="b"), member("a")],
    "through a chain": lambda: [
        member("x/y/z", tarfile.SYMTYPE, link="../.."),
        member("out", tarfile.SYMTYPE, link="x/y/z/../evil"),
    ],
    "through a file": lambda: [member("a"), member("a/b")],
    "twice": lambda: [member("a"), member("a")],
    "hard link": lambda: [member("a"), member("b", tarfile.LNKTYPE, link="a")],
    "hard link out": lambda: [member("b", tarfile.LNKTYPE, link="/etc/passwd")],
    "device": lambda: [member("null", tarfile.CHRTYPE)],
    "block device": lambda: [member("disk", tarfile.BLKTYPE)],
    "pipe": lambda: [member("pipe", tarfile.FIFOTYPE)],
    "long name": lambda: [member("x" * 2_000)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(BadArchive):
        unpack(packed(tmp_path / "a.tgz", *HOSTILE[name]()), inside / "out")
    assert not (tmp_path / "evil").exists()
    assert not (inside / "evil").exists()
    assert not list(inside.iterdir())


@pytest.mark.parametrize(
    "data",
    [b"", b"not gzip", gzip.compress(b"not tar" * 100), gzip.compress(b"")[:-4]],
    ids=["empty", "not gzip", "not tar", "cut off"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(data)
    with pytest.raises(BadArchive):
        unpack(tmp_path / "a.tgz", tmp_path / "out")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    source = packed(tmp_path / "a.tgz", (member("a"), b"content" * 1000))
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(BadArchive):
        unpack(source, tmp_path / "out")


def test_limits_of_count_and_bytes(tmp_path: Path) -> None:
    source = packed(tmp_path / "a.tgz", *(member(f"f{number}") for number in range(5)))
    with pytest.raises(BadArchive, match="3 files"):
        unpack(source, tmp_path / "out1", Bounds("bundle", 3, 100))
    with pytest.raises(BadArchive, match="10 bytes"):
        unpack(packed(tmp_path / "b.tgz", (member("f"), b"x" * 11)), tmp_path / "out2", Bounds("bundle", 3, 10))


def _bomb(path: Path, header: tarfile.TarInfo, size: int) -> Path:
    """A member that says it has `size` bytes, all zeros."""
    header.size = size
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(header.tobuf(tarfile.PAX_FORMAT))
        for _ in range(size // (1 << 20)):
            out.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_is_noticed_before_it_goes_off(tmp_path: Path, kind: bytes) -> None:
    size = 600 << 20
    source = _bomb(tmp_path / "bomb.tgz", member("bomb", kind), size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with pytest.raises(BadArchive):
        unpack(source, tmp_path / "out")
    assert time.process_time() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024

"""Valid archives, changed at random: whatever comes of it is refused or lies inside, the same at both ends."""

from __future__ import annotations

import gzip
import os
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.archives.hostile_archives import extended, file, file_with, folder, link, plain_tar, record
from tests.unit.archives.test_hostile_archives import everything

from penstock_agent.runtime.archive import BadArchive, Bounds, unpack, unpack_folder
from penstock_coordinator.api.bundle_archive import ArchiveLimits, HostileArchive, TooLarge, check_archive

LIMITS = ArchiveLimits(packed_bytes=1 << 20, unpacked_bytes=64 << 10, files=50)
BOUNDS = Bounds("bundle", files=LIMITS.files, bytes=LIMITS.unpacked_bytes)
ROUNDS = int(os.environ.get("PENSTOCK_TEST_MUTATIONS", "250"))
BLOCK = 512
FIELDS = ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (148, 8), (156, 1), (157, 100), (257, 8), (345, 155))
WORDS = (
    *(
        b"",
        b"/",
        b".",
        b"..",
        b"../x",
        b"a/../../x",
        b"/x",
        b"a",
        b"a/b",
        b"link",
        b"link/x",
        b"A",
        b"\\",
        b"\n",
        b"\xff",
    ),
    *(b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\x00", b"77777777777\x00", b"-0000000001\x00", b"0"),
    *(bytes([kind]) for kind in b"0123456789LKxgSDMVNA\0"),
)
RECORDS = (
    *(("path", word) for word in ("../x", "/x", "link/x", "a\0b", "", "a" * 2_000)),
    *(("linkpath", word) for word in ("..", "/", "b", "")),
    *(("size", word) for word in ("-1", "-512", "0", "1", "99999999999999999999", "1e3", "x")),
    *((f"GNU.sparse.{word}", "1") for word in ("map", "size", "realsize", "major", "minor", "numblocks")),
    *(("GNU.sparse.name", "../x"), ("hdrcharset", "BINARY"), ("comment", "x"), ("mtime", "nan")),
)


def seeds() -> list[bytes]:
    members = (folder("a"), file("a/b", b"x" * 700), link("link", "a"), file_with("run", mode=0o755), file("c", b""))
    return [plain_tar(*members, file("d" * 120), form=form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def header_field(chance: random.Random, raw: bytearray) -> None:
    """With the checksum that belongs to it, mostly."""
    start = chance.randrange(len(raw) // BLOCK) * BLOCK
    at, size = chance.choice(FIELDS)
    word = chance.choice(WORDS)[:size]
    raw[start + at : start + at + size] = word + bytes(size - len(word))
    if chance.random() < 0.9:
        raw[start + 148 : start + 156] = b" " * 8
        raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + BLOCK])


def any_byte(chance: random.Random, raw: bytearray) -> None:
    raw[chance.randrange(len(raw))] = chance.randrange(256)


def blocks(chance: random.Random, raw: bytearray) -> None:
    """Left out, said twice, or moved."""
    start, end = (chance.randrange(len(raw) // BLOCK + 1) * BLOCK for _ in range(2))
    taken = bytes(raw[min(start, end) : max(start, end)])[: 8 * BLOCK]
    if chance.random() < 0.5:
        del raw[min(start, end) : min(start, end) + len(taken)]
    if chance.random() < 0.5:
        at = chance.randrange(len(raw) // BLOCK + 1) * BLOCK
        raw[at:at] = taken


def extended_header(chance: random.Random, raw: bytearray) -> None:
    kind = chance.choice((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
    content = b"".join(record(*chance.choice(RECORDS)) for _ in range(chance.randrange(1, 4)))
    if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        content = chance.choice(WORDS) + b"\0"
    size = chance.choice((None, None, None, 0, len(content) + 1, 1 << 32))
    at = chance.randrange(len(raw) // BLOCK + 1) * BLOCK
    raw[at:at] = extended(kind, content, size=size)


def cut(chance: random.Random, raw: bytearray) -> None:
    del raw[chance.randrange(len(raw)) :]


MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(header_field, header_field, header_field, extended_header, blocks, any_byte, cut),
)


def mutated(chance: random.Random) -> bytes:
    raw = bytearray(chance.choice(seeds()))
    for _ in range(chance.choice((1, 1, 2, 3))):
        if len(raw) >= BLOCK:
            chance.choice(MUTATIONS)(chance, raw)
    return bytes(raw)


def packed(chance: random.Random, raw: bytes) -> bytes:
    """Seldom with a change of the packed bytes."""
    data = bytearray(gzip.compress(raw, 1, mtime=0))
    if chance.random() < 0.1:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def is_taken(check: Callable[..., object], *arguments: object) -> bool:
    """Every other exception is a fault of ours."""
    try:
        check(*arguments)
    except (HostileArchive, TooLarge, BadArchive) as error:
        refusal = str(error)
    else:
        return True
    assert refusal.isprintable()
    return False


@pytest.mark.timeout(0 if ROUNDS > 250 else 300)
def test_mutations_of_archives(tmp_path: Path) -> None:
    places = tmp_path / "data" / "inside"
    places.mkdir(parents=True)
    taken = 0
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        raw = mutated(chance)
        archive, plain = places / "archive", places / "plain"
        archive.write_bytes(packed(chance, raw))
        plain.write_bytes(raw)
        admitted = is_taken(check_archive, archive.read_bytes(), LIMITS)
        unpacked = is_taken(unpack, archive, places / "out", BOUNDS)
        foldered = is_taken(unpack_folder, plain, places / "folder")
        taken += admitted
        assert unpacked or not admitted, f"seed {seed}: the coordinator takes what no agent unpacks"
        _check_inside(places / "out", unpacked, seed)
        _check_inside(places / "folder", foldered, seed)
        for left in (archive, plain):
            left.unlink()
        assert everything(tmp_path).keys() == {"data", "data/inside"}, f"seed {seed}: something is outside"
    assert ROUNDS // 50 < taken < ROUNDS, "mutations that are all refused, or all taken, show nothing"


def _check_inside(out: Path, made: bool, seed: int) -> None:
    assert out.exists() == made, f"seed {seed}: a refused archive leaves something"
    if not made:
        return
    for path in sorted(out.rglob("*"), reverse=True):
        assert path.is_symlink() or path.is_dir() or path.is_file(), f"seed {seed}: {path} is something else"
        assert path.is_symlink() or not path.stat().st_mode & 0o7022, f"seed {seed}: {path} has rights"
        with suppress(RuntimeError):  # a link to itself leads nowhere
            assert path.resolve().is_relative_to(out.resolve()), f"seed {seed}: {path} leads out"
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    out.rmdir()

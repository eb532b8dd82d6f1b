"""Archives that must not be unpacked, and some that may be."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable


def pack(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return gzip.compress(plain_tar(*members, form=form), 1)


def plain_tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            header, content = member if isinstance(member, tuple) else (member, b"")
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header, content


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = kind
    header.linkname = target
    return header


def link(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, target)


def folder(name: str) -> tarfile.TarInfo:
    return special(name, tarfile.DIRTYPE)


def _truthless(name: str, size: int) -> bytes:
    """A header that promises more than follows."""
    header = tarfile.TarInfo(name)
    header.size = size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT))


def _negative_size() -> bytes:
    raw = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 12
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw) + bytes(1024))


def _pax_chain(length: int) -> bytes:
    """Each extended header is followed by another one."""
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 512
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"11 foo=bar\n".ljust(512, b"\0")
    return gzip.compress(block * length + bytes(1024))


def _large_pax_header() -> bytes:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 20 << 20
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(20 << 20), 1)


def _pax_sparse_without_end() -> bytes:
    """A sparse map (version 1.0) of endless digits: whoever looks for its line break copies it again and again."""
    header = tarfile.TarInfo("sparse")
    header.size = 16 << 20
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"}
    return gzip.compress(header.tobuf(tarfile.PAX_FORMAT) + b"9\n" + b"1" * (16 << 20), 1)


def _gnu_sparse() -> bytes:
    raw = bytearray(tarfile.TarInfo("s").tobuf(tarfile.GNU_FORMAT))
    raw[156:157] = tarfile.GNUTYPE_SPARSE
    raw[386:410] = b"%011o\0%011o\0" % (0, 0)
    raw[483:495] = b"%011o\0" % (1 << 32)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw) + bytes(1024))


def bomb(unpacked_bytes: int) -> bytes:
    header = tarfile.TarInfo("zeros")
    header.size = unpacked_bytes
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(unpacked_bytes + 1024), 1)


def trailing_bomb(size: int) -> bytes:
    """Nothing but padding after the end of the archive."""
    return gzip.compress(plain_tar(file("a")) + bytes(size), 1)


_WHOLE = plain_tar(file("a.py", b"x" * 5_000), file("b.py"))

HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no gzip": lambda: b"PK\x03\x04" + bytes(100),
    "gzip of nothing": lambda: gzip.compress(b""),
    "gzip of no tar": lambda: gzip.compress(b"hello" * 1_000),
    "gzip header alone": lambda: gzip.compress(_WHOLE)[:10],
    "truncated gzip": lambda: gzip.compress(_WHOLE)[:-20],
    "wrong checksum": lambda: gzip.compress(_WHOLE)[:-8] + struct.pack("<II", 1, len(_WHOLE)),
    "tail that is no gzip": lambda: gzip.compress(_WHOLE) + b"tail",
    "truncated tar": lambda: gzip.compress(_WHOLE[:2_000]),
    "no end mark": lambda: gzip.compress(_WHOLE[: 512 + 5_120 + 512 + 512]),
    "second archive behind the first": lambda: gzip.compress(_WHOLE + _WHOLE),
    "garbage between members": lambda: gzip.compress(_WHOLE[:5_632] + b"\x01" * 512 + _WHOLE[5_632:]),
    "no files": lambda: pack(folder("only")),
    "absolute path": lambda: pack(file("/etc/passwd")),
    "parent": lambda: pack(file("../x")),
    "parent inside": lambda: pack(file("a/../../x")),
    "parent that stays inside": lambda: pack(file("a/../x")),
    "empty part": lambda: pack(file("a//x")),
    "backslash": lambda: pack(file("a\\..\\..\\x")),
    "control character": lambda: pack(file("a\nb")),
    "no UTF-8": lambda: pack(file("a\udcffb"), form=tarfile.GNU_FORMAT),
    "long path": lambda: pack(file("/".join(["a" * 100] * 11))),
    "long name": lambda: pack(file("a" * 256)),
    "absolute link": lambda: pack(file("a"), link("l", "/etc/passwd")),
    "link out": lambda: pack(file("a"), link("l", "../x")),
    "deep link out": lambda: pack(file("a/b/c"), link("a/b/l", "../../../x")),
    "link out through a folder": lambda: pack(file("a/b"), link("l", "a/../../x")),
    "link out through a link": lambda: pack(file("a"), link("here", "."), link("l", "here/../x")),
    "empty link": lambda: pack(file("a"), link("l", "")),
    "file below a link": lambda: pack(file("a/b"), link("l", "a"), file("l/c")),
    "link in the place of a folder": lambda: pack(file("a/b"), link("a", "c")),
    "file below a file": lambda: pack(file("a"), file("a/b")),
    "file over a link": lambda: pack(file("b"), link("a", "b"), file("a")),
    "same name twice": lambda: pack(file("a"), file("a", b"y")),
    "same name in two spellings": lambda: pack(file("a"), file("./a")),
    "hard link": lambda: pack(file("a"), special("h", tarfile.LNKTYPE, "a")),
    "hard link out": lambda: pack(file("a"), special("h", tarfile.LNKTYPE, "/etc/passwd")),
    "character device": lambda: pack(file("a"), special("d", tarfile.CHRTYPE)),
    "block device": lambda: pack(file("a"), special("d", tarfile.BLKTYPE)),
    "named pipe": lambda: pack(file("a"), special("p", tarfile.FIFOTYPE)),
    "unknown kind": lambda: pack(file("a"), special("u", b"Z")),
    "promises more than it has": lambda: _truthless("a", 5_000),
    "negative size": _negative_size,
    "chain of extended headers": lambda: _pax_chain(10_000),
    "large extended header": _large_pax_header,
    "endless sparse map": _pax_sparse_without_end,
    "GNU sparse file": _gnu_sparse,
}

TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "promises a terabyte": lambda: _truthless("a", 1 << 40),
    "bomb": lambda: bomb(32 << 20),
    "padding bomb": lambda: trailing_bomb(32 << 20),
    "too many files": lambda: pack(*(file(f"f{number}", b"") for number in range(1_001))),
    "too many folders": lambda: pack(file("a"), *(folder(f"d{number}") for number in range(2_100))),
    "too many folders by deep paths": lambda: pack(*(file(f"{number}/b/c/d/e/f", b"") for number in range(500))),
    "too many bytes in all": lambda: pack(*(file(f"f{number}", bytes(1 << 20)) for number in range(9))),
}

FINE: dict[str, Callable[[], bytes]] = {
    "files": lambda: pack(file("a.py"), file("src/b.py"), file("src/empty", b"")),
    "folders and dots": lambda: pack(folder("."), folder("./src"), file("./src/a.py"), folder("src/")),
    "links inside": lambda: pack(file("a/b"), link("l", "a"), link("a/c", "../a/b"), link("dangling", "nowhere")),
    "GNU format with a long name": lambda: pack(file("a/" + "b" * 200), form=tarfile.GNU_FORMAT),
    "USTAR format": lambda: pack(file("a"), form=tarfile.USTAR_FORMAT),
    "names that are not ASCII": lambda: pack(file("größe/名前.py")),
    "two gzip members": lambda: gzip.compress(_WHOLE[:1_000]) + gzip.compress(_WHOLE[1_000:]),
    "as many files as may be": lambda: pack(*(file(f"f{number}", b"") for number in range(1_000))),
}

"""Archives that must not be unpacked, and some that may be."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass


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


OUTSIDE = "/penstock-archive-was-here"
"""Where absolute paths lead. There is nothing, and there must be nothing."""


@dataclass(frozen=True)
class Hostile:
    """`says` is found in each refusal. `of_gzip`: only who unpacks gzip can meet it. `folder`: what becomes of it as
    the folder of an artifact, which no compressor made larger and which may be as large as its archive."""

    says: str
    pack: Callable[[], bytes]
    of_gzip: bool = False
    folder: str = "refused"

    def plain(self) -> bytes:
        return gzip.decompress(self.pack())


def file_with(
    name: str, pax: dict[str, str] | None = None, *, mode: int = 0o644, content: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    header, content = file(name, content)
    header.mode = mode
    header.pax_headers = pax or {}
    return header, content


def patched(raw: bytes, at: int, new: bytes, block: int = 0) -> bytes:
    """A header with other bytes, and the checksum that belongs to them."""
    start = block * 512
    header = bytearray(raw[start : start + 512])
    header[at : at + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return raw[:start] + bytes(header) + raw[start + 512 :]


def extended(kind: bytes, content: bytes, *, size: int | None = None) -> bytes:
    """An extended header of any content."""
    header = tarfile.TarInfo("extended")
    header.type = kind
    header.size = len(content) if size is None else size
    return header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def record(keyword: str, value: str) -> bytes:
    text = f" {keyword}={value}\n".encode()
    size = len(text) + len(str(len(text)))
    return str(size + (len(str(size)) > len(str(len(text))))).encode() + text


def with_pax(keyword: str, value: str, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(extended(tarfile.XHDTYPE, record(keyword, value)) + plain_tar(*members, form=USTAR))


USTAR = tarfile.USTAR_FORMAT


def _truthless(name: str, size: int) -> bytes:
    """A header that promises more than follows."""
    header = tarfile.TarInfo(name)
    header.size = size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT))


def _sized(field: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size is written so."""
    header = special("a", kind)
    return gzip.compress(patched(header.tobuf(tarfile.GNU_FORMAT), 124, field) + bytes(1024))


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
_NO_GZIP = "no whole gzip stream"
_NO_TAR = "no tar archive that can be read"
_CUT = "ends in the middle of a file"
_NO_END = "has no mark of its end"
_GOES_ON = "goes on after its end"
_CLIMBS = "leads out of the"
_ABSOLUTE = "is an absolute path: pack relative ones"
_NOT_PLAIN = "is no plain path: pack it again"
_CHARACTER = "holds a character that no file name should: rename the file"
_NOT_RELATIVE = "does not lead to a relative path, so it leads out of the"
_TWICE = "comes twice: pack it once"
_BELOW = "which is no folder"
_HARD = "is a hard link: leave it out"
_SPECIAL = "is neither a file, a folder nor a symbolic link: leave it out"
_HEADERS = "has headers of more than 65,536 bytes"
_ALIKE = "are one file on some machines: rename one of them"

HOSTILE: dict[str, Hostile] = {
    # --- the stream
    "empty": Hostile(_NO_GZIP, lambda: b"", of_gzip=True),
    "a zip archive": Hostile(_NO_GZIP, lambda: b"PK\x03\x04" + bytes(100), of_gzip=True),
    "a tar that is not compressed": Hostile(_NO_GZIP, lambda: _WHOLE, of_gzip=True),
    "compressed twice": Hostile(_NO_TAR, lambda: gzip.compress(gzip.compress(_WHOLE))),
    "zlib's own format": Hostile(_NO_GZIP, lambda: zlib.compress(_WHOLE), of_gzip=True),
    "gzip of nothing": Hostile(_NO_TAR, lambda: gzip.compress(b"")),
    "gzip of no tar": Hostile(_NO_TAR, lambda: gzip.compress(b"hello" * 1_000)),
    "gzip header alone": Hostile(_NO_GZIP, lambda: gzip.compress(_WHOLE)[:10], of_gzip=True),
    "truncated gzip": Hostile(_NO_GZIP, lambda: gzip.compress(_WHOLE)[:-20], of_gzip=True),
    "gzip without its checksum": Hostile(_NO_GZIP, lambda: gzip.compress(_WHOLE)[:-8], of_gzip=True),
    "wrong checksum": Hostile(
        _NO_GZIP, lambda: gzip.compress(_WHOLE)[:-8] + struct.pack("<II", 1, len(_WHOLE)), of_gzip=True
    ),
    "wrong length": Hostile(
        _NO_GZIP, lambda: gzip.compress(_WHOLE)[:-4] + struct.pack("<I", len(_WHOLE) + 1), of_gzip=True
    ),
    "tail that is no gzip": Hostile(_NO_GZIP, lambda: gzip.compress(_WHOLE) + b"tail", of_gzip=True),
    "zeros behind the gzip": Hostile(_NO_GZIP, lambda: gzip.compress(_WHOLE) + bytes(1 << 20), of_gzip=True),
    "a second stream that is cut": Hostile(
        _NO_GZIP, lambda: gzip.compress(_WHOLE) + gzip.compress(b"")[:-1], of_gzip=True
    ),
    "a million empty streams": Hostile(
        _NO_GZIP, lambda: gzip.compress(_WHOLE) + gzip.compress(b"") * 1_000_000, of_gzip=True
    ),
    # --- the form of the tar
    "truncated in a file": Hostile(_CUT, lambda: gzip.compress(_WHOLE[:2_000])),
    "truncated in a header": Hostile(_GOES_ON, lambda: gzip.compress(_WHOLE[: 512 + 5_120 + 100])),
    "no end mark": Hostile(_NO_END, lambda: gzip.compress(_WHOLE[: 512 + 5_120 + 512 + 512])),
    "second archive behind the first": Hostile(_GOES_ON, lambda: gzip.compress(_WHOLE + _WHOLE)),
    "second archive in a stream of its own": Hostile(_GOES_ON, lambda: gzip.compress(_WHOLE) + gzip.compress(_WHOLE)),
    "data behind the end": Hostile(_GOES_ON, lambda: gzip.compress(_WHOLE + b"tail")),
    "garbage between members": Hostile(
        _GOES_ON, lambda: gzip.compress(_WHOLE[:5_632] + b"\x01" * 512 + _WHOLE[5_632:])
    ),
    "wrong checksum of the first header": Hostile(
        _NO_TAR, lambda: gzip.compress(_WHOLE[:148] + b"000000\0 " + _WHOLE[156:])
    ),
    "wrong checksum of the second header": Hostile(
        _GOES_ON, lambda: gzip.compress(_WHOLE[:5_780] + b"000000\0 " + _WHOLE[5_788:])
    ),
    "no files": Hostile("the archive holds no file", lambda: pack(folder("only")), folder="fine"),
    # --- paths
    "absolute path": Hostile(_ABSOLUTE, lambda: pack(file(OUTSIDE))),
    "absolute path with two slashes": Hostile(_ABSOLUTE, lambda: pack(file("/" + OUTSIDE))),
    "absolute folder": Hostile(_ABSOLUTE, lambda: pack(file("a"), folder(OUTSIDE))),
    "dot and absolute path": Hostile(_NOT_PLAIN, lambda: pack(file("./" + OUTSIDE))),
    "parent": Hostile(_CLIMBS, lambda: pack(file("../x"))),
    "parent as a folder": Hostile(_CLIMBS, lambda: pack(file("a"), folder(".."))),
    "parent inside": Hostile(_CLIMBS, lambda: pack(file("a/../../x"))),
    "parent that stays inside": Hostile(_CLIMBS, lambda: pack(file("a/../x"))),
    "parent at the end": Hostile(_CLIMBS, lambda: pack(file("a"), folder("b/.."))),
    "parent behind a dot": Hostile(_CLIMBS, lambda: pack(file("./../x"))),
    "no name": Hostile("has no name: pack it again", lambda: pack(file(""))),
    "a dot that is a file": Hostile(_TWICE, lambda: pack(file("."))),
    "a dot that is a link": Hostile(_TWICE, lambda: pack(file("a"), link(".", "a"))),
    "empty part": Hostile(_NOT_PLAIN, lambda: pack(file("a//x"))),
    "dot inside": Hostile(_NOT_PLAIN, lambda: pack(file("a/./x"))),
    "two dots at the beginning": Hostile(_NOT_PLAIN, lambda: pack(file("././x"))),
    "backslash": Hostile(_CHARACTER, lambda: pack(file("a\\..\\..\\x"))),
    "a drive": Hostile(_CHARACTER, lambda: pack(file("C:\\x"))),
    "line break": Hostile(_CHARACTER, lambda: pack(file("a\nb"))),
    "escape sequence": Hostile(_CHARACTER, lambda: pack(file("\x1b[2Ja"))),
    "a C1 control character": Hostile(_CHARACTER, lambda: pack(file("a\x9bb"))),
    "NUL in an extended name": Hostile(_CHARACTER, lambda: with_pax("path", "a\0b", file("x"))),
    "no UTF-8": Hostile(_CHARACTER, lambda: pack(file("a\udcffb"), form=tarfile.GNU_FORMAT)),
    "long path": Hostile("has more than 1,024 bytes", lambda: pack(file("/".join(["a" * 100] * 11)))),
    "long path in bytes": Hostile("has more than 1,024 bytes", lambda: pack(file("/".join(["ä" * 100] * 6)))),
    "long name": Hostile("a part of more than 255 bytes", lambda: pack(file("a" * 256))),
    "long name in bytes": Hostile("a part of more than 255 bytes", lambda: pack(file("ä" * 128))),
    "deep": Hostile("has more than 1,024 bytes", lambda: pack(file("a/" * 5_000 + "x"))),
    # --- symbolic links
    "absolute link": Hostile(_NOT_RELATIVE, lambda: pack(file("a"), link("l", "/etc/passwd"))),
    "empty link": Hostile(_NOT_RELATIVE, lambda: pack(file("a"), link("l", ""))),
    "link with a backslash": Hostile(_NOT_RELATIVE, lambda: pack(file("a"), link("l", "..\\x"))),
    "link with a line break": Hostile(_NOT_RELATIVE, lambda: pack(file("a"), link("l", "a\nb"))),
    "link to what is no UTF-8": Hostile(
        _NOT_RELATIVE, lambda: pack(file("a"), link("l", "\udcff"), form=tarfile.GNU_FORMAT)
    ),
    "link to a long path": Hostile("leads to more than 1,024 bytes", lambda: pack(file("a"), link("l", "a/" * 600))),
    "link out": Hostile(_CLIMBS, lambda: pack(file("a"), link("l", "../x"))),
    "link to the parent": Hostile(_CLIMBS, lambda: pack(file("a"), link("l", ".."))),
    "link out behind a dot": Hostile(_CLIMBS, lambda: pack(file("a"), link("l", "./../x"))),
    "deep link out": Hostile(_CLIMBS, lambda: pack(file("a/b/c"), link("a/b/l", "../../../x"))),
    "link out through a folder": Hostile(_CLIMBS, lambda: pack(file("a/b"), link("l", "a/../../x"))),
    "link out through a link": Hostile(_CLIMBS, lambda: pack(file("a"), link("here", "."), link("l", "here/../x"))),
    "link out by a chain": Hostile(_CLIMBS, lambda: pack(link("x/y/z", "../.."), link("out", "x/y/z/../evil"))),
    "link out by an extended header": Hostile(
        _NOT_RELATIVE, lambda: with_pax("linkpath", OUTSIDE, link("l", "a"), file("a"))
    ),
    "link out by a long link of GNU": Hostile(
        _CLIMBS,
        lambda: gzip.compress(extended(tarfile.GNUTYPE_LONGLINK, b"../x\0") + plain_tar(link("l", "a"), file("a"))),
    ),
    "file below a link": Hostile(_BELOW, lambda: pack(file("a/b"), link("l", "a"), file("l/c"))),
    "folder below a link": Hostile(_BELOW, lambda: pack(file("a/b"), link("l", "a"), folder("l/c"))),
    "link below a link": Hostile(_BELOW, lambda: pack(file("a/b"), link("l", "a"), link("l/m", "b"))),
    "file through a link to nothing yet": Hostile(
        _BELOW, lambda: pack(link("l", "later"), folder("later"), file("l/c"))
    ),
    "link in the place of a folder": Hostile(_TWICE, lambda: pack(file("a/b"), link("a", "c"))),
    "folder in the place of a link": Hostile(_TWICE, lambda: pack(file("b/c"), link("a", "b"), folder("a"))),
    "file over a link": Hostile(_TWICE, lambda: pack(file("b"), link("a", "b"), file("a"))),
    # --- one name for two
    "file below a file": Hostile(_BELOW, lambda: pack(file("a"), file("a/b"))),
    "folder in the place of a file": Hostile(_TWICE, lambda: pack(file("a"), folder("a"))),
    "same name twice": Hostile(_TWICE, lambda: pack(file("a"), file("a", b"y"))),
    "same name in two spellings": Hostile(_TWICE, lambda: pack(file("a"), file("./a"))),
    "same name by an extended header": Hostile(
        _TWICE,
        lambda: gzip.compress(
            extended(tarfile.XHDTYPE, record("path", "b")) + plain_tar(file("a"), file("b"), form=USTAR)
        ),
    ),
    "names that differ by case": Hostile(_ALIKE, lambda: pack(file("a.py"), file("A.py")), folder="fine"),
    "folders that differ by case": Hostile(_ALIKE, lambda: pack(file("src/a"), file("SRC/b")), folder="fine"),
    "a link and a folder that differ by case": Hostile(
        _ALIKE, lambda: pack(file("b/x"), link("a", "b"), file("A/y")), folder="fine"
    ),
    "names that differ by their Unicode form": Hostile(
        _ALIKE, lambda: pack(file("\u00e4"), file("a\u0308")), folder="fine"
    ),
    # --- other kinds
    "hard link": Hostile(_HARD, lambda: pack(file("a"), special("h", tarfile.LNKTYPE, "a"))),
    "hard link out": Hostile(_HARD, lambda: pack(file("a"), special("h", tarfile.LNKTYPE, "/etc/passwd"))),
    "hard link to a link": Hostile(
        _HARD, lambda: pack(file("a"), link("l", "a"), special("h", tarfile.LNKTYPE, "l"), file("h"))
    ),
    "hard link with content": Hostile(
        _HARD, lambda: gzip.compress(patched(plain_tar(file("h", b"x" * 600)), 156, tarfile.LNKTYPE))
    ),
    "character device": Hostile(_SPECIAL, lambda: pack(file("a"), special("d", tarfile.CHRTYPE))),
    "block device": Hostile(_SPECIAL, lambda: pack(file("a"), special("d", tarfile.BLKTYPE))),
    "named pipe": Hostile(_SPECIAL, lambda: pack(file("a"), special("p", tarfile.FIFOTYPE))),
    "contiguous file": Hostile(_SPECIAL, lambda: pack(file("a"), special("c", tarfile.CONTTYPE))),
    "socket": Hostile(_SPECIAL, lambda: pack(file("a"), special("s", b"s"))),
    "unknown kind": Hostile(_SPECIAL, lambda: pack(file("a"), special("u", b"Z"))),
    "volume of a larger archive": Hostile(_SPECIAL, lambda: pack(file("a"), special("m", b"M"))),
    "dump of a folder": Hostile(_SPECIAL, lambda: pack(file("a"), special("d", b"D"))),
    # --- sizes
    "promises more than it has": Hostile(_CUT, lambda: _truthless("a", 5_000)),
    "negative size": Hostile("negative size|backwards", lambda: _sized(b"\xff" * 12)),
    "negative size of a folder": Hostile("negative size|backwards", lambda: _sized(b"\xff" * 12, tarfile.DIRTYPE)),
    "negative size of an unknown kind": Hostile("negative size|backwards", lambda: _sized(b"\xff" * 12, b"Z")),
    "most negative size": Hostile("negative size|backwards", lambda: _sized(b"\xff" + bytes(11))),
    "size that is no number": Hostile(_NO_TAR, lambda: _sized(b"12345678xyz\0")),
    "negative size by an extended header": Hostile(
        "negative size|backwards", lambda: with_pax("size", "-512", file("a"))
    ),
    "larger size by an extended header": Hostile(_CUT, lambda: with_pax("size", "20000", file("a"))),
    "another size by an extended header": Hostile(
        _GOES_ON, lambda: with_pax("size", "0", file("a", b"x" * 600), file("b"))
    ),
    # --- extended headers
    "chain of extended headers": Hostile(_HEADERS, lambda: _pax_chain(10_000)),
    "large extended header": Hostile(_HEADERS, _large_pax_header),
    "large global header": Hostile(
        _HEADERS, lambda: gzip.compress(extended(tarfile.XGLTYPE, record("comment", "x" * (1 << 20))) + _WHOLE)
    ),
    "large name of GNU": Hostile(
        _HEADERS, lambda: gzip.compress(extended(tarfile.GNUTYPE_LONGNAME, b"a" * (1 << 20)) + _WHOLE)
    ),
    "extended header of negative size": Hostile(
        f"{_NO_TAR}|backwards|{_HEADERS}", lambda: _sized(b"\xff" * 12, tarfile.XHDTYPE)
    ),
    "extended header that is none": Hostile(
        f"{_NO_TAR}|{_GOES_ON}", lambda: gzip.compress(extended(tarfile.XHDTYPE, b"99999999999 path=x\n"))
    ),
    "extended header with a length of zero": Hostile(
        f"{_NO_TAR}|{_GOES_ON}", lambda: gzip.compress(extended(tarfile.XHDTYPE, b"0 path=x\n") + _WHOLE)
    ),
    "path out by an extended header": Hostile(_CLIMBS, lambda: with_pax("path", "../x", file("a"))),
    "absolute path by an extended header": Hostile(_ABSOLUTE, lambda: with_pax("path", OUTSIDE, file("a"))),
    "path out by a global header": Hostile(
        _CLIMBS,
        lambda: gzip.compress(extended(tarfile.XGLTYPE, record("path", "../x")) + plain_tar(file("a"), form=USTAR)),
    ),
    "path out by a long name of GNU": Hostile(
        _CLIMBS, lambda: gzip.compress(extended(tarfile.GNUTYPE_LONGNAME, b"../x\0") + plain_tar(file("a"), form=USTAR))
    ),
    "path out by the prefix of USTAR": Hostile(
        _CLIMBS, lambda: gzip.compress(patched(plain_tar(file("x"), form=USTAR), 345, b"a/../.."))
    ),
    "absolute path by the prefix of USTAR": Hostile(
        _ABSOLUTE, lambda: gzip.compress(patched(plain_tar(file("x"), form=USTAR), 345, OUTSIDE.encode()))
    ),
    # --- sparse files
    "endless sparse map": Hostile(f"{_HEADERS}|{_NO_TAR}", _pax_sparse_without_end),
    "GNU sparse file": Hostile(_SPECIAL, _gnu_sparse),
    "sparse name that leads out": Hostile(
        f"{_CLIMBS}|{_SPECIAL}", lambda: with_pax("GNU.sparse.name", "../x", file("a"))
    ),
    "sparse size alone": Hostile(
        f"{_SPECIAL}|backwards|{_CUT}", lambda: with_pax("GNU.sparse.realsize", "4096", file("a"))
    ),
    "sparse map in the header": Hostile(_SPECIAL, lambda: with_pax("GNU.sparse.map", "0,1", file("a"))),
}

TOO_LARGE: dict[str, Hostile] = {
    "promises a terabyte": Hostile(f"more than|{_CUT}", lambda: _truthless("a", 1 << 40)),
    "promises all that can be written": Hostile(f"more than|{_CUT}", lambda: _sized(b"\x80" + b"\xff" * 11)),
    "bomb": Hostile("more than", lambda: bomb(32 << 20), of_gzip=True),
    "padding bomb": Hostile("more than", lambda: trailing_bomb(32 << 20), of_gzip=True),
    "bomb of many streams": Hostile(
        "more than", lambda: gzip.compress(plain_tar(file("a"))) + gzip.compress(bytes(1 << 20)) * 40, of_gzip=True
    ),
    "too many files": Hostile(
        "more than the 1,000 files", lambda: pack(*(file(f"f{number}", b"") for number in range(2_101))), folder="fine"
    ),
    "too many folders": Hostile(
        "more than the 1,000 files",
        lambda: pack(file("a"), *(folder(f"d{number}") for number in range(2_100))),
        folder="fine",
    ),
    "too many folders by deep paths": Hostile(
        "more than the 1,000 files",
        lambda: pack(*(file(f"{number}/b/c/d/e/f", b"") for number in range(500))),
        folder="fine",
    ),
    "too many bytes in all": Hostile(
        "more than the", lambda: pack(*(file(f"f{number}", bytes(1 << 20)) for number in range(9))), folder="fine"
    ),
}

FINE: dict[str, Callable[[], bytes]] = {
    "files": lambda: pack(file("a.py"), file("src/b.py"), file("src/empty", b"")),
    "folders and dots": lambda: pack(folder("."), folder("./src"), file("./src/a.py"), folder("src/")),
    "links inside": lambda: pack(file("a/b"), link("l", "a"), link("a/c", "../a/b"), link("dangling", "nowhere")),
    "GNU format with a long name": lambda: pack(file("a/" + "b" * 200), form=tarfile.GNU_FORMAT),
    "USTAR format": lambda: pack(file("a"), form=tarfile.USTAR_FORMAT),
    "names that are not ASCII": lambda: pack(file("größe/名前.py")),
    "two gzip members": lambda: gzip.compress(_WHOLE[:1_000]) + gzip.compress(_WHOLE[1_000:]),
    "an archive in an archive": lambda: pack(file("a.tgz", gzip.compress(bytes(1 << 20)))),
    "modes that nobody gets": lambda: pack(file_with("su", mode=0o6755), file_with("all", mode=0o1777)),
    "as many files as may be": lambda: pack(*(file(f"f{number}", b"") for number in range(1_000))),
}

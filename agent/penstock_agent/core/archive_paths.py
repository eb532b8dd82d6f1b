"""Which paths and links may be in an archive: asked when one is packed, and when one is unpacked."""

from __future__ import annotations

import unicodedata

MOST_PATH_BYTES = 1024
MOST_NAME_BYTES = 255
_LONGEST_QUOTE = 100


class BadPath(Exception):
    """Names it, what is wrong with it, and the remedy."""


def plain_path(name: str, what: str) -> str:
    """Without "./" at its beginning and "/" at its end; empty: the folder itself. Raises `BadPath`."""
    if len(name.encode("utf-8", "surrogateescape")) > MOST_PATH_BYTES:
        raise BadPath(f"{quoted(name)} has more than {MOST_PATH_BYTES:,} bytes: shorten it")
    if not name:
        raise BadPath("a member of the archive has no name: pack it again")
    if name.startswith("/"):
        raise BadPath(f"{quoted(name)} is an absolute path: pack relative ones")
    plain = name.removeprefix("./").rstrip("/")
    if plain in ("", "."):
        return ""
    for part in plain.split("/"):
        _check_part(name, part, what)
    return plain


def _check_part(name: str, part: str, what: str) -> None:
    if part == "..":
        raise BadPath(f"{quoted(name)} leads out of the {what}: pack what is inside")
    if part in ("", "."):
        raise BadPath(f"{quoted(name)} is no plain path: pack it again")
    if not is_plain(part):
        raise BadPath(f"{quoted(name)} holds a character that no file name should: rename the file")
    if len(part.encode("utf-8")) > MOST_NAME_BYTES:
        raise BadPath(f"{quoted(name)} has a part of more than {MOST_NAME_BYTES} bytes: shorten it")


def is_plain(text: str) -> bool:
    """No control characters, nothing that is no UTF-8, and no backslashes, which some take for slashes."""
    return (text.isprintable() and "\\" not in text) or not any(_is_odd(character) for character in text)


def _is_odd(character: str) -> bool:
    return character == "\\" or unicodedata.category(character) in ("Cc", "Cs")


def check_link(path: str, target: str, what: str) -> None:
    """Steps up come first, and not above the folder: from there on a link can lead to places inside alone. Its own
    folder is a real one, as nothing may lie below a link. Raises `BadPath`."""
    if not target or target.startswith("/") or not is_plain(target):
        raise BadPath(
            f"the link {quoted(path)} does not lead to a relative path, so it leads out of the {what}: leave it out"
        )
    if len(target.encode("utf-8")) > MOST_PATH_BYTES:
        raise BadPath(f"the link {quoted(path)} leads to more than {MOST_PATH_BYTES:,} bytes: leave it out")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    if ups > path.count("/") or ".." in parts[ups:]:
        raise BadPath(f"the link {quoted(path)} leads out of the {what}: pack the file in its place")


def folded(path: str) -> str:
    """The same for paths that some file system takes for one."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).lower())


def quoted(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."

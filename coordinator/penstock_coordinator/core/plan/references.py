"""References to artifacts within values: objects whose one key is `$artifact`. Nothing else may have that key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from penstock_coordinator.core.plan.model import Json, Path
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.paths import NoSuchPath, follow

KEY = "$artifact"
MARK = b'"$artifact"'
"""In all JSON that holds a reference: what does not contain it need not be looked through."""
KINDS = ("value", "file", "dir")
MOST_METADATA_BYTES = 16 << 10
MOST_NAME_BYTES = 255
MOST_REFERENCES = 10_000
"""In one value."""
_LARGEST = 2**62
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ESCAPED = re.compile(rb"\\u00(?:24|[67][0-9a-fA-F])")
"""Characters of the key, written so that a search does not find them."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]{0,255}")


class BadReference(ValueError):
    """The text says what is wrong with it, and what to do."""


class Reference(NamedTuple):
    digest: str
    size: int
    kind: str
    codec: str

    @property
    def is_json(self) -> bool:
        """A value that was spilled: what it refers to may stand in its place."""
        return self.kind == "value" and self.codec == "json"


def may_refer(data: bytes) -> bool:
    """Whether the JSON may hold references: cheap, and never False where there are some."""
    return MARK in data or (b"\\u00" in data and _ESCAPED.search(data) is not None)


def references_in(value: Json) -> list[Reference]:
    """All, in the order of the text. Raises `BadReference` for what has the key and is none."""
    found: list[Reference] = []
    stack: list[Json] = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack.extend(reversed(each))
        elif isinstance(each, dict):
            if KEY in each:
                found.append(reference_of(each))
                if len(found) > MOST_REFERENCES:
                    raise BadReference(f"one value may refer to {MOST_REFERENCES:,} artifacts: use folders")
            else:
                stack.extend(reversed(each.values()))
    return found


def reference_of(value: dict[str, Json]) -> Reference:
    """Raises `BadReference`."""
    about = value[KEY]
    if len(value) != 1 or not isinstance(about, dict):
        raise BadReference(f"the key {quoted(KEY)} is for references to artifacts alone: call it something else")
    digest, size, kind, codec = (about.get(name) for name in ("digest", "size", "kind", "codec"))
    if not isinstance(digest, str) or not is_digest(digest):
        raise BadReference('the digest of a reference is "sha256:" and 64 hex digits in lower case')
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
        raise BadReference("the size of a reference is a number of bytes")
    if kind not in KINDS:
        raise BadReference("the kind of a reference is value, file or dir")
    if codec is not None and not isinstance(codec, str):
        raise BadReference("the codec of a reference is a name")
    return Reference(digest, size, str(kind), codec or "")


def reference_at(value: Json) -> Reference | None:
    """What the value refers to, if it is a reference."""
    return reference_of(value) if isinstance(value, dict) and KEY in value else None


def follow_through(path: Path, value: Json, load: Callable[[Reference], Json]) -> Json:
    """What is at the path, also within values that were spilled, which `load` gives. Raises `NoSuchPath`, and what
    `load` raises."""
    at = value
    for level, member in enumerate(path):
        found = reference_at(at)
        if found is not None and found.is_json:
            return follow_through(path[level:], load(found), load)
        try:
            at = follow((member,), at)
        except NoSuchPath:
            return follow(path, value)  # which tells the way that led there
    return at


def loaded(value: Json, load: Callable[[Reference], Json]) -> Json:
    """The value itself, if it was spilled. Files and what has a codec of its own stay references."""
    found = reference_at(value)
    if found is None:
        return value
    return load(found) if found.is_json else value


def problems_of_name(name: str) -> str | None:
    """Why this is no name of an artifact, with the remedy; None: it is one. Names become parts of paths."""
    if not name:
        return "needs a name"
    if name in (".", "..") or "/" in name or "\\" in name:
        return f"{quoted(name[:100])} leads out of its folder: a name is one part of a path, without slashes"
    if len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        return f"has a name of more than {MOST_NAME_BYTES} bytes: shorten it"
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in name) or _is_broken(name):
        return f"{quoted(name[:100])} has control characters, or is no text: leave them out"
    return None


def _is_broken(name: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in name)


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def is_word(text: str) -> bool:
    """Good for the name of a codec."""
    return _WORD.fullmatch(text) is not None


def is_media_type(text: str) -> bool:
    return _MEDIA_TYPE.fullmatch(text) is not None

"""References to artifacts inside JSON values: objects whose only key is `$artifact`.

The coordinator and the SDK write them in the same form. User values may not have the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

KEY = "$artifact"
MARK = b'"$artifact"'
"""Bytes without this have no reference."""
JSON_CODEC = "json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class BadReference(Exception):
    """An object with the key `$artifact` that is no reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    digest: str
    size: int
    kind: str
    codec: str = ""

    @property
    def is_json(self) -> bool:
        """A value that may have references of its own."""
        return self.kind == "value" and self.codec == JSON_CODEC


def parse(said: Any) -> Reference:
    """What stands under the key. Raises `BadReference`."""
    match said:
        case {"digest": str() as digest, "size": int() as size, "kind": "value" | "file" | "dir" as kind}:
            codec = said.get("codec") or ""
            if _DIGEST.fullmatch(digest) and size >= 0 and isinstance(codec, str):
                return Reference(digest, size, kind, codec)
    raise BadReference(f"an input has a malformed reference to an artifact: {str(said)[:200]}")


def find(documents: Iterable[bytes]) -> dict[str, Reference]:
    """By digest: all references in these JSON documents. ValueError: no JSON. Raises `BadReference`."""
    found: dict[str, Reference] = {}

    def look(members: dict[str, Any]) -> dict[str, Any]:
        if KEY in members:
            reference = parse(members[KEY])
            found[reference.digest] = reference
        return members

    for document in documents:
        if MARK in document:
            json.loads(document, object_hook=look)
    return found

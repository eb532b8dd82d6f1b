"""What a version of a pipeline says of the template that it was made from: labels, which its runs inherit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.json_values import Json

# The coordinator's limits: 256 bytes for a label's value, 64 labels in all.
MAX_LABEL_BYTES = 256
MAX_ARGUMENTS = 48


def template_labels(arguments: Mapping[str, Json], template: str = "") -> dict[str, str]:
    """`template.NAME` for each argument, and `template` for the template's own name if it has one.

    A value is a text as it stands, else JSON. One that is too long for a label is cut and ends with a digest of the
    whole, so two that differ look different.
    """
    labels = {"template": _label(template)} if template else {}
    return labels | {f"template.{name}": _label(value) for name, value in arguments.items()}


def _label(value: Json) -> str:
    text = value if isinstance(value, str) and value.isprintable() else _json(value)
    if len(text.encode()) <= MAX_LABEL_BYTES:
        return text
    ending = f"… sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    room = MAX_LABEL_BYTES - len(ending.encode())
    return text.encode()[:room].decode(errors="ignore") + ending


def _json(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # JSON leaves DEL and the C1 controls as they are, and a label takes no control character.
    return text if text.isprintable() else json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")

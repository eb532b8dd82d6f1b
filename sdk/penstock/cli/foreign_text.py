"""Text that steps and people wrote, as part of what a command says: it must not look like something else."""

from __future__ import annotations

import re

_RAW_IN_JSON = re.compile(r"[\x7f-\x9f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Control characters as escapes, so that nobody's text moves the cursor or colours what follows; lines and tabs
    stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def visible_json(text: str) -> str:
    """The control characters that JSON need not escape, as its escapes: still the same value."""
    return _RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04X}", text)


def first_line(text: str) -> str:
    """For places of one line: what comes behind it could be taken for lines of ours."""
    return visible(text.strip().partition("\n")[0].rstrip())

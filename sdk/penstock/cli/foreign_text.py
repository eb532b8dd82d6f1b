"""Text that steps and people wrote, as part of what a command says: it must not look like something else."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Control characters as escapes, so that nobody's text moves the cursor or colours what follows; lines and tabs
    stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def first_line(text: str) -> str:
    """For places of one line: what comes behind it could be taken for lines of ours."""
    return visible(text.strip().partition("\n")[0].rstrip())

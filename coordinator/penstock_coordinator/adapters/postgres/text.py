"""Which texts PostgreSQL's type text can hold."""

from __future__ import annotations


def storable(*texts: str) -> bool:
    """False: one of them cannot be in a text column, so nothing of that name is there."""
    return all("\0" not in text and _is_utf8(text) for text in texts)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

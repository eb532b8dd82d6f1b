"""Which version of the agent protocol a session speaks."""

from __future__ import annotations

from collections.abc import Iterable

PROTOCOL_VERSIONS = (1,)
"""All that this coordinator speaks. A new one is one in which something that was said means something else; what is
merely added is tolerated by those who do not know it, or offered as a feature."""


def common_version(spoken: Iterable[int], offered: Iterable[int]) -> int | None:
    """The greatest that both speak; None if there is none."""
    return max(set(spoken) & set(offered), default=None)

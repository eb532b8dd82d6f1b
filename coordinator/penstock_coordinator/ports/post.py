"""The post: letters between coordinators, each with a mailbox of its own.

It is lossy by contract: a letter may be lost, come twice, or come after later ones. Whoever writes says again what has
to be heard; whoever reads does the same however often a letter comes. So nothing may depend on a letter: what it says
is a reason to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAILBOX_LETTERS = 10_000
"""In one mailbox, roughly. When it is full the oldest are lost."""
LETTER_SECONDS = 60.0
"""What is not read within so long is lost."""
RECEIVED_AT_ONCE = 1_000


class Letter(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    sender: str
    """Id of a coordinator."""
    body: bytes = b""


class Post(Protocol):
    """All methods raise `Unavailable`, within a bounded time: then it is not known which letters are on their way, or
    were taken and are lost."""

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        """Letters by the ids of those who are to read them, in one batch. It is no error if somebody is not there."""

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        """Take letters out of the mailbox, RECEIVED_AT_ONCE at most; if there are none, wait up to `wait` seconds for
        some. For one reader at a time."""

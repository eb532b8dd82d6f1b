"""Which process of an agent had a session, as far as the database knows: it keeps each agent's last session with each
coordinator, and the boot id of that."""

from __future__ import annotations


class Boots:
    """Tells a restarted agent from one that was cut off."""

    def __init__(self) -> None:
        self._boot_ids: dict[int, str] = {}
        """By session: their numbers come from one sequence, whichever coordinator they are with."""
        self._newest: dict[str, int] = {}

    def add(self, agent: str, session: int, boot_id: str) -> None:
        """The agent's last session with a coordinator."""
        self._boot_ids[session] = boot_id
        self._newest[agent] = max(session, self._newest.get(agent, 0))

    def of(self, agent: str, session: int) -> tuple[int, str]:
        """The session and its boot id; of one that is not known any more the agent's newest that is, and that one's.
        (0, "") of an agent that nobody knows."""
        if session not in self._boot_ids:
            session = self._newest.get(agent, 0)
        return session, self._boot_ids.get(session, "")

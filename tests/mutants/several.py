"""The mutants of a head and its members: who owns which run, and who may say what of a lease. The simulator of the cores
finds them with members."""

from __future__ import annotations

from tests.mutants.changes import Mutant
from tests.mutants.promises import AGENT, CORE, MODEL

CUT_OFF = ("member_cut_off", "member_freeze", "member_freeze_at_commit", "coordinator_freeze", "owner_cut_off")
LEFT = ("member_crash", "member_leaves", "member_freeze", "joins_late", "hand_over")


def _broken(
    name: str,
    breaks: str,
    folder: str,
    file: str,
    before: str,
    after: str,
    *,
    faults: tuple[str, ...] = (),
    also: Mutant | None = None,
) -> Mutant:
    return Mutant(name, breaks, file, before, after, folder, "members", faults, also)


def _also(folder: str, file: str, before: str, after: str, also: Mutant | None = None) -> Mutant:
    """Another line that is broken with it."""
    return Mutant("", "", file, before, after, folder, also=also)


SEVERAL = (
    # --- who owns
    _broken(
        "a claim waits for the head alone",
        "4: when a head begins to act no member of the former one does any more",
        CORE,
        "fleet/ownership.py",
        "        owners = (self._seen[row.coordinator_id] for row in self.owners)",
        "        owners = (self._seen[row.coordinator_id] for row in self.heads)",
        faults=("head_and_member_crash", "coordinator_crash", *CUT_OFF),
    ),
    _broken(
        "a member outlives its head's claim",
        "4: a member is over with the claim that it has joined",
        MODEL,
        "journal.py",
        "        return self.raise_fences(*self.fences, owner)",
        "        return self.raise_fences(owner)",
        faults=("commit_late", "commit_slow", "coordinator_crash", *CUT_OFF),
        also=_also(MODEL, "registry.py", "            self.store.raise_fences(*owners)\n", "            pass\n"),
    ),
    _broken(
        "a member is buried although it has moved",
        "4: a burial holds if the member is still as it was seen",
        MODEL,
        "registry.py",
        "        if found.mark != member.mark:\n            return False\n",
        "",
        faults=("ownership_late", "member_freeze", "member_cut_off"),
    ),
    _broken(
        "a member is buried too soon",
        "4: a head waits for a member's whole lease",
        CORE,
        "fleet/ownership.py",
        "if self.still_for(row.coordinator_id, now) >= _waited_for(row.lease)]",
        "if self.still_for(row.coordinator_id, now) >= 0.6 * row.lease]",
        faults=CUT_OFF,
    ),
    _broken(
        "runs of members are there to be claimed",
        "4: whose row says that it owns may write",
        MODEL,
        "registry.py",
        "for row in self.rows.values() if row.state not in OWNING}",
        "for row in self.rows.values() if row.state is not OwnershipState.OWNER}",
    ),
    _broken(
        "a claim of runs ends nothing that is under way",
        "4: of one owner alone are appends to a run accepted",
        MODEL,
        "registry.py",
        "            self.store.raise_fences(*owners)\n",
        "            pass\n",
        faults=("commit_late", "member_crash", "joins_late", "member_cut_off"),
    ),
    _broken(
        "one joins while its runs are being claimed",
        "4: who joins waits for a claim of its runs",
        MODEL,
        "registry.py",
        "        self._shared.update(gone)\n",
        "",
        faults=LEFT,
        also=_also(
            MODEL,
            "registry.py",
            "        self._shared.subtract(gone)\n",
            "",
            _also(MODEL, "registry.py", "        if self.store.live_runs(name):\n            return None\n", ""),
        ),
    ),
    _broken(
        "a member's lease counts from the answer",
        "nobody acts after its lease, which begins when it is asked for",
        MODEL,
        "membership.py",
        "            seat.ownership.joined(epoch, lead, asked_at)",
        "            seat.ownership.joined(epoch, lead, seat.now() + 500_000)",
        faults=("commit_slow", *CUT_OFF),
    ),
    # --- where runs are
    _broken(
        "runs that are bound are started by members",
        "what runs share is in the memory of the head alone",
        MODEL,
        "placing.py",
        "        if seat is None or bound_by(plan):",
        "        if seat is None:",
    ),
    # --- leases
    _broken(
        "a result for a run that lives elsewhere is stale",
        "2, I11: no result is acknowledged before its fate is in the journal",
        MODEL,
        "late_words.py",
        "        if row is None or RunState(row.state).at_rest:\n            status",
        "        if row is None or RunState(row.state).at_rest or row.owner != coordinator.owner:\n            status",
        faults=("link_parted", "agent_crash", "agent_crash_at_sync", "member_freeze"),
    ),
    _broken(
        "what is not named is lost although its session is open",
        "10, I8: a grant on its way from a former owner is no lost one",
        CORE,
        "fleet/session.py",
        "    return old.hello > 0 or (old.session not in snapshot.open_sessions and not snapshot.pending)",
        "    return True",
        faults=("hand_over", "stream_delay"),
    ),
    _broken(
        "an orphan that nobody knows is over",
        "10: of a lease that lives nobody but the run's owner says that it is over",
        MODEL,
        "late_words.py",
        "        return row is None or RunState(row.state).at_rest\n",
        "        return True\n",
        faults=("link_parted", "stream_break", *LEFT),
    ),
    _broken(
        "a head judges an orphan that it has adopted meanwhile",
        "10: an attempt follows another one only if that one is over",
        MODEL,
        "late_words.py",
        "    if lease is not None and lease.token == orphan.token:",
        "    if lease is None and not orphan.token:",
        faults=LEFT,
    ),
    _broken(
        "a coordinator renews leases of another one",
        "I6: no lease is given up that its agent still holds",
        AGENT,
        "holder.py",
        "            if lease.link != session.link:\n                continue\n            if (lease.key, lease.token) in revoked",
        "            if (lease.key, lease.token) in revoked",
        faults=("link_parted",),
    ),
    _broken(
        "room is promised to each coordinator",
        "I7: of several coordinators each is offered its own part of the room",
        AGENT,
        "sharing.py",
        "        free = room - sum(session.unused for session in asking)\n        each, odd = divmod(room, len(asking))",
        "        free, each, odd = room, room, 0",
    ),
)

"""The mutants of ownership: who may act, and when. The simulator of the cores finds them with three coordinators."""

from __future__ import annotations

from tests.mutants.changes import Mutant
from tests.mutants.promises import AGENT, CORE, MODEL, RUNTIME

FROZEN = ("coordinator_freeze", "owner_freeze_at_commit", "owner_freeze_at_renewal", "owner_cut_off")


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
    return Mutant(name, breaks, file, before, after, folder, "cluster", faults, also)


def _also(folder: str, file: str, before: str, after: str) -> Mutant:
    """A second line that is broken with it."""
    return Mutant("", "", file, before, after, folder)


OWNERSHIP = (
    # --- one writer
    _broken(
        "no owner's epoch is checked",
        "4: an append is accepted from the owner with the newest epoch alone",
        MODEL,
        "journal.py",
        "        if not self.may_write(owner, epoch):\n            raise Fenced",
        "        if epoch > self.epoch:\n            raise Fenced",
        faults=FROZEN,
    ),
    _broken(
        "a result is acknowledged before the owner has committed it",
        "2, I11: what is acknowledged is committed",
        RUNTIME,
        "actor.py",
        "        self.in_flight.append(turn)\n        return turn\n",
        "        self.in_flight.append(turn)\n"
        "        soon = [each for each in turn.commands if type(each).__name__ == 'AcknowledgeResult']\n"
        "        self._supervisor.execute(self, soon)\n        return turn\n",
    ),
    _broken(
        "a lease is honoured twice",
        "10, I8: a grant counts once (there are no permits yet, that one could honour twice)",
        AGENT,
        "holder.py",
        "            if old is not None and old.token == grant.token:\n                continue\n",
        "",
        also=_also(
            MODEL,
            "sessions.py",
            "            self._link.to_agent(word)\n",
            "            self._link.to_agent(word)\n"
            "            if isinstance(word, words.Grants):\n"
            "                self._coordinator.after(30_000, self._link.to_agent, word)\n",
        ),
    ),
    # --- who may act
    _broken(
        "an ownership lease by the wall clock",
        "nobody acts after its lease, whatever people do to its clock",
        MODEL,
        "seats.py",
        "        return self.site.clock.monotonic()",
        "        return self.site.clock.now()",
        faults=("clock_jump", *FROZEN),
    ),
    _broken(
        "a take-over before the former lease has run out",
        "4: when one begins to act no former owner does any more",
        CORE,
        "fleet/ownership.py",
        "    return int(lease * (1 + 2 * DRIFT))",
        "    return int(lease * 0.6)",
        faults=FROZEN,
    ),
    _broken(
        "a renewal counts from its answer",
        "nobody acts after its lease, which begins when it is asked for",
        MODEL,
        "seats.py",
        "        ownership.renewed(asked_at, alone",
        "        ownership.renewed(now, alone",
        faults=("commit_slow", *FROZEN),
    ),
    _broken(
        "a follower claims on an old look",
        "4: whoever has moved since is waited for anew",
        CORE,
        "fleet/ownership.py",
        "    since = known.since if known.row.mark == row.mark else now",
        "    since = known.since",
    ),
    _broken(
        "a claim is granted although the owner has moved",
        "4: a claim holds if the owners are still as they were seen",
        MODEL,
        "registry.py",
        "or found != expected",
        "or found.keys() != expected.keys()",
        faults=("owner_cut_off", "commit_slow", "follower_freeze", "coordinator_freeze"),
    ),
    _broken(
        "an owner that wakes up goes on",
        "nobody acts after its lease, however late it looks at its clock",
        CORE,
        "fleet/ownership.py",
        "        return ends_at is None or now < ends_at",
        "        return self.epoch > 0",
        faults=FROZEN,
        also=_also(
            CORE,
            "fleet/standing.py",
            "        return self.ends_at is not None and now >= self.ends_at",
            "        return False",
        ),
    ),
    _broken(
        "what was committed in time is told too late",
        "nobody acts after its lease: it says nothing either",
        CORE,
        "fleet/standing.py",
        "        return self.ends_at is not None and now >= self.ends_at",
        "        return False",
        faults=FROZEN,
    ),
    _broken(
        "an owner that was alone takes itself for alone",
        "nobody acts after its lease, once others are there",
        CORE,
        "fleet/ownership.py",
        "        self.alone = alone\n",
        "        self.alone = self.alone or alone\n",
        faults=FROZEN,
    ),
    _broken(
        "a registration that comes late is believed",
        "4: an owner stays one, whatever it asked for before",
        MODEL,
        "registry.py",
        "        if before.state in OWNING and before.epoch > known:\n            return\n",
        "",
        faults=("ownership_late", "owner_cut_off", "coordinator_crash", "follower_crash", "coordinator_freeze"),
    ),
    _broken(
        "a letter is taken for the truth",
        "4: a letter is a hint, and what it says is looked up",
        MODEL,
        "seats.py",
        '        """Lost, doubled, late and from whoever: what a letter says is looked up."""\n        self.look_now()\n',
        "        if self.incarnation is None or not self.incarnation.alive:\n            self._claim()\n",
        faults=("board_lost", "hand_over", *FROZEN),
    ),
    # --- hand-over
    _broken(
        "a lease is given up before the last commit",
        "who hands over has committed all that it decided",
        MODEL,
        "seats.py",
        "        owning.lane.when_idle(drained)\n",
        "        drained()\n",
        faults=("hand_over", "commit_slow"),
    ),
    _broken(
        "a successor goes on with what it read before",
        "9: who takes over has read all that is stored",
        MODEL,
        "coordinator.py",
        "        return folded(self.store.runs[run_id], run_id, self.plan_of, self.read.get(run_id))[0]",
        "        read = self.read.get(run_id)\n"
        "        return folded(self.store.runs[run_id], run_id, self.plan_of)[0] if read is None else read[0]",
        faults=("hand_over", "commit_slow"),
    ),
    # --- agents
    _broken(
        "those who know no owner send agents round",
        "8: an agent pauses after each round",
        AGENT,
        "rounds.py",
        "            pause = self._tried > len(self._addresses) + 1",
        "            pause = False",
        also=_also(
            MODEL,
            "doorsteps.py",
            '        word = words.Goaway("not_the_leader") if owner is None else words.Redirect(owner.address)',
            '        word = words.Redirect("c1" if owner is None else owner.address)',
        ),
    ),
)

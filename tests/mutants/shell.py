"""Mutants of the shell: tasks, timers, answers and books of the coordinator's and the agent's runtime. The simulator of
the real shell hunts them."""

from __future__ import annotations

from tests.mutants.changes import Mutant

COORDINATOR = "coordinator/penstock_coordinator/runtime"
FLEET = "coordinator/penstock_coordinator/core/fleet"
AGENT = "agent/penstock_agent/runtime"
SHELL = "shell"


def _mutant(
    name: str, breaks: str, part: str, file: str, before: str, after: str, faults: tuple[str, ...] = ()
) -> Mutant:
    return Mutant(name, breaks, file, before, after, part, SHELL, faults)


SHELL_MUTANTS = (
    _mutant(
        "room that is offered and not used is kept",
        "no slot leaked: what an offer does not use is free again",
        COORDINATOR,
        "actor.py",
        "self._supervisor.give_back(permit, permit.count - used)",
        "pass",
    ),
    _mutant(
        "a discarded turn keeps its room",
        "no slot leaked: what a turn took that is not stored is free again",
        COORDINATOR,
        "actor.py",
        """            for permit, used in turn.used:
                self._supervisor.give_back(permit, used)
            for answer in turn.answers:
                answer.cancel()""",
        """            for answer in turn.answers:
                answer.cancel()""",
    ),
    _mutant(
        "results are acknowledged before the commit",
        "durable first: what an agent was told is in the journal",
        COORDINATOR,
        "actor.py",
        "        self.in_flight.append(turn)\n        return turn",
        "        self.in_flight.append(turn)\n        self._supervisor.execute(self, ledger.commands)\n"
        "        turn.commands = []\n        return turn",
    ),
    _mutant(
        "starts are answered before the commit",
        "durable first: what a client was told is in the journal",
        COORDINATOR,
        "actor.py",
        "        self.in_flight.append(turn)\n        return turn",
        "        self.in_flight.append(turn)\n        for answer in drafts.answers:\n"
        "            if not answer.done():\n                answer.set_result(Committed())\n        return turn",
    ),
    _mutant(
        "a repeated request starts again",
        "idempotent: the same request id is the same run",
        COORDINATOR,
        "supervisor.py",
        "                request=row,\n                claim=",
        "                claim=",
    ),
    _mutant(
        "recovery drops leases",
        "nothing lost: a lease from before a restart ends, or its agent comes back with it",
        COORDINATOR,
        "supervisor.py",
        "self.execute(actor, sorted(duties, key=lambda duty: not isinstance(duty, AwaitLease)))",
        "self.execute(actor, [duty for duty in duties if not isinstance(duty, AwaitLease)])",
    ),
    _mutant(
        "a run at rest keeps its places",
        "at rest is at rest: limits forget whoever has ended",
        COORDINATOR,
        "supervisor.py",
        "        self._deadlines.forget(actor)\n        self.limits.ended(actor.run_id)\n        self.children",
        "        self._deadlines.forget(actor)\n        self.children",
    ),
    _mutant(
        "those who wait for an end are not told",
        "nothing lost: a wait for a run ends with it",
        COORDINATOR,
        "supervisor.py",
        "            watcher.close()\n        self.endings.ended(actor.run_id)\n\n    # --- results",
        "            watcher.close()\n\n    # --- results",
    ),
    _mutant(
        "a superseded session lives on",
        "one session: the newest of an agent alone",
        FLEET,
        "roster.py",
        '                session.close("superseded")\n                self._detach(session)',
        "                pass",
    ),
    _mutant(
        "leases never run out",
        "nothing lost: what an agent held that does not come back runs elsewhere",
        FLEET,
        "roster.py",
        "for holder in self.leases.expired(now):",
        "for holder in ():",
    ),
    _mutant(
        "an awaited lease takes no place",
        "books: a session counts the leases that it has",
        FLEET,
        "leasing.py",
        "            connected.capacity.adopt(line)\n",
        "            pass\n",
        ("record refused",),
    ),
    _mutant(
        "what a discarded actor decided is stored",
        "one writer: what rests on a record that is not stored is not stored either",
        COORDINATOR,
        "lane.py",
        "            if not turn.actor.discarded:",
        "            if True:",
        ("record refused", "slow database"),
    ),
    _mutant(
        "watchers hear things twice",
        "watch: every event once, in order",
        COORDINATOR,
        "watching.py",
        "fresh = [(seq, event) for seq, event in taken if seq > last]",
        "fresh = taken",
    ),
    _mutant(
        "a caller who is gone stops the lane",
        "no fault of ours: a call that was cancelled is nobody's trouble",
        COORDINATOR,
        "answers.py",
        "if not self._missing and not self._all.done():",
        "if not self._missing:",
    ),
    _mutant(
        "what is accepted never begins",
        "nothing lost: an accepted lease runs",
        AGENT,
        "pen.py",
        "        if accepted:\n            self._author.written(accepted, message.seq)\n",
        "",
    ),
    _mutant(
        "the agent's timer fires once",
        "no second execution without a cause: heartbeats go on",
        AGENT,
        "agent.py",
        "        self._timer = None\n        now = clock.now()",
        "        now = clock.now()",
    ),
    _mutant(
        "every stream ends soon",
        "no second execution without a cause: a stream lives until something ends it",
        AGENT,
        "stream.py",
        "                if stream.says(message):\n                    too_late.cancel()",
        "                if stream.says(message):",
    ),
    _mutant(
        "a spool with a torn end is of no use",
        "no fault of ours: an agent that was killed starts again",
        AGENT,
        "spool.py",
        "if length > LARGEST_RECORD or end > len(data) or zlib.crc32(payload, kind) != checksum:",
        "if length > LARGEST_RECORD:",
    ),
)

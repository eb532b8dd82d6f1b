"""What a coordinator has to do, as it is published: what waits and runs on each line, and some of its runs."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from penstock_coordinator.ports.board import MOST_LINES, MOST_RUNS, BoardEntry, LineDemand, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.core.plan.model import Line
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

_LEASES_LOOKED_AT = 1_000
"""For runs to tell of."""


def demand_of(supervisor: Supervisor) -> BoardEntry:
    """Without runs. Takes time by the number of lines and leases. What is decided and not yet committed counts: it is
    for people, and for whoever has room to give."""
    lines = tuple(_lines(supervisor))
    return BoardEntry(supervisor.coordinator_id, supervisor.epoch, supervisor.live_runs, lines)


def runs_of(supervisor: Supervisor) -> tuple[RunStatus, ...]:
    """Some of the live runs, MOST_RUNS at most."""
    return tuple(_status(actor) for actor in itertools.islice(_telling(supervisor), MOST_RUNS))


def _lines(supervisor: Supervisor) -> list[LineDemand]:
    """Those with the most to do first, if there are too many; in the order of their queues."""
    now = supervisor.clock.monotonic()
    running = Counter(lease.line for lease in supervisor.fleet.leases)
    lines = {line: LineDemand(line, 0, count) for line, count in running.items()}
    for line, ready, since in supervisor.dispatcher.demands():
        lines[line] = LineDemand(line, ready, running[line], max(now - since, 0))
    most = sorted(lines.values(), key=lambda each: -(each.ready + each.running))[:MOST_LINES]
    return sorted(most, key=lambda each: _order(each.line))


def _order(line: Line) -> tuple[object, ...]:
    return line.queue, line.labels, line.resources, line.environment


def _telling(supervisor: Supervisor) -> Iterator[Actor]:
    """Runs of which steps run, then those that came first."""
    leased = (lease.key[0] for lease in itertools.islice(supervisor.fleet.leases, _LEASES_LOOKED_AT))
    told: dict[RunId, None] = {}
    for run_id in itertools.chain(leased, supervisor.live_run_ids(MOST_RUNS)):
        actor = supervisor.actor(run_id)
        if run_id not in told and actor is not None:
            told[run_id] = None
            yield actor


def _status(actor: Actor) -> RunStatus:
    run = actor.run
    counts = run.counts()
    return RunStatus(
        run_id=actor.run_id,
        pipeline=run.plan.pipeline,
        state=run.state.name,
        ready=counts.ready,
        running=counts.running,
        waiting=counts.waiting,
        completed=counts.completed,
        failed=counts.failed,
        total=sum(counts),
    )

"""What explains why a step run waits: how it stands on its line, and what sessions lack to serve the line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.environments import environment_kind
from penstock_coordinator.core.plan.model import Lack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.dispatch.lines import LineQueue
    from penstock_coordinator.core.dispatch.tiers import Tier, Waiting
    from penstock_coordinator.core.plan.model import Line


@dataclass(frozen=True, slots=True)
class Standing:
    """How an entry stands on its line."""

    priority: int
    """Of the run and the step."""
    effective_priority: int
    """With what waiting has added."""
    ahead: int
    """Places that others are given before its next one, if nobody comes and nothing but places is short."""
    since: int
    """When it was last given a place, or began to wait."""


def mismatch(capacity: Capacity, line: Line) -> tuple[Lack, ...]:
    """Why the session does not serve the line; empty if it does."""
    lacks = [] if line.queue in capacity.queues else [Lack("queue", line.queue, line.queue)]
    for key, value in line.labels:
        if capacity.labels.get(key) != value:
            lacks.append(Lack("label", key, value, capacity.labels.get(key, "")))
    for name, amount in line.resources:
        has = capacity.resources.get(name, 0.0)
        if has < amount:
            lacks.append(Lack("resource", name, f"{amount:.15g}", f"{has:.15g}"))
    kind = environment_kind(line.environment)
    why = capacity.environments.get(kind) if kind else ""
    if why != "":
        lacks.append(Lack("environment", kind, line.environment, why=why or ""))
    return tuple(lacks)


def standing(queue: LineQueue, entry: Waiting, now: int) -> Standing:
    """The standing of an entry of the queue. Takes time by the number of its entries."""
    tier = queue.tier_of(entry)
    others = (one for one in queue.entries() if one.applicant.priority != entry.applicant.priority)
    ahead = _of_tier(tier, entry) + sum(_of_other_tier(queue, one, entry, now) for one in others)
    return Standing(entry.applicant.priority, queue.effective_priority(entry, now), ahead, entry.since)


def _of_other_tier(queue: LineQueue, other: Waiting, entry: Waiting, now: int) -> int:
    """Who comes before the entry by age gets one place, and is young again; who does so by priority gets all."""
    score = queue.score(entry)
    if queue.score(other) >= score:
        return 0
    return other.demand if queue.score_if_served(other, now) < score else 1


def _of_tier(tier: Tier, entry: Waiting) -> int:
    """By the times at which those of the same priority have their turns."""
    applicant = entry.applicant
    runs = tier.runs_of(applicant.group)
    before = tier.before(entry)
    own_time = runs.time(applicant.run_id) + before / applicant.weight
    demands = _demands(tier.entries())
    ahead = before
    for run_id, (weight, demand) in demands.get(applicant.group, {}).items():
        if run_id != applicant.run_id:
            ahead += _turns(own_time - runs.time(run_id), weight, demand)
    group_time = tier.groups.time(applicant.group) + ahead / applicant.group_weight
    for group, members in demands.items():
        if group != applicant.group:
            weight = tier.group_weight(group)
            total = sum(demand for _, demand in members.values())
            ahead += _turns(group_time - tier.groups.time(group), weight, total)
    return ahead


def _demands(entries: Iterable[Waiting]) -> dict[str | None, dict[bytes, tuple[float, int]]]:
    """By group and run: the run's weight, and how many places it waits for."""
    found: dict[str | None, dict[bytes, tuple[float, int]]] = {}
    for entry in entries:
        members = found.setdefault(entry.applicant.group, {})
        _, demand = members.get(entry.applicant.run_id, (0.0, 0))
        members[entry.applicant.run_id] = (entry.applicant.weight, demand + entry.demand)
    return found


def _turns(span: float, weight: float, demand: int) -> int:
    """How many places somebody takes who is `span` of virtual time behind: those that begin before its end. Of equal
    times this counts none, as whoever came first is not known."""
    return min(demand, math.ceil(span * weight - 1e-9)) if span > 0 else 0

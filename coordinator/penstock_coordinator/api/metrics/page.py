"""The page `/metrics`. A scrape takes time by the number of metrics, methods, queues and agents, never of runs or
steps."""

from __future__ import annotations

import asyncio
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from penstock_coordinator.api.metrics.asked import AskedFigure
from penstock_coordinator.api.metrics.declared import COORDINATOR
from penstock_coordinator.api.metrics.disks import Disks, Room
from penstock_coordinator.api.metrics.families import Families
from penstock_coordinator.api.metrics.queues import put_queues, slots_of
from penstock_coordinator.core.counts.calls import FAILED, OK, REFUSED
from penstock_coordinator.core.counts.live import LiveCounts
from penstock_coordinator.core.counts.runs import INFRASTRUCTURE, NONE, POISON, USER
from penstock_coordinator.core.fleet.ownership import OwnershipState
from penstock_coordinator.core.plan.slo_tiers import SloTier
from penstock_coordinator.core.run.events import Budget
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import DependencyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.place import Place
    from penstock_coordinator.core.counts import Counts
    from penstock_coordinator.core.counts.calls import CallCounts
    from penstock_coordinator.core.counts.commits import CommitCounts
    from penstock_coordinator.core.counts.runs import RunCounts
    from penstock_coordinator.runtime.janitor import Janitor
    from penstock_coordinator.runtime.supervisor import Supervisor

_SECOND = 1_000_000
_PAID_BY = {
    Budget.NONE: NONE,
    Budget.RETRIES: USER,
    Budget.INFRASTRUCTURE: INFRASTRUCTURE,
    Budget.POISON: POISON,
}
_MEDIA = ("redis", "postgresql", "memory")
_NOBODY_LIVES = LiveCounts()
HEAD, MEMBER, FOLLOWER = "head", "member", "follower"
DATABASE = "postgresql"
"""As a dependency is called."""
MOST_LETTERS = 100_000
"""So many open ones are counted at the most."""
LETTERS_KEPT, ROOM_KEPT = 15 * _SECOND, 60 * _SECOND
"""How long the database is not asked again."""


class MetricsPage:
    """Of one process."""

    def __init__(self, readiness: Readiness, place: Place) -> None:
        self._readiness = readiness
        self._place = place
        self._letters = AskedFigure("dead_letters_open", LETTERS_KEPT)
        self._overdue = AskedFigure("retention_overdue_seconds", ROOM_KEPT)
        self._bytes = AskedFigure("database_bytes", ROOM_KEPT)
        self._disks = Disks(place.folders)
        self._process = ProcessCollector(registry=None)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type. `accept`: what the caller takes."""
        asked, disks = await asyncio.gather(self._ask(), self._disks.look())
        encode, content_type = choose_encoder(accept)
        return encode(_Scrape([*self._families(asked, disks).collect(), *self._process.collect()])), content_type

    async def _ask(self) -> dict[str, float]:
        """What is known of the database's figures."""
        supervisor, janitor = self._place.supervisor, self._place.janitor
        if supervisor is None or janitor is None:
            return {}
        stores = supervisor.stores
        letters, overdue, taken = await asyncio.gather(
            self._letters.look(supervisor, lambda: stores.dead_letters.count_open(MOST_LETTERS)),
            self._overdue.look(supervisor, janitor.overdue),
            self._bytes.look(supervisor, stores.retention.bytes_taken),
        )
        found = {
            "dead_letters_open": letters,
            "retention_overdue_seconds": None if overdue is None else overdue / _SECOND,
            "database_bytes": taken,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _families(self, asked: Mapping[str, float], disks: Mapping[str, Room]) -> Families:
        families, place = Families(COORDINATOR), self._place
        counts, supervisor = place.watched.counts, place.supervisor
        self._put_process(families)
        put_calls(families, counts.calls)
        put_runs(families, counts.runs, _NOBODY_LIVES if supervisor is None else supervisor.live)
        put_commits(families, counts.commits)
        self._put_cost(families, counts.runs)
        _put_rest(families, counts)
        families.put("relayed_agents", place.relayed())
        self._put_dependencies(families)
        for name, value in asked.items():
            families.put(name, value)
        for folder, room in disks.items():
            families.put("disk_free_bytes", room.free, folder)
            families.put("disk_size_bytes", room.size, folder)
        if supervisor is not None:
            put_queues(families, supervisor)
            _put_agents(families, supervisor)
        if place.janitor is not None:
            _put_janitor(families, place.janitor, counts.janitor.ended_at)
        return families

    def _put_process(self, families: Families) -> None:
        readiness = self._readiness
        families.put("build_info", 1, version("penstock"))
        role = role_of(self._place)
        families.put("owner", int(role == HEAD))
        for each in (HEAD, MEMBER, FOLLOWER):
            families.put("role", int(role == each), each)
        keeper = self._place.keeper
        families.put("members", 0 if keeper is None else len(keeper.members()))
        families.put("ready", int(readiness.ready))
        for cause in readiness.reasons:
            families.put("not_ready", 1, cause)
        families.put("event_loop_lag_seconds", self._place.watched.lag.most)

    def _put_cost(self, families: Families, counts: RunCounts) -> None:
        prices = self._place.prices
        slot, cpu = counts.slot_time / _SECOND, counts.cpu_time / _SECOND
        families.put("slot_seconds_total", slot)
        families.put("cpu_seconds_total", cpu)
        families.put("cost_total", slot * prices.slot + cpu * prices.cpu + counts.memory_time / 1e9 * prices.gb)

    def _put_dependencies(self, families: Families) -> None:
        supervisor, hot = self._place.supervisor, self._place.hot
        found = [] if supervisor is None else supervisor.stores.dependencies()
        if hot is not None:
            medium, redis = hot.view, hot.dependency()
            found += [] if redis is None else [redis]
            for name in _MEDIA:
                families.put("hot_state", int(medium.medium == name), name)
            families.put("hot_state_changes_total", medium.changes)
        if supervisor is None and self._place.keeper is not None:
            # Who owns no runs has no stores, and asks for ownership alone.
            families.put("dependency_up", int(self._place.keeper.database_answers), DATABASE)
        for each in found:
            families.put("dependency_up", int(each.state is DependencyState.CLOSED), each.name)
            for state in DependencyState:
                families.put("breaker_state", int(each.state is state), each.name, state.value)


def role_of(place: Place) -> str:
    if place.supervisor is None:
        return FOLLOWER
    return MEMBER if place.keeper is not None and place.keeper.role is OwnershipState.MEMBER else HEAD


def put_calls(families: Families, counts: CallCounts) -> None:
    for method in counts.methods.values():
        labels = method.service, method.method
        families.put("rpc_in_flight", method.in_flight, *labels)
        if method.seconds is not None:
            families.put_histogram("rpc_duration_seconds", method.seconds, *labels)
        for code, count in method.ended.items():
            families.put("rpc_requests_total", count, *labels, code)
        for code, count in method.forwarded.items():
            families.put("rpc_forwarded_total", count, *labels, code)
    for tier in SloTier:
        for outcome in (OK, REFUSED, FAILED):
            families.put("submissions_total", counts.submissions.get((tier, outcome), 0), tier.label, outcome)


def put_runs(families: Families, counts: RunCounts, live: LiveCounts) -> None:
    for run_state in RunState:
        if not run_state.at_rest:
            families.put("runs", live.runs[run_state], run_state.name)
    for state, count in (("READY", live.ready), ("RUNNING", live.running), ("WAITING", live.waiting)):
        families.put("steps", count, state)
    families.put("mailbox_depth", live.mail)
    families.put("mailbox_depth_most", live.deepest)
    for tier in SloTier:
        families.put("runs_started_total", counts.started[tier], tier.label)
        families.put_histogram("dispatch_wait_seconds", counts.dispatch_seconds[tier], tier.label)
    for ended, tier, cause in _endings():
        families.put("runs_ended_total", counts.ended.get((ended, tier, cause), 0), ended.name, tier.label, cause)
    for step_state in StepState:
        if step_state.at_rest:
            families.put("steps_ended_total", counts.steps_ended[step_state], step_state.name)
    for fault in (USER, INFRASTRUCTURE, POISON):
        families.put("retries_total", counts.retries.get(fault, 0), fault)
    for budget, reason in _PAID_BY.items():
        families.put("dead_letters_total", counts.letters[budget], reason)
    for cause, count in counts.losses.items():
        families.put("leases_lost_total", count, cause)
    for result, count in (("hit", counts.hits), ("miss", counts.misses), ("waited", counts.waits)):
        families.put("cache_lookups_total", count, result)


_Ending: TypeAlias = tuple[RunState, SloTier, str]


def _endings() -> Iterable[_Ending]:
    """All that there are, so that a rate is there from the first one on."""
    for state in RunState:
        if state.at_rest:
            causes = (USER, INFRASTRUCTURE) if state is RunState.FAILED else (NONE,)
            yield from ((state, tier, cause) for tier in SloTier for cause in causes)


def put_commits(families: Families, counts: CommitCounts) -> None:
    families.put_histogram("commit_duration_seconds", counts.seconds)
    families.put_histogram("commit_records", counts.records)
    families.put("commit_failures_total", counts.failures)
    families.put("journal_bytes_total", counts.bytes)
    families.put("journal_records_total", counts.stored)


def _put_rest(families: Families, counts: Counts) -> None:
    families.put("artifact_bytes_total", counts.moved.artifacts_up, "up")
    families.put("artifact_bytes_total", counts.moved.artifacts_down, "down")
    families.put("log_bytes_total", counts.moved.log_bytes)
    for reason, count in counts.refusals.items():
        families.put("admission_refused_total", count, reason)
    families.put("runs_placed_total", counts.adoptions.placed)
    families.put("runs_adopted_total", counts.adoptions.runs)
    families.put("leases_adopted_total", counts.adoptions.leases)
    families.put("results_kept_total", counts.adoptions.results_kept)
    families.put("janitor_failures_total", counts.janitor.failures)
    families.put("spans_sent_total", counts.spans.sent)
    families.put("spans_refused_total", counts.spans.refused)
    families.put("leases_sent_total", counts.grants.direct, "direct")
    families.put("leases_sent_total", counts.grants.relayed, "relayed")


def _put_agents(families: Families, supervisor: Supervisor) -> None:
    fleet = supervisor.fleet
    sessions = fleet.sessions()
    slots, used = slots_of(sessions)
    states = Counter(
        "DRAINING" if each.draining else "PAUSED" if each.holder.agent in fleet.pauses else "CONNECTED"
        for each in sessions
    )
    here = {each.holder.agent for each in sessions}
    lost = {each.agent for each in fleet.leases.holders() if each.leases and each.agent not in here}
    for state in ("CONNECTED", "DRAINING", "PAUSED"):
        families.put("agents", states[state], state)
    families.put("agents", len(lost), "LOST")
    families.put("sessions", len(sessions))
    families.put("sessions_relayed", sum(1 for each in sessions if each.via))
    families.put("slots", slots)
    families.put("slots_used", used)
    families.put("leases", len(fleet.leases))


def _put_janitor(families: Families, janitor: Janitor, ended_at: int) -> None:
    families.put("janitor_interval_seconds", janitor.interval / _SECOND)
    if ended_at:
        families.put("janitor_last_pass_timestamp_seconds", ended_at / _SECOND)


class _Scrape(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found

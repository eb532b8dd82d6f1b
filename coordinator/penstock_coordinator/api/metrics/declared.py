"""The metrics that there are. docs/metrics.md lists the same, word for word; a test holds that."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"penstock_{name}_total", "counter", labels, meaning)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"penstock_{name}", "gauge", labels, meaning)


def _histogram(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"penstock_{name}", "histogram", labels, meaning)


COORDINATOR: tuple[Metric, ...] = (
    _gauge("build_info", "1; the release is the label", "version"),
    _gauge("owner", "1 if the process owns the runs as the head, 0 if it follows, or is a member"),
    _gauge("role", "1 for what it is: head, member or follower", "role"),
    _gauge("members", "coordinators that own runs beside this head, and were heard of lately"),
    _gauge("ready", "1 if it is ready, 0 if not"),
    _gauge("not_ready", "1 for each cause that it is not ready for", "cause"),
    _gauge("event_loop_lag_seconds", "how late the event loop came to what was due: the most of about the last 15 s"),
    # calls
    _counter("rpc_requests", "calls that this process answered, by code", "service", "method", "code"),
    _histogram("rpc_duration_seconds", "how long calls took, without streams", "service", "method"),
    _gauge("rpc_in_flight", "calls under way that this process answers", "service", "method"),
    _counter(
        "rpc_forwarded", "calls that came here and that another coordinator answered", "service", "method", "code"
    ),
    _counter(
        "submissions", "calls of Start and StartMany: ok, refused (the caller's fault), failed", "slo_tier", "outcome"
    ),
    _counter("admission_refused", "calls that were not let in, by what was short", "reason"),
    # runs
    _gauge("runs", "live runs", "state"),
    _counter("runs_started", "runs that were started", "slo_tier"),
    _counter(
        "runs_ended",
        "runs that came to rest; cause is of FAILED ones: user or infrastructure",
        "state",
        "slo_tier",
        "cause",
    ),
    _counter("runs_placed", "starts of runs that this head had its members make, also repeated ones"),
    _counter(
        "runs_adopted",
        "live runs that it went on with while its others did: of coordinators that are gone, and lost ones",
    ),
    _counter("leases_adopted", "leases that agents had held by other coordinators, and that this one took over"),
    _counter("results_kept", "results that agents were not told to drop, because their runs are live elsewhere"),
    _gauge("steps", "live step runs: READY, RUNNING, WAITING", "state"),
    _counter("steps_ended", "step runs that came to rest", "state"),
    _counter("retries", "attempts that follow a failed or lost one, by whose fault that was", "reason"),
    _counter("dead_letters", "dead letters that were written, by what was used up", "reason"),
    _gauge("dead_letters_open", "dead letters that nobody has closed, up to 100,000; looked at every 15 s at most"),
    _counter("cache_lookups", "questions to the cache of values: hit, miss, waited", "result"),
    # cost
    _counter("slot_seconds", "time that ended attempts had a slot for"),
    _counter("cpu_seconds", "CPU time of ended attempts"),
    _counter("cost", "what ended attempts cost by the present prices, in PENSTOCK_CURRENCY"),
    # queues and agents
    _gauge("queue_depth", "step runs that wait for an agent", "queue"),
    _gauge("queue_running", "step runs that hold a lease", "queue"),
    _gauge("queue_oldest_wait_seconds", "how long the one has waited that has waited longest", "queue"),
    _gauge("queue_slots", "slots of connected agents that serve the queue", "queue"),
    _gauge("queue_slots_free", "those of them that are free and may be used", "queue"),
    _histogram(
        "dispatch_wait_seconds", "from when there was room for a ready step run to its committed grant", "slo_tier"
    ),
    _gauge("agents", "agents: CONNECTED, DRAINING, PAUSED, LOST (their leases are waited for)", "state"),
    _gauge("sessions", "streams of agents"),
    _gauge("sessions_relayed", "those of them that come by a coordinator that follows"),
    _gauge("relayed_agents", "agents that cannot reach the owner, and that this process passes on to it"),
    _gauge("slots", "slots of connected agents"),
    _gauge("slots_used", "those of them with a lease"),
    _gauge("leases", "leases"),
    _counter("leases_sent", "leases that were sent to agents, by their way: direct, relayed", "way"),
    _counter("leases_lost", "leases that ended without a result", "cause"),
    # journal
    _histogram("commit_duration_seconds", "how long commits of the journal took, with all tries"),
    _histogram("commit_records", "records of a commit"),
    _counter("commit_failures", "tries of commits that failed, and records that could not be stored"),
    _counter("journal_bytes", "bytes of events that were committed"),
    _counter("journal_records", "records that were committed"),
    _gauge("mailbox_depth", "messages that runs have still to read"),
    _gauge("mailbox_depth_most", "the most that one run had, of the last 15 to 30 s"),
    # bytes, and what cleans up
    _counter(
        "artifact_bytes",
        "bytes that agents brought to the artifact store (up) and were given ways to (down)",
        "direction",
    ),
    _counter("log_bytes", "bytes of steps' log lines that became durable"),
    _gauge(
        "janitor_last_pass_timestamp_seconds", "when the last whole pass of the janitor ended, since 1970; once one has"
    ),
    _gauge("janitor_interval_seconds", "PENSTOCK_JANITOR_INTERVAL: between two of its passes; 0: none by itself"),
    _counter("janitor_failures", "passes of the janitor that were broken off"),
    _gauge(
        "retention_overdue_seconds",
        "for how long the run at rest should have been gone that has stayed longest past PENSTOCK_RUN_RETENTION, 0 if"
        " none has; looked at every 60 s at most",
    ),
    _gauge("database_bytes", "bytes that the database takes; looked at every 60 s at most"),
    _gauge(
        "disk_free_bytes",
        "bytes left where it writes: its data folder, or that of a local store on the same disk, or both",
        "folder",
    ),
    _gauge("disk_size_bytes", "bytes that there are in all", "folder"),
    _counter("spans_sent", "spans of runs that the receiver of traces took"),
    _counter("spans_refused", "spans of runs that it does not want, now or later"),
    # what it depends on
    _gauge("breaker_state", "1 for the state that the breaker is in: closed, open, half_open", "dependency", "state"),
    _gauge(
        "dependency_up", "1 if calls to it go through; a follower tells it of postgresql, and of redis", "dependency"
    ),
    _gauge("hot_state", "1 for where coordinators share what they know: redis, postgresql, memory", "medium"),
    _counter("hot_state_changes", "how often that went elsewhere"),
)
"""At `/metrics` of a coordinator; those of prometheus-client about the process besides."""

"""What Grafana's dashboards show: panels with their units and queries. scripts/write_dashboards.py makes JSON of it."""

from __future__ import annotations

from grafana_foundation_sdk.models import units
from scripts.dashboard_panels import Board, Row, lines, quantile, rate, stack, stat

OURS = '{job=~"penstock.*"}'

OVERVIEW = Board(
    "penstock-overview",
    "Penstock / Overview",
    "Whether it works, and for whom it does not.",
    (
        Row(
            "Now",
            (
                stat("Owners", "sum(penstock_owner)", "Coordinators that own the runs: one.", red_below=1),
                stat("Ready", "sum(penstock_ready)", "Coordinators that are ready.", red_below=1),
                stat("Live runs", "sum(penstock_runs)", "Runs that are not at rest."),
                stat("Waiting steps", "sum(penstock_queue_depth)", "Steps that wait for an agent."),
                stat("Sessions", "sum(penstock_sessions)", "Agents that are connected.", red_below=1),
                stat("Open dead letters", "max(penstock_dead_letters_open)", "Steps that failed for good.", red_from=1),
                stat(
                    "Alerts",
                    'count(ALERTS{alertstate="firing",severity=~"page|ticket"}) or vector(0)',
                    "Alerts that fire now.",
                    red_from=1,
                ),
                stat("Builds", "count(count by (version) (penstock_build_info))", "Versions of coordinators at once."),
            ),
        ),
        Row(
            "What users get",
            (
                lines(
                    "Starts of runs",
                    units.RequestsPerSecond,
                    "Accepted, refused for the caller's fault, failed for ours.",
                    (rate("penstock_submissions_total", "outcome"), "{{outcome}}"),
                ),
                stack(
                    "Runs that end",
                    units.OpsPerSecond,
                    "By the state that they come to rest in.",
                    (rate("penstock_runs_ended_total", "state"), "{{state}}"),
                ),
                lines(
                    "From ready to granted",
                    units.Seconds,
                    "How long steps wait for which there is room.",
                    (quantile(0.5, "penstock_dispatch_wait_seconds"), "p50"),
                    (quantile(0.99, "penstock_dispatch_wait_seconds"), "p99"),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                lines(
                    "Calls",
                    units.RequestsPerSecond,
                    "By method.",
                    (rate("penstock_rpc_requests_total", "service", "method"), "{{service}}/{{method}}"),
                ),
                lines(
                    "Calls that do not end well",
                    units.RequestsPerSecond,
                    "By gRPC's code.",
                    (rate('penstock_rpc_requests_total{code!="OK"}', "code"), "{{code}}"),
                ),
                lines(
                    "Duration of calls, p99",
                    units.Seconds,
                    "Streams last for as long as they are read.",
                    (quantile(0.99, "penstock_rpc_duration_seconds", "service", "method"), "{{service}}/{{method}}"),
                ),
                lines(
                    "Calls under way",
                    units.Short,
                    "By method.",
                    ("sum by (service, method) (penstock_rpc_in_flight)", "{{service}}/{{method}}"),
                ),
                lines(
                    "Refused for want of room",
                    units.RequestsPerSecond,
                    "By what is short.",
                    (rate("penstock_admission_refused_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "Not ready",
                    units.Short,
                    "Coordinators that are not, by cause.",
                    ("sum by (cause) (penstock_not_ready)", "{{cause}}"),
                    ("sum(1 - penstock_ready)", "all"),
                ),
            ),
        ),
    ),
)

RUNS = Board(
    "penstock-runs",
    "Penstock / Runs",
    "Runs, steps, what they wait for, and how they end.",
    (
        Row(
            "Runs",
            (
                stack("Live runs", units.Short, "By state.", ("sum by (state) (penstock_runs)", "{{state}}")),
                lines(
                    "Runs that start",
                    units.OpsPerSecond,
                    "By tier.",
                    (rate("penstock_runs_started_total", "slo_tier"), "{{slo_tier}}"),
                ),
                lines(
                    "Runs that end",
                    units.OpsPerSecond,
                    "By state, and of failed ones by whose fault it was.",
                    (rate("penstock_runs_ended_total", "state", "cause"), "{{state}} {{cause}}"),
                ),
            ),
        ),
        Row(
            "Steps",
            (
                stack("Live steps", units.Short, "By state.", ("sum by (state) (penstock_steps)", "{{state}}")),
                lines(
                    "Steps that end",
                    units.OpsPerSecond,
                    "By state.",
                    (rate("penstock_steps_ended_total", "state"), "{{state}}"),
                ),
                lines(
                    "Retries",
                    units.OpsPerSecond,
                    "By the budget that they are charged to.",
                    (rate("penstock_retries_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "Dead letters",
                    units.OpsPerSecond,
                    "By the budget that was used up.",
                    (rate("penstock_dead_letters_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "The cache",
                    units.OpsPerSecond,
                    "Lookups by what was found.",
                    (rate("penstock_cache_lookups_total", "result"), "{{result}}"),
                ),
                lines(
                    "Cost",
                    units.Short,
                    "In a second, by the prices of the configuration.",
                    (rate("penstock_cost_total"), "cost"),
                ),
            ),
        ),
        Row(
            "Queues",
            (
                stack(
                    "Waiting steps", units.Short, "By queue.", ("sum by (queue) (penstock_queue_depth)", "{{queue}}")
                ),
                lines(
                    "Oldest wait",
                    units.Seconds,
                    "Of a step that is ready, by queue.",
                    ("max by (queue) (penstock_queue_oldest_wait_seconds)", "{{queue}}"),
                ),
                lines(
                    "Running steps",
                    units.Short,
                    "By queue.",
                    ("sum by (queue) (penstock_queue_running)", "{{queue}}"),
                ),
                lines(
                    "Slots",
                    units.Short,
                    "By queue: all, and those that are free. One that serves several queues counts for each.",
                    ("sum by (queue) (penstock_queue_slots)", "{{queue}}"),
                    ("sum by (queue) (penstock_queue_slots_free)", "{{queue}} free"),
                ),
                lines(
                    "From ready to granted, p99",
                    units.Seconds,
                    "By tier, of steps for which there is room.",
                    (quantile(0.99, "penstock_dispatch_wait_seconds", "slo_tier"), "{{slo_tier}}"),
                ),
            ),
        ),
    ),
)

AGENTS = Board(
    "penstock-agents",
    "Penstock / Agents",
    "Agents as coordinators see them, and as they see themselves.",
    (
        Row(
            "As coordinators see them",
            (
                stack("Agents", units.Short, "By state.", ("max by (state) (penstock_agents)", "{{state}}")),
                lines(
                    "Slots",
                    units.Short,
                    "Of all connected agents.",
                    ("sum(penstock_slots)", "all"),
                    ("sum(penstock_slots_used)", "used"),
                    ("sum(penstock_leases)", "leases"),
                ),
                lines(
                    "Leases that are lost",
                    units.OpsPerSecond,
                    "By cause.",
                    (rate("penstock_leases_lost_total", "cause"), "{{cause}}"),
                ),
            ),
        ),
        Row(
            "As they see themselves",
            (
                lines("Connected", units.Short, "1, or 0.", ("penstock_agent_connected", "{{instance}}")),
                lines(
                    "Slots in use",
                    units.PercentUnit,
                    "Of those that the agent has.",
                    ("penstock_agent_slots_used / penstock_agent_slots", "{{instance}}"),
                ),
                lines("Leases", units.Short, "Begun, and waiting to begin.", ("penstock_agent_leases", "{{instance}}")),
                lines(
                    "Attempts that end",
                    units.OpsPerSecond,
                    "By result.",
                    (rate("penstock_agent_attempts_total", "result"), "{{result}}"),
                ),
                lines(
                    "Duration of attempts",
                    units.Seconds,
                    "Of all agents.",
                    (quantile(0.5, "penstock_agent_attempt_duration_seconds"), "p50"),
                    (quantile(0.99, "penstock_agent_attempt_duration_seconds"), "p99"),
                ),
                lines(
                    "Step processes",
                    units.Short,
                    "Warm ones among them.",
                    ("penstock_agent_step_processes", "{{instance}}"),
                ),
                lines(
                    "Results that wait",
                    units.Short,
                    "In the spool, for an acknowledgement.",
                    ("penstock_agent_spooled_results", "{{instance}}"),
                ),
                lines(
                    "Size of spools",
                    units.BytesIEC,
                    "Files of those results.",
                    ("penstock_agent_spool_bytes", "{{instance}}"),
                ),
                lines(
                    "Room on disks",
                    units.PercentUnit,
                    "Left on the disks of their data folders.",
                    ("penstock_agent_disk_free_bytes / penstock_agent_disk_size_bytes", "{{instance}}"),
                ),
                lines(
                    "Log lines that wait",
                    units.Short,
                    "For a coordinator that stores them.",
                    ("penstock_agent_log_lines_waiting", "{{instance}}"),
                ),
                lines(
                    "Reconnects",
                    units.OpsPerSecond,
                    "Streams that were begun anew.",
                    (rate("penstock_agent_reconnects_total", "instance"), "{{instance}}"),
                ),
                lines(
                    "Builds of environments",
                    units.OpsPerSecond,
                    "By result.",
                    (rate("penstock_agent_environment_builds_total", "result"), "{{result}}"),
                ),
                lines(
                    "Cache of artifacts",
                    units.BytesIEC,
                    "On the agent's disk.",
                    ("penstock_agent_artifact_cache_bytes", "{{instance}}"),
                ),
                lines(
                    "Lateness of event loops",
                    units.Seconds,
                    "The most of the last 15 s.",
                    ("penstock_agent_event_loop_lag_seconds", "{{instance}}"),
                ),
                lines(
                    "Versions",
                    units.Short,
                    "Agents by version.",
                    ("count by (version) (penstock_agent_build_info)", "{{version}}"),
                ),
            ),
        ),
    ),
)

DATABASE = Board(
    "penstock-database",
    "Penstock / Database and journal",
    "Commits, dependencies, and what coordinators take of their machines.",
    (
        Row(
            "Journal",
            (
                lines(
                    "Duration of commits",
                    units.Seconds,
                    "Every step waits for one.",
                    (quantile(0.5, "penstock_commit_duration_seconds"), "p50"),
                    (quantile(0.99, "penstock_commit_duration_seconds"), "p99"),
                ),
                lines(
                    "Records of a commit",
                    units.Short,
                    "On average; more of them when there is much to do.",
                    (f"{rate('penstock_commit_records_sum')} / {rate('penstock_commit_records_count')}", "records"),
                ),
                lines(
                    "Commits",
                    units.OpsPerSecond,
                    "Done, and failed.",
                    (rate("penstock_commit_duration_seconds_count"), "done"),
                    (rate("penstock_commit_failures_total"), "failed"),
                ),
                lines(
                    "Records",
                    units.OpsPerSecond,
                    "Of the journal.",
                    (rate("penstock_journal_records_total"), "records"),
                ),
                lines(
                    "Bytes", units.BytesPerSecondIEC, "Of the journal.", (rate("penstock_journal_bytes_total"), "bytes")
                ),
                lines(
                    "Mailboxes",
                    units.Short,
                    "Messages that wait for runs: of all, and of the one with most.",
                    ("sum(penstock_mailbox_depth)", "all"),
                    ("max(penstock_mailbox_depth_most)", "most"),
                ),
            ),
        ),
        Row(
            "Dependencies",
            (
                lines(
                    "Up",
                    units.Short,
                    "The least that any coordinator sees: 1, or 0.",
                    ("min by (dependency) (penstock_dependency_up)", "{{dependency}}"),
                ),
                lines(
                    "Breakers that are not closed",
                    units.Short,
                    "Coordinators by dependency.",
                    (
                        'sum by (dependency, state) (penstock_breaker_state{state!="closed"})',
                        "{{dependency}} {{state}}",
                    ),
                ),
                lines(
                    "Hot state",
                    units.Short,
                    "By what coordinators hear of each other, and how often that changed in an hour.",
                    ("sum by (medium) (penstock_hot_state)", "{{medium}}"),
                    ("sum(increase(penstock_hot_state_changes_total[1h]))", "changes"),
                ),
                lines(
                    "Artifacts",
                    units.BytesPerSecondIEC,
                    "By direction.",
                    (rate("penstock_artifact_bytes_total", "direction"), "{{direction}}"),
                ),
                lines(
                    "Logs", units.BytesPerSecondIEC, "Of steps, as stored.", (rate("penstock_log_bytes_total"), "logs")
                ),
            ),
        ),
        Row(
            "Room",
            (
                lines(
                    "Database", units.BytesIEC, "What it takes in all.", ("max(penstock_database_bytes)", "database")
                ),
                lines(
                    "Room on disks",
                    units.PercentUnit,
                    "Left where coordinators write.",
                    ("penstock_disk_free_bytes / penstock_disk_size_bytes", "{{instance}} {{folder}}"),
                ),
                lines(
                    "Overdue runs",
                    units.Seconds,
                    "For how long the run should have been gone that has stayed longest past its retention.",
                    ("max(penstock_retention_overdue_seconds)", "overdue"),
                ),
                lines(
                    "Janitor",
                    units.Seconds,
                    "Since its last whole pass.",
                    ("time() - penstock_janitor_last_pass_timestamp_seconds", "{{instance}}"),
                ),
            ),
        ),
        Row(
            "Processes",
            (
                lines(
                    "Lateness of event loops",
                    units.Seconds,
                    "The most of the last 15 s. From half a second on new work is refused.",
                    ("penstock_event_loop_lag_seconds", "{{instance}}"),
                ),
                lines(
                    "CPU",
                    units.PercentUnit,
                    "Of one core.",
                    (f"rate(process_cpu_seconds_total{OURS}[$__rate_interval])", "{{instance}}"),
                ),
                lines("Memory", units.BytesIEC, "Resident.", (f"process_resident_memory_bytes{OURS}", "{{instance}}")),
                lines(
                    "Open files",
                    units.PercentUnit,
                    "Of those that the process may have.",
                    (f"process_open_fds{OURS} / process_max_fds{OURS}", "{{instance}}"),
                ),
                lines(
                    "Ownership",
                    units.Short,
                    "1: owns the runs.",
                    ("penstock_owner", "{{instance}}"),
                ),
            ),
        ),
    ),
)

SLO = Board(
    "penstock-slo",
    "Penstock / Objectives",
    "What is promised to three tiers of pipelines, and how much of the error budgets is left.",
    (
        Row(
            "Error budgets of 30 days",
            (
                lines(
                    "Left of the budget",
                    units.PercentUnit,
                    "Below 0 the promise is broken.",
                    ("penstock:slo_error_budget:remaining_ratio30d", "{{slo}} {{slo_tier}}"),
                ),
                lines(
                    "Share of bad events in 30 days",
                    units.PercentUnit,
                    "By objective and tier.",
                    ("penstock:slo_errors:ratio_rate30d", "{{slo}} {{slo_tier}}"),
                ),
                lines(
                    "Budgets",
                    units.PercentUnit,
                    "What share of events may be bad.",
                    ("penstock:slo_error_budget:ratio", "{{slo_tier}}"),
                ),
            ),
        ),
        Row(
            "How fast they are used up",
            tuple(
                lines(
                    f"Within {window}",
                    units.Short,
                    f"Times faster than it may be; {told}.",
                    (f"penstock:slo_burn:rate{window}", "{{slo}} {{slo_tier}}"),
                )
                for window, told in (
                    ("5m", "with the hour above 14.4 it pages"),
                    ("1h", "above 14.4 it pages"),
                    ("6h", "above 6 it pages"),
                    ("1d", "above 3 it is a ticket"),
                    ("3d", "above 1 it is a ticket"),
                )
            ),
        ),
        Row(
            "Events",
            (
                lines(
                    "Starts",
                    units.OpsPerSecond,
                    "By tier and outcome.",
                    (rate("penstock_submissions_total", "slo_tier", "outcome"), "{{slo_tier}} {{outcome}}"),
                ),
                lines(
                    "Grants",
                    units.OpsPerSecond,
                    "Of steps for which there was room, by tier.",
                    (rate("penstock_dispatch_wait_seconds_count", "slo_tier"), "{{slo_tier}}"),
                ),
                lines(
                    "Ends of runs",
                    units.OpsPerSecond,
                    "By tier and state.",
                    (rate("penstock_runs_ended_total", "slo_tier", "state"), "{{slo_tier}} {{state}}"),
                ),
            ),
        ),
    ),
)

BOARDS = (OVERVIEW, RUNS, AGENTS, DATABASE, SLO)

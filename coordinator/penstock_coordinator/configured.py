"""What the settings mean for each part of a coordinator."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.artifacts.opening import local_folder
from penstock_coordinator.adapters.secret_cipher import BadKey, kept_keys
from penstock_coordinator.api.bundle_archive import ArchiveLimits
from penstock_coordinator.api.encoding.costs import Prices
from penstock_coordinator.api.server import EdgeOptions
from penstock_coordinator.core.dispatch.fairness import Fairness
from penstock_coordinator.core.plan.budget import Prices as BudgetPrices
from penstock_coordinator.core.plan.limits import LOWERABLE, RAISABLE, RUN_SETTINGS, Limits, RunLimits, setting_of
from penstock_coordinator.core.run.spans import microseconds
from penstock_coordinator.log_masking import passwords_in, secrets_of
from penstock_coordinator.process_memory import trim_memory
from penstock_coordinator.runtime.admission import Bounds
from penstock_coordinator.runtime.caching import CacheTiming
from penstock_coordinator.runtime.log_packer import PackPace
from penstock_coordinator.runtime.retention import Pace, Retention
from penstock_coordinator.runtime.supervisor import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from penstock_coordinator.settings import Settings


def hidden(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """What no line of the log may tell."""
    given = [each.get_secret_value() for each in (settings.database_url, settings.redis_url) if each is not None]
    found = [password for url in given for password in passwords_in(url)]
    with suppress(BadKey):  # it is told of where they are used
        found += [base64.b64encode(key).decode() for key in kept_keys(settings)]
    return [*found, *secrets_of(environment)]


def timing(settings: Settings, memory: int) -> Timing:
    """On a machine with so many bytes of memory."""
    return Timing(
        heartbeat_interval=microseconds(settings.heartbeat_interval),
        lease_ttl=microseconds(settings.lease_ttl),
        expiry_margin=microseconds(settings.expiry_margin),
        accept_timeout=microseconds(settings.accept_timeout),
        result_resend_interval=microseconds(settings.result_resend_interval),
        stop_grace=microseconds(settings.stop_grace),
        max_output_bytes=settings.max_output_size,
        inline_output_bytes=min(settings.inline_output_size, settings.max_output_size),
        output_cache_bytes=settings.output_cache_size,
        max_live_runs=settings.max_live_runs,
        admission=bounds(settings, memory),
        commit_patience=microseconds(settings.commit_patience),
        max_watchers=settings.max_watchers,
        max_watchers_of_run=settings.max_watchers_of_run,
        run_limits=run_limits_of(settings),
        prices=prices_of(settings),
        cache=CacheTiming(
            reservation_ttl=microseconds(settings.cache_reservation_ttl),
            patience=microseconds(settings.cache_patience),
        ),
    )


def bounds(settings: Settings, memory: int) -> Bounds:
    return Bounds(
        backlog=settings.max_backlog,
        lag=microseconds(settings.max_loop_lag),
        commit=microseconds(settings.max_commit_lag),
        memory=settings.max_memory or memory * 3 // 4,
    )


def retention(settings: Settings) -> Retention:
    return Retention(
        runs=microseconds(settings.run_retention),
        runs_of_pipeline=settings.runs_kept_per_pipeline,
        logs=microseconds(settings.log_retention),
        requests=microseconds(settings.request_retention),
        bulk_jobs=microseconds(settings.bulk_job_retention),
        closed_letters=microseconds(settings.closed_letter_retention),
        cache_entries=microseconds(settings.cache_retention),
        cache_entries_kept=settings.cache_entries_kept,
        deleted_pipelines=microseconds(settings.deleted_pipeline_retention),
        unused_bundles=microseconds(settings.unused_bundle_retention),
        notes=microseconds(settings.removed_run_retention),
        artifacts=microseconds(settings.artifact_retention),
        artifacts_of=tuple((name, microseconds(span)) for name, span in settings.artifact_retention_of.items()),
        artifacts_kept=settings.artifacts_kept,
        unpublished=microseconds(settings.artifact_grace),
    )


def pace(settings: Settings) -> Pace:
    return Pace(
        interval=microseconds(settings.janitor_interval),
        batch=settings.janitor_batch,
        pause=microseconds(settings.janitor_pause),
    )


def pack_pace(settings: Settings) -> PackPace:
    return PackPace(after=microseconds(settings.log_pack_after), backlog_bytes=settings.log_backlog_size)


def fairness(settings: Settings) -> Fairness:
    return Fairness(
        aging=microseconds(settings.priority_aging),
        label=settings.fairness_label,
        weights=settings.fairness_weights,
    )


def edge_options(settings: Settings) -> EdgeOptions:
    limits = ArchiveLimits(
        packed_bytes=settings.max_bundle_size,
        unpacked_bytes=settings.max_bundle_unpacked_size,
        files=settings.max_bundle_files,
    )
    keepalive_ms = microseconds(settings.keepalive_interval) // 1_000
    return EdgeOptions(
        settings.listen,
        settings.http_listen,
        settings.reflection,
        limits,
        limits_of(settings),
        keepalive_ms,
        settings.max_artifact_size,
        Prices(settings.price_slot_second, settings.price_cpu_second, settings.price_gb_second, settings.currency),
        folders=folders(settings),
        trim=trim_memory,
    )


def folders(settings: Settings) -> dict[str, Path]:
    """That the process writes to, of each disk one: two would tell the same, and alert twice."""
    artifacts = local_folder(settings.artifacts_url, settings.data_dir)
    if artifacts is None:
        return {"data": settings.data_dir}
    with suppress(OSError):
        if artifacts.stat().st_dev == settings.data_dir.stat().st_dev:
            return {"artifacts": artifacts}
    return {"data": settings.data_dir, "artifacts": artifacts}


def limits_of(settings: Settings) -> Limits:
    given: dict[str, int] = {limit: getattr(settings, setting_of(limit)) for limit in (*RAISABLE, *LOWERABLE)}
    return Limits(**given)


def prices_of(settings: Settings) -> BudgetPrices:
    return BudgetPrices(settings.price_slot_second, settings.price_cpu_second, settings.price_gb_second)


def run_limits_of(settings: Settings) -> RunLimits:
    given: dict[str, int] = {limit: getattr(settings, name) for limit, name in RUN_SETTINGS.items()}
    return RunLimits(**given)

"""The label by which a pipeline says how much it matters."""

from __future__ import annotations

from collections.abc import Mapping

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.slo_tiers import LABEL, TIERS
from penstock_coordinator.core.plan.validation.report import Report


def check_slo_tier(report: Report, field: str, labels: Mapping[str, str]) -> None:
    tier = labels.get(LABEL)
    if tier is None or tier in TIERS:
        return
    shown = tier if len(tier) <= 40 else f"{tier[:40]}…"
    known = ", ".join(TIERS)
    report.add(f"{field}[{LABEL}]", f"{quoted(shown)} is no tier: use one of {known}, or remove the label for default")

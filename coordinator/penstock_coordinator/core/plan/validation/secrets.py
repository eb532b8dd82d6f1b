"""The secrets that steps name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import NAME, quoted
from penstock_coordinator.core.plan.validation.environment import variable_fault
from penstock_coordinator.core.plan.validation.report import Report
from penstock_coordinator.core.plan.validation.texts import check_name

MOST = 64


def check_secrets(
    report: Report, field: str, secrets: Sequence[pb.SecretUse], env: Mapping[str, str], limits: Limits
) -> None:
    """`env`: the other variables of the same step."""
    if len(secrets) > MOST:
        report.add(field, f"there are {len(secrets):,} secrets, past the limit of {MOST}: remove some")
        return
    seen: dict[tuple[str, str], int] = {}
    for number, use in enumerate(secrets):
        place = f"{field}[{number}]"
        check_name(report, f"{place}.name", use.name, limits)
        if use.env:
            _check_variable(report, f"{place}.env", use.env, env)
        if use.file and not NAME.fullmatch(use.file):
            report.add(f"{place}.file", f"{quoted(use.file)} is no name of a file: use letters, digits, '_', '-', '.'")
        for kind in ("name", "env", "file"):
            value = getattr(use, kind)
            first = seen.setdefault((kind, value), number)
            if value and first != number:
                report.add(f"{place}.{kind}", f"{quoted(value)} is that of {field}[{first}] too: choose another")


def _check_variable(report: Report, place: str, name: str, env: Mapping[str, str]) -> None:
    fault = variable_fault(name)
    if fault is None and name in env:
        fault = f"{quoted(name)} is a variable of env too: choose another"
    if fault is not None:
        report.add(place, fault)

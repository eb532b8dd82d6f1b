"""The environment variables of steps."""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock_coordinator.core.plan.limits import Limits, or_raise
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.report import Report, member

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST = 128
RESERVED = "PENSTOCK_"


def check_environment(report: Report, field: str, env: Mapping[str, str], limits: Limits) -> None:
    if not env:
        return
    if len(env) > limits.env:
        text = f"there are {len(env):,} variables, past the limit of {limits.env}: remove some"
        report.add(field, text + or_raise("env"))
        return
    size = 0
    for name in sorted(env):
        value = env[name]
        place = f"{field}[{member(name)}]"
        fault = variable_fault(name)
        if fault is not None:
            report.add(place, fault)
        if "\x00" in value:
            report.add(place, "the value has a NUL character, which no environment can hold: remove it")
        size += len(name.encode()) + len(value.encode())
    if size > limits.env_bytes:
        text = f"the variables have {size:,} bytes, past the limit of {limits.env_bytes:,}: use inputs"
        report.add(field, text + or_raise("env_bytes"))


def variable_fault(name: str) -> str | None:
    if not name:
        return "the name is empty: use letters, digits and '_', not beginning with a digit"
    if "\x00" in name or "=" in name:
        return f"the name {quoted(name)} has a NUL or '=': use letters, digits and '_', not beginning with a digit"
    if len(name) > _LONGEST:
        return f"the name has {len(name):,} characters, past the limit of {_LONGEST}: shorten it"
    if not _VARIABLE.fullmatch(name):
        return f"{quoted(name)} is no name of a variable: use letters, digits and '_', not beginning with a digit"
    if name.startswith(RESERVED):
        return f"names that begin with {RESERVED} are reserved: choose another"
    return None

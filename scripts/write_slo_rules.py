"""Writes deploy/prometheus/rules/slo.yml: how fast error budgets are used up, and the alerts when it is too fast.

python -m scripts.write_slo_rules [--check]

Three objectives, three tiers of pipelines, eight windows: what differs between them is in the tables below. With
--check nothing is written; the exit code says whether the file is as it should be. docs/slo.md says what is promised.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "deploy" / "prometheus" / "rules" / "slo.yml"
REMEDY = "deploy/prometheus/rules/slo.yml is not what scripts/write_slo_rules.py says: make monitoring writes it"
HEADER = (
    "# Written by `make monitoring` from scripts/write_slo_rules.py: do not edit. docs/slo.md says what is promised.\n"
)

BUDGETS = {"critical": "0.0001", "default": "0.001", "non-critical": "0.01"}
"""What share of all events may be bad, by tier: 99.99 %, 99.9 % and 99 % are promised."""
SHORT_WINDOWS = ("5m", "30m", "1h", "2h", "6h")
LONG_WINDOWS = ("1d", "3d", "30d")
"""Asked less often: they change slowly, and are dear to ask for."""
LONG_INTERVAL = "2m"
RUNBOOKS = "{{ $externalLabels.runbook_base }}docs/runbooks"
"""A path in this repository, behind whatever Prometheus' external label `runbook_base` says, if there is one."""


@dataclass(frozen=True)
class Objective:
    """Counters of a good and a bad outcome, by tier."""

    name: str
    alert: str
    what: str
    bad: str
    """PromQL of the bad events in a second; WINDOW stands for the window."""
    all: str
    """Of all events that count, in the same way."""


@dataclass(frozen=True)
class Burning:
    """A speed at which a budget of 30 days must not be used up: seen in a long window, and in a short one, so that the
    alert ends soon after its cause."""

    long: str
    short: str
    speed: str


OBJECTIVES = (
    Objective(
        name="submission",
        alert="PenstockSubmissionBudgetBurns",
        what="starts of runs fail for a reason that is not the caller's",
        bad='penstock_submissions_total{outcome="failed"}[WINDOW]',
        all='penstock_submissions_total{outcome=~"ok|failed"}[WINDOW]',
    ),
    Objective(
        name="dispatch",
        alert="PenstockDispatchBudgetBurns",
        what="steps wait longer than a second although an agent has room for them",
        bad="",
        all="penstock_dispatch_wait_seconds_count[WINDOW]",
    ),
    Objective(
        name="completion",
        alert="PenstockCompletionBudgetBurns",
        what="runs fail for a reason that is not their own",
        bad='penstock_runs_ended_total{state="FAILED",cause="infrastructure"}[WINDOW]',
        all="penstock_runs_ended_total[WINDOW]",
    ),
)
PAGES = (Burning("1h", "5m", "14.4"), Burning("6h", "30m", "6"))
TICKETS = (Burning("1d", "2h", "3"), Burning("3d", "6h", "1"))


def errors(objective: Objective, window: str) -> str:
    """The share of bad events in the window, by tier. None are 0, and no events at all are no number."""
    everything = _rate(objective.all, window)
    if objective.bad:
        # A counter of bad events that nobody has raised yet may be missing.
        bad = f"({_rate(objective.bad, window)} or 0 * {everything})"
    else:
        # Whether a client writes the bound as 1 or as 1.0 is a matter of its language.
        soon = _rate('penstock_dispatch_wait_seconds_bucket{le=~"1|1.0"}[WINDOW]', window)
        bad = f"({everything} - {soon})"
    return f"{bad}\n/\n{everything}\n"


def _rate(selector: str, window: str) -> str:
    return f"sum by (slo_tier) (rate({selector.replace('WINDOW', window)}))"


def rules() -> dict[str, Any]:
    return {
        "groups": [
            {"name": "penstock-slo", "rules": [*_budgets(), *_recorded(SHORT_WINDOWS)]},
            {"name": "penstock-slo-long", "interval": LONG_INTERVAL, "rules": [*_recorded(LONG_WINDOWS), _remaining()]},
            {"name": "penstock-slo-alerts", "rules": _alerts()},
        ]
    }


def _budgets() -> list[dict[str, Any]]:
    return [
        {"record": "penstock:slo_error_budget:ratio", "labels": {"slo_tier": tier}, "expr": f"vector({share})"}
        for tier, share in BUDGETS.items()
    ]


def _recorded(windows: tuple[str, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for window in windows:
        found += [
            {
                "record": f"penstock:slo_errors:ratio_rate{window}",
                "labels": {"slo": objective.name},
                "expr": errors(objective, window),
            }
            for objective in OBJECTIVES
        ]
        found.append({"record": f"penstock:slo_burn:rate{window}", "expr": _burn(window)})
    return found


def _burn(window: str) -> str:
    """How many times faster than it may the budget is used up."""
    return (
        f"penstock:slo_errors:ratio_rate{window}\n"
        "/ on (slo_tier) group_left ()\n"
        "penstock:slo_error_budget:ratio\n"
    )  # fmt: skip


def _remaining() -> dict[str, Any]:
    return {"record": "penstock:slo_error_budget:remaining_ratio30d", "expr": "1 - penstock:slo_burn:rate30d"}


def _alerts() -> list[dict[str, Any]]:
    return [
        _alert(objective, severity, speeds)
        for objective in OBJECTIVES
        for severity, speeds in (("page", PAGES), ("ticket", TICKETS))
    ]


def _alert(objective: Objective, severity: str, speeds: tuple[Burning, ...]) -> dict[str, Any]:
    slowest = min(speeds, key=lambda each: float(each.speed))
    return {
        "alert": objective.alert,
        "expr": "or\n".join(_too_fast(objective.name, each) for each in speeds),
        "labels": {"severity": severity},
        "annotations": {
            "summary": f"Pipelines of the tier {{{{ $labels.slo_tier }}}}: {objective.what}.",
            "description": (
                f"The error budget of 30 days for {objective.name} (tier {{{{ $labels.slo_tier }}}}) is used up "
                f'{{{{ $value | printf "%.1f" }}}} times faster than it may be; from {slowest.speed} on this is told.'
            ),
            "runbook_url": f"{RUNBOOKS}/{objective.alert}.md",
        },
    }


def _too_fast(name: str, speed: Burning) -> str:
    chosen = f'{{slo="{name}"}}'
    return (
        f"(\n"
        f"  penstock:slo_burn:rate{speed.long}{chosen} > {speed.speed}\n"
        f"  and\n"
        f"  penstock:slo_burn:rate{speed.short}{chosen} > {speed.speed}\n"
        f")\n"
    )


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def written() -> str:
    """All of the file."""
    return HEADER + yaml.dump(rules(), Dumper=_Dumper, sort_keys=False, width=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the file is up to date")
    if not parser.parse_args().check:
        FILE.write_text(written(), encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != written():
        print(REMEDY, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

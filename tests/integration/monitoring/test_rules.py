"""Prometheus' own tools on the rules, and Alertmanager's on the example."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.debian import program

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
RULE_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_prometheus_takes_the_rules() -> None:
    checked = run(program("promtool"), "check", "rules", *RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_must_and_are_silent_otherwise() -> None:
    tested = run(program("promtool"), "test", "rules", *RULE_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.count("SUCCESS") == len(RULE_TESTS) == 10


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=page slo_tier=critical", "critical-pages"),
        ("severity=page slo_tier=default", "pages"),
        ("severity=page", "pages"),
        ("severity=page slo_tier=non-critical", "tickets"),
        ("severity=ticket slo_tier=critical", "tickets"),
        ("severity=none alertname=PenstockWatchdog", "watchdog"),
    ],
)
def test_the_example_of_an_alertmanager_wakes_whom_it_should(labels: str, receiver: str) -> None:
    amtool = program("amtool")
    route = run(amtool, "config", "routes", "test", "--config.file", ALERTMANAGER, *labels.split())
    assert route.stdout.strip() == receiver, route.stderr


def test_alertmanager_takes_the_example() -> None:
    checked = run(program("amtool"), "check-config", ALERTMANAGER)
    assert checked.returncode == 0, checked.stdout + checked.stderr

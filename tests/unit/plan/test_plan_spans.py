"""Spans whose parts contradict each other."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from penstock_coordinator.core.plan.validation.numbers import check_span
from penstock_coordinator.core.plan.validation.report import Report


@pytest.mark.parametrize(
    ("seconds", "nanos", "refused"), [(1, -5, True), (-1, 5, True), (1, 5, False), (0, 5_000, False)]
)
def test_seconds_and_nanos_have_one_sign(seconds: int, nanos: int, refused: bool) -> None:
    report = Report()
    check_span(report, "timeout", Duration(seconds=seconds, nanos=nanos), 0, 10**9)
    assert [problem.field for problem in report.problems] == (["timeout"] if refused else [])
    assert not refused or "different signs" in report.problems[0].description

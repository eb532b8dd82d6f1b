"""A short attack on a whole system: `make malformed` is the long one."""

from __future__ import annotations

import secrets

from benchmarks.malformed.trial import Trial, broken_promises, run_trial


async def test_what_is_no_message_is_refused_tells_nothing_and_disturbs_nobody() -> None:
    trial = Trial(frames=1_200, connections=200, seconds=10.0, seed=secrets.randbelow(10**9), spare_ms=500)
    figures = await run_trial(trial)
    assert broken_promises(trial, figures) == [], (trial, figures)

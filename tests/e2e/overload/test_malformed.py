"""A short attack on a whole system: `make malformed` is the long one."""

from __future__ import annotations

import secrets

import pytest
from benchmarks.malformed.trial import Trial, broken_promises, run_trial

pytestmark = pytest.mark.timeout(300)


async def test_what_is_no_message_is_refused_tells_nothing_and_disturbs_nobody() -> None:
    # Half of the healthy calls come while all is quiet; a loop that is held up by what is malformed shows as seconds.
    trial = Trial(frames=1_200, connections=200, seconds=10.0, seed=secrets.randbelow(10**9), spare_ms=3_000)
    figures = await run_trial(trial)
    assert broken_promises(trial, figures) == [], (trial, figures)

"""Many answers that one caller waits for."""

from __future__ import annotations

import asyncio

import pytest

from penstock_coordinator.ports import Committed, OutOfSequence
from penstock_coordinator.runtime.answers import Answers
from penstock_coordinator.runtime.views import Undecided


async def test_all_come_in_their_order_once_the_last_is_told() -> None:
    answers = Answers(3)
    waiting = asyncio.ensure_future(answers.all(60))
    refusal = ValueError("no")
    answers.part(2).set_result(OutOfSequence())
    answers.part(0).set_exception(refusal)
    await asyncio.sleep(0)
    assert not waiting.done()

    answers.part(1).set_result(Committed())
    assert await waiting == [refusal, Committed(), OutOfSequence()]


async def test_one_that_is_cancelled_is_told_as_such_and_one_that_was_told_stays() -> None:
    answers = Answers(2)
    told, lost = answers.part(0), answers.part(1)
    told.set_result(Committed())
    for part in (told, lost):
        part.cancel()
        assert part.done()

    first, second = await answers.all(60)
    assert first == Committed()
    assert isinstance(second, asyncio.CancelledError)


async def test_nobody_minds_a_caller_that_has_gone() -> None:
    answers = Answers(1)
    waiting = asyncio.ensure_future(answers.all(60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    answers.part(0).set_result(Committed())


async def test_a_caller_waits_no_longer_than_its_patience_and_what_comes_later_hurts_nobody() -> None:
    answers = Answers(2)
    answers.part(0).set_result(Committed())
    with pytest.raises(Undecided) as caught:
        await answers.all(0.01)
    assert caught.value.seconds == 0.01
    answers.part(1).set_result(Committed())

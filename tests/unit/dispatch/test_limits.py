"""Keyed limits: who gets a place, in which order, and that there are never more than the limit."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from penstock_coordinator.core.dispatch.limits import Claim, Claimant, Hold, RunLimits, StepLimits, Verdict
from penstock_coordinator.core.plan.model import Policy

ONE = (Claim("k", 1),)


def _run(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _ask(limits: RunLimits, run: bytes, claims: tuple[Claim, ...] = ONE, priority: int = 0, at: int = 0) -> Verdict:
    return limits.ask(run, claims, priority, at)


# --- runs


def test_places_are_given_in_the_order_of_priority_then_start() -> None:
    limits = RunLimits()
    assert _ask(limits, b"a") == Verdict()
    for run, priority in ((b"b", 0), (b"c", 5), (b"d", 5), (b"e", -1)):
        assert _ask(limits, run, priority=priority) == Verdict(held=ONE[0])
    order = []
    for run in (b"a", b"c", b"d", b"b"):
        limits.leave(run)
        order += limits.admitted
        limits.admitted.clear()
    assert order == [b"c", b"d", b"b", b"e"]


def test_a_run_that_needs_two_places_does_not_hold_the_first_while_it_waits_for_the_second() -> None:
    limits = RunLimits()
    first, second = Claim("first", 1), Claim("second", 1)
    assert _ask(limits, b"a", (second,)) == Verdict()
    assert _ask(limits, b"b", (first, second)) == Verdict(held=second)
    assert _ask(limits, b"c", (first,)) == Verdict()
    limits.leave(b"a")
    assert limits.admitted == []
    assert limits.lacks(b"b") == first
    limits.leave(b"c")
    assert limits.admitted == [b"b"]


def test_a_higher_limit_of_a_newcomer_admits_those_that_wait() -> None:
    limits = RunLimits()
    for run in (b"a", b"b", b"c"):
        _ask(limits, run)
    assert _ask(limits, b"d", (Claim("k", 3),)) == Verdict(held=Claim("k", 3))
    assert limits.admitted == [b"b", b"c"]


def test_a_lower_limit_of_a_newcomer_takes_no_place_away() -> None:
    limits = RunLimits()
    for run in (b"a", b"b"):
        assert _ask(limits, run, (Claim("k", 2),)) == Verdict()
    assert _ask(limits, b"c") == Verdict(held=ONE[0])
    limits.leave(b"a")
    assert limits.admitted == []
    limits.leave(b"b")
    assert limits.admitted == [b"c"]


def test_cancel_newest_refuses_and_forgets() -> None:
    limits = RunLimits()
    claim = Claim("k", 1, Policy.CANCEL_NEWEST)
    assert _ask(limits, b"a", (claim,)) == Verdict()
    assert _ask(limits, b"b", (claim,)) == Verdict(refused=claim)
    limits.leave(b"a")
    assert limits.admitted == []
    assert _ask(limits, b"c", (claim,)) == Verdict()


def test_cancel_oldest_names_holders_and_those_that_wait_but_the_newest() -> None:
    limits = RunLimits()
    claims = (Claim("k", 2, Policy.CANCEL_OLDEST),)
    for run in (b"a", b"b"):
        assert _ask(limits, run, claims) == Verdict()
        assert limits.overdue(run) == []
    assert _ask(limits, b"c", claims).held
    assert limits.overdue(b"c") == [b"a"]
    assert limits.overdue(b"c") == []
    assert _ask(limits, b"d", claims).held
    assert limits.overdue(b"d") == [b"b"]
    assert _ask(limits, b"e", claims).held
    assert limits.overdue(b"e") == [b"c"], "who waits may be too old too"
    limits.leave(b"c")
    assert limits.admitted == []
    limits.leave(b"a")
    limits.leave(b"b")
    assert limits.admitted == [b"d", b"e"]


def test_who_is_going_anyhow_is_not_counted() -> None:
    limits = RunLimits()
    claims = (Claim("k", 2, Policy.CANCEL_OLDEST),)
    for run in (b"a", b"b"):
        _ask(limits, run, claims)
    limits.going(b"b")
    _ask(limits, b"c", claims)
    assert limits.overdue(b"c") == []


def test_what_the_journal_says_is_restored() -> None:
    limits = RunLimits()
    for run, held in ((b"a", False), (b"b", True), (b"c", False), (b"d", True)):
        limits.restore(run, (Claim("k", 3),), 0, 0, held, leaving=False)
    limits.settle()
    assert limits.admitted == [b"b"]
    assert limits.holders("k") == [b"a", b"b", b"c"]
    assert limits.lacks(b"d") == Claim("k", 3)


@pytest.mark.parametrize("seed", range(60))
def test_runs_never_pass_a_limit_and_nobody_waits_for_a_free_place(seed: int) -> None:
    random = Random(seed)
    limits, keys = RunLimits(), {"x": 2, "y": 1, "z": 3}
    claims: dict[bytes, tuple[Claim, ...]] = {}
    inside: set[bytes] = set()
    for number in range(300):
        if claims and random.random() < 0.5:
            gone = random.choice(sorted(claims))
            limits.leave(gone)
            del claims[gone]
            inside.discard(gone)
        else:
            run = _run(number)
            wanted = tuple(Claim(key, keys[key]) for key in random.sample(sorted(keys), random.randint(1, 2)))
            claims[run] = wanted
            if limits.ask(run, wanted, random.randint(-1, 1), number) == Verdict():
                inside.add(run)
        assert not inside & set(limits.admitted)
        inside |= set(limits.admitted)
        limits.admitted.clear()
        held = Counter(claim.key for run in inside for claim in claims[run])
        assert all(held[key] <= keys[key] for key in keys)
        for run in claims.keys() - inside:
            assert any(held[claim.key] == keys[claim.key] for claim in claims[run])
            assert limits.lacks(run) is not None
        for key in keys:
            assert set(limits.holders(key)) == {r for r in inside if any(c.key == key for c in claims[r])}


# --- steps

A, B, C = Claimant(b"a", 0), Claimant(b"b", 0), Claimant(b"c", 0)
CLAIM = Claim("k", 1)


def _hold(claimant: Claimant, item: int = -1) -> Hold:
    return Hold(claimant.run, 0, item)


def _wait(limits: StepLimits, claimant: Claimant, wanted: int = 1, claim: Claim = CLAIM, priority: int = 0) -> int:
    return limits.wait(claimant, claim, wanted, priority, 0)


def test_a_free_place_is_kept_for_who_comes_first_until_its_turn() -> None:
    limits = StepLimits()
    assert limits.open(A, CLAIM) == 1
    limits.take("k", A, _hold(A))
    assert limits.open(B, CLAIM) == 0
    assert _wait(limits, B) == 0
    assert _wait(limits, C, priority=1) == 0
    limits.release("k", _hold(A))
    assert limits.called == [b"c"]
    assert limits.open(B, CLAIM) == limits.open(A, CLAIM) == 0
    assert limits.open(C, CLAIM) == 1


def test_who_finds_no_agent_keeps_nobody_waiting() -> None:
    limits = StepLimits()
    limits.take("k", A, _hold(A)) if limits.open(A, CLAIM) else None
    _wait(limits, B)
    _wait(limits, C)
    limits.release("k", _hold(A))
    assert limits.called == [b"b"]
    assert _wait(limits, B) == 1, "it waits for agents, with as many as there are places"
    assert limits.called == [b"b", b"c"]
    assert limits.open(C, CLAIM) == 1
    limits.take("k", C, _hold(C))
    _wait(limits, C, 0)
    assert limits.open(B, CLAIM) == 0


def test_who_would_not_wait_is_called_when_the_last_place_is_taken() -> None:
    limits = StepLimits()
    newest = Claim("k", 1, Policy.CANCEL_NEWEST)
    assert _wait(limits, A, claim=newest) == 1
    assert _wait(limits, B, claim=newest) == 1
    assert limits.open(A, newest) == 1
    limits.take("k", A, _hold(A))
    _wait(limits, A, 0, newest)
    assert limits.called == [b"a", b"b"]
    assert limits.open(B, newest) == 0


def test_cancel_oldest_names_as_many_holders_as_are_waited_for() -> None:
    limits = StepLimits()
    claim = Claim("k", 3, Policy.CANCEL_OLDEST)
    assert limits.open(A, claim) == 3
    for item in range(3):
        limits.take("k", A, _hold(A, item))
    assert _wait(limits, B, 2, claim) == 0
    assert limits.overdue("k") == [_hold(A, 0), _hold(A, 1)]
    assert limits.overdue("k") == []
    assert _wait(limits, C, 9, claim) == 0
    assert limits.overdue("k") == [_hold(A, 2)]


def test_a_run_that_goes_leaves_nothing() -> None:
    limits = StepLimits()
    limits.open(A, CLAIM)
    limits.take("k", A, _hold(A))
    _wait(limits, B)
    _wait(limits, C)
    limits.leave(b"b", holds=True)
    limits.leave(b"a", holds=True)
    assert limits.called == [b"c"]
    limits.leave(b"c", holds=True)
    assert limits.holders("k") == []
    assert limits.limit("k") == 0


class _Steps:
    """Runs with ready steps under keys, and agents that have room now and then."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.limits = StepLimits()
        self.claims = {position: Claim(f"k{position % 2}", 1 + position % 3) for position in range(3)}
        self.limit = {"k0": 3, "k1": 2}
        self.claims = {at: Claim(claim.key, self.limit[claim.key]) for at, claim in self.claims.items()}
        self.ready: Counter[Claimant] = Counter()
        self.holds: dict[Hold, tuple[str, Claimant]] = {}
        self.items = 0

    def arrive(self) -> None:
        claimant = Claimant(_run(self.random.randint(0, 9)), self.random.randint(0, 2))
        self.ready[claimant] += self.random.randint(1, 3)
        self.turn(claimant.run)

    def end(self) -> None:
        if self.holds:
            hold = self.random.choice(sorted(self.holds))
            key, _ = self.holds.pop(hold)
            self.limits.release(key, hold)

    def turn(self, run: bytes) -> None:
        for position, claim in self.claims.items():
            claimant = Claimant(run, position)
            agents = self.random.choice([0, 1, 5])
            for _ in range(min(self.limits.open(claimant, claim), self.ready[claimant], agents)):
                self.items += 1
                hold = Hold(run, position, self.items)
                self.limits.take(claim.key, claimant, hold)
                self.holds[hold] = (claim.key, claimant)
                self.ready[claimant] -= 1
            declared = self.limits.wait(claimant, claim, self.ready[claimant], 0, 0)
            assert 0 <= declared <= self.ready[claimant]

    def check(self) -> None:
        held = Counter(key for key, _ in self.holds.values())
        for key, limit in self.limit.items():
            assert held[key] <= limit
            assert sorted(self.limits.holders(key)) == sorted(h for h, (k, _) in self.holds.items() if k == key)

    def serve(self) -> None:
        """Those that were called have their turns."""
        while self.limits.called:
            self.turn(self.limits.called.pop(0))
            self.check()


@pytest.mark.parametrize("seed", range(60))
def test_steps_never_pass_a_limit_and_all_get_their_place(seed: int) -> None:
    steps = _Steps(Random(seed))
    for _ in range(200):
        steps.random.choice([steps.arrive, steps.end, steps.end, steps.serve])()
        steps.check()
    for _ in range(5_000):
        if not +steps.ready and not steps.holds:
            break
        steps.serve()
        steps.end()
        for number in range(10):
            if steps.random.random() < 0.1:
                steps.turn(_run(number))
        steps.check()
    assert not +steps.ready
    assert not steps.holds
    assert steps.limits._keys == {}  # nothing is kept of keys that nobody uses


def test_a_place_that_nobody_can_use_is_not_passed_around_for_ever() -> None:
    """Two runs with two kinds of steps each, and no agent for any of them: each has its turn with the place, then all
    of them wait for agents."""
    limits = StepLimits()
    claim = Claim("k", 1, Policy.CANCEL_OLDEST)
    held = Hold(_run(9), 0, -1)
    assert limits.open(Claimant(_run(9), 0), claim) == 1
    limits.take("k", Claimant(_run(9), 0), held)
    wanted = [(Claimant(_run(number), position), (1, 4)[position]) for position in (1, 0) for number in range(2)]
    for at, (claimant, count) in enumerate(wanted):
        assert limits.wait(claimant, claim, count, 0, at) == 0
    limits.release("k", held)
    turns = 0
    while limits.called:
        turns += 1
        assert turns < 20
        run = limits.called.pop()
        for claimant, count in sorted(wanted):
            if claimant.run == run:
                limits.wait(claimant, claim, count, 0, 0)

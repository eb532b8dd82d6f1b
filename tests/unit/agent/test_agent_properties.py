"""Holder and pool under whatever may happen, in any order; the invariants are those of `World`.

A walk of some hundred steps, each drawn among what could happen in that state. On a failure the seed and the last
steps are told: `Walk(seed).run()` does the same again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.agent.agent_world import SECOND, TTL, World

from penstock_agent.core import inputs as said
from penstock_agent.core.leases import Ended, Lease, LeaseKey, Phase

Action: TypeAlias = Callable[[], None]
STEPS = 300
SPANS = [1_000, 20_000, 60_000, 60_000, 500_000, 2 * SECOND, 6 * SECOND, 31 * SECOND]
TIMEOUTS = [None, None, 60_000, 6 * SECOND]
PACES = [[50], [50, 1_000], [50] * 30 + [2 * SECOND], [50, 2 * SECOND]]
"""Run times of a walk: only where steps are short do they queue in workers."""
KINDS = ["bundle-a", "bundle-a", "bundle-a", "bundle-b"]


class Walk:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World()
        self.chance = random.Random(seed)
        self.trace: deque[str] = deque(maxlen=60)
        self._steps = 0
        self._run_times = self.chance.choice(PACES)
        self.world.open()

    def run(self) -> None:
        try:
            for _ in range(STEPS):
                self._step(self._choose())
            self._come_to_an_end()
        except AssertionError:
            print(f"seed {self.seed}:", *self.trace, sep="\n  ")
            raise

    def _step(self, action: Action) -> None:
        what = action.func if isinstance(action, partial) else action
        self.trace.append(f"{self.world.now} {what.__name__} {action.args if isinstance(action, partial) else ''}")
        action()
        self.world.check()

    def _choose(self) -> Action:
        """Mostly the work goes on; else somebody interferes."""
        working = self._work()
        if working and self.chance.random() < 0.75:
            return self.chance.choice(working)
        return self.chance.choice(self._interference() if self.chance.random() < 0.5 else [self.grant])

    # --- the work

    def _work(self) -> list[Action]:
        world = self.world
        could: list[Action] = [world.write, world.write] if world.to_write else []
        # The dying take their time.
        dying = [partial(world.die, key) for key, worker in world.workers.items() if worker.doomed or worker.dismissed]
        if dying and self.chance.random() < 0.2:
            return [*dying]
        for key, worker in world.workers.items():
            if not worker.ready:
                could.append(partial(world.come_up, key))
            elif worker.running is not None:
                could.append(partial(self.finish, key))
            elif worker.queue:
                could += [partial(world.begin, key)] * 2
        return could or [*dying]

    def finish(self, worker_id: int) -> None:
        """Or the next attempt is begun before the agent hears of the end: that is `World.finish` being late."""
        signalled = self.world.workers[worker_id].signalled
        failed = self.chance.random() < 0.2
        ended = Ended.OK if not failed else Ended.STOPPED if signalled else Ended.FAILED
        run_time = self.chance.choice(self._run_times)
        if self.chance.random() < 0.3:
            self.world.finish_unheard(worker_id, ended, run_time)
        else:
            self.world.finish(worker_id, ended, run_time)

    # --- interference

    def _interference(self) -> list[Action]:
        world = self.world
        could: list[Action] = [self.time_goes_on, self.time_goes_on, self.reconnect, self.oversleep]
        if world.workers:
            could.append(self.crash)
        if self._steps > 150:
            could.append(lambda: world.post(said.DrainRequested(20 * SECOND, "SIGTERM")))
        if not world.connected:
            return could
        could += [world.close, self.pause, self.acknowledge_heartbeat, self.call_back]
        if world.holder.book.held:
            could += [self.cancel, self.cancel, self.judge, self.grant_again, self.grant_again]
        if world.holder.book.unacked.leases:
            could += [self.acknowledge] * 4
        return could

    def grant(self) -> None:
        """Sometimes beyond the credits."""
        if not self.world.connected:
            self.world.open()
        room = self.world.grant_limit - self.world.grant_seq
        count = self.chance.randint(1, max(room // 2, 1)) if self.chance.random() < 0.9 else room + 2
        self._steps += count
        keys: list[LeaseKey] = [(b"run", self._steps - number, -1) for number in range(count)]
        self.world.say()
        self.world.grant(keys, self.chance.choice(KINDS), self.chance.choice(TIMEOUTS))

    def grant_again(self) -> None:
        """With a newer token; or an older one comes late."""
        running = [lease.key for lease in self.world.holder.book.running.values() if lease.ending is None]
        key = self.chance.choice(running or list(self.world.holder.book.held))
        self.world.say()
        token = 0 if self.chance.random() < 0.3 else None
        self.world.grant([key], self.chance.choice(KINDS), None, token)
        if self.world.to_write and self.chance.random() < 0.5:
            self.world.write()

    def _one_held(self) -> Lease:
        return self.chance.choice(list(self.world.holder.book.held.values()))

    def reconnect(self) -> None:
        if self.world.connected:
            self.world.close()
        self.time_goes_on()
        self.world.open()

    def time_goes_on(self) -> None:
        self.world.tick(self.world.now + self.chance.choice(SPANS))

    def oversleep(self) -> None:
        """The machine stood still: what comes now comes before the timers that are long due."""
        self.world.now += self.chance.choice(SPANS)

    def crash(self) -> None:
        self.world.die(self.chance.choice(sorted(self.world.workers)))

    def pause(self) -> None:
        word = said.Paused if self.chance.random() < 0.3 else said.Resumed
        self.world.post(word(self.world.stream))

    def acknowledge(self) -> None:
        """Sometimes a result that was never made."""
        lease = self.chance.choice(list(self.world.holder.book.unacked.leases.values()))
        assert lease.result is not None
        if self.chance.random() < 0.1:
            self.world.post(said.ResultsAcked(self.world.stream, [(lease.key, lease.token, b"stray")]))
        else:
            self.world.acknowledge(lease)

    def acknowledge_heartbeat(self) -> None:
        unfinished = [each for each in self.world.holder.book.held.values() if each.phase is not Phase.FINISHED]
        revoked = [self.chance.choice(unfinished)] if unfinished and self.chance.random() < 0.3 else []
        refs = [(lease.key, lease.token) for lease in revoked]
        self.world.post(said.HeartbeatAcked(self.world.stream, self.world.say(), TTL, refs, 1))

    def call_back(self) -> None:
        refs = [(lease.key, lease.token) for lease in self.world.holder.book.held.values()]
        self.world.post(said.ReturnOrdered(self.world.stream, refs))

    def cancel(self) -> None:
        lease = self._one_held()
        grace = self.chance.choice([0, SECOND, 10 * SECOND])
        self.world.post(said.CancelOrdered(self.world.stream, [(lease.key, lease.token, "", grace)]))

    def judge(self) -> None:
        lease, verdict = self._one_held(), self.chance.choice(list(said.Verdict))
        unwanted = verdict is said.Verdict.ABORT or verdict is said.Verdict.DROP_RESULT
        if unwanted and lease.phase is Phase.FINISHED:
            self.world.owed.discard((lease.key, lease.token))
        basis = self.world.say()
        self.world.post(said.Judged(self.world.stream, [(lease.key, lease.token, verdict, TTL)], basis))

    # --- the end

    def _come_to_an_end(self) -> None:
        """Left alone with well-behaved workers and coordinator, all work ends; drained, the agent says goodbye."""
        world = self.world
        if world.connected:
            world.close()
        world.open()
        self._work_until(lambda: not world.holder.book.held)
        world.post(said.DrainRequested(20 * SECOND, "SIGTERM"))
        self._work_until(lambda: world.goodbye)

    def _work_until(self, condition: Callable[[], bool]) -> None:
        world = self.world
        for _ in range(3_000):
            if condition():
                return
            for lease in list(world.holder.book.unacked.leases.values()):
                world.acknowledge(lease)
            world.post(said.HeartbeatAcked(world.stream, world.say(), TTL, [], 1))
            work = self._work()
            self._step(self.chance.choice(work) if work else partial(world.tick, world.now + SECOND // 2))
        raise AssertionError("the work does not come to an end")


@settings(max_examples=250, deadline=None)
@example(seed=0)
@given(seed=st.integers(0, 2**32))
def test_what_must_hold_holds_whatever_happens(seed: int) -> None:
    Walk(seed).run()

"""Holder and pool under whatever may happen, in any order; the invariants are those of `World`."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.agent.agent_world import SECOND, TTL, World

from penstock_agent.core import inputs as said
from penstock_agent.core.leases import Ended, LeaseKey, Phase

KINDS = ("bundle-a", "bundle-b")
SPANS = st.sampled_from([1_000, 60_000, 500_000, 2 * SECOND, 6 * SECOND, 20 * SECOND, 31 * SECOND])


class AgentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.steps = 0

    @initialize()
    def connect_first(self) -> None:
        self.world.open()

    def _new_keys(self, count: int) -> list[LeaseKey]:
        self.steps += count
        return [(b"run", self.steps - number, -1) for number in range(count)]

    # --- the coordinator

    @precondition(lambda self: not self.world.connected)
    @rule()
    def connect(self) -> None:
        self.world.open()

    @precondition(lambda self: self.world.connected)
    @rule()
    def disconnect(self) -> None:
        self.world.close()

    @precondition(lambda self: self.world.connected)
    @rule(count=st.integers(1, 8), kind=st.sampled_from(KINDS), timeout=st.none() | SPANS)
    def grant_new(self, count: int, kind: str, timeout: int | None) -> None:
        """Sometimes beyond the credits."""
        self.world.say()
        self.world.grant(self._new_keys(count), kind, timeout)

    @precondition(lambda self: self.world.connected and self.world.holder.book.held)
    @rule(data=st.data())
    def grant_newer_token(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.holder.book.held)))
        self.world.say()
        self.world.grant([key], "bundle-a", None)

    @precondition(lambda self: self.world.to_write)
    @rule()
    def write(self) -> None:
        self.world.write()

    @precondition(lambda self: self.world.connected and self.world.holder.book.unacked.leases)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.world.holder.book.unacked.leases.values())))
        assert lease.result is not None
        self.world.owed.discard((lease.key, lease.token))
        self.world.post(said.ResultsAcked(self.world.stream, [(lease.key, lease.token, lease.result.result_id)]))

    @precondition(lambda self: self.world.connected and self.world.holder.book.held)
    @rule(data=st.data(), grace=st.sampled_from([0, SECOND, 10 * SECOND]))
    def cancel(self, data: st.DataObject, grace: int) -> None:
        lease = data.draw(st.sampled_from(list(self.world.holder.book.held.values())))
        self.world.post(said.CancelOrdered(self.world.stream, [(lease.key, lease.token, "", grace)]))

    @precondition(lambda self: self.world.connected and self.world.holder.book.held)
    @rule(data=st.data(), verdict=st.sampled_from(said.Verdict))
    def judge(self, data: st.DataObject, verdict: said.Verdict) -> None:
        lease = data.draw(st.sampled_from(list(self.world.holder.book.held.values())))
        if verdict is said.Verdict.ABORT or (verdict is said.Verdict.DROP_RESULT and lease.phase is Phase.FINISHED):
            self.world.owed.discard((lease.key, lease.token))
        basis = self.world.say()
        self.world.post(said.Judged(self.world.stream, [(lease.key, lease.token, verdict, TTL)], basis))

    @precondition(lambda self: self.world.connected)
    @rule(data=st.data())
    def acknowledge_heartbeat(self, data: st.DataObject) -> None:
        unfinished = [each for each in self.world.holder.book.held.values() if each.phase is not Phase.FINISHED]
        revoked = data.draw(st.lists(st.sampled_from(unfinished), max_size=1)) if unfinished else []
        refs = [(lease.key, lease.token) for lease in revoked]
        self.world.post(said.HeartbeatAcked(self.world.stream, self.world.say(), TTL, refs, 1))

    @precondition(lambda self: self.world.connected and self.world.holder.book.held)
    @rule()
    def call_back(self) -> None:
        refs = [(lease.key, lease.token) for lease in self.world.holder.book.held.values()]
        self.world.post(said.ReturnOrdered(self.world.stream, refs))

    @precondition(lambda self: self.world.connected)
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.world.post(said.Paused(self.world.stream) if paused else said.Resumed(self.world.stream))

    # --- the machine

    @rule(span=SPANS)
    def time_goes_on(self, span: int) -> None:
        self.world.tick(self.world.now + span)

    @precondition(lambda self: any(not worker.ready for worker in self.world.workers.values()))
    @rule()
    def worker_comes_up(self) -> None:
        self.world.come_up(next(key for key, worker in self.world.workers.items() if not worker.ready))

    @precondition(lambda self: any(w.queue and w.running is None for w in self.world.workers.values()))
    @rule(data=st.data())
    def attempt_begins(self, data: st.DataObject) -> None:
        idle = [key for key, worker in self.world.workers.items() if worker.queue and worker.running is None]
        self.world.begin(data.draw(st.sampled_from(idle)))

    @precondition(lambda self: any(w.running is not None for w in self.world.workers.values()))
    @rule(data=st.data(), failed=st.booleans(), run_time=st.sampled_from([50, 1_000, 30_000, 2 * SECOND]))
    def attempt_ends(self, data: st.DataObject, failed: bool, run_time: int) -> None:
        busy = [key for key, worker in self.world.workers.items() if worker.running is not None]
        chosen = data.draw(st.sampled_from(busy))
        ended = Ended.STOPPED if self.world.workers[chosen].signalled and failed else Ended.FAILED
        self.world.finish(chosen, ended if failed else Ended.OK, run_time)

    @precondition(lambda self: any(w.doomed or w.dismissed for w in self.world.workers.values()))
    @rule()
    def worker_ends(self) -> None:
        self.world.die(next(key for key, w in self.world.workers.items() if w.doomed or w.dismissed))

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data())
    def worker_crashes(self, data: st.DataObject) -> None:
        self.world.die(data.draw(st.sampled_from(sorted(self.world.workers))))

    @rule()
    def drain(self) -> None:
        if self.steps > 10:
            self.world.post(said.DrainRequested(20 * SECOND, "SIGTERM"))

    @invariant()
    def what_must_hold(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """Left alone with well-behaved workers and coordinator, everything comes to an end."""
        world = self.world
        if world.connected:
            world.close()
        world.open()
        world.post(said.DrainRequested(20 * SECOND, "SIGTERM"))
        for _ in range(2_000):
            if world.goodbye:
                return
            self._settle_one()
            world.check()
        raise AssertionError("the agent does not come to an end")

    def _settle_one(self) -> None:
        world = self.world
        if world.to_write:
            world.write()
        for key, worker in list(world.workers.items()):
            if worker.doomed or worker.dismissed or worker.signalled:
                world.die(key)
            elif not worker.ready:
                world.come_up(key)
            elif worker.running is not None:
                world.finish(key, Ended.OK, 1_000)
            elif worker.queue:
                world.begin(key)
        for lease in list(world.holder.book.unacked.leases.values()):
            assert lease.result is not None
            world.owed.discard((lease.key, lease.token))
            world.post(said.ResultsAcked(world.stream, [(lease.key, lease.token, lease.result.result_id)]))
        if not world.goodbye:
            world.tick(world.now + SECOND)


AgentMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAgent = AgentMachine.TestCase

"""The agent: carries out what the holder decides, and tells it what happens."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.artifacts.equipment import Artifacts
from penstock_agent.artifacts.service import Access
from penstock_agent.containers.orders import CONTAINER, NO_CONTAINERS, ContainerOrders, Containers, look_in_background
from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.book import soonest
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import HOME, Handle, Lease, Restored
from penstock_agent.environments.builds import Environments
from penstock_agent.environments.equipment import open_environments
from penstock_agent.environments.order import KIND as PYTHON
from penstock_agent.environments.uv import NoUv
from penstock_agent.executors.warm import WarmExecutor, WarmLimits
from penstock_agent.own_log import Correlation, OwnLog
from penstock_agent.resources import machine, memory_groups
from penstock_agent.resources.memory_groups import MemoryGroups
from penstock_agent.resources.stock import Stock
from penstock_agent.runtime import clock, host
from penstock_agent.runtime.archive import BUNDLE
from penstock_agent.runtime.attempt_log import AttemptLog
from penstock_agent.runtime.bundles import BundleCache, BundleLimits
from penstock_agent.runtime.conversations import Conversations, link_of, stream_of
from penstock_agent.runtime.data_folder import DataFolder
from penstock_agent.runtime.disk import DiskWatch
from penstock_agent.runtime.http import AgentPort
from penstock_agent.runtime.links import Links
from penstock_agent.runtime.logs import LogRelay
from penstock_agent.runtime.observed import Observed
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.presence import Identity, Presence
from penstock_agent.runtime.secret_fetches import SecretFetcher
from penstock_agent.runtime.spool import Spool, Spooled
from penstock_agent.runtime.staging import Staging
from penstock_agent.runtime.stream import Connection
from penstock_agent.runtime.stubs import LeaseStubs
from penstock_agent.runtime.wire import (
    Work,
    restored,
    span,
    step_result,
)
from penstock_agent.secrets.sources import OwnSecrets
from penstock_agent.settings import AgentSettings

log = OwnLog(__name__)

LAST_LINES_WITHIN = 2.0
GOODBYE_WITHIN = 5.0
"""Seconds for the last words of an agent that leaves."""
DISMISSED_WITHIN = 5.0
"""Seconds for its guardian to end by itself."""


class Agent:
    """Runs until it is drained. One per process: it adopts orphans, and takes the signals."""

    def __init__(self, settings: AgentSettings, folder: DataFolder, containers: Containers = NO_CONTAINERS) -> None:
        self._settings = settings
        self._containers = containers
        self._folder = folder
        self._identity = Identity(
            folder.agent_id(settings.id), secrets.token_hex(16), socket.gethostname(), version("penstock")
        )
        Correlation.agent = self._identity.agent_id
        self._spool = Spool(folder.spool, host.boot_id())
        self._machine = machine.look(settings.resources, settings.devices)
        self._holder = Holder(settings.slots, settings.disk_floor_bytes, self._load_spool())
        self._attempts = AttemptLog(self._holder.book)
        self._logs = LogRelay(self._identity.agent_id, link_of=functools.partial(link_of, self._holder))
        self._stubs = LeaseStubs(functools.partial(stream_of, self._holder))
        self._executor = WarmExecutor(
            WarmLimits(
                settings.slots,
                settings.slots if settings.idle_workers is None else settings.idle_workers,
                settings.log_lines,
                settings.log_bytes,
                settings.memory_interval,
            ),
            folder.work,
            self._identity.boot_id,
            step_environment(),
            self._logs,
            clock.now,
            lambda message: self._artifacts.porter.report(message),
        )
        self._executor.engine = containers.program
        self._executor.groups = _memory_groups(settings, folder, self._identity.boot_id)
        self._artifacts = Artifacts(settings, folder, self._executor.outgoing, self._access_of, self.post, self._stubs)
        self._bundles = BundleCache(folder.bundles, _bundle_limits(settings), self._bundles_in_use, host.boot_id())
        self._environments, self._no_environments = self._open_environments()
        self._secrets = SecretFetcher(OwnSecrets(settings.secrets_dir, os.environ), self._stubs)
        self._staging = Staging(
            self._bundles,
            self._executor,
            self._holder,
            self._logs,
            Stock(self._machine.resources, self._machine.devices),
            self._secrets,
            self._artifacts.porter,
            self._environments,
            ContainerOrders(containers, self._identity.boot_id),
        )
        self._conversations = Conversations(
            self._holder, self.post, self._staging, self._stubs, self._logs, self._bundles
        )
        numbers, keepalive = itertools.count(1), settings.keepalive_interval
        self._connection = Connection(settings.address, self._conversations, keepalive=keepalive, numbers=numbers)
        self._links = Links(numbers, self._conversations, self._fail, keepalive=keepalive)
        self._disk = DiskWatch(folder.path, settings.disk_floor_bytes, self.post)
        self._lag = host.LoopLag()
        self._presence = Presence(
            settings,
            self._identity,
            self._machine,
            {PYTHON: self._no_environments, CONTAINER: containers.why},
            self._holder,
            self._staging,
            self._spool,
            self._disk,
            self._lag,
        )
        self._observed = Observed(
            self._identity.version,
            settings.slots,
            self._holder,
            self._executor,
            self._spool,
            self._logs,
            self._lag,
            self._artifacts.cache,
            self._environments,
            self._folder.path,
            settings.disk_floor_bytes,
            self._connection,
            self._conversations,
        )
        self._port = AgentPort(settings.http_listen, self._observed) if settings.http_listen else None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._outboxes = self._conversations.outboxes
        self._inputs: deque[said.Input] = deque()
        self._duties, self._words = self._duty_table(), self._word_table()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._loop = asyncio.get_running_loop()
        self._left: asyncio.Future[str] = self._loop.create_future()
        """Why the agent leaves, once it may; or what must not happen, and did."""

    def _open_environments(self) -> tuple[Environments | None, str]:
        """Or why there are none."""
        mark = f"{self._identity.boot_id}:"
        folder = self._folder.path / "environments"
        try:
            return open_environments(self._settings, folder, step_environment(), mark, self._environments_in_use), ""
        except NoUv as error:
            return None, str(error)

    def _environments_in_use(self) -> set[str]:
        works = (lease.work for lease in self._holder.book.all.values())
        orders = (work.kind.environment for work in works if isinstance(work, Work))
        return self._executor.environments_in_use() | {order.name for order in orders if order is not None}

    def _bundles_in_use(self) -> set[str]:
        waited_with = self._staging.bundles_waited_with() | self._artifacts.porter.bundles_waited_with()
        return self._executor.bundles_in_use() | waited_with

    # --- its life

    async def run(self) -> None:
        """Until the agent is drained and has said goodbye."""
        if self._port is not None:
            await self._port.open()
        self._start_guardian()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._lag.start()
        self._disk.measure(broken=self._spool.failing)
        if self._environments is not None:
            await self._environments.start()
        logs = self._loop.create_task(self._logs.run())
        connection = self._loop.create_task(self._connection.run())
        log.info("agent_started", address=self._settings.address, pid=os.getpid(), version=self._identity.version)
        ends: list[asyncio.Future[Any]] = [self._left, connection, logs]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (connection, logs):
                if task.done():
                    task.result()
            reason = self._left.result()
            self._logs.close()
            await asyncio.wait({logs}, timeout=LAST_LINES_WITHIN)
            self._connection.leave(_goodbye(reason))
            await asyncio.wait({connection, *self._links.leave(lambda: _goodbye(reason))}, timeout=GOODBYE_WITHIN)
        finally:
            await self._end(connection, logs)
        log.info("agent_left", reason=reason)

    async def _end(self, *tasks: asyncio.Task[Any]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)
        await self._artifacts.close()
        await self._executor.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._links.close()
        self._bundles.close()
        self._staging.close()
        if self._environments is not None:
            await self._environments.close()
        await self._spool.settle()
        self._spool.close()
        self._lag.stop()
        if self._port is not None:
            await self._port.close()
        if self._timer is not None:
            self._timer.cancel()
        self._dismiss_guardian()

    def _on_signal(self, number: signal.Signals) -> None:
        again = self._holder.draining
        log.info("stopping" if again else "draining", signal=number.name)
        self.post(said.DrainRequested(int(self._settings.drain_timeout * 1e6), f"the agent got {number.name}"))

    def _start_guardian(self) -> None:
        argv = [sys.executable, "-P", "-m", "penstock_agent.executors.guardian", f"{self._identity.boot_id}:"]
        if self._containers.program:
            argv.append(self._containers.program)
        self._guardian = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=step_environment(),
            start_new_session=True,
        )

    def _dismiss_guardian(self) -> None:
        """On a busy machine it may not even have begun. It is there for what outlives the agent, and nothing does."""
        if self._guardian is None:
            return
        try:
            self._guardian.communicate(b"q", timeout=DISMISSED_WITHIN)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()

    def _load_spool(self) -> Iterator[Restored]:
        now = clock.now()
        for each in self._spool.load():
            try:
                yield _restored(each, now)
            except ValueError:
                log.exception("spooled_result_dropped")
                self._spool.remove(each.result_id)

    # --- inputs, effects, timers

    def post(self, message: said.Input) -> None:
        """Something happened. What follows from it is done at once, or after what is being done."""
        if self._attempts.tells:
            self._attempts.tell(message)
        self._inputs.append(message)
        if not self._busy:
            self._follow([])

    def _follow(self, effects: list[do.Effect]) -> None:
        """An error in here leaves the agent not knowing what it holds: it ends, and is started anew."""
        self._busy = True
        try:
            self._perform(effects)
            self._take_inputs()
            while effects := self._holder.settle(clock.now()):
                self._perform(effects)
                self._take_inputs()
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._busy = False
        self._set_timer()

    def _fail(self, error: BaseException) -> None:
        """What must not happen did: the agent ends with it."""
        if not self._left.done():
            self._left.set_exception(error)

    def _take_inputs(self) -> None:
        while self._inputs:
            self._perform(self._holder.take(clock.now(), self._inputs.popleft()))

    def _set_timer(self) -> None:
        at = soonest(self._holder.next_deadline(), self._executor.next_deadline())
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - clock.now(), 0) / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = clock.now()
        deadline = self._executor.next_deadline()
        if deadline is not None and deadline <= now:
            self._executor.handle_timer()
        self._follow(self._holder.handle_timer(now, random.random()))  # noqa: S311 - spreads heartbeats

    def _perform(self, effects: list[do.Effect]) -> None:
        """What is to be said is of no use to anybody once its stream is over."""
        for effect in effects:
            duty = self._duties.get(type(effect))
            if duty is not None:
                duty(effect)
            elif isinstance(effect, do.Word) and (outbox := self._outboxes.get(effect.stream)) is not None:
                self._words[type(effect)](outbox, effect)

    def _duty_table(self) -> dict[type, Callable[[Any], None]]:
        """What is done here."""
        staging, connection = self._staging, self._connection
        return {
            do.Start: lambda effect: staging.start(effect.leases),
            do.Withdraw: lambda effect: staging.withdraw(effect.handles),
            do.Stop: lambda effect: staging.stop(effect.handle, kill=False),
            do.Kill: lambda effect: staging.stop(effect.handle, kill=True),
            do.Spool: lambda effect: self._keep(effect.leases),
            do.Unspool: self._unspool,
            do.UseAddress: lambda effect: connection.use_address(effect.address),
            do.CloseStream: self._close_stream,
            do.KeepLinks: self._keep_links,
            do.SendGoodbye: lambda effect: self._left.set_result(effect.reason),
        }

    def _word_table(self) -> dict[type, Callable[[Outbox, Any], None]]:
        """What is said to a coordinator."""
        unacked, presence = self._holder.book.unacked, self._presence
        return {
            do.Accept: lambda outbox, effect: outbox.accept(effect.leases),
            do.SendResults: lambda outbox, effect: outbox.send_results(effect.leases, len(unacked.leases)),
            do.SendCredits: lambda outbox, effect: outbox.raise_credits(effect.grant_limit),
            do.Reject: lambda outbox, effect: outbox.reject(effect.leases),
            do.SendReturned: lambda outbox, effect: outbox.give_back(effect.leases, effect.void_credits),
            do.SendHeartbeat: self._beat,
            do.SendDraining: lambda outbox, effect: outbox.say(
                wire.AgentMessage(draining=wire.Draining(deadline=span(effect.deadline), reason=effect.reason))
            ),
            do.SayHello: lambda outbox, effect: outbox.greet(functools.partial(presence.hello, effect.stream)),
        }

    def _unspool(self, effect: do.Unspool) -> None:
        for result_id in effect.result_ids:
            self._spool.remove(result_id)

    def _close_stream(self, effect: do.CloseStream) -> None:
        after = effect.reconnect_after
        if effect.message:
            # A coordinator that was replaced soon ends by itself; one that is too old does not.
            say = log.error if effect.reason == "too_old" else log.warning
            say("sent_away", reason=effect.reason, message=effect.message)
        else:
            log.info("stream_closed", reason=effect.reason)
        seconds = None if after is None else after / 1e6
        link = self._conversations.link_of(effect.stream)
        if link == HOME:
            self._connection.close_stream(seconds)
        elif link is not None:
            self._links.close_stream(link, seconds)

    def _keep_links(self, effect: do.KeepLinks) -> None:
        self._links.keep(effect.links)
        self._logs.keep_links(number for number, _ in effect.links)
        self._stubs.look_again()

    def _beat(self, outbox: Outbox, effect: do.SendHeartbeat) -> None:
        self._disk.measure(broken=self._spool.failing)
        self._logs.sort()
        outbox.beat(functools.partial(self._presence.heartbeat, effect.stream))

    def _keep(self, leases: list[Lease]) -> None:
        now = clock.now()
        for lease in leases:
            assert lease.result is not None
            message = step_result(lease, now)
            message.ClearField("age")
            self._spool.add(lease.result.result_id, lease.result.ended_at, message.SerializeToString())

    def _access_of(self, handle: Handle) -> Access | None:
        lease = self._holder.book.all.get(handle)
        return lease.work.access if lease is not None and isinstance(lease.work, Work) else None


def _bundle_limits(settings: AgentSettings) -> BundleLimits:
    return BundleLimits(
        settings.bundle_cache_bytes,
        settings.bundle_cache_count,
        settings.max_bundle_size,
        replace(BUNDLE, files=settings.max_bundle_files, bytes=settings.max_bundle_unpacked_size),
    )


def step_environment() -> dict[str, str]:
    """What steps see of the agent's environment: not its own settings, which may hold keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}


def _memory_groups(settings: AgentSettings, folder: DataFolder, boot_id: str) -> MemoryGroups | None:
    prefix = hashlib.sha256(str(folder.path).encode()).hexdigest()[:12]
    try:
        groups = memory_groups.find(settings.memory_group, prefix, boot_id)
    except memory_groups.NoGroups as error:
        if settings.memory_group not in (memory_groups.AUTO, memory_groups.NONE):
            raise
        log.info("memory_looked_at", every_seconds=settings.memory_interval, reason=str(error))
        return None
    log.info("memory_held_by_groups", version=groups.version, base=str(groups.base))
    return groups


def _restored(each: Spooled, now: int) -> Restored:
    message = wire.StepResult()
    try:
        message.ParseFromString(each.payload)
    except Exception as error:  # the library's own class of errors is not public
        raise ValueError("no result") from error
    return restored(message, now if each.ended_at is None else min(each.ended_at, now))


def _goodbye(reason: str) -> wire.AgentMessage:
    return wire.AgentMessage(goodbye=wire.Goodbye(reason=reason))


async def run_agent(settings: AgentSettings) -> None:
    """Raises `FolderInUse`, `IdInUse`, `NoEngine`, `NoGroups`, `OSError`."""
    folder = DataFolder(Path(settings.data_dir))
    try:
        containers = await look_in_background(settings.container_engine, folder.path)
        await Agent(settings, folder, containers).run()
    finally:
        folder.close()

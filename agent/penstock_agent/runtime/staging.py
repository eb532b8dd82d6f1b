"""Between the holder and the workers: attempts whose secrets, code bundle or input artifacts are not here yet wait for
them, and those that ask for resources wait until these are free."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass

from penstock_agent.artifacts.porter import Order, Porter, has_references
from penstock_agent.containers.orders import ContainerOrders
from penstock_agent.core.holder import Holder
from penstock_agent.core.inputs import AttemptsEnded, LeasesRefused, LeasesUnstarted
from penstock_agent.core.leases import Ended, Handle, Lease, LeaseKey, Outcome
from penstock_agent.environments.builds import Environments
from penstock_agent.executors.channel import Failure, Finished, GivenSecret
from penstock_agent.executors.warm import RESULT_ID_BYTES, Job, WarmExecutor
from penstock_agent.own_log import OwnLog
from penstock_agent.resources import words
from penstock_agent.resources.stock import Share, Stock
from penstock_agent.runtime.archive import BadArchive
from penstock_agent.runtime.bundles import BundleCache, BundleUnavailable
from penstock_agent.runtime.environment_waits import EnvironmentWaits
from penstock_agent.runtime.logs import LogRelay
from penstock_agent.runtime.secret_fetches import SecretFetcher, SecretUnavailable
from penstock_agent.runtime.wire import OutputLimits, Work

log = OwnLog(__name__)

CODE_NOTE = "its code is being fetched"
WORKER_NOTE = "a process for it is being started"


@dataclass(slots=True)
class _Short:
    lease: Lease
    work: Work
    bundle_dir: str
    files: dict[str, str]
    share: Share | None = None
    """It has got it, and starts in a moment."""


class Staging:
    def __init__(
        self,
        bundles: BundleCache,
        executor: WarmExecutor,
        holder: Holder,
        logs: LogRelay,
        stock: Stock,
        secrets: SecretFetcher,
        porter: Porter,
        environments: Environments | None,
        containers: ContainerOrders,
    ) -> None:
        """`environments` None: there can be none on this agent."""
        self.output_limits = OutputLimits(0, 0)
        """Of the newest Welcome."""
        self._bundles = bundles
        self._executor = executor
        self._holder = holder
        self._logs = logs
        self._stock = stock
        self._short: dict[Handle, _Short] = {}
        """Attempts that wait for resources."""
        self._executor.on_end = self._ended
        self._porter = porter
        self.environments = (
            None
            if environments is None
            else EnvironmentWaits(
                environments,
                logs,
                lambda lease: self.start([lease]),
                lambda lease, message: self._fail([lease.handle], message, "Environment"),
            )
        )
        self._report = porter.report
        self._waiting: dict[Handle, Lease] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._secrets = secrets
        self._containers = containers
        self._asking: dict[Handle, asyncio.Task[None]] = {}
        self._given: dict[Handle, list[GivenSecret]] = {}
        """Of attempts that are about to start."""

    def start(self, leases: Iterable[Lease]) -> None:
        ready: list[Job] = []
        for lease in leases:
            assert isinstance(lease.work, Work)
            if lease.work.kind.image is not None and self._containers.why:
                why = f"this agent has no container engine: {self._containers.why}"
                self._report(LeasesRefused([lease.handle], "no_container_engine", why))
                continue
            if lease.work.kind.secrets and lease.handle not in self._given:
                self._asking[lease.handle] = asyncio.get_running_loop().create_task(self._ask(lease, lease.work))
                continue
            if lease.work.kind.environment is not None and not self._has_environment(lease, lease.work):
                continue
            digest = lease.work.kind.bundle_digest
            path = self._bundles.path(digest) if digest else None
            if path is not None or not digest:
                if has_references(lease.work.inputs):
                    self._fetch_inputs(lease, lease.work, str(path or ""))
                    continue
                job = self._equipped(lease, lease.work, str(path or ""), {})
                if job is not None:
                    ready.append(job)
            else:
                self._wait_for(digest, lease)
        if ready:
            self._executor.start(ready)

    def withdraw(self, handles: list[Handle]) -> None:
        here = [handle for handle in handles if self._leave(handle)]
        if here:
            self._report(LeasesUnstarted(here))
        self._porter.withdraw(handles)
        self._executor.withdraw(handles)

    def stop(self, handle: Handle, *, kill: bool) -> None:
        if self._leave(handle):
            self._report(LeasesUnstarted([handle]))
        elif not self._porter.stop(handle):
            self._executor.stop(handle, kill=kill)

    def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()
        if self.environments is not None:
            self.environments.close()

    def _has_environment(self, lease: Lease, work: Work) -> bool:
        order = work.kind.environment
        assert order is not None
        if self.environments is None:
            self._report(LeasesRefused([lease.handle], "no_environment", "this agent makes no environments"))
            return False
        return self.environments.is_here(lease, work, order)

    def _leave(self, handle: Handle) -> bool:
        """Whether the attempt waited here, and does no more."""
        self._given.pop(handle, None)
        if self.environments is not None and self.environments.leave(handle):
            return True
        asking = self._asking.pop(handle, None)
        if asking is not None:
            asking.cancel()
            return True
        if self._waiting.pop(handle, None) is not None:
            return True
        short = self._short.pop(handle, None)
        if short is None:
            return False
        self._serve(self._stock.withdraw(handle) if short.share is None else self._stock.release(handle))
        return True

    async def _ask(self, lease: Lease, work: Work) -> None:
        try:
            given = await self._secrets.get(work)
        except SecretUnavailable as error:
            del self._asking[lease.handle]
            self._fail([lease.handle], str(error), "Secret")
        else:
            del self._asking[lease.handle]
            if self._holder.book.all.get(lease.handle) is not None:
                self._given[lease.handle] = given
                self.start([lease])

    def _fetch_inputs(self, lease: Lease, work: Work, bundle_dir: str) -> None:
        def ready(files: dict[str, str]) -> None:
            job = self._equipped(lease, work, bundle_dir, files)
            if job is not None:
                self._executor.start([job])

        inputs = tuple(work.inputs.values())
        named = (lease.key, lease.token)
        self._porter.fetch(Order(lease.handle, work.access, inputs, work.kind.bundle_digest, ready, named))

    def _equipped(self, lease: Lease, work: Work, bundle_dir: str, files: dict[str, str]) -> Job | None:
        """None: it waits for resources, or never gets them."""
        wants = work.wants()
        if not wants:
            return self._job(lease, work, bundle_dir, files)
        missing = self._stock.missing(wants)
        if missing:
            self._given.pop(lease.handle, None)
            self._report(LeasesRefused([lease.handle], "no_resources", words.missing(missing)))
            return None
        share = self._stock.ask(lease.handle, wants)
        if share is None:
            self._short[lease.handle] = _Short(lease, work, bundle_dir, files)
            return None
        return self._job(lease, work, bundle_dir, files, share.devices)

    def _ended(self, handle: Handle) -> None:
        """Nothing of the attempt runs any more: others may have what it had."""
        self._serve(self._stock.release(handle))

    def _serve(self, served: list[tuple[Handle, Share]]) -> None:
        for handle, share in served:
            self._short[handle].share = share
        if served:
            # Who made room for them is still busy with that.
            asyncio.get_running_loop().call_soon(self._start_served)

    def _start_served(self) -> None:
        served = [(short, short.share) for short in self._short.values() if short.share is not None]
        for short, _ in served:
            del self._short[short.lease.handle]
        if served:
            self._executor.start(
                [
                    self._job(short.lease, short.work, short.bundle_dir, short.files, share.devices)
                    for short, share in served
                ]
            )

    def notes(self) -> dict[tuple[LeaseKey, int], str]:
        """What is to be told of attempts that have not begun, by lease. Those are not called back because another agent
        is idle: that would begin with the same from the start, and so on without end."""
        notes = self._porter.notes()
        notes.update(((lease.key, lease.token), CODE_NOTE) for lease in self._waiting.values())
        if self.environments is not None:
            notes.update(self.environments.notes())
        held = self._holder.book.all
        for handle in self._executor.starting():
            if (lease := held.get(handle)) is not None:
                notes[lease.key, lease.token] = WORKER_NOTE
        return notes

    def bundles_waited_with(self) -> set[str]:
        """The bundles of attempts that wait for resources."""
        return {short.work.kind.bundle_digest for short in self._short.values()}

    def _job(
        self, lease: Lease, work: Work, bundle_dir: str, files: dict[str, str], devices: tuple[str, ...] = ()
    ) -> Job:
        limits, given = self.output_limits, self._given.pop(lease.handle, None)
        home, printed = "", list[str]()
        if work.kind.environment is not None and self.environments is not None:
            home, printed = self.environments.home(work), self.environments.printed(lease.handle)
        container = work.container(self._containers, bundle_dir, devices)
        self._logs.introduce(lease.handle, work.ref, lease.attempt, printed)
        return Job(
            lease.handle,
            work.worker_kind(devices),
            bundle_dir,
            lambda: work.task(lease, bundle_dir, limits, files, devices, given, home, container, len(printed)),
            work.memory_bytes,
            secrets=() if given is None else tuple(secret.value for secret in given),
            home=home,
            on_begin=functools.partial(self._logs.begun, lease.handle) if printed else None,
        )

    def _wait_for(self, digest: str, lease: Lease) -> None:
        self._waiting[lease.handle] = lease
        if digest not in self._fetches:
            task = self._fetches[digest] = asyncio.get_running_loop().create_task(self._fetch(digest))
            task.add_done_callback(lambda _: self._fetches.pop(digest, None))

    async def _fetch(self, digest: str) -> None:
        try:
            await self._bundles.get(digest)
        except BundleUnavailable as error:
            refused = self._take(digest)
            for handle in refused:
                self._given.pop(handle, None)
            self._report(LeasesRefused(refused, "bundle_unavailable", str(error)))
        except (BadArchive, OSError) as error:
            log.warning("bundle_not_unpacked", bundle=digest, reason=str(error))
            self._fail(self._take(digest), f"the code bundle {digest} cannot be unpacked: {error}")
        else:
            self.start(
                [lease for handle in self._take(digest) if (lease := self._holder.book.all.get(handle)) is not None]
            )

    def _take(self, digest: str) -> list[Handle]:
        taken = [
            handle
            for handle, lease in self._waiting.items()
            if isinstance(lease.work, Work) and lease.work.kind.bundle_digest == digest
        ]
        for handle in taken:
            del self._waiting[handle]
        return taken

    def _fail(self, handles: list[Handle], message: str, reason: str = "ModuleImport") -> None:
        for handle in handles:
            self._given.pop(handle, None)
        failure = Failure(reason, message)
        self._report(
            AttemptsEnded(
                [
                    Outcome(handle, Ended.FAILED, os.urandom(RESULT_ID_BYTES), 0, Finished(handle, failure=failure))
                    for handle in handles
                ]
            )
        )

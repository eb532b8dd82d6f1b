"""Between the holder and the workers: attempts whose code bundle is not here yet wait for it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

from penstock_agent.core.holder import Holder
from penstock_agent.core.inputs import AttemptsEnded, Input, LeasesRefused, LeasesUnstarted
from penstock_agent.core.leases import Ended, Handle, Lease, Outcome
from penstock_agent.executors.channel import Failure, Finished
from penstock_agent.executors.warm import RESULT_ID_BYTES, Job, WarmExecutor
from penstock_agent.runtime.archive import BadArchive
from penstock_agent.runtime.bundles import BundleCache, BundleUnavailable
from penstock_agent.runtime.logs import LogRelay
from penstock_agent.runtime.wire import Work

log = logging.getLogger(__name__)


class Staging:
    def __init__(
        self,
        bundles: BundleCache,
        executor: WarmExecutor,
        holder: Holder,
        logs: LogRelay,
        report: Callable[[Input], None],
    ) -> None:
        self.max_output_bytes = 0
        """Of the newest Welcome."""
        self._bundles = bundles
        self._executor = executor
        self._holder = holder
        self._logs = logs
        self._report = report
        self._waiting: dict[Handle, Lease] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}

    def start(self, leases: Iterable[Lease]) -> None:
        ready: list[Job] = []
        for lease in leases:
            assert isinstance(lease.work, Work)
            digest = lease.work.kind.bundle_digest
            path = self._bundles.path(digest) if digest else None
            if path is not None or not digest:
                ready.append(self._job(lease, lease.work, str(path or "")))
            else:
                self._wait_for(digest, lease)
        if ready:
            self._executor.start(ready)

    def withdraw(self, handles: list[Handle]) -> None:
        here = [handle for handle in handles if self._waiting.pop(handle, None) is not None]
        if here:
            self._report(LeasesUnstarted(here))
        self._executor.withdraw(handles)

    def stop(self, handle: Handle, *, kill: bool) -> None:
        if self._waiting.pop(handle, None) is not None:
            self._report(LeasesUnstarted([handle]))
        else:
            self._executor.stop(handle, kill=kill)

    def _job(self, lease: Lease, work: Work, bundle_dir: str) -> Job:
        limit = self.max_output_bytes
        self._logs.introduce(lease.handle, work.ref, lease.attempt)
        return Job(lease.handle, work.kind.kind, bundle_dir, lambda: work.task(lease, bundle_dir, limit))

    def _wait_for(self, digest: str, lease: Lease) -> None:
        self._waiting[lease.handle] = lease
        if digest not in self._fetches:
            task = self._fetches[digest] = asyncio.get_running_loop().create_task(self._fetch(digest))
            task.add_done_callback(lambda _: self._fetches.pop(digest, None))

    async def _fetch(self, digest: str) -> None:
        try:
            await self._bundles.get(digest)
        except BundleUnavailable as error:
            self._report(LeasesRefused(self._take(digest), "bundle_unavailable", str(error)))
        except (BadArchive, OSError) as error:
            log.warning("bundle %s cannot be unpacked: %s", digest, error)
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

    def _fail(self, handles: list[Handle], message: str) -> None:
        failure = Failure("ModuleImport", message)
        self._report(
            AttemptsEnded(
                [
                    Outcome(handle, Ended.FAILED, os.urandom(RESULT_ID_BYTES), 0, Finished(handle, failure=failure))
                    for handle in handles
                ]
            )
        )

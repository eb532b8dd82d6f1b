"""Stands between the executors and the holder: brings what an attempt needs before it starts, and what it made before
its end is told.

Both belong to the attempt as the holder sees it: its lease is renewed meanwhile, its timeout runs on, and a stop or a
kill ends the transfers. Attempts without artifacts pass with a look at their inputs and outputs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from penstock_agent.artifacts.downloads import Downloads
from penstock_agent.artifacts.failures import REASON, StoreFailure
from penstock_agent.artifacts.files import FileThreads
from penstock_agent.artifacts.service import Access, Moved
from penstock_agent.artifacts.uploads import Uploads
from penstock_agent.core.inputs import AttemptsEnded, Input, LeasesRefused, LeasesUnstarted
from penstock_agent.core.leases import Ended, Handle, LeaseKey, Outcome
from penstock_agent.executors.channel import Failure, Finished
from penstock_agent.executors.references import MARK, BadReference, Reference, find
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime.archive import BadArchive, unpack_folder

log = OwnLog(__name__)

RESULT_ID_BYTES = 16
INPUTS_NOTE = "its inputs are being fetched"
MOST_ARTIFACTS = 100_000
"""That the inputs of one attempt may refer to."""
LARGEST_SCANNED = 32 << 20
"""Larger values have no references in them: the agent that stored them saw to it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an attempt needs before it can start."""

    handle: Handle
    access: Access
    inputs: tuple[bytes, ...]
    bundle_digest: str
    ready: Callable[[dict[str, str]], None]
    """Called with the files by digest."""
    lease: tuple[LeaseKey, int]
    """As heartbeats name it."""


def has_references(inputs: Mapping[str, bytes]) -> bool:
    """Asked of every attempt, so without a generator."""
    for document in inputs.values():  # noqa: SIM110
        if MARK in document:
            return True
    return False


class Porter:
    """`access_of` gives in whose name the output of an attempt is stored; None: nobody holds it any more."""

    def __init__(
        self,
        uploads: Uploads,
        downloads: Downloads,
        threads: FileThreads,
        *,
        outgoing: Path,
        incoming: Path,
        access_of: Callable[[Handle], Access | None],
        post: Callable[[Input], None],
    ) -> None:
        self._uploads = uploads
        self._downloads = downloads
        self._threads = threads
        self._outgoing = outgoing
        self._incoming = incoming
        self._access_of = access_of
        self._post = post
        self._transfers: dict[Handle, asyncio.Task[None]] = {}
        self._fetching: dict[Handle, Order] = {}
        self._moved: dict[Handle, Moved] = {}
        """By attempt that moves something, until its end is told."""
        self._closed = False
        self._folders: set[Handle] = set()
        """Attempts that have files below `incoming`."""
        self._sweeps: set[asyncio.Task[None]] = set()

    # --- before an attempt

    def fetch(self, order: Order) -> None:
        """Then `ready` is called, or the attempt is reported as failed, or `stop` ends it."""
        handle = order.handle
        self._folders.add(handle)
        self._fetching[handle] = order
        self._transfer(handle, self._fetch(order), lambda: self._say(LeasesUnstarted([handle])))

    async def _fetch(self, order: Order) -> None:
        try:
            files = await self._bring(order)
        except (StoreFailure, BadReference, ValueError, OSError) as error:
            log.warning("inputs_not_fetched", handle=order.handle, reason=str(error))
            self._fail(order.handle, f"the inputs cannot be fetched: {error}")
        else:
            self._forget(order.handle)
            order.ready(files)

    async def _bring(self, order: Order) -> dict[str, str]:
        folder = self._incoming / str(order.handle)
        await self._threads.do(_make_folder, folder)
        access = self._counting(order.handle, order.access)
        files: dict[str, str] = {}
        documents: Iterable[bytes] = order.inputs
        while wanted := {d: r for d, r in find(documents).items() if d not in files}:
            if len(files) + len(wanted) > MOST_ARTIFACTS:
                raise StoreFailure(f"the inputs refer to more than {MOST_ARTIFACTS:,} artifacts")
            targets = {folder / digest.removeprefix("sha256:"): each for digest, each in wanted.items()}
            await self._downloads.link_all(access, targets)
            files |= {each.digest: str(path) for path, each in targets.items()}
            await self._unpack(targets, files)
            documents = await self._threads.do(_documents, targets)
        return files

    async def _unpack(self, targets: dict[Path, Reference], files: dict[str, str]) -> None:
        for path, reference in targets.items():
            if reference.kind == "dir":
                folder = path.with_name(f"{path.name}.folder")
                try:
                    await self._threads.do(unpack_folder, path, folder)
                except BadArchive as error:
                    raise StoreFailure(f"the folder {reference.digest} cannot be unpacked: {error}") from error
                files[reference.digest] = str(folder)

    # --- after it

    def report(self, message: Input) -> None:
        """What the executors say."""
        if isinstance(message, AttemptsEnded):
            message = self._hold_back(message)
            if not message.outcomes:
                return
        if self._folders:
            self._sweep_inputs(message)
        self._post(self._counted(message))

    def _hold_back(self, message: AttemptsEnded) -> AttemptsEnded:
        """Attempts with artifacts have not ended until these are stored."""
        made = [outcome for outcome in message.outcomes if outcome.body is not None and _finished(outcome).artifacts]
        if not made:
            return message
        for outcome in made:
            self._store(outcome, _finished(outcome))
        held = {outcome.handle for outcome in made}
        return AttemptsEnded([outcome for outcome in message.outcomes if outcome.handle not in held])

    def _store(self, outcome: Outcome, finished: Finished) -> None:
        without = msgspec.structs.replace(finished, output=b"", artifacts=[])
        stopped = msgspec.structs.replace(outcome, ended=Ended.STOPPED, body=without)
        self._transfer(outcome.handle, self._publish(outcome, finished), lambda: self._published(stopped))

    async def _publish(self, outcome: Outcome, finished: Finished) -> None:
        access = self._access_of(outcome.handle)
        began = time.monotonic_ns()
        try:
            if access is not None:
                await self._uploads.put_all(self._counting(outcome.handle, access), finished.artifacts)
        except (StoreFailure, OSError) as error:
            log.warning("output_not_stored", handle=outcome.handle, reason=str(error))
            failure = Failure(REASON, str(error))
            failed = msgspec.structs.replace(finished, output=b"", artifacts=[], failure=failure)
            self._published(msgspec.structs.replace(outcome, ended=Ended.FAILED, body=failed))
        else:
            took = (time.monotonic_ns() - began) // 1_000
            self._published(msgspec.structs.replace(outcome, body=msgspec.structs.replace(finished, upload_time=took)))

    def _published(self, outcome: Outcome) -> None:
        self._sweep(self._outgoing / str(outcome.handle))
        self._say(AttemptsEnded([outcome]))

    def stop(self, handle: Handle) -> bool:
        """End the transfers of an attempt; its end is reported. False: there are none."""
        transfer = self._transfers.get(handle)
        if transfer is None:
            return False
        if not transfer.cancelling():
            transfer.cancel()
        return True

    def withdraw(self, handles: list[Handle]) -> None:
        """Those of them whose inputs are being fetched are not started any more: they are reported so."""
        for handle in handles:
            if handle in self._fetching:
                self.stop(handle)

    def notes(self) -> dict[tuple[LeaseKey, int], str]:
        """What attempts whose inputs are being fetched are told, by lease."""
        return dict.fromkeys((order.lease for order in self._fetching.values()), INPUTS_NOTE)

    def bundles_waited_with(self) -> set[str]:
        """Of attempts whose inputs are being fetched."""
        return {order.bundle_digest for order in self._fetching.values()}

    async def close(self) -> None:
        """Nothing is reported any more."""
        self._closed = True
        tasks = [*self._transfers.values(), *self._sweeps]
        for task in self._transfers.values():
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- both

    def _transfer(self, handle: Handle, work: Coroutine[Any, Any, None], cancelled: Callable[[], None]) -> None:
        """`cancelled` is called when that has happened, also if the work had not begun."""

        def done(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                cancelled()
            elif (error := task.exception()) is not None:
                log.error("transfer_failed", handle=handle, exc_info=error)
                self._fail(handle, f"a transfer failed: {type(error).__name__}: {error}")

        task = self._transfers[handle] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(done)

    def _forget(self, handle: Handle) -> None:
        self._transfers.pop(handle, None)
        self._fetching.pop(handle, None)

    def _fail(self, handle: Handle, message: str) -> None:
        finished = Finished(handle, failure=Failure(REASON, message))
        self._say(AttemptsEnded([Outcome(handle, Ended.FAILED, os.urandom(RESULT_ID_BYTES), 0, finished)]))

    def _say(self, message: AttemptsEnded | LeasesUnstarted) -> None:
        for handle in _handles(message):
            self._forget(handle)
        if self._folders:
            self._sweep_inputs(message)
        if not self._closed:
            self._post(self._counted(message))

    def _counting(self, handle: Handle, access: Access) -> Access:
        """What is moved in its name is the attempt's."""
        return replace(access, moved=self._moved.setdefault(handle, Moved()))

    def _counted(self, message: Input) -> Input:
        """Attempts that are over say what they moved, however they ended."""
        if not self._moved:
            return message
        moved = {handle: found.bytes for handle in _handles(message) if (found := self._moved.pop(handle, None))}
        if not isinstance(message, AttemptsEnded) or not any(moved.values()):
            return message
        return AttemptsEnded([_with_moved(outcome, moved.get(outcome.handle, 0)) for outcome in message.outcomes])

    def _sweep_inputs(self, message: Input) -> None:
        for handle in _handles(message):
            if handle in self._folders:
                self._folders.discard(handle)
                self._sweep(self._incoming / str(handle))

    def _sweep(self, folder: Path) -> None:
        task = asyncio.get_running_loop().create_task(self._threads.do(_remove, folder))
        self._sweeps.add(task)
        task.add_done_callback(self._sweeps.discard)


def _finished(outcome: Outcome) -> Finished:
    assert isinstance(outcome.body, Finished)
    return outcome.body


def _with_moved(outcome: Outcome, moved: int) -> Outcome:
    finished = outcome.body if isinstance(outcome.body, Finished) else Finished(outcome.handle)
    return (
        msgspec.structs.replace(outcome, body=msgspec.structs.replace(finished, bytes_moved=moved))
        if moved
        else outcome
    )


def _handles(message: Input) -> list[Handle]:
    """Of the attempts that are over."""
    match message:
        case AttemptsEnded():
            return [outcome.handle for outcome in message.outcomes]
        case LeasesUnstarted() | LeasesRefused():
            return message.handles
        case _:
            return []


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _documents(targets: dict[Path, Reference]) -> list[bytes]:
    """Values that may have references of their own."""
    return [path.read_bytes() for path, each in targets.items() if each.is_json and each.size <= LARGEST_SCANNED]

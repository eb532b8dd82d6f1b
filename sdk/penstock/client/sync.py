"""`SyncClient`: the client for code without an event loop.

gRPC's asyncio must not be used from several loops of one process, so all blocking clients share one loop, in a
thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from penstock.client.artifacts import ArtifactFilters, Artifacts
from penstock.client.bulk import BulkJobs
from penstock.client.cache import Cache
from penstock.client.client import Client
from penstock.client.dead_letters import DeadLetters, LetterFilters
from penstock.client.places import Place

if TYPE_CHECKING:
    from penstock.authoring.pipelines import Pipeline
    from penstock.json_values import Json
    from penstock.v1 import (
        artifact_service_pb2,
        bulk_service_pb2,
        cache_service_pb2,
        dead_letter_pb2,
        run_pb2,
        run_service_pb2,
    )

P = ParamSpec("P")
T = TypeVar("T")


class _LoopThread:
    """The one loop of all blocking clients. Started by the first call; ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        except BaseException:  # Ctrl-C in the waiting thread: what was asked for ends too
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_report)
                threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True).start()
            return self._loop


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """gRPC's poller raises this by mistake when a process has a second loop; nothing is lost by it."""
    spurious = isinstance(context.get("exception"), BlockingIOError)
    if not (spurious and "PollerCompletionQueue" in str(context.get("handle", ""))):
        loop.default_exception_handler(context)


_thread = _LoopThread()


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _thread.run(method(self.asynchronous, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[SyncClient, P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return _iterate(method(self.asynchronous, *args, **kwargs))

    return call


def _bulk(
    method: Callable[Concatenate[BulkJobs, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncBulkJobs, P], T]:
    @functools.wraps(method)
    def call(self: SyncBulkJobs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def calling() -> T:
            return await method(self._client.bulk, *args, **kwargs)

        return _thread.run(calling())

    return call


def _letters(
    method: Callable[Concatenate[DeadLetters, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncDeadLetters, P], T]:
    @functools.wraps(method)
    def call(self: SyncDeadLetters, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def calling() -> T:
            return await method(self._client.dead_letters, *args, **kwargs)

        return _thread.run(calling())

    return call


def _of_cache(
    method: Callable[Concatenate[Cache, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncCache, P], T]:
    @functools.wraps(method)
    def call(self: SyncCache, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def calling() -> T:
            return await method(self._client.cache, *args, **kwargs)

        return _thread.run(calling())

    return call


def _artifacts(
    method: Callable[Concatenate[Artifacts, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncArtifacts, P], T]:
    @functools.wraps(method)
    def call(self: SyncArtifacts, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def calling() -> T:
            return await method(self._client.artifacts, *args, **kwargs)

        return _thread.run(calling())

    return call


def _iterate(iterator: AsyncIterator[T]) -> Iterator[T]:
    async def following() -> T:
        return await anext(iterator)

    try:
        while True:
            try:
                yield _thread.run(following())
            except StopAsyncIteration:
                return
    finally:
        _thread.run(_close(iterator))


async def _close(iterator: AsyncIterator[Any]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


class SyncBulkJobs:
    """The same calls as `Client.bulk`, blocking."""

    def __init__(self, client: Client) -> None:
        self._client = client

    cancel = _bulk(BulkJobs.cancel)
    retry = _bulk(BulkJobs.retry)
    rollback = _bulk(BulkJobs.rollback)
    get = _bulk(BulkJobs.get)
    stop = _bulk(BulkJobs.stop)
    wait = _bulk(BulkJobs.wait)

    def list(self) -> Iterator[bulk_service_pb2.BulkJob]:
        """Newest first."""
        return _iterate(self._listing())

    async def _listing(self) -> AsyncIterator[bulk_service_pb2.BulkJob]:
        async for job in self._client.bulk.list():
            yield job


class SyncDeadLetters:
    """The same calls as `Client.dead_letters`, blocking."""

    def __init__(self, client: Client) -> None:
        self._client = client

    get = _letters(DeadLetters.get)
    requeue = _letters(DeadLetters.requeue)
    purge = _letters(DeadLetters.purge)
    requeue_many = _letters(DeadLetters.requeue_many)
    purge_many = _letters(DeadLetters.purge_many)

    def list(
        self,
        *,
        states: Sequence[dead_letter_pb2.DeadLetterState.ValueType] = (),
        **filters: Unpack[LetterFilters],
    ) -> Iterator[dead_letter_pb2.DeadLetter]:
        """The newest failure first; those that are open, unless `states` says otherwise."""
        return _iterate(self._listing(states, filters))

    async def _listing(
        self, states: Sequence[dead_letter_pb2.DeadLetterState.ValueType], filters: LetterFilters
    ) -> AsyncIterator[dead_letter_pb2.DeadLetter]:
        async for letter in self._client.dead_letters.list(states=states, **filters):
            yield letter


class SyncCache:
    """The same calls as `Client.cache`, blocking."""

    def __init__(self, client: Client) -> None:
        self._client = client

    get = _of_cache(Cache.get)
    delete = _of_cache(Cache.delete)

    def list(
        self, *, pipeline: str = "", step: str = "", key: str = "", run_id: str = ""
    ) -> Iterator[cache_service_pb2.CacheEntry]:
        """The newest first, without their values."""
        return _iterate(self._listing(pipeline, step, key, run_id))

    async def _listing(
        self, pipeline: str, step: str, key: str, run_id: str
    ) -> AsyncIterator[cache_service_pb2.CacheEntry]:
        async for entry in self._client.cache.list(pipeline=pipeline, step=step, key=key, run_id=run_id):
            yield entry


class SyncArtifacts:
    """The same calls as `Client.artifacts`, blocking."""

    def __init__(self, client: Client) -> None:
        self._client = client

    get = _artifacts(Artifacts.get)
    lineage = _artifacts(Artifacts.lineage)
    download = _artifacts(Artifacts.download)

    def list(self, **filters: Unpack[ArtifactFilters]) -> Iterator[artifact_service_pb2.Artifact]:
        """The newest first."""
        return _iterate(self._listing(filters))

    async def _listing(self, filters: ArtifactFilters) -> AsyncIterator[artifact_service_pb2.Artifact]:
        async for artifact in self._client.artifacts.list(**filters):
            yield artifact


class SyncClient:
    """The same calls as `Client`, blocking. Safe to use from several threads."""

    def __init__(
        self,
        address: str | None = None,
        *,
        api_key: str | None = None,
        deadline: float = 60.0,
        retry_for: float = 60.0,
        patience: float = 300.0,
    ) -> None:
        self.asynchronous = Client(address, api_key=api_key, deadline=deadline, retry_for=retry_for, patience=patience)

    @property
    def bulk(self) -> SyncBulkJobs:
        """Cancels and retries of many runs."""
        return SyncBulkJobs(self.asynchronous)

    @property
    def dead_letters(self) -> SyncDeadLetters:
        """What failed for good."""
        return SyncDeadLetters(self.asynchronous)

    @property
    def cache(self) -> SyncCache:
        """The values that steps are answered from."""
        return SyncCache(self.asynchronous)

    @property
    def artifacts(self) -> SyncArtifacts:
        """What steps made that was too large to be inline, files and folders."""
        return SyncArtifacts(self.asynchronous)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    close = _blocking(Client.close)
    create_pipeline = _blocking(Client.create_pipeline)
    create_prepared = _blocking(Client.create_prepared)
    upload_bundle = _blocking(Client.upload_bundle)
    validate = _blocking(Client.validate)
    get_pipeline = _blocking(Client.get_pipeline)
    get_costs = _blocking(Client.get_costs)
    list_costs = _blocking(Client.list_costs)
    get_budget = _blocking(Client.get_budget)
    raise_budget = _blocking(Client.raise_budget)
    list_pipelines = _iterating(Client.list_pipelines)
    list_versions = _iterating(Client.list_versions)
    delete_pipeline = _blocking(Client.delete_pipeline)
    get_run = _blocking(Client.get_run)
    list_runs = _iterating(Client.list_runs)
    watch = _iterating(Client.watch)
    wait = _blocking(Client.wait)
    cancel = _blocking(Client.cancel)
    pause = _blocking(Client.pause)
    resume = _blocking(Client.resume)
    retry = _blocking(Client.retry)
    rollback = _blocking(Client.rollback)
    rerun = _blocking(Client.rerun)
    list_step_runs = _iterating(Client.list_step_runs)
    get_step_run = _blocking(Client.get_step_run)
    explain = _blocking(Client.explain)
    diff_versions = _blocking(Client.diff_versions)
    diff_runs = _blocking(Client.diff_runs)
    result = _blocking(Client.result)
    output = _blocking(Client.output)
    logs = _iterating(Client.logs)
    list_agents = _iterating(Client.list_agents)
    get_agent = _blocking(Client.get_agent)
    drain_agent = _blocking(Client.drain_agent)
    pause_agent = _blocking(Client.pause_agent)
    resume_agent = _blocking(Client.resume_agent)
    health = _blocking(Client.health)
    list_coordinators = _blocking(Client.list_coordinators)
    hand_over = _blocking(Client.hand_over)
    list_queues = _blocking(Client.list_queues)
    run_janitor = _blocking(Client.run_janitor)
    list_secrets = _iterating(Client.list_secrets)
    set_secret = _blocking(Client.set_secret)
    delete_secret = _blocking(Client.delete_secret)
    rotate_secrets = _blocking(Client.rotate_secrets)

    def start(
        self,
        pipeline: str | Pipeline,
        parameters: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        version: int = 0,
        trace_context: Mapping[str, str] | None = None,
        priority: int | None = None,
        weight: float | None = None,
        run_key: str = "",
        run_key_conflict: str = "",
        run_key_reuse: str = "",
        cache: str = "",
    ) -> SyncRunHandle:
        """See `Client.start`."""
        started = self.asynchronous.start(
            pipeline,
            parameters,
            labels=labels,
            request_id=request_id,
            version=version,
            trace_context=trace_context,
            priority=priority,
            weight=weight,
            run_key=run_key,
            run_key_conflict=run_key_conflict,
            run_key_reuse=run_key_reuse,
            cache=cache,
        )
        handle = _thread.run(started)
        return SyncRunHandle(self, handle.id, existing=handle.existing)

    def start_many(
        self,
        pipeline: str | Pipeline,
        parameter_sets: Iterable[Mapping[str, Any]],
        *,
        labels: Mapping[str, str] | None = None,
        request_ids: Sequence[str] | None = None,
        version: int = 0,
        priority: int | None = None,
        weight: float | None = None,
    ) -> list[SyncRunHandle]:
        """See `Client.start_many`."""
        started = self.asynchronous.start_many(
            pipeline,
            parameter_sets,
            labels=labels,
            request_ids=request_ids,
            version=version,
            priority=priority,
            weight=weight,
        )
        return [SyncRunHandle(self, handle.id) for handle in _thread.run(started)]

    def run(self, run_id: str) -> SyncRunHandle:
        """A handle for a run by its id. Asks nothing."""
        return SyncRunHandle(self, run_id)


class SyncRunHandle:
    """A run by its id. Holds no state of the run: every method asks the coordinator."""

    def __init__(self, client: SyncClient, run_id: str, *, existing: bool = False) -> None:
        self._client = client
        self.id = run_id
        self.existing = existing
        """The start that gave this handle started no run: this one was there, and has the run key."""

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def get(self) -> run_pb2.Run:
        return self._client.get_run(self.id)

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> run_pb2.Run:
        """The run at rest. See `Client.wait`."""
        return self._client.wait(self.id, timeout, raise_on_failure=raise_on_failure)

    def output(self, timeout: float | None = None) -> Json:
        """What the run gave, once it is COMPLETED. See `Client.output`."""
        return self._client.output(self.id, timeout)

    def result(self, step: str, item: Place = None, *, allow_pickle: bool = False) -> Any:
        """The output of a step, also while the run goes on. See `Client.result`."""
        return self._client.result(self.id, step, item, allow_pickle=allow_pickle)

    def watch(self, from_event: int = 1) -> Iterator[run_service_pb2.Event]:
        return self._client.watch(self.id, from_event)

    def explain(self, step: str = "", item: Place = None) -> run_service_pb2.ExplainRunResponse:
        return self._client.explain(self.id, step, item)

    def pause(self, *, reason: str = "") -> run_pb2.Run:
        return self._client.pause(self.id, reason=reason)

    def resume(self) -> run_pb2.Run:
        return self._client.resume(self.id)

    def retry(self, *, version_number: int = 0, newest_version: bool = False, reason: str = "") -> run_pb2.Run:
        """What did not come to a good end runs again. See `Client.retry`."""
        done = self._client.retry(self.id, version_number=version_number, newest_version=newest_version, reason=reason)
        return done.run

    def rollback(self, *, version_number: int = 0, newest_version: bool = False, reason: str = "") -> run_pb2.Run:
        """What is COMPLETED is undone. See `Client.rollback`."""
        done = self._client.rollback(
            self.id, version_number=version_number, newest_version=newest_version, reason=reason
        )
        return done.run

    def rerun(self, step: str, item: Place = None, *, reason: str = "") -> run_pb2.Run:
        """A step runs again with everything that comes after it. See `Client.rerun`."""
        return self._client.rerun(self.id, step, item, reason=reason).run

    def cancel(self, *, now: bool = False, reason: str = "") -> run_pb2.Run:
        return self._client.cancel(self.id, now=now, reason=reason)

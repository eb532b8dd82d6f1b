"""A run that a client started, or knows by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from penstock.client.places import Place
from penstock.json_values import Json

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import run_pb2, run_service_pb2


class RunHandle:
    """A run by its id. Holds no state of the run: every method asks the coordinator."""

    def __init__(self, client: Client, run_id: str, *, existing: bool = False) -> None:
        self._client = client
        self.id = run_id
        self.existing = existing
        """The start that gave this handle started no run: this one was there, and has the run key."""

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def get(self) -> run_pb2.Run:
        return await self._client.get_run(self.id)

    async def wait(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> run_pb2.Run:
        """The run at rest. See `Client.wait`."""
        return await self._client.wait(self.id, timeout, raise_on_failure=raise_on_failure)

    async def output(self, timeout: float | None = None) -> Json:
        """What the run gave, once it is COMPLETED. See `Client.output`."""
        return await self._client.output(self.id, timeout)

    async def result(self, step: str, item: Place = None, *, allow_pickle: bool = False) -> Any:
        """The output of a step, also while the run goes on. See `Client.result`."""
        return await self._client.result(self.id, step, item, allow_pickle=allow_pickle)

    def watch(self, from_event: int = 1) -> AsyncIterator[run_service_pb2.Event]:
        return self._client.watch(self.id, from_event)

    async def explain(self, step: str = "", item: Place = None) -> run_service_pb2.ExplainRunResponse:
        """Why the run, or one step run, does not go on."""
        return await self._client.explain(self.id, step, item)

    async def pause(self, *, reason: str = "") -> run_pb2.Run:
        return await self._client.pause(self.id, reason=reason)

    async def resume(self) -> run_pb2.Run:
        return await self._client.resume(self.id)

    async def retry(self, *, version_number: int = 0, newest_version: bool = False, reason: str = "") -> run_pb2.Run:
        """What did not come to a good end runs again. See `Client.retry`."""
        done = await self._client.retry(
            self.id, version_number=version_number, newest_version=newest_version, reason=reason
        )
        return done.run

    async def rollback(self, *, version_number: int = 0, newest_version: bool = False, reason: str = "") -> run_pb2.Run:
        """What is COMPLETED is undone. See `Client.rollback`."""
        done = await self._client.rollback(
            self.id, version_number=version_number, newest_version=newest_version, reason=reason
        )
        return done.run

    async def rerun(self, step: str, item: Place = None, *, reason: str = "") -> run_pb2.Run:
        """A step runs again with everything that comes after it. See `Client.rerun`."""
        return (await self._client.rerun(self.id, step, item, reason=reason)).run

    async def cancel(self, *, now: bool = False, reason: str = "") -> run_pb2.Run:
        return await self._client.cancel(self.id, now=now, reason=reason)

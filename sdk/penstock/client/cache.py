"""The cache: the values that steps are answered from, to be looked at and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from penstock.v1 import cache_service_pb2
from penstock.v1.cache_service_pb2_grpc import CacheServiceStub


class Cache:
    """What `client.cache` is. A selection is what all of its members match; `key` may be the first 8 digits or more."""

    def __init__(
        self,
        stub: CacheServiceStub,
        call: Callable[[Any, Any], Awaitable[Any]],
        pages: Callable[[Any, Any], AsyncIterator[Any]],
    ) -> None:
        self._stub = stub
        self._call = call
        self._pages = pages

    async def list(
        self, *, pipeline: str = "", step: str = "", key: str = "", run_id: str = ""
    ) -> AsyncIterator[cache_service_pb2.CacheEntry]:
        """The newest first, without their values."""
        selection = cache_service_pb2.CacheSelection(pipeline=pipeline, step=step, key=key, run_id=run_id)
        request = cache_service_pb2.ListCacheEntriesRequest(selection=selection)
        async for page in self._pages(self._stub.List, request):
            for entry in page.entries:
                yield entry

    async def get(self, entry_id: str) -> cache_service_pb2.CacheEntry:
        """With its value. Raises NotFoundError."""
        request = cache_service_pb2.GetCacheEntryRequest(id=entry_id)
        response: cache_service_pb2.GetCacheEntryResponse = await self._call(self._stub.Get, request)
        return response.entry

    async def delete(
        self,
        entry_id: str = "",
        *,
        pipeline: str = "",
        step: str = "",
        key: str = "",
        run_id: str = "",
        everything: bool = False,
    ) -> int:
        """One entry, or all that match, or with `everything` all there are; how many. What was answered from them
        stays as it is."""
        request = cache_service_pb2.DeleteCacheEntriesRequest(
            id=entry_id,
            selection=cache_service_pb2.CacheSelection(pipeline=pipeline, step=step, key=key, run_id=run_id),
            all=everything,
        )
        response: cache_service_pb2.DeleteCacheEntriesResponse = await self._call(self._stub.Delete, request)
        return response.deleted

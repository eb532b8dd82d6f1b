"""penstock.v1.CacheService."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.v1 import cache_service_pb2 as pb
from penstock.v1.cache_service_pb2_grpc import CacheServiceServicer
from penstock_coordinator.api.encoding.values import instant, known_instant
from penstock_coordinator.api.errors import CallError, invalid, not_found, shown
from penstock_coordinator.api.fields import name_of, run_id_of, run_id_text
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.ports import CacheFilter
from penstock_coordinator.runtime.cached_values import UnknownEntry

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import CacheEntry
    from penstock_coordinator.runtime.engine import Engine

_ENTRY_ID = re.compile(r"[1-9][0-9]{0,17}")
_KEY = re.compile(r"[0-9a-f]{8,64}")


class CacheService(CacheServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._values = engine.cached_values

    async def List(self, request: pb.ListCacheEntriesRequest, context: Context) -> pb.ListCacheEntriesResponse:
        where = _filter(request.selection)
        size, tokens = page_size(request.page_size), PageTokens(request, int)
        found = await self._values.list_entries(where, size + 1, tokens.read(request.page_token))
        return pb.ListCacheEntriesResponse(
            entries=[_encoded(each) for each in found[:size]],
            next_page_token=tokens.write(found[size - 1].entry_id) if len(found) > size else "",
        )

    async def Get(self, request: pb.GetCacheEntryRequest, context: Context) -> pb.GetCacheEntryResponse:
        try:
            found = await self._values.get(_entry_id(request.id))
        except UnknownEntry:
            raise _unknown() from None
        entry = _encoded(found)
        entry.output_json = found.row.output.decode("utf-8", "replace")
        return pb.GetCacheEntryResponse(entry=entry)

    async def Delete(self, request: pb.DeleteCacheEntriesRequest, context: Context) -> pb.DeleteCacheEntriesResponse:
        where = _filter(request.selection)
        chosen = where != CacheFilter()
        if bool(request.id) + chosen + request.all != 1:
            raise invalid("id", "name one entry, or choose some with `selection`, or take `all` of them: one of these")
        entry_id = _entry_id(request.id) if request.id else None
        return pb.DeleteCacheEntriesResponse(deleted=await self._values.delete(where, entry_id))


def _entry_id(text: str) -> int:
    if not _ENTRY_ID.fullmatch(text):
        raise invalid("id", f"{shown(text)} is no id of an entry: `penstock cache list` (List) shows them")
    return int(text)


def _filter(chosen: pb.CacheSelection) -> CacheFilter:
    if chosen.key and not _KEY.fullmatch(chosen.key):
        raise invalid("selection.key", f"{shown(chosen.key)} is no key: give 8 to 64 hexadecimal digits of one")
    even = len(chosen.key) // 2 * 2
    return CacheFilter(
        pipeline=name_of(chosen.pipeline, "selection.pipeline", "a pipeline") if chosen.pipeline else "",
        step_name=name_of(chosen.step, "selection.step", "a step") if chosen.step else "",
        key_prefix=bytes.fromhex(chosen.key[:even]),
        key_odd=int(chosen.key[even:], 16) if chosen.key[even:] else None,
        run_id=run_id_of(chosen.run_id, "selection.run_id") if chosen.run_id else None,
    )


def _encoded(found: CacheEntry) -> pb.CacheEntry:
    row = found.row
    return pb.CacheEntry(
        id=str(found.entry_id),
        key=row.key.hex(),
        pipeline=row.pipeline,
        step=row.step_name,
        run_id=run_id_text(found.run_id),
        display_name=row.display_name,
        attempt=row.attempt,
        create_time=instant(row.at),
        expire_time=known_instant(row.expire_time),
        size_bytes=found.size,
        artifacts=row.artifacts,
    )


def _unknown() -> CallError:
    return not_found(
        "id", "UNKNOWN_CACHE_ENTRY", "there is no such entry, or it was deleted: `penstock cache list` (List) names all"
    )

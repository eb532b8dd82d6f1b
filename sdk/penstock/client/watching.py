"""Watching a run over broken connections: every event once, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from penstock.v1 import run_pb2, run_service_pb2

if TYPE_CHECKING:
    from penstock.client.calls import Caller

AT_REST = frozenset(
    {
        run_pb2.RUN_STATE_COMPLETED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_CANCELLED,
        run_pb2.RUN_STATE_ROLLED_BACK,
    }
)


async def watch_events(
    caller: Caller,
    open_watch: Callable[[run_service_pb2.WatchRunRequest], Any],
    get_run: Callable[[str], Awaitable[run_pb2.Run]],
    run_id: str,
    from_event: int,
    patience: float,
) -> AsyncIterator[run_service_pb2.Event]:
    """Ends when the run is at rest and its last event was given."""
    following = max(from_event, 1)

    def open_call() -> Any:
        return open_watch(run_service_pb2.WatchRunRequest(run_id=run_id, from_event=following))

    while True:
        at_rest = False
        async for response in caller.stream(open_call, patience):
            for event in response.events:
                if event.number < following:
                    continue
                following = event.number + 1
                at_rest = event.run_state in AT_REST
                yield event
        # A stream also ends well when the coordinator goes away, so its end alone says nothing.
        if at_rest or await _is_over(get_run, run_id, following):
            return


async def _is_over(get_run: Callable[[str], Awaitable[run_pb2.Run]], run_id: str, following: int) -> bool:
    run = await get_run(run_id)
    return run.state in AT_REST and run.last_event < following

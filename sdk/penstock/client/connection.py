"""What all calls of a client go through."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from penstock.client.calls import Caller
from penstock.client.channel import announcing, call_metadata
from penstock.client.coordinators import Channels, Coordinators
from penstock.settings import load_settings

if TYPE_CHECKING:
    import grpc.aio

S = TypeVar("S")

log = logging.getLogger(__name__)
MAX_WARNED = 1_000


class Connection:
    """A channel to a coordinator, or to the one of several that answers, opened by the first call. See `Client`."""

    def __init__(
        self,
        address: str | None,
        *,
        api_key: str | None,
        deadline: float,
        retry_for: float,
        patience: float,
    ) -> None:
        settings = load_settings(address, api_key)
        self.address = settings.address
        self.patience = patience
        self._coordinators = Coordinators(settings.address)
        self._caller = Caller(self._coordinators, deadline, retry_for)
        self._metadata = call_metadata(settings.api_key.get_secret_value() if settings.api_key else None)
        self._channel: Channels | None = None
        self._stubs: dict[Callable[[grpc.aio.Channel], Any], Any] = {}
        """Of the channel. To make one costs as much as to send a call."""
        self._warned: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what is under way. A later call opens a new channel."""
        channel, self._channel = self._channel, None
        self._stubs.clear()
        if channel is not None:
            await channel.close()

    # The channel belongs to the loop that runs when it is opened, so it is opened by the first call.
    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = Channels(self._coordinators)
        # Stubs use no more of a channel than there is.
        return cast("grpc.aio.Channel", self._channel)

    def _stub(self, kind: Callable[[grpc.aio.Channel], S]) -> S:
        """The stub of that class, for the channel that is open."""
        stub: S | None = self._stubs.get(kind)
        if stub is None:
            stub = self._stubs[kind] = kind(self._open())
        return stub

    async def _call(self, method: Any, request: Any) -> Any:
        metadata = announcing(self._metadata, request)

        def attempt(remaining: float) -> Awaitable[Any]:
            call: Awaitable[Any] = method(request, timeout=remaining, metadata=metadata)
            return call

        return await self._caller.call(attempt)

    def _warn(self, warnings: Iterable[str]) -> None:
        """Logs what an answer warns of; a client says the same thing once, also if it starts the pipeline often."""
        for text in warnings:
            if text not in self._warned:
                if len(self._warned) >= MAX_WARNED:
                    self._warned.clear()
                self._warned.add(text)
                log.warning("%s", text)

    async def _pages(self, method: Any, request: Any) -> AsyncIterator[Any]:
        while True:
            page = await self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

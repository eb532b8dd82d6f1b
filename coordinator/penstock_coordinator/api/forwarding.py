"""Calls that another coordinator answers: they are passed on as bytes. Streams of agents are another matter
(`relaying`).

What comes back is passed on as it is: answers, errors with their details, metadata. One that follows passes calls on to
the head, once: one that comes from another coordinator is refused, and so is every call while no head is heard of. The
head passes those that a member has to answer on to it, once too: nobody passes a call on that the head has sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from penstock_coordinator.api.errors import STATUS_KEY, CallError, PassedBack, WireStatus, exhausted
from penstock_coordinator.api.options import FORWARDED_CALLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from penstock_coordinator.api.guard import Context, Handler
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

HOP = "penstock-forwarded-by"
"""Metadata of a call that was passed on: the id of the coordinator that did."""
ROUTED = "penstock-routed"
"""Metadata of a call that the head has sent to one of its members: the head's epoch. Whoever gets it answers it, or
says RUN_MOVED."""
OWNER = "penstock-owner"
"""Metadata of an answer that was passed back: where the next call is answered without a detour."""
NOT_THE_LEADER = "NOT_THE_LEADER"
OWNER_LOST = "OWNER_LOST"
RUN_MOVED = "RUN_MOVED"

_SECOND = 1_000_000
_ITS_OWN = ("grpc-", ":", "content-", "accept-encoding", "te", "user-agent", "host", "connection")
"""Metadata of one connection: whoever makes a call says it anew."""


def not_the_leader(owner: CoordinatorRow | None) -> CallError:
    """Of a coordinator that owns no runs. `owner`: whom to ask, if that is known."""
    if owner is None:
        text = (
            "this coordinator owns no runs now, and no other one is heard of: try again soon, or give all coordinators"
            " as the address, host:port,host:port"
        )
        return CallError(grpc.StatusCode.UNAVAILABLE, NOT_THE_LEADER, text)
    text = (
        f'this coordinator follows: ask the one that owns the runs, "{owner.coordinator_id}" at {owner.address}, or'
        " give all of them as the address, host:port,host:port"
    )
    metadata = {"address": owner.address, "coordinator_id": owner.coordinator_id}
    return CallError(grpc.StatusCode.UNAVAILABLE, NOT_THE_LEADER, text, metadata=metadata)


def owner_lost(address: str) -> CallError:
    """It went away, or does not own the runs any more, before it had answered."""
    text = (
        f"the owner of the runs, at {address}, went away before it answered, and what was asked may have been done:"
        " repeat the call with the same request id, which does it once"
    )
    return CallError(grpc.StatusCode.UNAVAILABLE, OWNER_LOST, text, retry_after=_SECOND // 2)


def run_moved() -> CallError:
    """The run is not here, and whoever sent the call here has to look for it again."""
    text = "the run is that of another coordinator now: try again soon"
    return CallError(grpc.StatusCode.UNAVAILABLE, RUN_MOVED, text, retry_after=_SECOND // 5)


def _is_the_transports(error: grpc.aio.AioRpcError) -> bool:
    """Of an error without details of ours. A write into a call that the owner ends may fail in the library itself,
    which then tells INTERNAL in place of what the owner has said."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or (
        error.code() is grpc.StatusCode.INTERNAL
        and (error.debug_error_string() or "").startswith('Failed "execute_batch"')
    )


class Line:
    """The channel to one owner, and the calls on it."""

    def __init__(
        self, address: str, epoch: int, options: Sequence[tuple[str, Any]], *, recommended: bool = True
    ) -> None:
        """`epoch`: of the owner. `recommended`: callers are told of it, as where the next call needs no detour."""
        self.address = address
        self.epoch = epoch
        self.recommended = recommended
        self.over = False
        """Nobody waits for its answers any more."""
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._calls: set[grpc.aio.Call] = set()
        self._made: dict[tuple[str, str], Any] = {}

    def method(self, kind: str, method: str) -> Any:
        """To make one of a channel costs as much as a call, so each is made once. Messages are bytes."""
        made = self._made.get((kind, method))
        if made is None:
            made = self._made[kind, method] = getattr(self._channel, kind)(method)
        return made

    @property
    def count(self) -> int:
        return len(self._calls)

    def leads_to(self, owner: CoordinatorRow) -> bool:
        """To that incarnation of it."""
        return (self.address, self.epoch) == (owner.address, owner.epoch)

    @contextlib.contextmanager
    def carrying(self, call: grpc.aio.Call) -> Iterator[None]:
        """Raises what the caller is told of a call that fails. Whoever leaves early has it cancelled."""
        self._calls.add(call)
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._told(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.over and not (task is not None and task.cancelling()):
                raise owner_lost(self.address) from None
            raise
        finally:
            self._calls.discard(call)
            call.cancel()

    def _told(self, error: grpc.aio.AioRpcError) -> Exception:
        trailing = tuple(error.trailing_metadata() or ())
        if _is_the_transports(error) and not any(key == STATUS_KEY for key, _ in trailing):
            # Texts of gRPC are nothing for callers.
            return owner_lost(self.address)
        return PassedBack(WireStatus(error.code(), error.details() or "", tuple(of_the_call(trailing))))

    def hang_up(self) -> None:
        """Calls that wait for an answer end: who asks again is answered by the next owner."""
        self.over = True
        for call in tuple(self._calls):
            call.cancel()

    async def close(self) -> None:
        self.hang_up()
        await self._channel.close()


class Forwarder:
    """One per process. It keeps one channel, to the owner that is heard of."""

    def __init__(
        self,
        coordinator_id: str,
        owner: Callable[[], CoordinatorRow | None],
        options: Sequence[tuple[str, Any]],
        limit: int = FORWARDED_CALLS,
    ) -> None:
        self._id = coordinator_id
        self._owner = owner
        self._options = options
        self._limit = limit
        self._line: Line | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def handler(self, method: str, *, requests: bool, answers: bool) -> Handler:
        """Of a method, whose requests and answers are streams or not."""
        passing = Passing(self, method)
        if answers:
            assert not requests, "users' calls have no streams both ways"
            return grpc.unary_stream_rpc_method_handler(passing.stream_back, None, None)
        if requests:
            return grpc.stream_unary_rpc_method_handler(passing.stream_on, None, None)
        return grpc.unary_unary_rpc_method_handler(passing.ask, None, None)

    def line(self, metadata: Iterable[tuple[str, Any]]) -> Line:
        """For a call with that metadata. Raises `CallError`: it is not to be passed on."""
        owner = self._owner()
        if owner is None or any(key == HOP for key, _ in metadata):
            raise not_the_leader(owner)
        line = self._line
        if line is None or not line.leads_to(owner):
            self.hang_up()
            line = self._line = Line(owner.address, owner.epoch, self._options)
        if line.count >= self._limit:
            raise exhausted(
                "TOO_MANY_CALLS",
                f"{line.count:,} calls are passed on to the owner: try again soon, or ask it at {owner.address}",
                _SECOND,
            )
        return line

    def metadata_of(self, given: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
        """What goes on with the call."""
        return (*of_the_call(given), (HOP, self._id))

    def follow(self) -> None:
        """The owner was looked for. If there is another one, nobody waits for the former any more; while none is heard
        of, it may still answer."""
        owner = self._owner()
        if owner is not None and self._line is not None and not self._line.leads_to(owner):
            self.hang_up()

    def hang_up(self) -> None:
        """There is another owner, and perhaps it is this process: nobody waits for the former one."""
        line, self._line = self._line, None
        if line is None:
            return
        line.hang_up()
        closing = asyncio.get_running_loop().create_task(line.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self.hang_up()
        await asyncio.gather(*self._closing, return_exceptions=True)


class Forwarders:
    """Of a head: the channels to its members, each for what that one has to answer."""

    def __init__(
        self, coordinator_id: str, epoch: int, options: Sequence[tuple[str, Any]], limit: int = FORWARDED_CALLS
    ) -> None:
        """`epoch`: of the head. `limit`: of calls at once to one member."""
        self._id = coordinator_id
        self._epoch = epoch
        self._options = options
        self._limit = limit
        self._lines: dict[str, Line] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to(self, member: CoordinatorRow) -> _ToMember:
        return _ToMember(self, member)

    def line(self, member: CoordinatorRow, metadata: Iterable[tuple[str, Any]]) -> Line:
        """For a call with that metadata. Raises `CallError`: it is not to be passed on."""
        if any(key == ROUTED for key, _ in metadata):
            raise run_moved()
        line = self._lines.get(member.coordinator_id)
        if line is None or not line.leads_to(member):
            self._hang_up(member.coordinator_id)
            line = Line(member.address, member.epoch, self._options, recommended=False)
            self._lines[member.coordinator_id] = line
        if line.count >= self._limit:
            text = f'{line.count:,} calls are passed on to the coordinator "{member.coordinator_id}": try again soon'
            raise exhausted("TOO_MANY_CALLS", text, _SECOND)
        return line

    def metadata_of(self, given: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
        """What goes on with the call."""
        return (*of_the_call(given), (HOP, self._id), (ROUTED, str(self._epoch)))

    def heard(self, members: Iterable[CoordinatorRow]) -> None:
        """These are there now: nobody waits for others, or for former incarnations, any more."""
        rows = {row.coordinator_id: row for row in members}
        for name, line in tuple(self._lines.items()):
            row = rows.get(name)
            if row is None or not line.leads_to(row):
                self._hang_up(name)

    def _hang_up(self, coordinator_id: str) -> None:
        line = self._lines.pop(coordinator_id, None)
        if line is not None:
            line.hang_up()
            closing = asyncio.get_running_loop().create_task(line.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self.heard(())
        await asyncio.gather(*self._closing, return_exceptions=True)


class _ToMember:
    """The way of a call."""

    def __init__(self, forwarders: Forwarders, member: CoordinatorRow) -> None:
        self._forwarders = forwarders
        self._member = member
        self.metadata_of = forwarders.metadata_of

    def line(self, metadata: Iterable[tuple[str, Any]]) -> Line:
        return self._forwarders.line(self._member, metadata)


class Passing:
    """A method's calls, or one of them, on their way."""

    def __init__(self, way: Forwarder | _ToMember, method: str) -> None:
        self._way = way
        self._method = method

    def _begin(self, kind: str, context: Context, *request: bytes) -> tuple[Line, Any]:
        metadata = context.invocation_metadata() or ()
        line = self._way.line(metadata)
        call = line.method(kind, self._method)(
            *request, timeout=context.time_remaining(), metadata=self._way.metadata_of(metadata)
        )
        return line, call

    async def ask(self, request: bytes, context: Context) -> bytes:
        line, call = self._begin("unary_unary", context, request)
        with line.carrying(call):
            answer: bytes = await call
            await _pass_ends(line, call, context)
        return answer

    async def stream_back(self, request: bytes, context: Context) -> bool:
        """As fast as the caller reads: no more than a message is here at a time. True: what was written is another
        coordinator's answer."""
        line, call = self._begin("unary_stream", context, request)
        begun = False
        try:
            with line.carrying(call):
                async for answer in call:
                    if not begun:
                        begun = True
                        await context.send_initial_metadata(await heads(line, call))
                    await context.write(answer)
                context.set_trailing_metadata(tuple(of_the_call(await call.trailing_metadata())))
        except PassedBack as error:
            error.begun = begun
            raise
        return True

    async def stream_on(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """As fast as the owner takes it. Its answer ends the call, also one that comes before all was sent."""
        line, call = self._begin("stream_unary", context)
        with line.carrying(call):
            sending = asyncio.create_task(_send(requests, call))
            welcoming = asyncio.create_task(_welcome(line, call, context))
            try:
                answer: bytes = await call
                begun = await welcoming
            except asyncio.CancelledError:
                if sending.done() and not sending.cancelled() and (fault := sending.exception()) is not None:
                    raise fault from None
                raise
            finally:
                sending.cancel()
                welcoming.cancel()
                await asyncio.gather(sending, welcoming, return_exceptions=True)
            await _pass_ends(line, call, context, begun=begun)
        return answer


async def _send(requests: AsyncIterator[bytes], call: Any) -> None:
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # The call has ended: how, whoever awaits it hears.
    except Exception:
        call.cancel()
        raise


async def _welcome(line: Line, call: Any, context: Context) -> bool:
    """What the owner says before its answer goes back at once: who sends may wait for it. Whether it was anything; of a
    call that fails the library tells initial metadata too, without any."""
    if not tuple(of_the_call(await call.initial_metadata())):
        return False
    await context.send_initial_metadata(await heads(line, call))
    return True


async def _pass_ends(line: Line, call: Any, context: Context, *, begun: bool = False) -> None:
    """`begun`: the initial metadata are passed on already."""
    if not begun:
        await context.send_initial_metadata(await heads(line, call))
    context.set_trailing_metadata(tuple(of_the_call(await call.trailing_metadata())))


async def heads(line: Line, call: Any) -> tuple[tuple[str, Any], ...]:
    """The initial metadata of an answer that is passed back."""
    told = tuple(of_the_call(await call.initial_metadata()))
    return (*told, (OWNER, line.address)) if line.recommended else told


def of_the_call(metadata: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """What is passed on of the metadata."""
    return ((key, value) for key, value in metadata or () if key == STATUS_KEY or not key.startswith(_ITS_OWN))

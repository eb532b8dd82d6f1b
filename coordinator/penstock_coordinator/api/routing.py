"""Calls at an owner of runs when there are several: who answers each of them (`call_classes`).

The head answers all but what belongs to a member: calls about a run that is live there, and starts that it places
there. A member answers what is its own, and passes the rest on to the head. So a call takes two hops at most.

A run may move while a call is on its way to it. Whoever gets a call that the head has sent answers it, or says
RUN_MOVED; then the head looks the run up once more, and only once: after that whoever asks is told to come again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.call_classes import CLASSES, CallClass
from penstock_coordinator.api.dead_letter_fields import letter_id_of
from penstock_coordinator.api.errors import CallError, PassedBack, reason_of
from penstock_coordinator.api.fields import run_id_of
from penstock_coordinator.api.forwarding import NOT_THE_LEADER, ROUTED, RUN_MOVED, Passing, not_the_leader, run_moved
from penstock_coordinator.api.guard import run_streaming
from penstock_coordinator.api.relaying import CONNECT
from penstock_coordinator.core.fleet.ownership import CoordinatorRow
from penstock_coordinator.runtime.views import Stopping
from penstock_coordinator.runtime.whereabouts import Residence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from typing import TypeAlias

    from google.protobuf.message import Message

    from penstock_coordinator.api.doorway import Outside
    from penstock_coordinator.api.forwarding import Forwarder, Forwarders
    from penstock_coordinator.api.guard import Behaviour, Context, Handler
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.whereabouts import Whereabouts

    Making: TypeAlias = Callable[[Behaviour, str], Behaviour]
    """Of a behaviour and of how one is called that passes the call on."""

LINK = "penstock-link"
"""Metadata of an agent's stream to a member, and of the other calls of that link: "id@epoch" of the member, as it was
told to the agent."""
WAIT_MANY = "/penstock.v1.RunService/WaitMany"

_START = "/penstock.v1.RunService/Start"
_MOVED = frozenset({RUN_MOVED, NOT_THE_LEADER, "STOPPING"})
"""What an owner says of a run that it has no more. Nothing was done."""
_TO_BE_STARTED_HERE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_NOT_STARTED = frozenset({NOT_THE_LEADER, RUN_MOVED, "NOT_FREE", "OVERLOADED", "TOO_MANY_CALLS"})
"""Reasons of one that has started nothing for certain."""


class Services(Protocol):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None: ...


class Places(Protocol):
    """Where the head has runs start."""

    def place(self, requests: Sequence[pb.StartRunRequest]) -> CoordinatorRow | None:
        """The member that is to have all of them, which counts as sent; None: the head."""


# --- the head


class AtHead(grpc.GenericRpcHandler):
    """The services of a head. While no member is heard of a call pays one look at an attribute."""

    def __init__(self, inside: Services, whereabouts: Whereabouts, forwarders: Forwarders, places: Places) -> None:
        self._inside = inside
        self._whereabouts = whereabouts
        self._forwarders = forwarders
        self._places = places
        self._made: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method = handler_call_details.method
        made = self._made.get(method)
        if made is not None:
            return made
        handler = self._inside.service(handler_call_details)
        match CLASSES.get(method):
            case CallClass.RUN if handler is not None:
                made = self._made[method] = _made_of(handler, self._about_a_run(method))
                return made
            case CallClass.START if handler is not None:
                made = self._made[method] = _made_of(handler, self._starting(method))
                return made
            case _ if method == CONNECT and _link(handler_call_details.invocation_metadata) is not None:
                return _refusing_stream(not_the_leader(None))
            case _:
                return handler

    def _about_a_run(self, method: str) -> Making:
        whereabouts = self._whereabouts

        def making(behaviour: Behaviour, kind: str) -> Behaviour:
            async def find_and_answer(request: Message, context: Context) -> Any:
                run_id = _run_of(request)
                member = None if run_id is None else await self._find(run_id)
                if member is not None:
                    try:
                        return await self._send(member, kind, method, request, context)
                    except (PassedBack, CallError) as error:
                        if not _has_moved(error):
                            raise
                    assert run_id is not None
                    whereabouts.moved(run_id)
                    member = await self._find(run_id)
                if member is not None:
                    return await self._send(member, kind, method, request, context)
                return await _answered(behaviour, request, context)

            return lambda request, context: (
                find_and_answer(request, context) if whereabouts.members_known else behaviour(request, context)
            )

        return making

    def _starting(self, method: str) -> Making:
        whereabouts = self._whereabouts

        def making(behaviour: Behaviour, kind: str) -> Behaviour:
            async def place_and_answer(request: Any, context: Context) -> Any:
                requests = [request] if method == _START else request.requests
                member = self._places.place(requests)
                if member is not None:
                    try:
                        answer = await self._send(member, kind, method, request, context)
                        whereabouts.placed(_started(method, answer), member.coordinator_id)
                        return answer
                    except (PassedBack, CallError) as error:
                        # The request ids decide: what the member has started after all is not started again.
                        once = _reason(error) in _NOT_STARTED or all(each.request_id for each in requests)
                        if _code(error) not in _TO_BE_STARTED_HERE or not once:
                            raise
                return await behaviour(request, context)

            return lambda request, context: (
                place_and_answer(request, context) if whereabouts.members_known else behaviour(request, context)
            )

        return making

    async def _find(self, run_id: RunId) -> CoordinatorRow | None:
        """The member that has it; None: this one answers. Raises `Stopping`: nobody has it at this moment."""
        where = await self._whereabouts.of(run_id)
        if where is Residence.ARRIVING:
            raise Stopping
        return where if isinstance(where, CoordinatorRow) else None

    async def _send(self, member: CoordinatorRow, kind: str, method: str, request: Message, context: Context) -> Any:
        pass_on = getattr(Passing(self._forwarders.to(member), method), kind)
        return await cast("Awaitable[Any]", pass_on(request.SerializeToString(), context))


# --- a member


class AtMember(grpc.GenericRpcHandler):
    """The services of a member: its own, and those of one that follows for what is the head's."""

    def __init__(
        self, inside: Services, outside: Outside, forwarder: Forwarder, whereabouts: Whereabouts, name: str
    ) -> None:
        """`name`: "id@epoch" of this one."""
        self._inside = inside
        self._outside = outside
        self._forwarder = forwarder
        self._whereabouts = whereabouts
        self._name = name
        self._made: dict[str, Handler] = {}

    def passes_on(self, details: grpc.HandlerCallDetails) -> bool:
        """Whether the head answers the call, as far as its method tells, or the link of an agent's stream."""
        if details.method == CONNECT:
            return not self._is_link(details.invocation_metadata) and self._outside.passes_on(details)
        return CLASSES.get(details.method) is CallClass.HEAD

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method = handler_call_details.method
        made = self._made.get(method)
        if made is not None:
            return made
        call_class, handler = CLASSES.get(method), self._inside.service(handler_call_details)
        on = self._outside.service(handler_call_details) if call_class is not CallClass.SELF else None
        match call_class:
            case CallClass.HEAD:
                return on
            case CallClass.RUN | CallClass.RUNS | CallClass.START if handler is not None:
                made = self._made[method] = self._own_or_on(method, call_class, handler)
                return made
            case CallClass.AGENT if handler is not None and on is not None:
                if handler.request_streaming:
                    return handler if self._is_link(handler_call_details.invocation_metadata) else on
                made = self._made[method] = self._of_link_or_on(handler, on)
                return made
            case _:
                return handler

    def _is_link(self, metadata: Any) -> bool:
        return _link(metadata) == self._name

    def _of_link_or_on(self, handler: Handler, on: Handler) -> Handler:
        """Agents whose streams to the head go by this one make their other calls here, too."""
        decode = cast("Callable[[bytes], Any]", handler.request_deserializer)
        pass_on = cast("Behaviour", on.unary_unary)

        def making(behaviour: Behaviour, _kind: str) -> Behaviour:
            return lambda data, context: (
                behaviour(decode(data), context)
                if self._is_link(context.invocation_metadata())
                else pass_on(data, context)
            )

        return _made_of(handler, making, decodes=False)

    def _own_or_on(self, method: str, call_class: CallClass, handler: Handler) -> Handler:
        """Requests come as bytes: those that go on are not decoded, but for the run that they name."""
        whereabouts, passing = self._whereabouts, Passing(self._forwarder, method)
        decode = cast("Callable[[bytes], Any]", handler.request_deserializer)

        def making(behaviour: Behaviour, kind: str) -> Behaviour:
            async def answer(data: bytes, context: Context) -> Any:
                routed = self._routed(context)
                if call_class is CallClass.RUN:
                    request = decode(data)
                    run_id = _run_of(request)
                    if run_id is not None and whereabouts.has(run_id, routed=routed):
                        return await _answered(behaviour, request, context)
                elif routed and (call_class is CallClass.START or method == WAIT_MANY):
                    return await _answered(behaviour, decode(data), context)
                if routed:
                    raise run_moved()
                return await cast("Awaitable[Any]", getattr(passing, kind)(data, context))

            return answer

        return _made_of(handler, making, decodes=False)

    def _routed(self, context: Context) -> bool:
        """Whether the head has sent the call here. Raises if it was another one's head."""
        for key, value in context.invocation_metadata() or ():
            if key == ROUTED:
                if value != str(self._whereabouts.head_epoch):
                    raise not_the_leader(None)
                return True
        return False


# --- parts


def _made_of(handler: Handler, making: Making, *, decodes: bool = True) -> Handler:
    """The handler with another behaviour, whose answers may be another coordinator's: bytes."""
    encode = cast("Callable[[Any], bytes]", handler.response_serializer)

    def encoded(answer: Any) -> bytes:
        return answer if type(answer) is bytes else encode(answer)

    decode = handler.request_deserializer if decodes else None
    if handler.unary_unary is not None:
        behaviour = making(cast("Behaviour", handler.unary_unary), "ask")
        return grpc.unary_unary_rpc_method_handler(behaviour, decode, encoded)
    assert handler.unary_stream is not None, "nothing about runs streams requests"
    behaviour = making(cast("Behaviour", handler.unary_stream), "stream_back")
    return grpc.unary_stream_rpc_method_handler(behaviour, decode, encoded)


async def _answered(behaviour: Behaviour, request: Any, context: Context) -> Any:
    answer = behaviour(request, context)
    return await (answer if inspect.isawaitable(answer) else run_streaming(answer, context))


def _refusing_stream(error: CallError) -> Handler:
    async def refuse(_requests: object, _context: object) -> None:
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse, None, None)


def _link(metadata: Any) -> str | None:
    return next((str(value) for key, value in metadata or () if key == LINK), None)


def _run_of(request: Any) -> RunId | None:
    """That it names. None: it names none, or nothing that could be one, as whoever answers will say."""
    try:
        if "run_id" in request.DESCRIPTOR.fields_by_name:
            return run_id_of(request.run_id)
        return letter_id_of(request.id)[0]
    except CallError:
        return None


def _started(method: str, answer: bytes) -> list[RunId]:
    if method == _START:
        return [run_id_of(pb.StartRunResponse.FromString(answer).run.id)]
    return [run_id_of(each) for each in pb.StartManyRunsResponse.FromString(answer).run_ids]


def _has_moved(error: PassedBack | CallError) -> bool:
    """Of a stream that has begun the caller goes on itself: begun anew, it would tell once more what was read."""
    begun = isinstance(error, PassedBack) and error.begun
    return not begun and _reason(error) in _MOVED


def _reason(error: PassedBack | CallError) -> str:
    return reason_of(error.status) if isinstance(error, PassedBack) else error.reason


def _code(error: PassedBack | CallError) -> grpc.StatusCode:
    return error.status.code if isinstance(error, PassedBack) else error.code

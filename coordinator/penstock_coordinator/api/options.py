"""How the gRPC server behaves on the wire. Each number was chosen with its clients in mind."""

from __future__ import annotations

MAX_METADATA_BYTES = 8 << 10
MAX_STREAMS = 1_000
"""Calls at once on one connection. A client that follows many runs has a stream open for each, and its other calls
share the connection with them: with a small number they would wait until a run ends."""
MAX_CALLS = 10_000
"""Calls at once in all; past it gRPC itself answers RESOURCE_EXHAUSTED, without a delay."""
GUARDED_CALLS = 9_500
"""Past it calls are refused with a delay; the rest is for agents, for health, and for refusing."""

FORWARDED_CALLS = 900
"""Calls at once that a coordinator that follows passes on: they share one connection to the owner, and past
`MAX_STREAMS` they would wait for one another unseen."""

RELAYED_SESSIONS, RELAYED_CALLS = 400, 500
"""Streams of agents that a coordinator that follows passes on at once, and the room for other calls of theirs: both
together are no more than the sum, over a connection of their own. A stream lasts for as long as its agent cannot reach
the owner."""

KEEPALIVE_MS = 10_000
FASTEST_PINGS_MS = 5_000
"""Clients ping each 10 s, unless they were told otherwise."""

BASE_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # A second process on the same port must fail at its start, not take every other connection.
    ("grpc.so_reuseport", 0),
)


def keepalive_options(every_ms: int = KEEPALIVE_MS) -> tuple[tuple[str, int], ...]:
    return (
        # Without ping_timeout a peer that is stopped (not closed) is noticed after a minute, whatever keepalive says.
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", every_ms // 2),
        ("grpc.http2.ping_timeout_ms", every_ms // 2),
        # The name that is often copied, min_recv_ping_interval_without_data_ms, has no effect, and an idle stream would
        # be closed for "too many pings".
        ("grpc.http2.min_ping_interval_without_data_ms", min(every_ms // 2, FASTEST_PINGS_MS)),
    )


def server_options(message_bytes: int, keepalive_ms: int = KEEPALIVE_MS) -> tuple[tuple[str, int], ...]:
    """With the size of the largest message. One that is somewhat larger comes in, so that its refusal is ours and
    tells the remedy. The agents' stream checks its own, much smaller, messages."""
    return (
        *BASE_OPTIONS,
        *keepalive_options(keepalive_ms),
        ("grpc.max_receive_message_length", 2 * message_bytes),
        ("grpc.max_send_message_length", message_bytes),
    )


def forwarding_options(message_bytes: int, keepalive_ms: int = KEEPALIVE_MS) -> tuple[tuple[str, int], ...]:
    """Of the channel by which calls are passed on. It is back soon after the owner is."""
    return (
        *keepalive_options(keepalive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # So long a connection may take to come about: what waits for it fails with it, and a busy machine is slow.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.max_metadata_size", 2 * MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 4 * MAX_METADATA_BYTES),
        # The window of a stream does not grow: what is not read stays with the owner, and not here.
        ("grpc.http2.bdp_probe", 0),
        # A channel of its own, whatever else this process connects to.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 2 * message_bytes),
        ("grpc.max_send_message_length", 2 * message_bytes),
    )

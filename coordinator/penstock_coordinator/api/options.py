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

BASE_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without ping_timeout a peer that is stopped (not closed) is noticed after a minute, whatever the keepalive says.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients ping each 10 s. The name that is often copied, min_recv_ping_interval_without_data_ms, has no effect, and
    # an idle stream would be closed for "too many pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # A second process on the same port must fail at its start, not take every other connection.
    ("grpc.so_reuseport", 0),
)


def server_options(message_bytes: int) -> tuple[tuple[str, int], ...]:
    """With the size of the largest message. One that is somewhat larger comes in, so that its refusal is ours and
    tells the remedy. The agents' stream checks its own, much smaller, messages."""
    return (
        *BASE_OPTIONS,
        ("grpc.max_receive_message_length", 2 * message_bytes),
        ("grpc.max_send_message_length", message_bytes),
    )

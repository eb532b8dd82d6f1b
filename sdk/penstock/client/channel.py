"""The channel to a coordinator, and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import grpc.aio

from penstock.tracing import client_interceptors

if TYPE_CHECKING:
    from google.protobuf.message import Message

Metadata: TypeAlias = tuple[tuple[str, str], ...]

MAX_MESSAGE_BYTES = 64 * 2**20
ANNOUNCED = "penstock-message-bytes"
LARGE_BYTES = 2**20

# All three of the keepalive settings are needed: without ping_timeout a peer that is stopped is noticed only
# after a minute. The short backoff makes a client usable 0.1 s after the coordinator is back. The least backoff is
# the time that a connection has to come about, and delays no other try: a tenth of a second is too short where the
# machine is busy.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


def open_channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=client_interceptors() or None)


def call_metadata(api_key: str | None) -> Metadata:
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def announcing(metadata: Metadata, request: Message) -> Metadata:
    """The metadata of a call: of a large request its size is said first, so that one that is too large is refused
    before it is sent."""
    size = request.ByteSize()
    return (*metadata, (ANNOUNCED, str(size))) if size > LARGE_BYTES else metadata

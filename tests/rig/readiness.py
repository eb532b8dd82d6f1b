"""Hears of every change of a coordinator's readiness, as a load balancer does."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

_WORDS = {health_pb2.HealthCheckResponse.SERVING: True, health_pb2.HealthCheckResponse.NOT_SERVING: False}


class ReadinessWatch:
    """`grpc.health.v1.Health/Watch` of a coordinator, on a thread."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        stub: Any = HealthStub(self._channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest())
        self._heard: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, name="readiness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._call.cancel()
        self._thread.join()
        self._channel.close()

    def _listen(self) -> None:
        try:
            for answer in self._call:
                self._heard.put(_WORDS[answer.status])
        except grpc.RpcError:
            return  # It was cancelled, or the coordinator has gone: whoever waits hears nothing more.

    def becomes(self, ready: bool, within: float) -> float:
        """The seconds that it took. Fails if it is not said within so many."""
        began = time.monotonic()
        while (left := began + within - time.monotonic()) > 0:
            try:
                if self._heard.get(timeout=left) is ready:
                    return time.monotonic() - began
            except queue.Empty:
                break
        raise AssertionError(f"{'ready' if ready else 'not ready'} was not said within {within:g} s")

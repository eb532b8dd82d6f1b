"""Where a reader of logs stands, so that a broken stream goes on without doubled lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.v1 import run_service_pb2


class LogPosition:
    """What was read: the newest line of each attempt, and when the first line had been received."""

    def __init__(self, request: run_service_pb2.TailLogsRequest) -> None:
        self._request = request
        self._read: dict[tuple[str, tuple[int, ...], int], int] = {}
        self._since: int | None = None
        self._position = request.after_position

    def request(self) -> run_service_pb2.TailLogsRequest:
        """For the next stream: on from the last position that the coordinator told. Where it has told none, and a line
        was read, all are asked for again, and `fresh` leaves out the old."""
        request = run_service_pb2.TailLogsRequest()
        request.CopyFrom(self._request)
        if self._read or self._position:
            request.tail_lines = 0
        request.after_position = self._position
        return request

    def lines(self, message: run_service_pb2.TailLogsResponse) -> Iterator[run_service_pb2.LogLine]:
        """Of a response, those that are `fresh`."""
        yield from self.fresh(message.lines)
        self._position = max(self._position, message.position)

    def fresh(self, lines: Iterable[run_service_pb2.LogLine]) -> Iterator[run_service_pb2.LogLine]:
        """The lines that were not given before, and are not older than the first of a tail."""
        for line in lines:
            key = (line.step, tuple(line.item), line.attempt)
            received = line.receive_time.ToNanoseconds()
            if self._since is None:
                self._since = received
            if line.number > self._read.get(key, 0) and not self._is_before_tail(received):
                self._read[key] = line.number
                yield line

    def _is_before_tail(self, received: int) -> bool:
        return bool(self._request.tail_lines) and self._since is not None and received < self._since

"""What the agent and its worker processes say to each other.

Tasks go as packets: one packet is one attempt, and the queue is the socket's own. The worker takes a packet when it
begins that attempt; the agent holds a second descriptor of the same end and can take back, for certain, what has not
begun. Results and log lines come back as frames (length, MessagePack) on two streams, so that a flood of lines never
holds up a result.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TypeAlias

import msgspec

LARGEST_PACKET = 32 * 1024
"""Larger tasks go through a file in the worker's folder, named by the packet."""
MOST_SECRET_BYTES = 24 * 1024
"""Of the values of one attempt: they fit into a packet, so they never lie in a file."""
LARGEST_FRAME = 8 * 1024 * 1024

STDOUT, STDERR, SYSTEM = 1, 2, 3
"""Sources of log lines; the numbers are those of the proto."""

_LENGTH = struct.Struct(">I")


class FunctionWork(msgspec.Struct, frozen=True, tag="function", array_like=True):
    module: str
    qualname: str


class OutputSource(msgspec.Struct, frozen=True, array_like=True):
    name: str
    stdout: bool
    file: str
    json: bool
    artifact: bool = False


class CommandWork(msgspec.Struct, frozen=True, tag="command", array_like=True):
    """`argv`, or `shell` if that is not empty."""

    argv: list[str]
    shell: str
    outputs: list[OutputSource]
    success_exit_codes: list[int]
    bundle_dir: str
    env: dict[str, str]
    input_files: dict[str, str] = {}


class ContainerWork(msgspec.Struct, frozen=True, array_like=True):
    """The image that an attempt runs in, and how the engine is asked."""

    program: str
    image: str
    pull: str
    """missing, always or never."""
    options: list[str]
    """Of `create`, for all attempts of the task on this agent."""
    env: dict[str, str] = {}
    """Of functions; that of commands is with them."""
    bundle_dir: str = ""
    """Of functions."""
    memory_bytes: int = 0
    """What the engine is asked to hold the container to; 0: nothing."""


class GivenSecret(msgspec.Struct, frozen=True, array_like=True):
    """`env`, `file`: where the attempt finds it besides; empty: nowhere."""

    name: str
    value: str
    env: str
    file: str

    def __repr__(self) -> str:
        return f"GivenSecret(name={self.name!r})"


class Task(msgspec.Struct, array_like=True):
    """One attempt. `deadline` is an instant of the lease clock: past it nothing is begun. `place` is that in the map,
    outermost first; empty if the step is not mapped."""

    handle: int
    deadline: int
    work: FunctionWork | CommandWork
    run_id: str
    pipeline: str
    step: str
    place: list[int]
    attempt: int
    idempotency_key: str
    inputs: dict[str, bytes]
    parameters: bytes
    trace_context: dict[str, str]
    max_output_bytes: int
    inline_output_bytes: int = 0
    """Outputs over this size become artifacts; 0: there is no artifact store."""
    allow_pickle: bool = False
    files: dict[str, str] = {}
    """By digest: where the artifacts that the inputs refer to are on this machine."""
    secrets: list[GivenSecret] = []
    container: ContainerWork | None = None
    """None: the attempt runs as a process of this machine."""
    memory_group: str = ""
    """Of commands: the folder of the control group that they are put into; empty: into none."""
    lines_before: int = 0
    """That are in its log before it begins."""
    unsampled: bool = False
    """The trace follows from the run's id and is not sampled: `trace_context` is empty."""


class Order(msgspec.Struct, array_like=True):
    """A function that is called in a container: on its standard input, and with the values of its secrets."""

    task: Task
    folder: str
    """Of the attempt; its working folder is below."""
    outgoing_dir: str
    bundle_dir: str


class Produced(msgspec.Struct, array_like=True):
    """A file that the agent is to bring to the artifact store, and removes then."""

    path: str
    name: str
    digest: str
    size: int
    media_type: str
    kind: str
    codec: str
    metadata: bytes
    receipt: str = ""
    """Of the coordinator, once it is there."""


class FilePacket(msgspec.Struct, frozen=True, array_like=True):
    """Of a task that is too large for a packet. Its secrets are in no file."""

    path: str
    secrets: list[GivenSecret]


_FILE_MARK = b"@"
"""Begins a packet that names the file which holds the task. No array of MessagePack begins so."""
_encode = msgspec.msgpack.Encoder().encode
_decode_task = msgspec.msgpack.Decoder(Task).decode
_decode_file = msgspec.msgpack.Decoder(FilePacket).decode


def write_packet(task: Task, folder: Path) -> tuple[bytes, Path | None]:
    """The packet, and the file that goes with it if the task is large."""
    packet = _encode(task)
    if len(packet) <= LARGEST_PACKET:
        return packet, None
    file = folder / f"task-{task.handle}"
    file.write_bytes(_encode(msgspec.structs.replace(task, secrets=[])))
    return _FILE_MARK + _encode(FilePacket(str(file), task.secrets)), file


def read_packet(packet: bytes) -> Task:
    """The file that goes with it is removed."""
    if not packet.startswith(_FILE_MARK):
        return _decode_task(packet)
    large = _decode_file(packet[len(_FILE_MARK) :])
    path = Path(large.path)
    task = _decode_task(path.read_bytes())
    path.unlink()
    task.secrets = large.secrets
    return task


class Failure(msgspec.Struct, array_like=True):
    reason: str
    message: str
    error_class: str = ""
    error_bases: list[str] = []
    traceback: str = ""


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The worker takes tasks from now on."""


class Finished(msgspec.Struct, tag="finished", array_like=True):
    """An attempt ended; without a failure it is OK. Times in µs. `stopped`: by the agent's SIGTERM."""

    handle: int
    output: bytes = b""
    failure: Failure | None = None
    stopped: bool = False
    run_time: int = 0
    cpu_time: int = 0
    peak_memory_bytes: int = 0
    exit_code: int | None = None
    metrics: dict[str, float] = {}
    metadata: dict[str, str] = {}
    killed_by: int = 0
    """The signal that ended the command; 0: none did."""
    artifacts: list[Produced] = []
    """What `output` refers to and this attempt made."""
    bytes_moved: int = 0
    """To and from the artifact store: the agent's word, the worker moves nothing."""
    log_lines: int = 0
    """The number of the last line that it printed."""
    upload_time: int = 0
    """Until `artifacts` were in the artifact store: the agent's word, too."""


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """Not begun: the lease had ended."""

    handle: int


FromWorker: TypeAlias = Ready | Finished | Refused


class LogLines(msgspec.Struct, array_like=True):
    """Lines of one attempt, each (number, source, offset in µs, text)."""

    handle: int
    lines: list[tuple[int, int, int, str]]


class Setup(msgspec.Struct):
    """What a worker is started with: descriptors, folders, limits."""

    tasks: int
    results: int
    logs: int
    control: int
    out: int
    err: int
    unsaid: int
    work_dir: str
    bundle_dir: str
    outgoing_dir: str
    log_lines: int
    log_bytes: int


def frame(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


class FrameBuffer:
    """Cuts a stream of bytes into the payloads of its frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now. ValueError: a length that no frame has."""
        data = self._rest + data if self._rest else data
        payloads: list[bytes] = []
        at = 0
        while len(data) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > LARGEST_FRAME:
                raise ValueError(f"a frame of {length} bytes")
            end = at + _LENGTH.size + length
            if end > len(data):
                break
            payloads.append(data[at + _LENGTH.size : end])
            at = end
        self._rest = data[at:]
        return payloads

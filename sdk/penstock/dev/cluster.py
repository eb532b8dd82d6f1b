"""A whole Penstock on one machine: PostgreSQL, a coordinator or several, agents; each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from penstock.dev.child_log import ChildLog
from penstock.dev.data_folder import DataFolder
from penstock.dev.errors import ChildFailedError, DevClusterError
from penstock.dev.ports import HOST, take_port
from penstock.dev.postgres import EmbeddedPostgres, StopMode
from penstock.dev.restarts import Restarts
from penstock.dev.supervisor import SHOWN_LINES, Child
from penstock.errors import PenstockError, ServiceError

COORDINATOR = "coordinator"
POSTGRES = "postgres"
DEFAULT_SLOTS = 4
READY_SECONDS = 120.0
"""That a process may need on a busy machine. One that ends is told of at once."""
DRAIN_SECONDS = 20.0
"""How long agents may take to end what they run, when all is stopped."""
COORDINATOR_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.03
_LOG_CHECK_SECONDS = 5.0


class DevCluster:
    """``async with DevCluster(folder, agents=2) as cluster:`` and all answers at `cluster.address`.

    The folder keeps everything between two starts. Ports of 0 are free ones; all listen on the loopback address alone.
    A process that ends is started again on the same address, also after a `kill`. `say` hears, a line at a time, what
    happens. `environment` is for the settings of coordinators and agents. Of several `coordinators` one owns the runs,
    and another takes over when that one ends. Use it in one event loop.
    """

    def __init__(
        self,
        data_folder: str | os.PathLike[str],
        *,
        agents: int = 1,
        coordinators: int = 1,
        slots: int = DEFAULT_SLOTS,
        port: int = 0,
        http_port: int = 0,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.folder = DataFolder(data_folder)
        self.agent_names = [f"agent-{number}" for number in range(1, agents + 1)]
        self.coordinator_names = [COORDINATOR, *(f"{COORDINATOR}-{number}" for number in range(2, coordinators + 1))]
        self.slots = slots
        self._ports = {COORDINATOR: (port, http_port)}
        """Of each coordinator, gRPC and HTTP."""
        self._extra_environment = dict(environment or {})
        self._say = say
        self._postgres = EmbeddedPostgres(self.folder.path / "postgres")
        self._postgres_keeper: asyncio.Task[None] | None = None
        self._children: dict[str, Child] = {}
        self._log_keeper: asyncio.Task[None] | None = None
        self._started = False
        self._hurry = asyncio.Event()

    # --- where everything is ---

    @property
    def address(self) -> str:
        """host:port of gRPC, for `Client` and PENSTOCK_ADDRESS; of all coordinators if there are several."""
        return ",".join(f"{HOST}:{port}" for port, _ in self._ports.values())

    @property
    def http_address(self) -> str:
        """Of the first coordinator."""
        return f"{HOST}:{self._ports[COORDINATOR][1]}"

    @property
    def database_url(self) -> str:
        """With the password."""
        return self._postgres.dsn

    @property
    def shown_database_url(self) -> str:
        """Without the password."""
        scheme, _, rest = self.database_url.partition("://")
        user, _, place = rest.partition("@")
        return f"{scheme}://{user.partition(':')[0]}@{place}"

    @property
    def pids(self) -> dict[str, int]:
        """Of every running process by name: postgres, coordinator, agent-1 and so on."""
        pids = {name: child.pid for name, child in self._children.items()}
        return {name: pid for name, pid in {POSTGRES: self._postgres.server_pid or 0, **pids}.items() if pid}

    @property
    def logs(self) -> dict[str, ChildLog]:
        return {name: child.log for name, child in self._children.items()}

    # --- start and stop ---

    async def start(self) -> None:
        """Start everything and return when agents wait for work. Raises `PenstockError`s; then nothing is left."""
        await self.folder.take()
        self.folder.write_state({"pid": os.getpid()})
        self._hurry.clear()
        try:
            await self._start_all()
            self._started = True
        except BaseException:
            self._hurry.set()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Agents end what they run, then coordinators end, then PostgreSQL. Nothing happens if nothing runs."""
        self._started = False
        if self._log_keeper is not None:
            self._log_keeper.cancel()
            self._log_keeper = None
        await self._stop_children(self.agent_names, DRAIN_SECONDS)
        await self._stop_children(self.coordinator_names, COORDINATOR_STOP_SECONDS)
        await self._stop_postgres()
        self.folder.release()

    def hurry(self) -> None:
        """A `stop` that is under way, or the next one, waits for nothing: what runs is killed."""
        self._hurry.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def failed(self) -> DevClusterError:
        """Wait until a process is given up because it ends again and again. The text holds its last log lines."""
        waits: list[asyncio.Future[Any]] = [child.failure for child in self._children.values()]
        keeper = self._postgres_keeper
        await asyncio.wait([*waits, keeper] if keeper else waits, return_when=asyncio.FIRST_COMPLETED)
        for child in self._children.values():
            if child.failure.done():
                return ChildFailedError(f"{child.failure.result()}. {child.last_words()}")
        return self._postgres_failure()

    # --- for those who make trouble ---

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process, SIGKILL if nothing else is said. It is started again when it ends of it."""
        if name == POSTGRES:
            os.kill(self.pids[POSTGRES], number)
        else:
            self._child(name).send_signal(number)

    async def stop_one(self, name: str, patience: float = DRAIN_SECONDS) -> None:
        """End one process in order and leave it ended until `start_one`. PostgreSQL ends at once."""
        if name == POSTGRES:
            await self._stop_postgres()
        else:
            await self._child(name).stop(patience, self._hurry)

    async def start_one(self, name: str) -> None:
        """Start a process that `stop_one` ended. `ready` tells when it can be used."""
        if name == POSTGRES:
            await self._start_postgres()
        else:
            await self._child(name).start()
        self._write_state()

    async def ready(self, patience: float = READY_SECONDS) -> None:
        """Wait until a coordinator answers and every agent that is not stopped is connected."""
        coordinator = self._child(COORDINATOR)
        await self._until(self._coordinator_is_ready, coordinator, patience)
        await self._until(self._agents_are_connected, coordinator, patience)
        self._write_state()

    # --- starting ---

    async def _start_all(self) -> None:
        self._take_ports()
        await self._start_postgres()
        self._children = {name: self._coordinator(name) for name in self.coordinator_names}
        self._children |= {name: self._agent(name) for name in self.agent_names}
        await self._children[COORDINATOR].start()
        # Takes as long as an agent's start, and the coordinator has its own to do in the meantime.
        await asyncio.to_thread(importlib.import_module, "penstock.client.client")
        await self._until(self._coordinator_is_ready, self._children[COORDINATOR], READY_SECONDS)
        for name in (*self.coordinator_names[1:], *self.agent_names):
            await self._children[name].start()
        await self.ready()
        self._log_keeper = asyncio.create_task(self._keep_logs_short(), name="keep logs short")

    def _take_ports(self) -> None:
        given = self._ports[COORDINATOR]
        port, http_port = take_port(given[0], "--port"), take_port(given[1], "--http-port")
        self._ports[COORDINATOR] = port, http_port
        for name in self.coordinator_names[1:]:
            self._ports[name] = self._ports.get(name) or (take_port(0, "--port"), take_port(0, "--http-port"))
        if port == http_port:
            raise DevClusterError(f"port {port} cannot serve both gRPC and HTTP", remedy="give --http-port another one")

    async def _start_postgres(self) -> None:
        await self._postgres_started()
        self._postgres_keeper = asyncio.create_task(self._keep_postgres(), name="keep postgres")

    async def _postgres_started(self) -> None:
        """Also when it is cancelled it returns when the start has come to its end: what a thread is about to start
        cannot be stopped before."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._postgres.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            starting.exception()
            raise

    def _coordinator(self, name: str) -> Child:
        port, http_port = self._ports[name]
        environment = {
            "PENSTOCK_DATABASE_URL": self.database_url,
            "PENSTOCK_LISTEN": f"{HOST}:{port}",
            "PENSTOCK_HTTP_LISTEN": f"{HOST}:{http_port}",
            "PENSTOCK_DATA_DIR": str(self.folder.path / name),
        }
        if len(self.coordinator_names) > 1 and "PENSTOCK_ARTIFACTS_URL" not in {
            **os.environ,
            **self._extra_environment,
        }:
            # They are on one machine: whoever takes over finds what the former one kept.
            environment["PENSTOCK_ARTIFACTS_URL"] = (self.folder.path / COORDINATOR / "artifacts").absolute().as_uri()
        given = {**os.environ, **self._extra_environment}
        if not (given.get("PENSTOCK_SECRETS_KEY") or given.get("PENSTOCK_SECRETS_KEY_FILE")):
            environment["PENSTOCK_SECRETS_KEY_FILE"] = str(self.folder.secrets_key())
        return self._new_child(name, ["penstock_coordinator", "server"], environment)

    def _agent(self, name: str) -> Child:
        folder = self.folder.path / "agents" / name
        folder.mkdir(parents=True, exist_ok=True)
        options = {"--address": self.address, "--id": name, "--slots": self.slots, "--data-dir": folder}
        options["--drain-timeout"] = DRAIN_SECONDS - 5
        command = ["penstock_agent", *(str(part) for pair in options.items() for part in pair)]
        shared = (
            {}
            if "PENSTOCK_AGENT_ENVIRONMENTS_DIR" in {**os.environ, **self._extra_environment}
            else {"PENSTOCK_AGENT_ENVIRONMENTS_DIR": str(self.folder.path / "environments")}
        )
        return self._new_child(name, command, shared, may_leave=True)

    def _new_child(
        self, name: str, command: list[str], environment: Mapping[str, str], *, may_leave: bool = False
    ) -> Child:
        return Child(
            name,
            command,
            environment={**os.environ, "PYTHONUNBUFFERED": "1", **self._extra_environment, **environment},
            log=ChildLog(self.folder.log_file(name)),
            inherited=self.folder.lock,
            say=self._heard,
            may_leave=may_leave,
        )

    def _heard(self, line: str) -> None:
        """Of restarts; before all are ready for the first time an end is an error of its own."""
        if self._started:
            self._say(line)
            with contextlib.suppress(OSError):  # A full disk must not end whoever keeps a process running.
                self._write_state()

    def _child(self, name: str) -> Child:
        try:
            return self._children[name]
        except KeyError:
            known = ", ".join([POSTGRES, *self._children])
            raise DevClusterError(f"there is no process {name!r}", remedy=f"there are: {known}") from None

    def _write_state(self) -> None:
        state: dict[str, Any] = {
            "pid": os.getpid(),
            "address": self.address,
            "http_address": self.http_address,
            "database_url": self.shown_database_url,
            "data": str(self.folder.path),
            "pids": self.pids,
        }
        self.folder.write_state(state)

    # --- readiness ---

    async def _until(self, condition: Callable[[], Awaitable[bool]], child: Child, patience: float) -> None:
        give_up = time.monotonic() + patience
        while not await condition():
            if child.failure.done() or time.monotonic() > give_up or self._ended_at_start():
                raise self._not_ready(child)
            await asyncio.sleep(_POLL_SECONDS)

    def _ended_at_start(self) -> bool:
        """What ends before all are ready for the first time will do it again: nobody has to wait for that."""
        return not self._started and any(child.has_ended for child in self._children.values())

    def _not_ready(self, child: Child) -> ChildFailedError:
        troubled = next((each for each in self._children.values() if each.has_ended), child)
        return ChildFailedError(f"{troubled.name} does not become ready. {troubled.last_words()}")

    async def _coordinator_is_ready(self) -> bool:
        """The one that owns the runs."""
        return any(await asyncio.gather(*(_is_ready(http_port) for _, http_port in self._ports.values())))

    async def _agents_are_connected(self) -> bool:
        from penstock.client.client import Client
        from penstock.v1 import agent_admin_service_pb2 as admin

        wanted = {name for name in self.agent_names if self._children[name].pid}
        async with Client(self.address, deadline=2.0) as client:
            with contextlib.suppress(ServiceError):
                agents = [agent async for agent in client.list_agents()]
                return wanted <= {agent.id for agent in agents if agent.state == admin.AGENT_STATE_CONNECTED}
        return False

    # --- keeping ---

    async def _keep_postgres(self) -> None:
        """Returns when the server is stopped, or cannot be kept."""
        restarts = Restarts()
        while True:
            started = time.monotonic()
            await asyncio.to_thread(self._postgres.wait)
            backoff = restarts.backoff(time.monotonic() - started)
            if self._postgres_keeper is None or backoff is None:
                return
            self._heard(f"{POSTGRES} ended; it is started again in {backoff:.1f} s")
            await asyncio.sleep(backoff)
            try:
                await self._postgres_started()
            except PenstockError as error:
                self._heard(str(error))
                return
            self._heard(f"{POSTGRES} runs again, process id {self._postgres.server_pid}")

    def _postgres_failure(self) -> ChildFailedError:
        lines = ChildLog(self._postgres.log_file).last_lines(SHOWN_LINES)
        said = "\n".join(f"  {line}" for line in lines)
        return ChildFailedError(f"postgres ended. Its last lines in {self._postgres.log_file}:\n{said}")

    async def _keep_logs_short(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            for log in self.logs.values():
                log.rotate()

    # --- stopping ---

    async def _stop_children(self, names: Iterable[str], patience: float) -> None:
        children = [self._children[name] for name in names if name in self._children]
        outcomes = await asyncio.gather(*(child.stop(patience, self._hurry) for child in children))
        for child, ended in zip(children, outcomes, strict=True):
            if not ended and not self._hurry.is_set():
                self._say(f"{child.name} did not end within {patience:g} s and was killed")

    async def _stop_postgres(self) -> None:
        keeper, self._postgres_keeper = self._postgres_keeper, None
        if keeper is not None and not self._postgres.is_running:
            keeper.cancel()  # it waits for the next try, or is about to start it
            await asyncio.wait([keeper])
        mode = StopMode.IMMEDIATE if self._hurry.is_set() else StopMode.FAST
        await asyncio.to_thread(self._postgres.stop, mode)
        if keeper is not None:
            await asyncio.wait([keeper])


async def _is_ready(http_port: int) -> bool:
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(HOST, http_port)
            with contextlib.closing(writer):
                writer.write(f"GET /readyz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
    except (OSError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]

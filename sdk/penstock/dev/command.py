"""`penstock dev`: a whole Penstock on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from pathlib import Path

import click

from penstock.cli.streams import give_up_output
from penstock.dev.cluster import DEFAULT_SLOTS, DevCluster
from penstock.dev.errors import DevClusterError

DEFAULT_FOLDER = ".penstock"
EXAMPLE = Path("examples/chain.py")
"""In a checkout of Penstock; elsewhere nothing is said of it."""
DEFAULT_PORT = 7400
DEFAULT_HTTP_PORT = 7480
_LOG_POLL_SECONDS = 0.2
_LEVELS = ("PENSTOCK_LOG_LEVEL", "PENSTOCK_AGENT_LOG_LEVEL")
_PORT = click.IntRange(0, 65_535)


@click.command()
@click.option("--agents", type=click.IntRange(0, 64), default=1, show_default=True, help="How many agents.")
@click.option(
    "--coordinators", type=click.IntRange(1, 9), default=1, show_default=True, help="How many; one owns the runs."
)
@click.option("--slots", type=click.IntRange(1, 1_024), default=DEFAULT_SLOTS, show_default=True, help="Per agent.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"The folder that keeps database, logs and all else. [default: {DEFAULT_FOLDER} in the current folder]",
)
@click.option("--port", type=_PORT, default=DEFAULT_PORT, show_default=True, help="Of gRPC. 0: a free one.")
@click.option("--http-port", type=_PORT, default=DEFAULT_HTTP_PORT, show_default=True, help="Of HTTP. 0: a free one.")
@click.option("--ephemeral", is_flag=True, help="Keep nothing: a temporary folder that is removed at the end.")
@click.option(
    "--log-level",
    metavar="LEVEL[,LOGGER=LEVEL]",
    help="Of the logs of coordinators and agents: debug, or info,penstock_agent.runtime=debug. [default: info]",
)
@click.option("--verbose", "-v", is_flag=True, help="Show the logs of all processes as well.")
def dev(
    agents: int,
    coordinators: int,
    slots: int,
    data: Path | None,
    port: int,
    http_port: int,
    ephemeral: bool,
    log_level: str | None,
    verbose: bool,
) -> None:
    """Start PostgreSQL, a coordinator and agents on this machine, until Ctrl-C.

    Nothing else has to be installed or running. What was run is kept in the data folder, and is there again at the
    next start. DATA/dev.json says where everything is; logs are in DATA/logs.
    """
    if ephemeral and data is not None:
        raise click.UsageError("--ephemeral keeps nothing, so it cannot go with --data")
    folder = Path(tempfile.mkdtemp(prefix="penstock-")) if ephemeral else data or Path(DEFAULT_FOLDER)
    try:
        cluster = DevCluster(
            folder,
            agents=agents,
            coordinators=coordinators,
            slots=slots,
            port=port,
            http_port=http_port,
            environment={} if log_level is None else dict.fromkeys(_LEVELS, log_level),
            say=_say,
        )
        asyncio.run(_run(cluster, verbose))
    finally:
        if ephemeral:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(cluster: DevCluster, verbose: bool) -> None:
    ends = _Ends(cluster)
    started = time.monotonic()
    starting = asyncio.create_task(cluster.start())
    if not await ends.before(starting):
        starting.cancel()
        await asyncio.wait([starting])
        return
    starting.result()
    _print(_welcome(cluster, time.monotonic() - started))
    await _stay(cluster, ends, verbose)


async def _stay(cluster: DevCluster, ends: _Ends, verbose: bool) -> None:
    """Until a signal comes or the cluster cannot go on; then all is ended in order."""
    following = asyncio.create_task(_follow_logs(cluster) if verbose else asyncio.sleep(0))
    failing = asyncio.create_task(cluster.failed())
    failure: DevClusterError | None = None
    try:
        if await ends.before(failing):
            failure = failing.result()
        else:
            _say("stopping; Ctrl-C again stops at once")
    finally:
        failing.cancel()
        await cluster.stop()
        following.cancel()
    if failure is not None:
        raise failure
    _say("stopped")


class _Ends:
    """SIGINT, SIGTERM and SIGHUP: the first ends all in order, a second one at once."""

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster
        self._asked = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        if self._asked.is_set():
            self._cluster.hurry()
        self._asked.set()

    async def before(self, task: asyncio.Task[object]) -> bool:
        """Wait for the task or a signal. Whether the task was first."""
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        return task.done()


async def _follow_logs(cluster: DevCluster) -> None:
    width = max(len(name) for name in cluster.logs)
    while True:
        for name, log in cluster.logs.items():
            for line in log.new_lines():
                _print(f"{name:{width}} | {line}")
        await asyncio.sleep(_LOG_POLL_SECONDS)


def _say(line: str) -> None:
    _print(f"penstock dev: {line}")


def _print(text: str) -> None:
    """A terminal that is gone, a reader that has left and a full disk are no reason to let a process stay ended, as
    whoever keeps it first says so."""
    try:
        click.echo(text)
    except OSError:
        give_up_output()


def _welcome(cluster: DevCluster, seconds: float) -> str:
    folder = cluster.folder.path
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    count = len(cluster.agent_names)
    agents = f"{', '.join(cluster.agent_names)} ({cluster.slots} slots each)" if count else "none: steps wait for one"
    lines = [
        f"Penstock is ready after {seconds:.1f} s. Ctrl-C ends it.",
        "",
        f"  gRPC      {cluster.address}",
        f"  HTTP      http://{cluster.http_address}/readyz",
        f"  database  {cluster.shown_database_url}, password in {folder}/postgres/password",
        f"  agents    {agents}",
        f"  data      {folder}, logs in {folder}/logs",
        "",
        "In another terminal:",
        *(f"  {command}" for command in first_commands(cluster.address)),
    ]
    return "\n".join(lines)


def first_commands(address: str) -> list[str]:
    """What to type next, in the folder that this was typed in. The example is named where it is."""
    return [
        *([] if address == f"127.0.0.1:{DEFAULT_PORT}" else [f"export PENSTOCK_ADDRESS={address}"]),
        *([f"penstock run {EXAMPLE} -p n=7"] if EXAMPLE.is_file() else []),
        "penstock list",
    ]

"""Keeps one child process running until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence

from penstock.dev.child_log import ChildLog
from penstock.dev.errors import ChildFailedError
from penstock.dev.restarts import Restarts

LEASH_SECONDS = 5.0
"""How long a child may take to end when its supervisor is gone."""
SHOWN_LINES = 20
_ENDING_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT}


class Child:
    """A module that runs as a process of its own, started again when it ends by itself.

    It outlives neither `stop` nor this process. It is given up when it ends again and again; then `failure` is set.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: ChildLog,
        inherited: int,
        say: Callable[[str], None],
        restarts: Restarts | None = None,
        may_leave: bool = False,
    ) -> None:
        """`may_leave`: if it ends by itself with exit code 0 it is not started again, but by `start`."""
        self.name = name
        self.log = log
        self.restarts = 0
        self.failure: asyncio.Future[ChildFailedError] = asyncio.get_running_loop().create_future()
        self._command = tuple(command)
        self._environment = dict(environment)
        self._inherited = inherited
        self._say = say
        self._restarts = restarts or Restarts()
        self._may_leave = may_leave
        self._process: Process | None = None
        self._leash: int | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._expected_end = False

    @property
    def pid(self) -> int:
        """Of the running process; 0 if there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    @property
    def has_ended(self) -> bool:
        """It was started, and ended by itself."""
        return self._process is not None and (self.restarts > 0 or not self.pid)

    @property
    def is_kept(self) -> bool:
        """It would be started again if it ended."""
        return self._keeper is not None and not self._keeper.done()

    async def start(self) -> None:
        """Nothing happens if it runs."""
        if self._keeper is not None:
            return
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    def send_signal(self, number: signal.Signals) -> None:
        """An end that comes of it counts as no crash."""
        if self._process is not None and self.pid:
            self._expected_end = number in _ENDING_SIGNALS
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, patience: float, hurry: asyncio.Event | None = None) -> bool:
        """Ask it to end, and kill it after `patience` seconds or when there is hurry. Whether it ended by itself."""
        await self._let_go()
        process = self._process
        if process is None or process.returncode is not None:
            self._drop_leash()
            return True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended = await _ends(process, patience, hurry)
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._drop_leash()
        return ended

    async def ended(self) -> int:
        """Wait for the end of the process that runs now; its exit code."""
        return await self._process.wait() if self._process is not None else 0

    def last_words(self) -> str:
        """Its last log lines, to be shown with an error; of them what is for people, if that comes last."""
        lines = self.log.last_lines(SHOWN_LINES)
        plain = list(itertools.takewhile(lambda line: not line.startswith("{"), reversed(lines)))
        lines = plain[::-1] or lines
        said = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return f"Its last lines in {self.log.path}:\n{said}"

    async def _let_go(self) -> None:
        """From here on an end is the end."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep(self) -> None:
        while True:
            started = time.monotonic()
            code = await self.ended()
            expected, self._expected_end = self._expected_end, False
            if self._may_leave and code == 0 and not expected:
                self._keeper = None
                self._say(f"{self.name} was drained and stays away until the next start")
                return
            backoff = self._restarts.backoff(time.monotonic() - started, expected=expected)
            if backoff is None:
                self.failure.set_result(ChildFailedError(f"{self.name} {_how(code)}, once more: it is given up"))
                return
            self._say(f"{self.name} {_how(code)}; it is started again in {backoff:.1f} s")
            await asyncio.sleep(backoff)
            await self._spawn()
            self.restarts += 1
            self._say(f"{self.name} runs again, process id {self.pid}")

    async def _spawn(self) -> None:
        self._drop_leash()
        reader, self._leash = os.pipe()
        output = self.log.open()
        fds = f"{reader},{self._inherited}"
        leashed = (sys.executable, "-P", "-m", "penstock.dev.leash", fds, str(LEASH_SECONDS))
        try:
            # A session of its own: Ctrl-C in the terminal is for the supervisor, which ends all in order.
            self._process = await asyncio.create_subprocess_exec(
                *leashed,
                *self._command,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(reader, self._inherited),
                env=self._environment,
                start_new_session=True,
            )
        finally:
            os.close(reader)
            os.close(output)

    def _drop_leash(self) -> None:
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)


async def _ends(process: Process, patience: float, hurry: asyncio.Event | None) -> bool:
    """Whether the process ended before the time was up and before there was hurry."""
    waits = [asyncio.ensure_future(process.wait())]
    if hurry is not None:
        waits.append(asyncio.ensure_future(_as_code(hurry)))
    try:
        await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return waits[0].done()
    finally:
        for wait in waits:
            wait.cancel()


async def _as_code(hurry: asyncio.Event) -> int:
    await hurry.wait()
    return 0


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"

"""The environment variables and the folder that an attempt finds, and that it leaves as it found them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from penstock_agent.executors.channel import Task

_NO_NAME = re.compile(r"[^A-Z0-9]")
_TRACE_NAMES = frozenset({"traceparent", "tracestate", "baggage"})
_TRACEPARENT = "TRACEPARENT"
_OF_NO_TRACE = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"


def identity(task: Task) -> dict[str, str]:
    """The variables that say what runs."""
    env = {
        "PENSTOCK_RUN_ID": task.run_id,
        "PENSTOCK_PIPELINE": task.pipeline,
        "PENSTOCK_STEP": task.step,
        "PENSTOCK_ATTEMPT": str(task.attempt),
        "PENSTOCK_IDEMPOTENCY_KEY": task.idempotency_key,
    }
    if task.place:
        env["PENSTOCK_ITEM"] = ",".join(map(str, task.place))
    for name, value in task.trace_context.items():
        if name in _TRACE_NAMES or name.lower() in _TRACE_NAMES:
            env[name.upper()] = value
    if task.parameters:
        env.update(_parameters(task.parameters))
    return env


@lru_cache(maxsize=64)
def _parameters(parameters: bytes) -> dict[str, str]:
    """A text with a NUL is left out, as one that is too large is, and so are those whose names become the same
    variable: better none than another."""
    texts = [(f"PENSTOCK_PARAM_{variable_name(name)}", as_text(each)) for name, each in json.loads(parameters).items()]
    count = Counter(name for name, _ in texts)
    return {name: text for name, text in texts if "\0" not in text and count[name] == 1}


def variable_name(name: str) -> str:
    return _NO_NAME.sub("_", name.upper())


def as_text(value: object) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Surroundings:
    """Of the user code that runs in this process."""

    def __init__(self, work_dir: str) -> None:
        self.work_dir = work_dir
        self._variables: dict[bytes, bytes] = vars(os.environb)["_data"]
        """What stands behind `os.environ` and `os.environb`: they decode every variable that is looked at."""
        self._entered: dict[bytes, bytes] = {}
        self._streams = (sys.stdout, sys.stderr)
        self._own: dict[str, str] = {}
        self._secret_names: list[str] = []

    def enter(self, task: Task) -> None:
        own = identity(task)
        own["PENSTOCK_WORK_DIR"] = self.work_dir
        if task.unsampled or own.get(_TRACEPARENT, "").endswith("-00"):
            # To set a variable takes some microseconds, and the C library keeps its value for ever. All that processes
            # below need to know, of a trace that nobody makes, is that it is not sampled.
            own[_TRACEPARENT] = _OF_NO_TRACE
            own.pop("TRACESTATE", None)  # of the trace that is not told
        if task.secrets:
            from penstock_agent.executors.worker.attempt_secrets import secret_variables

            variables = secret_variables(task, self.work_dir)
            self._secret_names = list(variables)
            own |= variables
        for name in self._own.keys() - own.keys():
            del os.environ[name]
        for name, value in own.items():
            if self._own.get(name) != value:
                os.environ[name] = value
        self._own = own
        self._entered = self._variables.copy()

    def leave(self) -> None:
        """Undo what the attempt changed."""
        sys.stdout, sys.stderr = self._streams
        self._restore_environment()
        self._forget_secrets()
        with suppress(FileNotFoundError):
            if os.getcwd() == self.work_dir and not os.listdir(self.work_dir):  # noqa: PTH109, PTH208 - on every step
                return
        empty_folder(self.work_dir)
        os.chdir(self.work_dir)

    def _forget_secrets(self) -> None:
        for name in self._secret_names:
            os.environ.pop(name, None)
            del self._own[name]
        self._secret_names = []

    def _restore_environment(self) -> None:
        now, wanted = self._variables, self._entered
        if now == wanted:
            return
        for name in now.keys() - wanted.keys():
            del os.environb[name]
        for name, value in wanted.items():
            if now.get(name) != value:
                os.environb[name] = value


def empty_folder(folder: str) -> None:
    """Exists, and holds nothing."""
    path = Path(folder)
    if path.is_symlink():  # what a step put there in the folder's place is not the step's to be emptied
        path.unlink()
    path.mkdir(parents=True, exist_ok=True)
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def restore_signals(handler: object) -> None:
    """A step may have taken SIGTERM for itself."""
    if signal.getsignal(signal.SIGTERM) is not handler:
        signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]  # it is what was installed before

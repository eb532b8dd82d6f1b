"""A Python function as a step."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from penstock_agent.executors.channel import Failure, Finished, FunctionWork, Task
from penstock_agent.executors.worker import incoming, step_runtime
from penstock_agent.executors.worker.capture import Capture
from penstock_agent.executors.worker.encoding import OutputEncoder, TooLarge
from penstock_agent.executors.worker.failures import StepStopped, failure_of, reason_of
from penstock_agent.executors.worker.json_output import Unserialisable
from penstock_agent.executors.worker.stopping import StopSwitch
from penstock_agent.executors.worker.surroundings import Surroundings
from penstock_agent.executors.worker.traces import StepTraces
from penstock_agent.executors.worker.usage import Usage
from penstock_agent.executors.worker.user_logging import show_from_info

if TYPE_CHECKING:
    from contextvars import Token

_decode_json = json.JSONDecoder().decode


class NotFound(Exception):
    """The bundle has no such function."""


class FunctionRunner:
    def __init__(
        self,
        bundle_dir: str,
        surroundings: Surroundings,
        capture: Capture,
        switch: StopSwitch,
        encoder: OutputEncoder,
    ) -> None:
        self._bundle_prefix = bundle_dir.rstrip("/") + "/"
        self._surroundings = surroundings
        self._capture = capture
        self._switch = switch
        self._encoder = encoder
        self._usage = Usage()
        self.traces = StepTraces()
        self.hide: Callable[[str], str] = _as_it_is
        """Masks the secrets of the attempt in a text that is told of it."""
        self._functions: dict[FunctionWork, Callable[..., Any]] = {}

    def run(self, task: Task) -> Finished:
        assert isinstance(task.work, FunctionWork)
        attempt = step_runtime.Attempt(
            run_id=task.run_id,
            pipeline=task.pipeline,
            step=task.step,
            item=tuple(task.place) if len(task.place) > 1 else next(iter(task.place), None),
            attempt=task.attempt,
            idempotency_key=task.idempotency_key,
            work_dir=self._surroundings.work_dir,
            secrets={secret.name: secret.value for secret in task.secrets} if task.secrets else {},
        )
        self._surroundings.enter(task)
        self._capture.begin(task.handle)
        step_runtime.enter(attempt)
        self._usage.begin()
        began = time.perf_counter_ns()
        self._encoder.begin(task)
        finished = self._attempt(task, task.work)
        if finished.failure is None:
            finished.artifacts = self._encoder.produced
        else:
            self._encoder.discard()
        finished.run_time = (time.perf_counter_ns() - began) // 1000
        finished.cpu_time, finished.peak_memory_bytes = self._usage.end()
        finished.metrics, finished.metadata = attempt.metrics, attempt.metadata
        step_runtime.leave()
        _flush()
        self._capture.end()
        return finished

    def clean_up(self) -> None:
        """To be called after each `run`, when its end is told: nobody waits for it but the next attempt."""
        self._surroundings.leave()

    def _attempt(self, task: Task, work: FunctionWork) -> Finished:
        reason = "ModuleImport"
        try:
            try:
                self._switch.arm(task.handle)
                function = self._functions.get(work) or self._resolve(work)
                reason = ""
                trace = self._enter_trace(task)
                try:
                    output = self._encoder.encode(_call(function, task))
                finally:
                    if trace is not None:
                        self.traces.leave(trace)
            finally:
                self._switch.disarm()
        except StepStopped as stop:
            return Finished(task.handle, failure=self._failure(stop, "Cancelled"), stopped=True)
        except Unserialisable as error:
            return Finished(task.handle, failure=Failure("OutputUnserialisable", self.hide(str(error))[:8192]))
        except TooLarge as error:
            return Finished(task.handle, failure=error.failure)
        except BaseException as error:
            failure = self._failure(error, reason or reason_of(error))
            _clear_frames(error)
            return Finished(task.handle, failure=failure)
        return Finished(task.handle, output)

    def _enter_trace(self, task: Task) -> Token[Any] | None:
        if task.unsampled:
            self.traces.enter_unsampled(task.run_id)
        elif task.trace_context:
            return self.traces.enter(task.trace_context)
        else:
            self.traces.enter_none()
        return None

    def _failure(self, error: BaseException, reason: str) -> Failure:
        return failure_of(error, reason, self._bundle_prefix, self.hide)

    def _resolve(self, work: FunctionWork) -> Callable[..., Any]:
        found: Any = importlib.import_module(work.module)
        show_from_info()
        for name in work.qualname.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                raise NotFound(
                    f"module {work.module!r} has no function {work.qualname!r}; a step is a function that the module "
                    f"has under its own name"
                ) from None
        if not callable(found):
            raise NotFound(f"{work.module}.{work.qualname} is a {type(found).__name__}, not a function")
        function: Callable[..., Any] = found
        self._functions[work] = function
        return function


def _as_it_is(text: str) -> str:
    return text


def _call(function: Callable[..., Any], task: Task) -> object:
    value = function(**_inputs(task))
    if not isinstance(value, CoroutineType):
        return value
    # Most steps do without, and the import is half of a worker's start.
    import asyncio

    return asyncio.run(value)


def _inputs(task: Task) -> dict[str, object]:
    if task.files:
        return incoming.values(task)
    return {name: _decode_json(data.decode("utf-8", "surrogatepass")) for name, data in task.inputs.items()}


def _clear_frames(error: BaseException) -> None:
    """A warm process does not keep the step's variables alive through its exception."""
    error.__traceback__ = None
    if isinstance(error, MemoryError):
        gc.collect()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A step may have closed or replaced it.
        with suppress(Exception):
            stream.flush()

"""An event loop in virtual time, on which whole processes live, freeze and die.

What asyncio promises is kept: callbacks that one callback hands over run in the order in which it handed them over, a
callback never runs inside of another one, and a timer never fires early. What it does not promise is drawn by the seed:
the order of callbacks that nothing but chance brought together (two messages from two sockets, a timer and a message,
the answers of two queries), and of timers that are due at one instant. A loop with `disorder` 0 is strictly first in,
first out, as a real one is for what comes from inside; with 1 every callback that is ready may be the next one, unless
one of the same parent was handed over before it.

A process is a name in the context of its callbacks, which tasks and timers inherit. A dead process's callbacks never
run again: no `finally`, no farewell, as after kill -9. A frozen one's are kept until it is thawed, as after SIGSTOP.

Sets of tasks are ordered by the tasks' hashes, which are addresses: tasks and futures of this loop have numbers for
hashes instead, so that a schedule is the same whenever it is played.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import random

T = TypeVar("T")
MICROSECONDS = 1_000_000


class Process:
    """What lives and dies as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        """What became ready while it was frozen."""
        self.tasks: list[VirtualTask] = []
        self.many = 50
        """With so many it is looked which of them are done: whoever lets a task go hears of it if it failed."""
        self.signals: dict[int, asyncio.Handle] = {}
        self.calls: list[Callable[..., object]] = []
        """What its threads are about to do."""

    def open_tasks(self) -> list[VirtualTask]:
        """Those that are not done."""
        self.tasks = [task for task in self.tasks if not task.done()]
        return self.tasks


WORLD = Process("world")
"""What is no process: the network, and who drives the schedule."""
_process: ContextVar[Process] = ContextVar("process", default=WORLD)


def current_process() -> Process:
    return _process.get()


_numbers = itertools.count()


class VirtualTask(asyncio.Task[Any]):
    number: int

    def __new__(cls, *_: object, **__: object) -> VirtualTask:
        task: VirtualTask = super().__new__(cls)
        task.number = next(_numbers)
        return task

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualFuture(asyncio.Future[Any]):
    number: int

    def __new__(cls, *_: object, **__: object) -> VirtualFuture:
        future: VirtualFuture = super().__new__(cls)
        future.number = next(_numbers)
        return future

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualTimer(asyncio.TimerHandle):
    """By when, then by chance."""

    due: int
    order: tuple[int, float, int]

    def __lt__(self, other: object) -> bool:
        return self.order < other.order if isinstance(other, VirtualTimer) else NotImplemented


class Stuck(Exception):
    """Nothing is ready, no timer is set, and what is waited for has not come."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """`chance` decides everything that is left open. Not a second passes but by timers, and a microsecond for each
    callback."""

    def __init__(self, chance: random.Random, disorder: float = 0.0) -> None:
        global _numbers
        _numbers = itertools.count()
        self.now = 0
        """Microseconds."""
        self.turns = 0
        """Callbacks that ran."""
        self.last = WORLD
        """Whose the last one was."""
        self.faults: list[dict[str, Any]] = []
        """What asyncio complained about."""
        self._chance = chance
        self._disorder = disorder
        self._ready: list[deque[asyncio.Handle]] = []
        self._inside = False
        self._brood: deque[asyncio.Handle] | None = None
        """What the callback that runs has handed over."""
        self._timers: list[VirtualTimer] = []
        self._timer_numbers = itertools.count()
        self._context = copy_context()
        self._processes: dict[Process, None] = {WORLD: None}
        self._over = False
        WORLD.tasks.clear()

    # --- what the code under test calls

    def time(self) -> float:
        return self.now / MICROSECONDS

    def call_soon(  # type: ignore[override]  # the types of the library's stubs are variadic
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._add(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = VirtualTimer(when, callback, args, self, context)
        timer.due = max(round(when * MICROSECONDS), self.now)
        timer.order = (timer.due, self._chance.random(), next(self._timer_numbers))
        heapq.heappush(self._timers, timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return VirtualFuture(loop=self)

    def create_task(  # type: ignore[override]  # as above
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        if self._over:
            coro.close()
            raise RuntimeError("the schedule is over")
        task = VirtualTask(coro, loop=self, name=name, context=context)
        process = (context or copy_context()).get(_process, WORLD)
        if len(process.tasks) > process.many:
            process.many = 50 + 2 * len(process.open_tasks())
        process.tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # as above
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """No thread: the call is made as a whole, a little later."""
        answer: asyncio.Future[T] = self.create_future()
        process = current_process()
        process.calls.append(func)

        def call() -> None:
            process.calls.remove(func)
            try:
                result = func(*args)
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self.call_later(self._chance.random() ** 2 * 0.05, call)
        return answer

    def add_signal_handler(  # type: ignore[override]  # as above
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        current_process().signals[sig] = asyncio.Handle(callback, args, self, None)

    def remove_signal_handler(self, sig: int) -> bool:
        return current_process().signals.pop(sig, None) is not None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        process = current_process()
        if process.alive and not self._over:
            self.faults.append({**context, "process": process.name})

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """It is passed over when it is due."""

    # --- processes

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """The first task of a process; what it starts belongs to the process too."""
        self._processes[process] = None
        context = self._context.copy()
        context.run(_process.set, process)
        return self.create_task(work, context=context)

    def within(self, process: Process, callback: Callable[..., object], *args: Any) -> None:
        """Soon, as a callback of the process."""
        context = self._context.copy()
        context.run(_process.set, process)
        self.call_soon(callback, *args, context=context)

    def later(self, microseconds: int, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """A callback of no process, whoever asks for it."""
        return self.call_at((self.now + microseconds) / MICROSECONDS, callback, *args, context=self._context)

    def signal(self, process: Process, number: int) -> None:
        handle = process.signals.get(number)
        if handle is not None and process.alive:
            self._add(handle)

    def kill(self, process: Process) -> None:
        """Nothing of it happens any more."""
        process.alive = False
        process.parked.clear()

    def freeze(self, process: Process) -> None:
        process.frozen = True

    def thaw(self, process: Process) -> None:
        process.frozen = False
        parked, process.parked = process.parked, []
        for handle in parked:
            self._add(handle)

    # --- what drives it

    @contextmanager
    def running(self) -> Iterator[None]:
        asyncio.events._set_running_loop(self)
        try:
            yield
        finally:
            self._bury()
            asyncio.events._set_running_loop(None)

    def reap(self) -> None:
        """Let go of all tasks that are done: asyncio complains of those whose errors nobody looked at."""
        for process in self._processes:
            process.open_tasks()
        gc.collect()

    def _bury(self) -> None:
        """Whatever is left goes, and what it still has to say is nobody's fault any more."""
        self._over = True
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for process in self._processes:
                process.alive = process is WORLD
                for task in process.tasks:
                    if not task.done():
                        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as the library does itself
                        with suppress(Exception):
                            task.get_coro().close()
                process.tasks.clear()
                process.parked.clear()
            self._ready.clear()
            self._timers.clear()
            self._processes.clear()
            gc.collect()
        finally:
            sys.unraisablehook = hook

    def turn(self) -> bool:
        """Run one callback, or let time pass until the next timer. False if there is none."""
        timers = self._timers
        while timers and (timers[0].due <= self.now or not self._ready):
            timer = heapq.heappop(timers)
            if not timer._cancelled and timer._context.get(_process, WORLD).alive:  # type: ignore[attr-defined]  # as the loops of the library do
                self.now = max(self.now, timer.due)
                self._add(timer)
        ready = self._ready
        if not ready:
            return False
        at = 0
        if len(ready) > 1 and self._disorder and self._chance.random() < self._disorder:
            at = int(self._chance.random() * len(ready))
        brood = ready[at]
        handle = brood.popleft()
        if not brood:
            del ready[at]
        self._run(handle)
        return True

    def _run(self, handle: asyncio.Handle) -> None:
        if handle._cancelled:
            return
        process = handle._context.get(_process, WORLD)  # type: ignore[attr-defined]  # as above
        if not process.alive:
            return
        if process.frozen:
            process.parked.append(handle)
            return
        self.now += 1
        self.turns += 1
        self.last = process
        self._brood, self._inside = None, True
        handle._run()
        self._brood, self._inside = None, False

    def _add(self, handle: asyncio.Handle) -> None:
        if self._brood is not None:
            self._brood.append(handle)
            return
        brood = deque((handle,))
        self._ready.append(brood)
        if self._inside:
            self._brood = brood

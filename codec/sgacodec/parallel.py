"""Independent tasks, one after the other or in processes of their own, each with its share of the cores.

tasks -> (a pipe to each process) -> work(task) -> Done, as each gets done -> in_order

An error of one task is that task's result, and the others go on; so it is when a task's process ends, as one does that
the system finds too large.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sgacodec.errors import OptionError, SgacodecError, one_line
from sgacodec.exact.parallel import n_cores
from sgacodec.picture.quiet import in_own_process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

Send = Callable[[Any], None]
"""Tells whoever waits for a task how far it is."""

Receive = Callable[[int, Any], None]
"""Is told that by the task with an index."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

log = logging.getLogger(__name__)


class Work(Protocol[T_contra, R_co]):
    """What is done with each task; goes to other processes, so it is pickled there, and so are tasks and results."""

    def prepare(self) -> None:
        """Load what all tasks need; what it raises is raised before any task is begun."""

    def __call__(self, task: T_contra, send: Send, /) -> R_co:
        """Do a task."""


@dataclass(frozen=True, eq=False)
class Done(Generic[R]):
    """What came of a task.

    Attributes:
        index: of the task.
        value: its result, or None if it failed.
        error: why it failed: an error of sgacodec's, an `OSError` or a `MemoryError`; or None.
        warnings: what sgacodec warned of meanwhile.
        seconds: that it took.
    """

    index: int
    value: R | None
    error: Exception | None
    warnings: tuple[str, ...]
    seconds: float


def check_jobs(jobs: Any) -> None:
    """Refuse a number of processes that cannot be.

    Raises:
        OptionError: it is no positive integer.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise OptionError(f"jobs is {jobs!r}, and must be a positive integer")


def run(
    work: Work[T, R], tasks: Sequence[T], jobs: int = 1, receive: Receive | None = None
) -> Generator[Done[R], None, None]:
    """Do tasks, and yield what came of each as it gets done; close the iterator to end what is under way.

    Args:
        work: what to do with each.
        tasks: in the order in which they are begun.
        jobs: so many at once, each in a process of its own; 1 is for this process.
        receive: called with what tasks tell.

    Raises:
        SgacodecError: work cannot be prepared, or processes cannot be started.
    """
    receive = receive or ignore
    if not tasks:
        return
    if min(jobs, len(tasks)) > 1:
        yield from _run_in_processes(work, tasks, min(jobs, len(tasks)), receive)
        return
    work.prepare()
    for index, task in enumerate(tasks):
        yield do(work, index, task, receive)


def in_order(done: Iterable[Done[R]]) -> Iterator[Done[R]]:
    """Yield what came of tasks in the order of the tasks, each as soon as those before it are done."""
    early: dict[int, Done[R]] = {}
    n_given = 0
    for each in done:
        early[each.index] = each
        while n_given in early:
            yield early.pop(n_given)
            n_given += 1


def ignore(index: int, told: Any) -> None:
    """Take no note; a `Receive`."""


def do(work: Work[T, R], index: int, task: T, receive: Receive = ignore) -> Done[R]:
    """Do a task in this process; whatever it raises is its result."""
    start = time.perf_counter()
    value, error = None, None
    with _warnings() as warnings:
        try:
            value = work(task, lambda told: receive(index, told))
        except (SgacodecError, OSError, MemoryError) as err:
            error = err
        except Exception as err:  # one task's fault must not cost the others
            log.debug("a task failed", exc_info=True)
            error = SgacodecError(f"{type(err).__name__}: {one_line(err)}")
    return Done(index, value, error, tuple(warnings), time.perf_counter() - start)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what this thread is warned of."""
    collected = _Collected()
    logger = logging.getLogger("sgacodec")
    logger.addHandler(collected)
    try:
        yield collected.messages
    finally:
        logger.removeHandler(collected)


class _Collected(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


# --- processes -------------------------------------------------------------------------------------------------------


class _Kind(Enum):
    """What a process says."""

    READY = 0
    UNFIT = 1
    TOLD = 2
    DONE = 3


class _Process:
    """A process that does one task after the other."""

    def __init__(self, work: Work[Any, Any], n_threads: int) -> None:
        """Start it; it says when it is ready."""
        import multiprocessing

        # A fork would have this process's threads missing, see `devices`.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _threads(n_threads), _deaf_to_interrupts():
            self._process.start()
        theirs.close()
        self.is_ready = False
        self.index: int | None = None
        self._begun = 0.0

    def begin(self, index: int, task: Any) -> None:
        """Have it do a task."""
        self.index, self._begun = index, time.perf_counter()
        with suppress(OSError):  # it has ended, which shows when it is listened to
            self.connection.send((index, task))

    def lost(self) -> Done[Any] | None:
        """Return what comes of the task of a process that has ended, if it had one.

        Raises:
            SgacodecError: it never was ready.
        """
        self.end()
        if not self.is_ready:
            raise SgacodecError(
                f"a process for several jobs ended as it began (exit code {self._process.exitcode}): there was no "
                'memory, or a program of your own does not start its work under if __name__ == "__main__"'
            )
        if self.index is None:
            return None
        error = SgacodecError(
            f"its process was ended from outside (exit code {self._process.exitcode}), perhaps for want of memory; try "
            "it with fewer jobs"
        )
        return Done(self.index, None, error, (), time.perf_counter() - self._begun)

    def end(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _run_in_processes(
    work: Work[T, R], tasks: Sequence[T], jobs: int, receive: Receive
) -> Generator[Done[R], None, None]:
    from multiprocessing.connection import wait

    n_threads = max(1, n_cores() // jobs)
    waiting = deque(enumerate(tasks))
    processes: dict[Any, _Process] = {}

    def start() -> None:
        process = _Process(work, n_threads)
        processes[process.connection] = process

    def go_on(process: _Process) -> None:
        if waiting:
            process.begin(*waiting.popleft())
        else:
            del processes[process.connection]
            process.end()

    try:
        for _ in range(jobs):
            start()
        while processes:
            for connection in wait(list(processes)):
                process = processes[connection]
                try:
                    kind, content = process.connection.recv()
                except (EOFError, OSError):
                    del processes[connection]
                    done = process.lost()
                    if waiting:
                        start()
                    if done is not None:
                        yield done
                    continue
                if kind is _Kind.UNFIT:
                    raise content
                if kind is _Kind.TOLD:
                    receive(*content)
                    continue
                process.is_ready = True
                go_on(process)  # before anything is done with the result
                if kind is _Kind.DONE:
                    yield content
    finally:
        for process in processes.values():
            process.end()


def _serve(connection: Connection, work: Work[Any, Any]) -> None:
    """Do tasks until there are no more; Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.NullHandler())  # warnings go with the results

    def receive(index: int, told: Any) -> None:
        connection.send((_Kind.TOLD, (index, told)))

    with suppress(EOFError, OSError), in_own_process():  # the parent is gone, or has no more to do
        try:
            work.prepare()
        except Exception as err:
            connection.send((_Kind.UNFIT, err))
            return
        connection.send((_Kind.READY, None))
        while True:
            index, task = connection.recv()
            connection.send((_Kind.DONE, do(work, index, task, receive)))


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Have processes that start now use so many threads, or fewer where the user said so.

    Libraries read these variables as they are loaded, so there is no later time to say it.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    for name, value in before.items():
        given = int(value) if value is not None and value.isdecimal() and int(value) else n_threads
        os.environ[name] = str(min(given, n_threads))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Have processes that start now inherit that they ignore Ctrl-C, which would end their imports in a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:  # it is not Python's to set
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""Independent tasks on a Ray cluster, like `parallel` on many machines.

tasks -> (a task at a time to each worker) -> work(task) -> Done, as each gets done

A worker is an actor with a CPU, or with a GPU too, that prepares once. What it fails at is that task's result. A worker
that is lost, with its machine or alone, costs its task a retry; so every task ends as a `Done`. Tasks wait here, and
results come back one by one: the cluster never holds more than a task for each worker.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sgacodec import parallel
from sgacodec.errors import SgacodecError, one_line
from sgacodec.picture.quiet import in_own_process

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

RETRIES = 3
"""So many times a task is tried again whose worker was lost."""

LOCAL = "local"
"""The address that starts a cluster on this machine, which ends with the work."""

_PRINTS = "_worker_logs_enabled"
_RAISED = re.compile(r"[\w.]+(Error|Exception): ")  # the end of a traceback
_PATIENCE = 60.0
_TIMEOUT = 10.0
_LOCAL_STORE = 256 * 2**20  # the work and its results, not pictures

Tell = Callable[[int | None, str], None]
"""Is told what happens to the task with an index, or to all."""


class Work(parallel.Work[T, R_co], Protocol[T, R_co]):
    """What is done with each task; goes to the workers, so it is pickled, and so are tasks and results."""

    def again(self, task: T) -> T:
        """Return what is done in place of a task whose worker was lost, perhaps after it was done."""


@dataclass(frozen=True)
class Cluster:
    """Where tasks are done.

    Attributes:
        address: "auto" for the cluster that this machine belongs to, host:port or ray://host:port, or `LOCAL`. A
            program that is connected already stays so.
        workers: at most so many; None is for as many as the cluster has CPUs, or GPUs.
        gpus: whether each worker has a GPU.
    """

    address: str = "auto"
    workers: int | None = None
    gpus: bool = False


def run(
    work: Work[T, R], tasks: Sequence[T], cluster: Cluster, tell: Tell | None = None
) -> Generator[parallel.Done[R], None, None]:
    """Do tasks, and yield what came of each as it gets done; close the iterator to end what is under way.

    Args:
        work: what to do with each; what tasks tell is not heard.
        tasks: in the order in which they are begun.
        cluster: where.
        tell: called when a task is tried again, and when workers are long in coming.

    Raises:
        SgacodecError: work cannot be prepared; Ray is not installed, not there, or cannot start workers.
    """
    if not tasks:
        return
    ray = _import_ray()
    with _silent(), _connected(ray, cluster):
        pool = _Pool(ray, work, tasks, cluster, tell or _ignore)
        try:
            yield from pool.run()
        finally:
            pool.end()


def _ignore(index: int | None, text: str) -> None:
    pass


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours reports nothing to Ray's makers
    try:
        return importlib.import_module("ray")
    except ImportError as err:
        raise SgacodecError("a cluster needs Ray; install it with: pip install 'sgacodec[ray]'") from err


# --- the cluster -----------------------------------------------------------------------------------------------------


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster, unless the program has done so.

    Raises:
        SgacodecError: it is not there.
    """
    if ray.is_initialized():
        yield
        return
    check_reachable(cluster.address)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, **_local(cluster))
    except Exception as err:  # of many kinds: no cluster, another version, no such address
        token = "" if cluster.address in ("auto", LOCAL) else "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise SgacodecError(f"no Ray cluster at {cluster.address}: {_reason(err)}{token}") from err
    try:
        yield
    finally:
        ray.shutdown()


def _local(cluster: Cluster) -> dict[str, Any]:
    if cluster.address != LOCAL:
        return {}
    return {"num_cpus": cluster.workers, "include_dashboard": False, "object_store_memory": _LOCAL_STORE}


def check_reachable(address: str) -> None:
    """Refuse an address where nobody listens, of which Ray would tell after two minutes by ending the process.

    Raises:
        SgacodecError: it says what is wrong.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", LOCAL):
        return
    if not host or not port.isdecimal():
        raise SgacodecError(
            f"{address!r} is no address of a Ray cluster; there are auto, local, host:port, ray://host:port"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT).close()
    except (OSError, OverflowError) as err:
        raise SgacodecError(
            f"no Ray cluster at {address}: {one_line(err)}; 'ray status' there says whether it runs"
        ) from err


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Ray from printing on standard output what befalls its workers, which is told by this.

    It has no other switch: `log_to_driver` is about what workers print themselves.
    """
    try:
        settings = vars(importlib.import_module("ray._private.worker"))
    except ImportError:
        settings = {}
    before = settings.get(_PRINTS, True)
    settings[_PRINTS] = False
    try:
        yield
    finally:
        settings[_PRINTS] = before


def _reason(err: BaseException) -> str:
    """Return the line that matters of what Ray's errors say: what was raised, why an actor is dead, or the first."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()] or [type(err).__name__]
    raised = [line for line in lines if _RAISED.match(line)]
    dead = [line for line in lines if line.startswith("The actor is dead because")]
    return (raised[-1:] or dead[:1] or lines)[0].partition(" Some common causes")[0].rstrip(".")


# --- workers ---------------------------------------------------------------------------------------------------------


class _Actor:
    """Runs in a process of the cluster."""

    def __init__(self, work: Work[Any, Any]) -> None:
        """Keep the work."""
        self._work = work

    def prepare(self) -> Exception | None:
        """Load what all tasks need; return what is wrong."""
        logging.getLogger().addHandler(logging.NullHandler())  # warnings go with the results
        in_own_process().__enter__()  # for as long as the process lasts
        try:
            self._work.prepare()
        except SgacodecError as err:
            return err
        except Exception as err:
            return SgacodecError(f"{type(err).__name__}: {one_line(err)}")
        return None

    def do(self, index: int, task: Any) -> parallel.Done[Any]:
        """Do a task."""
        return parallel.do(self._work, index, task)


@dataclass
class _Task:
    """A task that is to be done.

    Attributes:
        index: its place among all.
        content: what work takes.
        n_lost: workers that were lost with it.
        begun: when it was begun last.
    """

    index: int
    content: Any
    n_lost: int = 0
    begun: float = 0.0


class _Pool:
    """The workers, each with what it is asked to do."""

    def __init__(self, ray: Any, work: Work[Any, Any], tasks: Sequence[Any], cluster: Cluster, tell: Tell) -> None:
        self._ray, self._work, self._tell = ray, work, tell
        self._waiting = deque(_Task(index, task) for index, task in enumerate(tasks))
        self._n_left = len(self._waiting)
        self._n_workers = min(len(self._waiting), _n_workers(ray, cluster))
        self._new = ray.remote(_Actor).options(**_resources(cluster))
        self._content = ray.put(work)
        self._asked: dict[Any, tuple[Any, _Task | None]] = {}
        """By what will come of it: a worker, and the task that it does, or None while it prepares."""
        self._is_fit = False
        self._n_false_starts = 0

    def run(self) -> Generator[parallel.Done[Any], None, None]:
        """Yield what comes of each task.

        Raises:
            SgacodecError: no worker ever was ready.
        """
        for _ in range(self._n_workers):
            self._start()
        while self._n_left:
            for done in self._next_or_failures():
                self._n_left -= 1
                yield done

    def end(self) -> None:
        """End the workers, whatever they do."""
        for actor, _ in self._asked.values():
            self._kill(actor)
        self._asked.clear()

    def _start(self) -> None:
        actor = self._new.remote(self._content)
        self._asked[actor.prepare.remote()] = actor, None

    def _kill(self, actor: Any) -> None:
        with suppress(Exception):  # it is gone, or the cluster is
            self._ray.kill(actor)

    def _go_on(self, actor: Any) -> None:
        if not self._waiting:
            self._kill(actor)
            return
        task = self._waiting.popleft()
        task.begun = time.perf_counter()
        self._asked[actor.do.remote(task.index, task.content)] = actor, task

    def _next_or_failures(self) -> Iterator[parallel.Done[Any]]:
        try:
            yield from self._next()
        except SgacodecError:
            raise
        except Exception as err:  # nobody knows any more what becomes of the workers
            error = SgacodecError(f"the cluster was lost: {_reason(err)}; --skip-existing goes on with what is missing")
            yield from self._failures(error)

    def _failures(self, error: SgacodecError) -> Iterator[parallel.Done[Any]]:
        """Yield that all tasks failed that are not done."""
        begun = [task for _, task in self._asked.values() if task is not None]
        tasks = sorted((*begun, *self._waiting), key=lambda task: task.index)
        self.end()
        self._waiting.clear()
        yield from (parallel.Done(task.index, None, error, (), 0.0) for task in tasks)

    def _next(self) -> Iterator[parallel.Done[Any]]:
        """Wait for a worker, and yield what it makes known."""
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_PATIENCE)
        if not ready and not any(task for _, task in self._asked.values()):
            self._tell(
                None, f"no worker of the cluster has begun for {_PATIENCE:.0f} s; 'ray status' says what is in use"
            )
        for answer in ready:
            actor, task = self._asked.pop(answer)
            try:
                content = self._ray.get(answer)
            except self._ray.exceptions.RayError as err:
                self._kill(actor)  # what cannot be reached may still be there
                yield from self._lost(task, err)
                continue
            if task is None:
                if content is not None:
                    raise content
                self._is_fit, self._n_false_starts = True, 0
            self._go_on(actor)  # before anything is done with the result
            if task is not None:
                yield content

    def _lost(self, task: _Task | None, err: Exception) -> Iterator[parallel.Done[Any]]:
        """Put another worker in place of one that is lost, and have its task tried again; or yield that it failed."""
        if task is None:
            yield from self._false_start(err)
            return
        task.n_lost += 1
        if task.n_lost <= RETRIES:
            self._tell(task.index, f"its worker was lost; retry {task.n_lost} of {RETRIES}")
            task.content = self._work.again(task.content)
            self._waiting.appendleft(task)
        if self._waiting:
            self._start()
        if task.n_lost > RETRIES:
            text = f"{task.n_lost} workers were lost with it, perhaps for want of memory: {_reason(err)}"
            yield parallel.Done(task.index, None, SgacodecError(text), (), time.perf_counter() - task.begun)

    def _false_start(self, err: Exception) -> Iterator[parallel.Done[Any]]:
        """Try again to start a worker, unless none can be."""
        self._n_false_starts += 1
        if self._n_false_starts <= RETRIES * self._n_workers:
            self._start()
            return
        error = SgacodecError(
            f"workers of the cluster cannot start: {_reason(err)}; each machine needs the same sgacodec[encode,ray], "
            "and the settings of the cluster, such as RAY_AUTH_MODE"
        )
        if not self._is_fit:
            raise error
        if not self._asked:
            yield from self._failures(error)


def _n_workers(ray: Any, cluster: Cluster) -> int:
    """Return how many workers there are to be.

    Raises:
        SgacodecError: the cluster has no GPU where workers need one.
    """
    there = int(ray.cluster_resources().get("GPU" if cluster.gpus else "CPU", 0))
    if cluster.gpus and not there:
        raise SgacodecError("the cluster has no GPU; leave --device out to use its CPUs")
    return cluster.workers or max(1, there)


def _resources(cluster: Cluster) -> dict[str, Any]:
    """Return what a worker asks for: a CPU and a thread, so that sums, and bytes, do not depend on the machine."""
    threads = {"env_vars": dict.fromkeys(parallel.THREADS, "1")}
    return {
        "num_cpus": 1,
        "num_gpus": int(cluster.gpus),
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": threads,
    }

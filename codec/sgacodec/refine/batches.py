"""Refinements of several pictures at a time: those of equal size go as one batch, for devices that one does not fill.

tasks, in turns -> Refinement -> (all tasks wait or are done) -> batches -> loop.refine -> each task goes on

A task may refine several times, as one with a target does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from sgacodec.devices import as_by_default
from sgacodec.refine import loop
from sgacodec.refine.loop import Refined, Report, Settings
from sgacodec.refine.objective import Objective

T = TypeVar("T")

TASKS = 16
"""So many tasks are worth having at a time."""

BATCH_PIXELS = 2**22
"""A batch has at most so many pixels, or one picture: its memory grows with them."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """What `loop.refine` is asked for one picture; y and z are float32 [1, M, H/16, W/16] and [1, N, H/64, W/64]."""

    objective: Objective
    y: Tensor
    z: Tensor
    settings: Settings
    report: Report | None


Refine = Callable[[Refinement], Refined]


def alone(refinement: Refinement) -> Refined:
    """Refine one picture."""
    return _refine([refinement])[0]


def together(tasks: Sequence[Callable[[Refine], T]]) -> list[T]:
    """Do tasks that refine by what they are given; refinements run in this thread.

    The tasks have threads of their own, of which one at a time runs, until it waits for a refinement or is done.

    Returns:
        What the tasks returned.
    """
    arrivals: SimpleQueue[_Arrival | None] = SimpleQueue()
    turn = threading.Lock()

    def refine(refinement: Refinement) -> Refined:
        arrival = _Arrival(refinement, Future())
        arrivals.put(arrival)
        turn.release()
        try:
            return arrival.refined.result()
        finally:
            turn.acquire()

    def run(task: Callable[[Refine], T]) -> T:
        with turn:
            try:
                return task(refine)
            finally:
                arrivals.put(None)

    with ThreadPoolExecutor(len(tasks)) as pool:
        results = [pool.submit(run, task) for task in tasks]
        with as_by_default():
            _serve(arrivals, len(tasks))
        return [result.result() for result in results]


@dataclass(frozen=True, eq=False)
class _Arrival:
    """A task waits for its refinement."""

    refinement: Refinement
    refined: Future[Refined]


def _serve(arrivals: SimpleQueue[_Arrival | None], n_tasks: int) -> None:
    """Refine whenever all tasks wait; None arrives for each that is done."""
    waiting: list[_Arrival] = []
    try:
        while n_tasks:
            arrival = arrivals.get()
            if arrival is None:
                n_tasks -= 1
            else:
                waiting.append(arrival)
            if len(waiting) == n_tasks:
                for batch in _batches(waiting):
                    _answer(batch)
                waiting = []
    except BaseException as err:  # such as Ctrl-C: what still waits, or comes to, ends with it
        while waiting or n_tasks:
            arrival = waiting.pop() if waiting else arrivals.get()
            if arrival is None:
                n_tasks -= 1
            elif not arrival.refined.done():
                arrival.refined.set_exception(err)
        raise


def _batches(waiting: Sequence[_Arrival]) -> Iterator[list[_Arrival]]:
    """Divide what waits into what can be refined as one."""
    kinds: dict[object, list[_Arrival]] = {}
    for arrival in waiting:
        kind = arrival.refinement.objective.kind, arrival.refinement.settings
        kinds.setdefault(kind, []).append(arrival)
    for alike in kinds.values():
        size = max(1, BATCH_PIXELS // alike[0].refinement.objective.n_pixels)
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _answer(batch: Sequence[_Arrival]) -> None:
    try:
        refined = _refine([arrival.refinement for arrival in batch])
    except torch.cuda.OutOfMemoryError as err:
        if len(batch) == 1:
            batch[0].refined.set_exception(err)
            return
        for arrival in batch:
            _answer([arrival])
    except Exception as err:
        for arrival in batch:
            arrival.refined.set_exception(err)
    else:
        for arrival, result in zip(batch, refined, strict=True):
            arrival.refined.set_result(result)


def _refine(batch: Sequence[Refinement]) -> list[Refined]:
    first = batch[0]
    objective = first.objective if len(batch) == 1 else Objective.joined([each.objective for each in batch])
    y, z = (torch.cat(latents) for latents in zip(*((each.y, each.z) for each in batch), strict=True))
    return loop.refine(objective, y, z, first.settings, [each.report for each in batch])

"""Refinements of several pictures at a time: those of equal size and level go as one batch.

tasks, in turns -> Refinement -> (all tasks wait or have ended) -> batches -> loop.refine -> each task goes on

A task may refine several times, as one with a target does. Tasks have threads of their own, refinements run in the
thread that waits for the tasks' results.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch
from torch import Tensor

from sgacodec.devices import as_by_default
from sgacodec.refine import loop
from sgacodec.refine.loop import Refined, Report, Settings
from sgacodec.refine.objective import Objective

T = TypeVar("T")

BATCH_PIXELS = 2**22
"""A batch has at most so many pixels after padding, or one picture: its memory grows with them."""

log = logging.getLogger(__name__)


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
    return _refine([refinement], [refinement.report])[0]


class Together:
    """Does tasks at a time, and refines what they wait for in batches."""

    def __init__(self) -> None:
        """Begin with the largest batches; they get smaller where memory is short."""
        self._most_pixels = BATCH_PIXELS

    def do(self, tasks: Sequence[Callable[[Refine], T]]) -> Iterator[T]:
        """Yield what tasks return as they end; close the iterator to end what is under way.

        The tasks have threads of their own, and run one at a time until they wait for a refinement.

        Raises:
            BaseException: what a task raises.
        """
        room: _Room[T] = _Room()
        n_running, waiting = len(tasks), []
        try:
            for index, task in enumerate(tasks):
                threading.Thread(target=room.run, args=(index, task)).start()
            while n_running:
                event = room.events.get()
                if isinstance(event, _Ended):
                    n_running -= 1
                    yield event.result()
                else:
                    waiting.append(event)
                if n_running and len(waiting) == n_running:
                    self._answer(sorted(waiting, key=lambda wish: wish.index))
                    waiting = []
        finally:
            room.close()

    def _answer(self, waiting: Sequence[_Wish]) -> None:
        kinds: dict[object, list[_Wish]] = {}
        for wish in waiting:
            kinds.setdefault((wish.refinement.objective.kind, wish.refinement.settings), []).append(wish)
        with as_by_default():
            for alike in kinds.values():
                size = max(1, self._most_pixels // alike[0].n_pixels)
                for start in range(0, len(alike), size):
                    self._refine(alike[start : start + size])

    def _refine(self, batch: Sequence[_Wish]) -> None:
        """Refine a batch, and if that fails its halves: memory may be short, or one picture has a fault."""
        refined = self._refined(batch)
        if refined is None:
            for part in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._refine(part)
            return
        for wish, result in zip(batch, refined, strict=True):
            wish.answer(result)

    def _refined(self, batch: Sequence[_Wish]) -> Sequence[Refined | Exception] | None:
        """Return None, holding nothing of what failed, if a smaller batch may do."""
        try:
            return _refine([wish.refinement for wish in batch], [wish.told for wish in batch])
        except Exception as err:
            if len(batch) == 1:
                return [err]
            log.info("a batch of %d pictures failed: %s", len(batch), err)
            if isinstance(err, torch.cuda.OutOfMemoryError):
                self._most_pixels = batch[0].n_pixels * len(batch) // 2
            return None


class _Wish:
    """A task waits for its refinement.

    Attributes:
        index: of the task.
        refinement: what it waits for.
        refined: the result to come.
    """

    def __init__(self, index: int, refinement: Refinement) -> None:
        self.index, self.refinement = index, refinement
        self.refined: Future[Refined] = Future()
        self._fault: Exception | None = None

    @property
    def n_pixels(self) -> int:
        """Pixels after padding."""
        return self.refinement.y[0, 0].numel() * self.refinement.objective.y_stride**2

    def told(self, progress: loop.Progress) -> None:
        """Report; what a report raises is the fault of its picture alone."""
        if self.refinement.report is not None and self._fault is None:
            try:
                self.refinement.report(progress)
            except Exception as err:
                self._fault = err

    def answer(self, result: Refined | Exception) -> None:
        """Have the task go on."""
        found = result if self._fault is None else self._fault
        if isinstance(found, Exception):
            traceback.clear_frames(found.__traceback__)  # which hold what memory may be short of
            self.refined.set_exception(found)
        else:
            self.refined.set_result(found)


@dataclass(frozen=True, eq=False)
class _Ended(Generic[T]):
    """A task has ended.

    Attributes:
        result: returns what it returned, or raises what it raised.
    """

    result: Callable[[], T]


class _Room(Generic[T]):
    """Where tasks run, one at a time.

    Attributes:
        events: what they wait for, and that they have ended.
    """

    def __init__(self) -> None:
        self.events: SimpleQueue[_Wish | _Ended[T]] = SimpleQueue()
        self._turn, self._door = threading.Lock(), threading.Lock()
        self._waiting: dict[int, Future[Refined]] = {}
        self._closed = False

    def run(self, index: int, task: Callable[[Refine], T]) -> None:
        """Do a task in this thread."""
        ended: Future[T] = Future()
        with self._turn:
            if self._closed:
                return
            try:
                ended.set_result(task(partial(self._refine, index)))
            except BaseException as err:
                ended.set_exception(err)
        self.events.put(_Ended(ended.result))

    def _refine(self, index: int, refinement: Refinement) -> Refined:
        wish = _Wish(index, refinement)
        refined = wish.refined
        with self._door:
            self._waiting[index] = refined
            if self._closed:
                refined.cancel()
        self._turn.release()
        try:
            self.events.put(wish)
            return refined.result()
        finally:
            del wish, refined  # an error's traceback has this frame, and would hold itself
            self._turn.acquire()
            with self._door:
                del self._waiting[index]

    def close(self) -> None:
        """Have tasks end where they wait, or begin to."""
        with self._door:
            self._closed = True
            for refined in self._waiting.values():
                refined.cancel()


def _refine(batch: Sequence[Refinement], reports: Sequence[Report | None]) -> list[Refined]:
    first = batch[0]
    objective = first.objective if len(batch) == 1 else Objective.joined([each.objective for each in batch])
    y, z = (torch.cat(latents) for latents in zip(*((each.y, each.z) for each in batch), strict=True))
    return loop.refine(objective, y, z, first.settings, reports)

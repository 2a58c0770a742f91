"""Tasks in this process and in others: order, errors, warnings, and processes that end."""

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

import pytest

from sgacodec import parallel
from sgacodec.errors import LimitError, OptionError, SgacodecError

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
in_either = pytest.mark.parametrize("jobs", [1, 2])


@dataclass(frozen=True)
class Work:
    """Does what a task is called."""

    unfit: bool = False

    def prepare(self):
        if self.unfit:
            raise SgacodecError("nothing can be done")

    def __call__(self, task, send):
        send(f"begun {task}")
        return getattr(self, f"_{task}")()

    def _threads(self):
        return os.environ["OMP_NUM_THREADS"]

    def _pid(self):
        return os.getpid()

    def _loaded(self):
        return "torch" in sys.modules

    def _wait(self):
        time.sleep(0.3)

    def _die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _warn(self):
        logging.getLogger("sgacodec.x").warning("lost: %s", "a leaf")

    def _refuse(self):
        raise LimitError("too large", offset=3)

    def _stumble(self):
        raise TypeError("two\nlines")

    def _miss(self):
        raise FileNotFoundError(2, "No such file", "x.png")


def values(tasks, jobs):
    return [done.value for done in parallel.in_order(parallel.run(Work(), tasks, jobs))]


@in_either
def test_results_and_what_tasks_tell(jobs):
    told = []
    done = list(parallel.run(Work(), ["wait", "pid", "pid"], jobs, lambda *args: told.append(args)))
    assert sorted(told) == [(0, "begun wait"), (1, "begun pid"), (2, "begun pid")]
    assert sorted(each.index for each in done) == [0, 1, 2]
    assert [each.index for each in parallel.in_order(done)] == [0, 1, 2]
    assert all(each.error is None for each in done)
    assert (os.getpid() in {each.value for each in done}) == (jobs == 1)
    assert next(each.seconds for each in done if each.index == 0) >= 0.3


def test_no_tasks_need_nothing():
    assert list(parallel.run(Work(unfit=True), [], 4)) == []


@in_either
def test_errors_are_results(jobs):
    refused, stumbled, missed, fine = parallel.in_order(
        parallel.run(Work(), ["refuse", "stumble", "miss", "pid"], jobs)
    )
    assert isinstance(refused.error, LimitError)
    assert str(refused.error) == "too large (at byte 3)"
    assert type(stumbled.error) is SgacodecError
    assert str(stumbled.error) == "TypeError: two lines"
    assert isinstance(missed.error, FileNotFoundError)
    assert missed.error.filename == "x.png"
    assert (fine.error, fine.value is not None) == (None, True)


@in_either
def test_warnings_are_kept_with_the_task(jobs):
    done = list(parallel.in_order(parallel.run(Work(), ["warn", "pid"], jobs)))
    assert [each.warnings for each in done] == [("lost: a leaf",), ()]


def test_warnings_of_other_threads_are_not_the_tasks(monkeypatch):
    def warn_elsewhere(self):
        thread = threading.Thread(target=self._warn)
        thread.start()
        thread.join()

    monkeypatch.setattr(Work, "_pid", warn_elsewhere)
    (done,) = parallel.run(Work(), ["pid"])
    assert done.warnings == ()


@in_either
def test_what_holds_for_all_is_raised(jobs):
    with pytest.raises(SgacodecError, match="nothing can be done"):
        list(parallel.run(Work(unfit=True), ["pid", "pid"], jobs))


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(parallel, "n_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert values(["threads"] * 2, 2) == ["3", "3"]
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(("given", "used"), [("5", "3"), ("2", "2"), ("0", "3"), ("many", "3")])
def test_fewer_threads_that_the_user_asked_for(monkeypatch, given, used):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    with parallel._threads(3):
        assert os.environ["OMP_NUM_THREADS"] == used
    assert os.environ["OMP_NUM_THREADS"] == given


def test_processes_load_what_they_need():
    assert values(["loaded"] * 2, 2) == [False, False]


@posix
def test_a_process_that_is_ended_costs_its_task():
    done = list(parallel.in_order(parallel.run(Work(), ["pid", "die", "pid", "die", "pid"], 2)))
    assert ["exit code -9" in str(each.error) for each in done] == [False, True, False, True, False]


@posix
def test_interrupts_are_heard_by_this_process_alone():
    """Whoever asks for results gets the exception; processes are ended with the iterator."""
    before = signal.getsignal(signal.SIGINT)
    running = parallel.run(Work(), ["pid", "pid", "wait", "wait"], 2)
    pids = [next(running).value for _ in range(2)]
    for pid in set(pids):
        os.kill(pid, signal.SIGINT)
    assert next(running).error is None
    running.close()
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True, "2"])
def test_numbers_of_jobs_that_cannot_be(jobs):
    with pytest.raises(OptionError, match="positive integer"):
        parallel.check_jobs(jobs)

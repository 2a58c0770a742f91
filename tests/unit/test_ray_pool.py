"""How tasks go to workers of a cluster, with a cluster of pretence; the real one is in tests/encode/test_on_ray.py."""

import sys
from types import SimpleNamespace

import pytest

from sgacodec import on_ray
from sgacodec.errors import SgacodecError
from sgacodec.parallel import in_order


class Lost(Exception):
    """What Ray raises for a worker that is lost."""


class Ray:
    """Does what is asked when its answer is waited for; a task called "die" loses its worker."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, cpus=2, can_start=lambda n_started: True, breaks_after=10**6):
        self.cpus, self.can_start, self.breaks_after = cpus, can_start, breaks_after
        self.n_started = self.n_answers = self.most = 0
        self.killed = []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def put(self, content):
        return content

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda work: Actor(self, kind(work))))

    def wait(self, answers, num_returns, timeout):
        self.n_answers += 1
        if self.n_answers > self.breaks_after:
            raise ConnectionError("the head is gone\nand more")
        self.most = max(self.most, len(answers))
        return answers[:1], answers[1:]

    def get(self, answer):
        return answer.ask()

    def kill(self, actor):
        self.killed.append(actor)


class Actor:
    def __init__(self, ray, real):
        ray.n_started += 1
        may = ray.can_start(ray.n_started)
        self.prepare = Method(real.prepare if may else lose)
        self.do = Method(lambda index, task: lose() if task == "die" else real.do(index, task))


class Method:
    def __init__(self, ask):
        self.ask = ask

    def remote(self, *args):
        return SimpleAnswer(lambda: self.ask(*args))


class SimpleAnswer:
    def __init__(self, ask):
        self.ask = ask


def lose():
    raise Lost("The worker died.\nSee the logs.")


class Work:
    """Returns tasks; one that is lost is another the next time."""

    def __init__(self, again=None, unfit=None):
        self.changed, self.unfit = again or {}, unfit

    def prepare(self):
        if self.unfit:
            raise self.unfit

    def __call__(self, task, send):
        if task == "refuse":
            raise SgacodecError("refused")
        return task

    def again(self, task):
        return self.changed.get(task, task)


@pytest.fixture
def run(monkeypatch):
    def invoke(ray, tasks, work=None, workers=None):
        monkeypatch.setitem(sys.modules, "ray", ray)
        told = []
        done = on_ray.run(work or Work(), tasks, on_ray.Cluster(workers=workers), lambda *args: told.append(args))
        return list(in_order(done)), told

    return invoke


def test_every_task_is_done_by_few_workers(run):
    ray = Ray(cpus=3)
    done, told = run(ray, ["a", "refuse", *map(str, range(50))])
    assert [each.value for each in done] == ["a", None, *map(str, range(50))]
    assert str(done[1].error) == "refused"
    assert (ray.n_started, ray.most, told) == (3, 3, [])
    assert len(ray.killed) == 3


@pytest.mark.parametrize(("workers", "n_tasks", "n_started"), [(1, 5, 1), (7, 5, 5), (None, 5, 2), (None, 1, 1)])
def test_how_many_workers(run, workers, n_tasks, n_started):
    ray = Ray(cpus=2)
    run(ray, ["a"] * n_tasks, workers=workers)
    assert ray.n_started == n_started


def test_a_lost_worker_costs_a_retry(run):
    done, told = run(Ray(), ["a", "die", "b"], Work(again={"die": "written before"}))
    assert [each.value for each in done] == ["a", "written before", "b"]
    assert told == [(1, "its worker was lost; retry 1 of 3")]


def test_a_task_that_loses_every_worker_fails_and_the_others_are_done(run):
    ray = Ray()
    done, told = run(ray, ["die", *"abcdefgh"])
    assert str(done[0].error) == "4 workers were lost with it, perhaps for want of memory: The worker died"
    assert [each.value for each in done[1:]] == list("abcdefgh")
    assert [index for index, _ in told] == [0, 0, 0]


def test_the_last_task_gets_a_new_worker(run):
    done, _ = run(Ray(cpus=1), ["a", "die"], Work(again={"die": "b"}))
    assert [each.value for each in done] == ["a", "b"]


def test_workers_that_cannot_start(run):
    with pytest.raises(SgacodecError, match="cannot start: The worker died"):
        run(Ray(can_start=lambda n_started: False), ["a", "b"])


def test_workers_that_start_in_the_end(run):
    done, _ = run(Ray(can_start=lambda n_started: n_started > 5), ["a", "b"])
    assert [each.value for each in done] == ["a", "b"]


def test_no_further_worker_can_start(run):
    done, _ = run(Ray(cpus=1, can_start=lambda n_started: n_started < 2), ["a", "die", "b"])
    assert done[0].value == "a"
    assert ["cannot start" in str(each.error) for each in done[1:]] == [True, True]


def test_what_holds_for_all_is_raised(run):
    with pytest.raises(SgacodecError, match="nothing can be done"):
        run(Ray(), ["a"], Work(unfit=SgacodecError("nothing can be done")))
    with pytest.raises(SgacodecError, match="TypeError: two lines"):
        run(Ray(), ["a"], Work(unfit=TypeError("two\nlines")))


def test_a_cluster_that_goes_away_loses_no_task(run):
    done, _ = run(Ray(breaks_after=5), [*"abcdefgh"])
    assert [each.index for each in done] == list(range(8))
    failed = [each for each in done if each.error]
    assert 0 < len(failed) < 8
    assert all("the cluster was lost: the head is gone; " in str(each.error) for each in failed)


def test_nothing_to_do_needs_no_cluster(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(on_ray.run(Work(), [], on_ray.Cluster())) == []


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SgacodecError, match=r"pip install 'sgacodec\[ray\]'"):
        list(on_ray.run(Work(), ["a"], on_ray.Cluster()))


@pytest.mark.parametrize(
    ("address", "words"),
    [("nonsense", "is no address"), ("bad://x", "is no address"), ("ray://127.0.0.1:x", "is no address"),
     ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1: "), ("ray://127.0.0.1:1", "no Ray cluster at ray://127.0.0.1:1: ")],
)  # fmt: skip
def test_addresses_where_nobody_listens(address, words):
    with pytest.raises(SgacodecError, match=words):
        on_ray.check_reachable(address)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_addresses_that_ray_looks_up(address):
    on_ray.check_reachable(address)


def test_no_gpu():
    with pytest.raises(SgacodecError, match="has no GPU"):
        on_ray._n_workers(Ray(), on_ray.Cluster(gpus=True))

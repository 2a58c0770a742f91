"""Pictures that are refined together: each gets what it gets alone, and one's fault is its own."""

import gc
import math
import threading
import weakref
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import sgacodec
from sgacodec import codings, devices, encoding, many
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.refine import batches, loop, rounding, schedule

STEPS = 12


def options_of(model="tiny", **changes):
    return sgacodec.EncodeOptions(model=model, iterations=STEPS, device="cpu", **changes)


def variant(scene, index):
    """Another picture of the same size."""
    return np.ascontiguousarray(np.roll(scene, 17 * index, 1)[:: -1 if index % 2 else 1])


def refinement_of(plan, rgb, report=None):
    picture = to_picture(rgb)
    coding = codings.choose_coding(plan, picture)
    objective = encoding.make_objective(plan, picture, coding.model)
    return batches.Refinement(objective, coding.y, coding.z, plan.settings, report)


def do(tasks):
    """What tasks return, in their order."""
    numbered = [lambda refine, each=each, index=index: (index, each(refine)) for index, each in enumerate(tasks)]
    return [found for _, found in sorted(batches.Together().do(numbered), key=lambda pair: pair[0])]


def refined_together(refinements):
    return do([lambda refine, each=each: refine(each) for each in refinements])


def check_same(found, alone):
    """All but where floating-point sums of another order make a symbol fall to the other side."""
    assert found.start.loss == pytest.approx(alone.start.loss, rel=1e-5)
    assert found.best.loss == pytest.approx(alone.best.loss, rel=2e-3)
    assert found.y.shape == alone.y.shape
    assert (found.y.round() == alone.y.round()).float().mean() > 0.99


@pytest.fixture
def sizes(monkeypatch):
    """How many pictures each run of the loop had."""
    seen, refine = [], loop.refine

    def counted(objective, y, *args):
        seen.append(len(y))
        return refine(objective, y, *args)

    monkeypatch.setattr(loop, "refine", counted)
    return seen


@pytest.mark.parametrize("model", ["tiny", "tiny-context-passes"])
@pytest.mark.parametrize("method", ["ssl", "uniform-noise"])
def test_each_picture_of_a_batch_ends_as_if_alone(model, method, scene, sizes):
    plan = make_plan(options_of(model, method=method))
    told = [[] for _ in range(3)]
    refinements = [refinement_of(plan, variant(scene, index), told[index].append) for index in range(3)]
    alone = [batches.alone(replace(each, report=None)) for each in refinements]
    for found, expected in zip(refined_together(refinements), alone, strict=True):
        check_same(found, expected)
    assert sizes == [1, 1, 1, 3]
    for steps, expected in zip(told, alone, strict=True):
        assert [progress.step for progress in steps] == list(range(1, STEPS + 1))
        assert steps[-1].best.loss == pytest.approx(expected.best.loss, rel=2e-3)
    assert len({expected.best.loss for expected in alone}) == 3


def test_what_differs_goes_in_batches_of_its_own(scene, sizes):
    plan, finer = make_plan(options_of(level=1)), make_plan(options_of(level=3))
    pictures = [scene, scene[:64], variant(scene, 1), scene[:64, ::-1], variant(scene, 2)]
    plans = [plan, plan, plan, plan, finer]
    refinements = [refinement_of(*pair) for pair in zip(plans, map(np.ascontiguousarray, pictures), strict=True)]
    for found, each in zip(refined_together(refinements), refinements, strict=True):
        assert found.y.shape == each.y.shape
    assert sorted(sizes) == [1, 2, 2]


def test_what_differs_in_more_than_pixels_goes_apart(scene, sizes):
    plan = make_plan(options_of())
    longer, seeded = (replace(plan.settings, **change) for change in ({"check_every": 2}, {"seed": 7}))
    plans = [
        plan,
        replace(plan, target=replace(plan.target, lmbda=0.02)),
        replace(plan, settings=longer),
        replace(plan, settings=seeded),
        replace(plan, settings=replace(plan.settings, schedule=replace(plan.settings.schedule, synthesis_every=2))),
    ]
    refined_together([refinement_of(each, variant(scene, index)) for index, each in enumerate(plans)])
    assert sizes == [1] * 5
    finer = encoding.make_objective(plans[-1], to_picture(scene), refinement_of(plan, scene).objective._model)
    assert refinement_of(plan, scene).objective.kind != finer.kind


def test_a_state_is_kept_as_it_was(scene):
    """Large steps make the last states the worst."""
    plan = make_plan(options_of())
    rough = replace(plan.settings, check_every=1, schedule=replace(plan.settings.schedule, lr_y=0.5, warm_down=0.0))
    refinements = [replace(refinement_of(plan, variant(scene, index)), settings=rough) for index in range(2)]
    for found, each in zip(refined_together(refinements), refinements, strict=True):
        (again,) = each.objective.rounded(found.y, found.z)
        assert again.loss == pytest.approx(found.best.loss, rel=1e-5)


def test_a_batch_has_only_so_many_pixels(scene, sizes, monkeypatch):
    """After padding, to a multiple of 64."""
    monkeypatch.setattr(batches, "BATCH_PIXELS", 2 * 128 * 192)
    plan = make_plan(options_of())
    refined_together([refinement_of(plan, variant(scene, index)) for index in range(5)])
    assert sizes == [2, 2, 1]


def test_unseen_pixels_of_one_are_not_those_of_another(scene):
    plan = make_plan(options_of())
    alpha = np.full(scene.shape[:2], 255, np.uint8)
    alpha[:, 60:] = 0
    refinements = [refinement_of(plan, rgb) for rgb in (np.dstack([scene, alpha]), variant(scene, 1))]
    alone = [batches.alone(each) for each in refinements]
    for found, expected in zip(refined_together(refinements), alone, strict=True):
        check_same(found, expected)
        assert found.best.mse == pytest.approx(expected.best.mse, rel=0.02)


def poisoned(step, index):
    """A rounding that gives NaN for one picture of a batch from a step on; it is called for z and y in turn."""
    good, calls = rounding.choose("ssl"), [0]

    def round_(v, temperature, generator):
        sample = good(v, temperature, generator)
        calls[0] += 1
        if calls[0] <= 2 * step:
            return sample
        factor = torch.ones(len(v), 1, 1, 1)
        factor[index] = math.nan
        return sample * factor

    return round_


def test_what_is_not_finite_ends_one_picture_alone(scene):
    plan = make_plan(options_of())
    refinements = [refinement_of(plan, variant(scene, index)) for index in range(3)]
    alone = [batches.alone(each) for each in refinements]
    settings = replace(plan.settings, rounding=poisoned(4, 1))
    told = []
    poisonous = [replace(each, settings=settings, report=told.append) for each in refinements]
    found = refined_together(poisonous)
    assert [each.broken_off_at for each in found] == [None, 5, None]
    check_same(found[0], alone[0])
    check_same(found[2], alone[2])
    poisonous_plan = replace(plan, settings=replace(plan.settings, rounding=poisoned(4, 0)))
    broken = batches.alone(refinement_of(poisonous_plan, variant(scene, 1)))
    check_same(found[1], broken)
    assert found[1].best.loss < found[1].start.loss  # the state before step 5, the first that was measured
    assert found[1].y.isfinite().all()
    assert len(told) == 2 * STEPS + 4


def test_a_plateau_ends_each_picture_for_itself(scene):
    """One is of one colour, the other is not."""
    plan = make_plan(options_of())
    tuned = replace(plan.settings.schedule, iterations=30, plateau=schedule.Plateau(1, 1e-3, 0.1))
    plan = replace(plan, settings=replace(plan.settings, schedule=tuned, check_every=3))
    steps = [[], []]
    pictures = [np.full_like(scene, 90), scene]
    refinements = [refinement_of(plan, *pair) for pair in zip(pictures, (s.append for s in steps), strict=True)]
    refined_together(refinements)
    flat, rich = (len(of) for of in steps)
    assert flat != rich
    for of, each in zip((flat, rich), refinements, strict=True):
        alone = []
        batches.alone(replace(each, report=alone.append))
        assert len(alone) == of


def test_memory_that_is_short_makes_batches_smaller(scene, sizes, monkeypatch):
    """The batch fails in the midst; what it held is free when its halves begin, and later batches begin small."""
    refine, held = loop.refine, []

    def short_of_memory(objective, y, *args):
        assert not any(reference() is not None for reference in held)
        if len(y) > 2:
            gradients = torch.ones(5)
            held.append(weakref.ref(gradients))
            sizes.append(len(y))
            raise torch.cuda.OutOfMemoryError("out of memory")
        return refine(objective, y, *args)

    monkeypatch.setattr(loop, "refine", short_of_memory)
    plan = make_plan(options_of())
    together = batches.Together()
    tasks = [lambda refine, index=index: refine(refinement_of(plan, variant(scene, index))) for index in range(5)]
    found = list(together.do(tasks))
    assert sizes == [5, 2, 3, 1, 2]
    assert len({result.best.loss for result in found}) == 5
    assert len(list(together.do(tasks))) == 5
    assert sizes[5:] == [1] * 5


def test_memory_that_is_short_for_one_picture_is_its_error(scene, monkeypatch):
    held = []

    def short_of_memory(*_):
        gradients = torch.ones(5)
        held.append(weakref.ref(gradients))
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(loop, "refine", short_of_memory)
    refinement = refinement_of(make_plan(options_of()), scene)
    gc.disable()  # nothing waits for it
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            refined_together([refinement])
        assert [reference() for reference in held] == [None]
    finally:
        gc.enable()


def test_a_fault_is_that_of_its_picture(scene):
    plan, told = make_plan(options_of()), []

    def faulty(progress):
        raise ValueError("report")

    def task(refine, index):
        report = faulty if index == 1 else told.append
        refinement = refinement_of(plan, variant(scene, index), report)
        if index == 3:
            refinement = replace(refinement, z=refinement.z[..., :1])
        try:
            return refine(refinement)
        except (ValueError, RuntimeError) as err:
            return err

    found = do([partial(task, index=index) for index in range(5)])
    assert isinstance(found[1], ValueError)
    assert isinstance(found[3], RuntimeError)
    for index in (0, 2, 4):
        check_same(found[index], batches.alone(refinement_of(plan, variant(scene, index))))


class Interrupt(BaseException):
    """What Ctrl-C raises is no Exception."""


@pytest.fixture
def wait_for_threads():
    """Waits for those that the test has started."""
    before = set(threading.enumerate())

    def wait():
        for thread in set(threading.enumerate()) - before:
            thread.join(20)
            assert not thread.is_alive()

    return wait


def test_an_interrupt_ends_all_tasks(scene, wait_for_threads):
    plan, cancelled = make_plan(options_of()), []

    def interrupted(progress):
        raise Interrupt

    def task(refine, index):
        try:
            return refine(refinement_of(plan, variant(scene, index), interrupted if index == 1 else None))
        except CancelledError:
            cancelled.append(index)

    with pytest.raises(Interrupt):
        do([partial(task, index=index) for index in range(3)])
    wait_for_threads()
    assert sorted(cancelled) == [0, 1, 2]


def test_whoever_leaves_ends_all_tasks(scene, wait_for_threads):
    """What has not begun does not begin."""
    plan, begun, first_is_done = make_plan(options_of()), [], threading.Event()

    def task(refine, index):
        begun.append(index)
        if index:
            assert first_is_done.wait(20)
            return refine(refinement_of(plan, scene))
        return "done"

    tasks = [partial(task, index=index) for index in range(5)]
    results = batches.Together().do(tasks)
    assert next(results) == "done"
    results.close()
    first_is_done.set()
    wait_for_threads()
    assert begun == [0, 1]


def test_threads_that_cannot_start_leave_none_behind(scene, monkeypatch, wait_for_threads):
    plan, start, started = make_plan(options_of()), threading.Thread.start, []

    def start_two(thread):
        started.append(thread)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(RuntimeError, match="start new thread"):
        refined_together([refinement_of(plan, variant(scene, index)) for index in range(4)])
    wait_for_threads()


def test_what_a_task_raises_is_raised(scene, wait_for_threads):
    def task(refine, index):
        if index == 1:
            raise Interrupt
        return index

    with pytest.raises(Interrupt):
        do([partial(task, index=index) for index in range(3)])
    wait_for_threads()


def test_tasks_may_refine_often_or_never(scene, sizes):
    plan = make_plan(options_of())

    def task(refine, n):
        return [refine(refinement_of(plan, variant(scene, n))).best.loss for _ in range(n)]

    found = do([partial(task, n=n) for n in (0, 3, 1, 2)])
    assert [len(losses) for losses in found] == [0, 3, 1, 2]
    assert sizes == [3, 2, 1]


# --- many pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Pictures go together, in threes."""
    monkeypatch.setattr(many, "_go_together", lambda options: True)
    monkeypatch.setattr(many, "_N_TOGETHER", 3)


@pytest.mark.parametrize(("device", "steps", "expected"), [("cpu", 12, False), ("cuda", 12, True), ("cuda", 0, False)])
def test_pictures_go_together_on_a_gpu_only(device, steps, expected, monkeypatch):
    monkeypatch.setattr(devices, "torch_device", torch.device)
    options = sgacodec.EncodeOptions(device=device, iterations=steps)
    assert many._go_together(options) is expected


@pytest.mark.parametrize("in_order", [True, False])
def test_many_pictures_in_batches(in_order, scene_files, tmp_path, as_on_a_gpu, sizes):
    """With what is no picture among them; each result and each report is that of its path."""
    (tmp_path / "text.png").write_text("hello")
    paths = [scene_files / "0.png", tmp_path / "text.png", *(scene_files / f"{index}.png" for index in range(1, 6))]
    told = {path: [] for path in paths}

    def report(path, progress):
        told[path].append(progress.step)

    results = list(sgacodec.encode_many(paths, options_of(), report=report, in_order=in_order))
    if in_order:
        assert [result.path for result in results] == paths
    assert sorted(result.index for result in results) == list(range(7))
    assert all(result.path == paths[result.index] for result in results)
    results.sort(key=lambda result: result.index)
    assert sizes == [2, 3, 1]
    assert isinstance(results[1].error, sgacodec.InvalidImageError)
    for result in (results[0], *results[2:]):
        assert told[result.path] == list(range(1, STEPS + 1))
        with Image.open(result.path) as image:
            alone = sgacodec.encode(image, options_of())
        assert len(result.data) == pytest.approx(len(alone), rel=0.02)
        assert sgacodec.decode(result.data).size == (128, 96)
        assert result.warnings == ()


def test_a_warning_is_its_picture_s(scene_files, as_on_a_gpu, monkeypatch):
    poison = poisoned(4, 1)
    monkeypatch.setattr(rounding, "choose", lambda *_: poison)
    paths = [scene_files / f"{index}.png" for index in range(3)]
    warnings = [result.warnings for result in sgacodec.encode_many(paths, options_of())]
    assert warnings == [(), ("refinement stopped: not finite at step 5; the best state so far is encoded",), ()]


def test_a_picture_is_done_before_others_of_its_round(scene, scene_files, tmp_path, as_on_a_gpu, wait_for_threads):
    """A size of its own makes a batch of its own."""
    Image.fromarray(scene[:64]).save(tmp_path / "small.png")
    told = []
    options = options_of()
    paths = [tmp_path / "small.png", scene_files / "0.png", scene_files / "1.png"]
    results = sgacodec.encode_many(paths, options, report=lambda path, progress: told.append(path), in_order=False)
    assert next(results).error is None
    results.close()
    wait_for_threads()


@pytest.mark.parametrize("settings", [torch.no_grad, torch.inference_mode])
def test_callers_settings_of_torch_do_not_reach_a_batch(settings, scene_files, as_on_a_gpu):
    paths = [scene_files / f"{index}.png" for index in range(2)]
    expected = [result.data for result in sgacodec.encode_many(paths, options_of())]
    with settings():
        found = list(sgacodec.encode_many(paths, options_of()))
    assert [result.error for result in found] == [None, None]
    assert [result.data for result in found] == expected


def test_targets_in_batches(scene_files, tmp_path, as_on_a_gpu, sizes):
    """One picture three times goes the same way three times."""
    for result in sgacodec.encode_many([scene_files / "1.png"] * 3, options_of(target_size=700)):
        assert result.error is None
        assert 650 < result.n_bytes <= 700
    assert set(sizes) == {3}
    for result in sgacodec.encode_many(
        [scene_files / f"{index}.png" for index in range(3)], options_of(target_bpp=0.5)
    ):
        assert result.error is None
        assert result.bpp <= 0.5

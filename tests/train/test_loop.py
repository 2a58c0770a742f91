"""The training loop: it learns, goes on exactly where it was, refuses what does not fit, and ends in a working model."""

import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import sgacodec
from sgacodec.errors import ModelError, TrainError
from sgacodec.models.file import dump_model
from sgacodec.train import checkpoint, events, loss, trainer
from sgacodec.train.data.images import load_images
from sgacodec.train.data.weights import Weights, state_file
from sgacodec.train.families.mean_scale_files import widths
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import base
from sgacodec.train.workers import Worker

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = TrainOptions(N=8, M=12, steps=6, batch_size=4, patch_size=64, warmup_steps=2)


@pytest.fixture(scope="module")
def dataset(scene_files):
    return load_images([scene_files], 64, 2, CPU)


@pytest.fixture
def job(dataset, tmp_path):
    run = RunOptions(tmp_path / "run.pt", device="cpu", log_every=2)
    return trainer.Job(TINY, run, dataset, Worker(0, 1, CPU))


def change(job, *, options=None, **run):
    changed = dataclasses.replace(job, run=dataclasses.replace(job.run, **run))
    return dataclasses.replace(changed, options=dataclasses.replace(job.options, **(options or {})))


def state(path):
    return torch.load(path, weights_only=True)


def leaves(value, path=""):
    """Yield every tensor and number of a checkpoint with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{index}")
    else:
        yield path, value


@pytest.mark.parametrize(
    ("optimizer", "stage", "family"),
    [
        ("adam", "base", "mean-scale"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("muon", "base", "mean-scale"),
                ("soap", "base", "mean-scale"),
                ("adam", "hyper", "mean-scale"),
                ("adam", "refined", "mean-scale"),
                ("adam", "base", "context"),
                ("soap", "base", "context"),
            )
        ),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(job, tmp_path, optimizer, stage, family):
    # 14 steps: past the first renewal of SOAP's bases
    options = {"optimizer": optimizer, "stage": stage, "steps": 14, "zoom": 1.5, "evenness": 0.5, "refine_steps": 6}
    options |= {"family": family, "N": 8, "M": 20} if family == "context" else {}
    whole = trainer.train(change(job, options=options, output=tmp_path / "whole.pt"))
    taken = []
    first = trainer.train(change(job, options=options), stop=lambda: taken.append(0) or len(taken) == 12)
    assert (first.step, first.finished) == (12, False)
    resumed = dataclasses.replace(change(job, options=options), resume=checkpoint.read(job.run.output))
    second = trainer.train(resumed)
    assert (second.step, second.finished) == (14, True)
    assert second.seen_pixels == whole.seen_pixels == 14 * 4 * 64 * 64
    expected, found = (dict(leaves(state(path))) for path in (tmp_path / "whole.pt", job.run.output))
    assert expected.keys() == found.keys()
    for place, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, found[place]), place
        elif place != "/seconds":
            assert value == found[place], place


@pytest.mark.slow
def test_the_hyper_stage_lowers_the_rate_and_moves_the_hyperprior_alone(job):
    base = change(job, options={"steps": 2, "init": "default"})
    trainer.train(base)
    seen, start = [], state_file(job.run.output)
    hyper = dataclasses.replace(change(base, options={"stage": "hyper", "steps": 30, "lr": 3e-3}), start=start)
    trained = trainer.train(dataclasses.replace(hyper, run=dataclasses.replace(job.run, log_every=1)), [seen.append])
    averaged = [record for record in seen if isinstance(record, events.Averaged)]
    assert {record.mse for record in averaged} == {0.0}
    assert averaged[-1].bpp < 0.9 * averaged[0].bpp
    moved = {
        name.split(".")[0]
        for name, value in trained.net.named_parameters()
        if not torch.equal(value, start.state[name])
    }
    assert moved == {"h_a", "h_s", "entropy_bottleneck", "gain_z", "inv_gain_z"}


def test_evenness_weighs_a_patch_by_a_power_of_its_loss():
    values = torch.tensor([0.5, 4.0], requires_grad=True)
    batch = loss.Batch(torch.empty(0), torch.empty(0), torch.empty(0), weight=torch.tensor([2.0, 1.0]))
    for evenness, expected in ((0.0, [1.0, 0.5]), (0.5, [1.0, 0.25])):
        terms = loss.Terms(values, values, values)
        (gradient,) = torch.autograd.grad(loss.objective(terms, batch, evenness), values)
        assert gradient.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "optimizer", ["adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("muon", "soap"))]
)
def test_each_optimiser_lowers_the_validation_loss(job, optimizer):
    seen = []
    options = {"optimizer": optimizer, "steps": 40, "init": "default"}
    trainer.train(change(job, options={**options, "steps": 1}), [seen.append])
    start = seen[-1].loss
    end = trainer.train(change(job, options=options)).validation
    assert end.loss < 0.95 * start
    assert [level.lmbda for level in end.levels] == list(TINY.lambdas)


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_that_codes_a_picture(job, tmp_path, scene, monkeypatch):
    from sgacodec.train.export import cost, publish

    job = change(job, options={"steps": 100, "lambdas": (0.003, 0.03), "lr": 2e-3})
    trained = trainer.train(job)
    path = tmp_path / "small.safetensors"
    model = publish.to_model(job, trained, "small")
    path.write_bytes(dump_model(model))
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    options = sgacodec.EncodeOptions(model="small", preset="none", device="cpu")
    assert sgacodec.decode(sgacodec.encode(scene, options)).size == (130, 96)
    assert model.lambdas == (0.003, 0.03)
    assert "100 steps" in model.card["seen"]
    images = job.dataset.validation
    levels = loss.validate(trained.net, images, job.options.lambdas, 4)
    for row in cost.measure(levels, path, publish.to_images(images)):
        assert row.integer_bpp == pytest.approx(row.float_bpp, rel=0.02, abs=0.005)
        assert row.integer_psnr_db == pytest.approx(row.float_psnr_db, abs=0.1)
        assert row.file_bpp > row.integer_bpp


def test_a_checkpoint_can_be_imported(job):
    trainer.train(change(job, options={"steps": 2}))
    weights = state_file(job.run.output)
    assert weights.lambdas == TINY.lambdas
    assert weights.seen_pixels == 2 * 4 * 64 * 64
    assert torch.equal(weights.state["g_a.0.weight"], state(job.run.output)["ema"]["g_a.0.weight"])


def test_a_warm_start_takes_weights_only(job, tmp_path):
    trainer.train(change(job, options={"steps": 2}))
    start = state_file(job.run.output)
    seen = []
    warm = dataclasses.replace(change(job, options={"steps": 1}, output=tmp_path / "warm.pt"), start=start)
    trained = trainer.train(warm, [seen.append])
    assert (trained.step, trained.seen_pixels) == (1, 3 * 4 * 64 * 64)


def test_a_warm_start_from_plain_weights_keeps_the_gains_start(job, tmp_path):
    from sgacodec.train.families import mean_scale

    plain = {
        name: value for name, value in mean_scale.create(8, 12, (0.01,), 5).state_dict().items() if "gain" not in name
    }
    trained = trainer.train(dataclasses.replace(job, start=Weights(plain, (0.01,), "plain", "a test")))
    assert trained.net.gain_y[0].mean() < trained.net.gain_y[-1].mean()


def test_a_single_rate_run_leaves_the_gains_at_one(job):
    trained = trainer.train(change(job, options={"steps": 2, "lambdas": (0.01,)}))
    assert not state(job.run.output)["raw"]["gain_y"].any()
    assert len(trained.validation.levels) == 1


def test_divergence_is_an_error_and_leaves_the_last_good_state(job):
    trainer.train(change(job, options={"steps": 2}))
    with pytest.raises(TrainError, match=r"no longer finite at step \d+; .*run.pt holds the last good state"):
        trainer.train(change(job, options={"steps": 20, "lr": 1e20, "warmup_steps": 0}, save_every=0))
    assert all(value.isfinite().all() for _, value in leaves(state(job.run.output)["raw"]))
    job.run.output.unlink()
    with pytest.raises(TrainError, match="nothing was saved"):
        trainer.train(change(job, options={"steps": 20, "lr": 1e20, "warmup_steps": 0}))


@pytest.mark.slow
def test_a_run_bounded_by_time_ends_and_goes_on(job):
    job = change(job, options={"steps": None, "seconds": 0.6}, stop_after=0.2)
    first = trainer.train(job)
    assert not first.finished
    resumed = change(job, stop_after=None)
    second = trainer.train(dataclasses.replace(resumed, resume=checkpoint.read(job.run.output)))
    assert second.finished
    assert 0.6 <= state(job.run.output)["seconds"] < 30
    assert second.step > first.step


def test_other_data_on_resume_is_said(job, dataset, caplog):
    trainer.train(change(job, options={"steps": 2}), stop=lambda: True)
    other = dataclasses.replace(dataset, fingerprint="other")
    resumed = dataclasses.replace(job, dataset=other, resume=checkpoint.read(job.run.output))
    with caplog.at_level(logging.WARNING):
        trainer.train(change(resumed, options={"steps": 2}))
    assert "not what this run was started with" in caplog.text


def test_wrong_checkpoints(job, tmp_path):
    with pytest.raises(TrainError, match="does not exist"):
        checkpoint.read(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(TrainError, match="not a checkpoint"):
        checkpoint.read(tmp_path / "text.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(TrainError, match="not a checkpoint"):
        checkpoint.read(tmp_path / "other.pt")
    torch.save({"ema": {}, "lambdas": [0.01]}, tmp_path / "weights.pt")
    with pytest.raises(TrainError, match="--warm"):
        checkpoint.read(tmp_path / "weights.pt")
    with pytest.raises(TrainError, match="is missing"):
        widths({"layer.weight": torch.zeros(1)})
    trainer.train(change(job, options={"steps": 1}))
    weights = state_file(job.run.output)
    with pytest.raises(TrainError, match="leave N, M"):
        trainer.train(dataclasses.replace(change(job, options={"N": 16}), start=weights))
    lacking = dataclasses.replace(weights, state={k: v for k, v in weights.state.items() if k != "h_s.0.bias"})
    with pytest.raises(TrainError, match=r"h_s\.0\.bias is missing"):
        trainer.train(dataclasses.replace(job, start=lacking))
    resume = dataclasses.replace(checkpoint.read(job.run.output), optimizers=[])
    with pytest.raises(TrainError, match="optimisers do not fit"):
        trainer.train(dataclasses.replace(job, resume=resume))
    with pytest.raises(ModelError):
        state_file(tmp_path / "text.pt")


def test_a_failed_write_leaves_the_older_checkpoint(job, monkeypatch):
    trainer.train(change(job, options={"steps": 1}))
    before = job.run.output.read_bytes()

    def fail(content, path):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        trainer.train(change(job, options={"steps": 1}))
    assert job.run.output.read_bytes() == before
    assert [path.name for path in job.run.output.parent.iterdir() if "part" in path.name] == []


def test_the_log_is_lines_of_json(job, tmp_path):
    path = tmp_path / "run.jsonl"
    trainer.train(change(job, validate_every=0), [events.json_log(path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [line["record"] for line in lines]
    assert kinds[0] == "started"
    assert (kinds.count("averaged"), kinds.count("validated")) == (3, 7)
    assert lines[0]["facts"]["options"]["N"] == 8
    assert len(lines[-1]["levels"]) == 8


def test_tensorboard_is_optional(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match="pip install tensorboard"):
        events.tensorboard(tmp_path)


def test_a_batch_must_divide_among_processes():
    with pytest.raises(TrainError, match="cannot be divided among 3"):
        Worker(0, 3, CPU).share(8)


def test_randomness_follows_from_seed_rank_and_position():
    def draw(rank, *arguments):
        return torch.rand(4, generator=Worker(rank, 2, CPU).generator(*arguments)).tolist()

    assert draw(0, 1, 5) == draw(0, 1, 5)
    assert len({tuple(draw(*key)) for key in ((0, 1, 5), (1, 1, 5), (0, 2, 5), (0, 1, 6))}) == 4


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from sgacodec.train import checkpoint, trainer, workers
from sgacodec.train.data.crops import random_crops
from sgacodec.train.data.images import load_images
from sgacodec.train.options import RunOptions, TrainOptions

folder = Path(sys.argv[2])
with workers.join("cpu") as worker:
    dataset = load_images([Path(sys.argv[1])], 64, 2, worker.device)
    for stage in sys.argv[3:]:
        options = TrainOptions(
            N=8, M=12, steps=12, batch_size=4, patch_size=64, warmup_steps=2, stage=stage, refine_steps=6
        )
        run = RunOptions(folder / f"{stage}.pt", autocast=False)
        trained = trainer.train(trainer.Job(options, run, dataset, worker))
        crops = random_crops(dataset.train, 2, 64, worker.generator(0, 0))
        content = {"weights": checkpoint.copy_weights(trained.net), "crops": crops}
        torch.save(content, folder / f"{stage}-{worker.rank}.pt")
        assert (trained.validation is not None) == worker.leads
"""


@pytest.fixture(scope="module")
def of_two_processes(scene_files, tmp_path_factory):
    """The folder where two processes, with torchrun's environment and gloo, left what each stage gave."""
    folder = tmp_path_factory.mktemp("two-processes")
    script = folder / "script.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2",
              "MASTER_ADDR": "localhost", "MASTER_PORT": port}  # fmt: skip
    command = [sys.executable, str(script), str(scene_files), str(folder), *base.STAGES]
    started = [
        subprocess.Popen(command, env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", base.STAGES)
def test_two_processes_train_one_model(of_two_processes, stage):
    """Each draws its own patches, both hold the same weights."""
    first, second = (state(of_two_processes / f"{stage}-{rank}.pt") for rank in range(2))
    assert not torch.equal(first["crops"], second["crops"])
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert state(of_two_processes / f"{stage}.pt")["seen_pixels"] == 12 * 4 * 64 * 64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_compiled_in_bfloat16(scene_files, tmp_path):
    device = torch.device("cuda")
    options = TrainOptions(N=16, M=32, steps=40, batch_size=8, patch_size=64, warmup_steps=5)
    run = RunOptions(tmp_path / "run.pt", compile=True)
    job = trainer.Job(options, run, load_images([scene_files], 64, 2, device), Worker(0, 1, device))
    seen = []
    trainer.train(change(job, options={"steps": 1}), [seen.append])
    assert trainer.train(job).validation.loss < seen[-1].loss

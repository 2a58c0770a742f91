"""`sgacodec train`: files, refusals, one clear line for every error."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from sgacodec.models.file import load_model_file

SHORT = ["--patch-size", 64, "--batch-size", 4, "--warmup-steps", 2, "--device", "cpu"]
TINY = ["--family", "mean-scale", "--N", 8, "--M", 12, *SHORT]


@pytest.fixture(autouse=True)
def _rough_fits(monkeypatch):
    """How well the prior of a model that training starts from is fitted is not what these tests are about."""
    monkeypatch.setattr("sgacodec.train.export.tables._FIT_STEPS", 20)
    monkeypatch.setattr("sgacodec.train.families.bits_back._RECOVERY_FIT_STEPS", 20)


def step(path="run.pt"):
    return torch.load(path, weights_only=True)["step"]


@pytest.mark.slow
def test_train_export_and_use(run, scene_files, scene, monkeypatch):
    arguments = [*TINY, "--steps", 4, "--lambda", 0.003, "--lambda", 0.03, "--export", "small.safetensors"]
    result = run("train", scene_files, "-o", "run.pt", *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "float against integers on 1 held-out images" in result.stderr
    assert "run.pt: step 4, finished" in result.stderr
    records = [json.loads(line)["record"] for line in Path("run.jsonl").read_text().splitlines()]
    assert records == ["started", "validated"]
    from PIL import Image

    Image.fromarray(scene).save("scene.png")
    encoded = run("encode", "scene.png", "--model", "small.safetensors", "-p", "none", "--device", "cpu", "--quiet")
    assert encoded.exit_code == 0, encoded.stderr
    monkeypatch.setenv("SGACODEC_MODELS", ".")
    assert run("verify", "scene.sga").exit_code == 0
    imported = run("models", "import", "run.pt", "-o", "imported.safetensors")
    assert imported.exit_code == 0, imported.stderr


def test_nothing_is_overwritten_without_force(run, scene_files):
    Path("run.pt").write_text("precious")
    Path("other.jsonl").write_text("precious")
    Path("model.safetensors").write_text("precious")
    for arguments in (
        ["-o", "run.pt"],
        ["-o", "other.pt"],
        ["-o", "new.pt", "--export", "model.safetensors"],
    ):
        result = run("train", scene_files, *arguments, *TINY, "--steps", 1)
        assert result.exit_code == 2
        assert "exists; overwrite it with --force" in result.stderr
    assert {Path(name).read_text() for name in ("run.pt", "other.jsonl", "model.safetensors")} == {"precious"}
    assert run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--force", "--quiet").exit_code == 0
    assert step() == 1


def test_stop_and_resume(run, scene_files):
    """A piece ends after its time, the next one ends the schedule; the log tells of both."""
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 5, "--stop-after", 0)
    assert result.exit_code == 0, result.stderr
    assert "go on with --resume run.pt" in result.stderr
    assert step() == 1
    result = run("train", scene_files, "--resume", "run.pt", "--device", "cpu", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert step() == 5
    starts = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [record["step"] for record in starts if record["record"] == "started"] == [0, 1]
    warm = ["--warm", "-o", "warm.pt", "--steps", 1, "--patch-size", 64, "--device", "cpu", "--quiet"]
    assert run("train", scene_files, "--resume", "run.pt", *warm).exit_code == 0
    assert torch.load("warm.pt", weights_only=True)["options"]["N"] == 8


def test_the_refined_stage_goes_on_from_a_base_run(run, scene_files):
    rates = ["--lambda", 0.003, "--lambda", 0.03]
    assert run("train", scene_files, "-o", "run.pt", *TINY, *rates, "--steps", 2, "--quiet").exit_code == 0
    stage = ["--stage", "refined", "--resume", "run.pt"]
    arguments = ["--warm", "-o", "refined.pt", *TINY, "--refine-steps", 3, "--export", "refined.safetensors"]
    result = run("train", scene_files, *stage, *arguments, "--steps", 2)
    assert result.exit_code == 0, result.stderr
    assert "after refinement" in result.stderr
    assert "refined.pt: step 2, finished" in result.stderr
    assert "float against integers" in result.stderr
    records = [json.loads(line) for line in Path("refined.jsonl").read_text().splitlines()]
    assert records[0]["facts"]["options"]["stage"] == "refined"
    assert 0 < records[-1]["refined_loss"] < 1000
    result = run("train", scene_files, *stage)
    assert result.exit_code == 1
    assert "started with stage base, not refined" in result.stderr


def test_an_interrupt_saves_and_ends(run, scene_files, monkeypatch):
    from sgacodec.train import trainer

    honest = trainer.Trainer._one_step

    def interrupted(trainer):
        honest(trainer)
        if trainer._step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer.Trainer, "_one_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1000)
    assert result.exit_code == 0, result.stderr
    assert "stopped before its end; go on with --resume run.pt" in result.stderr
    assert 3 <= step() <= 4
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--steps", 1], 2, "name the checkpoint file with -o"),
        (["-o", "a.pt", "--warm"], 2, "name its file"),
        (["-o", "a.pt", "--stage", "refined", "--steps", 1], 2, "name a --model, or a file with --resume"),
        (["-o", "a.pt", "--stage", "hyper", "--steps", 1], 2, "name a --model, or a file with --resume"),
        (["-o", "a.pt"], 1, "give the schedule's length once"),
        (["-o", "a.pt", "--steps", 1, "--seconds", 1], 1, "give the schedule's length once"),
        (["-o", "a.pt", "--steps", 1, "--patch-size", 100], 1, "multiple of 64"),
        (["-o", "a.pt", "--steps", 1, "--patch-size", 256], 1, "0 images of at least 256x256"),
        (["-o", "a.pt", "--steps", 1, "--zoom", 0.5], 2, "not in the range 1<=x<=4"),
        (["-o", "a.pt", "--steps", 1, "--final-lr", 0], 2, "not in the range 0<x<=1"),
        (["-o", "a.pt", "--steps", 1, "--drawn", 0.6], 2, "not in the range 0<=x<=0.5"),
        (
            ["-o", "a.pt", "--steps", 1, "--stage", "bits-back", "--model", "msh-vbr-96-192", "--evenness", 0.5],
            1,
            "leave out --evenness",
        ),
        (["-o", "a.pt", "--steps", 1, "--export", "model.bin"], 2, "ends in .safetensors"),
        (["-o", "none/a.pt", "--steps", 1], 2, "does not exist"),
        (["--resume", "none.pt"], 1, "none.pt does not exist"),
        (["--resume", "text.pt"], 1, "not a checkpoint"),
        (["--resume", "text.pt", "--warm", "-o", "a.pt", "--steps", 1], 5, "not a file of torch.save"),
        (["-o", "a.pt", "--steps", 1, "--device", "nonsense"], 1, "not available"),
    ],
)
def test_errors_are_one_clear_line(run, scene_files, arguments, code, message):
    Path("text.pt").write_text("hello")
    result = run("train", scene_files, *arguments)
    assert result.exit_code == code
    assert message in result.stderr.strip().splitlines()[-1]
    assert not Path("a.pt").exists()


HEAD = ["--stage", "bits-back", "--model", "tiny", "--patch-size", 64, "--batch-size", 2, "--device", "cpu"]


@pytest.mark.slow
def test_a_bits_back_head_is_trained_resumed_and_exported(run, scene_files, tiny_model):
    """A resumed run knows its stage and its model."""
    result = run("train", scene_files, "-o", "head.pt", *HEAD, "--steps", 3, "--stop-after", 0)
    assert result.exit_code == 0, result.stderr
    assert "sampled_bpp rounded_bpp   plain_bpp" in result.stderr
    result = run("train", scene_files, "--resume", "head.pt", "--device", "cpu", "--export", "out.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "out.safetensors: id " + tiny_model.model_id.hex() in result.stderr
    model = load_model_file(Path("out.safetensors"))
    assert (model.name, model.model_id) == (tiny_model.name, tiny_model.model_id)
    assert model.bits_back.lattice_bits == 4
    assert step("head.pt") == 3
    records = [json.loads(line) for line in Path("head.jsonl").read_text().splitlines()]
    assert records[-1]["levels"][0].keys() == {"lmbda", "sampled_bpp", "rounded_bpp", "plain_bpp"}
    warm = ["--resume", "head.pt", "--warm", "-o", "warm.pt", *HEAD, "--steps", 1, "--quiet"]
    assert run("train", scene_files, *warm).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stage", "bits-back"], 1, "name the model that gets a bits-back model"),
        (["--model", "tiny", "--resume", "text.pt", "--warm"], 2, "--model and --resume both name weights"),
        (["--model", "tiny", "--N", 16, "--patch-size", 64], 1, "leave N, M"),
        (["--stage", "bits-back", "--model", "tiny", "--N", 8], 2, "N are those of its model"),
        (["--stage", "bits-back", "--model", "nobody"], 5, "no model is called 'nobody'"),
        (["--stage", "third"], 2, "'third' is not one of"),
    ],
)
def test_a_stage_and_its_model_must_fit(run, scene_files, arguments, code, message):
    result = run("train", scene_files, "-o", "a.pt", "--steps", 1, *arguments)
    assert result.exit_code == code
    assert message in result.stderr.strip().splitlines()[-1]


def test_a_model_is_trained_further(run, scene_files, tiny_model):
    """A run that starts from a model has its sizes and lambdas, and is resumed without it."""
    start = ["--model", "tiny", "--patch-size", 64, "--batch-size", 2, "--device", "cpu"]
    result = run("train", scene_files, "-o", "run.pt", *start, "--steps", 2, "--stop-after", 0)
    assert result.exit_code == 0, result.stderr
    result = run("train", scene_files, "--resume", "run.pt", "--device", "cpu", "--export", "out.safetensors")
    assert result.exit_code == 0, result.stderr
    assert step() == 2
    model = load_model_file(Path("out.safetensors"))
    assert model.lambdas == tiny_model.lambdas
    assert model.model_id != tiny_model.model_id
    refined = ["--stage", "refined", "--refine-steps", 1, "--steps", 1, "--quiet"]
    assert run("train", scene_files, "-o", "refined.pt", *start, *refined).exit_code == 0


def test_a_head_is_resumed_with_its_own_model_only(run, scene_files):
    assert run("train", scene_files, "-o", "head.pt", *HEAD, "--steps", 1, "--quiet").exit_code == 0
    result = run("train", scene_files, "--resume", "head.pt", "--model", "msh-vbr-96-192")
    assert result.exit_code == 1
    assert "started with model" in result.stderr


def test_options_that_contradict_the_checkpoint(run, scene_files):
    assert run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--quiet").exit_code == 0
    result = run("train", scene_files, "--resume", "run.pt", "--optimizer", "soap")
    assert result.exit_code == 1
    assert "started with optimizer adam, not soap" in result.stderr
    result = run("train", scene_files, "--resume", "run.pt", "--warm", "-o", "b.pt", "--steps", 1, "--N", 16,
                 "--patch-size", 64, "--device", "cpu")  # fmt: skip
    assert result.exit_code == 1
    assert "leave N, M" in result.stderr


def test_a_wrong_image_is_named(run, scene_files, caplog):
    folder = Path("more")
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of an image")
    result = run("train", scene_files, folder, "-o", "run.pt", *TINY, "--steps", 1, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "broken.jpg" in caplog.text


def test_the_log_holds_no_infinity(tmp_path):
    from sgacodec.train.events import Validated, json_log

    json_log(tmp_path / "log.jsonl")(Validated(1, 2.0, 3, float("nan"), (), float("inf")))
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=pytest.fail)
    assert (record["loss"], record["refined_loss"]) == (None, None)


@pytest.mark.parametrize("seed", [2**64, 2**70])
def test_seeds_that_are_too_large(run, scene_files, seed):
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--seed", seed)
    assert result.exit_code == 1
    assert "the seed must be an integer of 64 bits" in result.stderr


def test_the_largest_seed(run, scene_files):
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--seed", 2**64 - 1, "--quiet")
    assert result.exit_code == 0, result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs links and modes")
def test_a_checkpoint_follows_links_and_keeps_the_mode(run, scene_files):
    Path("real.pt").touch(mode=0o600)
    os.symlink("real.pt", "run.pt")
    Path("real.jsonl").write_text("older\n")
    os.symlink("real.jsonl", "run.jsonl")
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--quiet", "--force")
    assert result.exit_code == 0, result.stderr
    assert Path("run.pt").is_symlink()
    assert Path("real.pt").stat().st_mode & 0o777 == 0o600
    assert step() == 1
    assert Path("run.jsonl").is_symlink()
    assert json.loads(Path("real.jsonl").read_text().splitlines()[0])["record"] == "started"


@pytest.mark.parametrize("output", ["-", "/dev/null", "."])
def test_what_a_checkpoint_cannot_go_to(run, scene_files, output):
    result = run("train", scene_files, "-o", output, *TINY, "--steps", 1, "--force")
    assert result.exit_code == 2
    assert "name a file" in result.stderr


def test_tensorboard_missing_is_said(run, scene_files, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = run("train", scene_files, "-o", "run.pt", *TINY, "--steps", 1, "--tensorboard", "events")
    assert result.exit_code == 1
    assert "pip install tensorboard" in result.stderr

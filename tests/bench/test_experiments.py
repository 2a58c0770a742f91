"""The yardstick computes what the engine computes; the experiment runner measures, resumes and reports."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sgacodec.picture import to_picture
from sgacodec.plan import make_plan

pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

from sgacodec import codings, encoding
from sgacodec.exact.layers import Clamp, Conv, Deconv, Igdn, Lap, LeakyRelu, PixelShuffle
from sgacodec.options import METHODS
from sgacodec.refine import schedule
from sgacodec.refine.rounding import choose
from sgacodec_bench.experiments import claims, optimizers, reference_loop, refinement
from sgacodec_bench.speed import step


@pytest.fixture
def plan(tiny_options):
    return make_plan(replace(tiny_options, level=2.0, iterations=12))


@pytest.fixture
def png(tmp_path, scene):
    path = tmp_path / "scene.png"
    Image.fromarray(scene).save(path)
    return path


def test_the_yardstick_is_the_same_objective(plan, scene):
    picture = to_picture(scene)
    reference = reference_loop.Reference(plan, picture)
    assert all(parameter.requires_grad for parameter in reference.g_s.parameters())
    objective = encoding.make_objective(plan, picture, codings.choose_coding(plan, picture).model)
    expected = objective.rounded(reference.y.detach(), reference.z.detach())[0].loss
    assert reference.true_loss() == pytest.approx(expected, rel=1e-5)
    reference.loss(lambda v: v).backward()
    grad = reference.y.grad
    y = reference.y.detach().clone().requires_grad_(True)
    surrogate, (sampled,) = objective.sampled(y, reference.z.detach(), torch.Tensor.clone)
    surrogate.backward()
    assert float(torch.nn.functional.cosine_similarity(grad.ravel(), y.grad.ravel(), dim=0)) > 0.999
    assert sampled.loss == pytest.approx(reference.loss(lambda v: v).item(), rel=1e-4)


def test_the_yardstick_gains_like_the_engine(plan, scene):
    picture = to_picture(scene)
    reference = reference_loop.Reference(plan, picture)
    start = reference.true_loss()
    steps = list(reference.run(schedule.for_iterations(30)))
    long = replace(plan, settings=replace(plan.settings, schedule=schedule.for_iterations(30)))
    gain = 1 - encoding.encode_with(long, picture).refined.best.loss / start
    assert 1 - steps[-1].true_loss / start == pytest.approx(gain, rel=0.3)


def test_speed_times_every_step_but_those_that_are_no_rule(plan, scene):
    """Of twelve steps, every fourth with the synthesis: not the first two, nor the last, which the loop checks."""
    picture = to_picture(scene)
    taken = step.engine_steps(plan, picture)
    kinds = ["extrapolated"] * 2 + ["synthesis"] + ["extrapolated"] * 3 + ["synthesis"] + ["extrapolated"] * 2
    assert [kind for kind, _ in taken] == [*kinds, "check"]
    assert all(seconds > 0 for _, seconds in taken)
    assert len(step.reference_steps(plan, picture)) == 11


def test_speed_weighs_the_steps_as_a_preset_has_them(plan, scene, monkeypatch):
    taken = [("synthesis", 0.8), ("extrapolated", 0.1), ("extrapolated", 0.3), ("check", 0.5)]
    monkeypatch.setattr(step, "engine_steps", lambda plan, picture: taken)
    monkeypatch.setattr(step, "reference_steps", lambda plan, picture: [1.0, 9.0, 2.0])
    monkeypatch.setattr(step, "peak_flops", lambda device, dtype: 1e11)
    monkeypatch.setattr(step, "needed_flops", lambda plan, picture: 2e10)
    result = step.measure(plan, to_picture(scene), 2, [plan])
    # One step in four has the synthesis, and 500 steps have six checks.
    engine = (0.8 + 3 * 0.2) / 4 + 0.5 * 6 / 500
    assert result["engine_seconds_per_iteration"] == pytest.approx(engine)
    (beside,) = result["beside"]
    assert beside["engine_seconds_per_iteration"] == pytest.approx(engine)
    assert (beside["model"], beside["engine_check_seconds"]) == ("tiny", 0.5)
    assert result["reference_seconds_per_iteration"] == 2
    assert result["ratio"] == pytest.approx(2 / engine)
    assert result["engine_fraction_of_peak"] == pytest.approx(2e10 / 0.8 / 1e11)
    assert result["reference_fraction_of_float32_peak"] == pytest.approx(2e10 / 2 / 1e11)
    assert json.dumps(result)


def test_the_peak_is_the_fastest_of_the_products(monkeypatch):
    times = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(step, "now", lambda device: next(times))
    monkeypatch.setattr(torch, "mm", lambda a, b: None)
    assert step.peak_flops(torch.device("cpu"), torch.float32, repeats=2) == 2 * 2048**3 / 2


def test_multiply_adds_by_hand():
    """Every kernel value counts once per sample that it is laid on: the output of a convolution, the input of a deconv."""

    def kernel(cls, shape, stride):
        n_out = shape[0] if cls is Conv else shape[1]
        return cls(np.zeros(shape, np.int16), np.zeros(n_out), np.zeros(n_out), stride, shape[2] // 2, 24)

    def count(channels, *network):
        return reference_loop.multiply_adds(network, channels, 3, 5)

    conv, deconv = kernel(Conv, (8, 4, 5, 5), 2), kernel(Deconv, (8, 6, 5, 5), 2)
    norm = Igdn(np.ones(8, np.int64), np.ones((8, 8), np.int32), 8, 24)
    assert count(4, conv) == 8 * 4 * 25 * (2 * 3)
    assert count(8, deconv) == 8 * 6 * 25 * (3 * 5)
    assert count(8, norm, LeakyRelu(41, 12), Clamp(0, 255)) == 8 * 8 * (3 * 5)
    deconv_8 = kernel(Deconv, (8, 8, 5, 5), 2)
    assert count(8, deconv_8, norm) == count(8, deconv_8) + 8 * 8 * (6 * 10)
    assert count(4, conv, norm, deconv) == count(4, conv) + (8 * 8 + 8 * 6 * 25) * (2 * 3)
    assert count(32, PixelShuffle(2), norm) == 8 * 8 * (6 * 10)
    assert count(12, PixelShuffle(2), Lap(np.eye(2, dtype=np.int32), 8, 24)) == 3 * 2 * 2 * (6 * 10)


def test_the_operations_of_a_step_are_those_of_h_s_and_g_s_there_and_back(plan):
    decoder = plan.model.decoder
    per_z = reference_loop.multiply_adds(decoder.entropy.h_s, decoder.n_channels, 1, 1)
    per_y = reference_loop.multiply_adds(decoder.g_s, decoder.m_channels, 1, 1)
    picture = to_picture(np.zeros((65, 129, 3), np.uint8))  # 2 x 3 samples of z, 8 x 12 of y
    # A multiply-add is two operations, and the way back to the input costs what the way there does.
    assert step.needed_flops(plan, picture) == 2 * 2 * (6 * per_z + 96 * per_y)


@pytest.mark.parametrize("name", refinement.EXPERIMENTS)
def test_settings_of_every_experiment_are_valid(name):
    labels = [setting.label for setting in refinement.EXPERIMENTS[name].settings]
    assert len(set(labels)) == len(labels)
    for setting in refinement.EXPERIMENTS[name].settings:
        assert setting.form.classes in METHODS[setting.method]
        made = setting.adapted(schedule.for_iterations(50))
        taus = [made.temperature(step) for step in range(51)]
        assert taus == sorted(taus, reverse=True)


@pytest.mark.parametrize(
    "name",
    [name if name == "ssl-a" else pytest.param(name, marks=pytest.mark.slow) for name in refinement.EXPERIMENTS],
)
def test_an_experiment_measures_reports_and_resumes(name, png, tmp_path, capsys, monkeypatch):
    chosen = refinement.EXPERIMENTS[name]
    iterations, levels = {"classes": ((2, 3), (2,)), "ablations": ((2,), (0, 4))}.get(name, ((2,), (2,)))
    arguments = [name, str(png), "--out", str(tmp_path / "out"), "--crop", "64", "--model", "tiny", "--device", "cpu"]
    arguments += ["--iterations", *map(str, iterations), "--levels", *map(str, levels)]
    refinement.main(arguments)
    result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    n_rows = sum(len(setting.iterations or iterations) * len(levels) for setting in chosen.settings)
    assert len(result["rows"]) == n_rows
    assert {tuple(row["size"]) for row in result["rows"]} == {(64, 64)}
    assert all(row["best_loss"] <= row["start_loss"] and row["bytes"] > 50 for row in result["rows"])
    assert ": holds (" in result["finding"] or ": does not hold (" in result["finding"]
    assert capsys.readouterr().out.strip().splitlines()[-1] == result["finding"]
    assert result["finding"] in (tmp_path / "out" / f"{name}.md").read_text()
    with Image.open(tmp_path / "out" / f"{name}.png") as picture:
        assert picture.width > 500

    def measured_again(*arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(refinement, "measure", measured_again)
    refinement.main(arguments)
    with pytest.raises(SystemExit, match="--crop 64"):
        refinement.main([*arguments, "--crop", "32"])


def row(setting, change, steps=500, x=None, gap=0.0, **more):
    return {
        "setting": setting,
        "group": setting.split()[0],
        "x": steps if x is None else x,
        "iterations": steps,
        "image": "a",
        "level": 2.0,
        "start_loss": 2.0,
        "last_loss": 2 + change / 50,
        "last_gap": gap,
        **more,
    }


def test_a_setting_keeps_what_the_presets_have_but_for_its_changes():
    presets = schedule.for_iterations(50, cools=False)
    assert refinement.Setting("a").adapted(presets) == presets
    assert refinement.Setting("a", changes={"synthesis_every": 2}).adapted(presets) == replace(
        presets, synthesis_every=2
    )
    assert refinement.Setting("a", schedule=schedule.of_papers).adapted(presets) == schedule.of_papers(50)


def test_three_classes_may_come_first():
    setting = refinement.Setting("a", first=refinement.Form(3))
    v = torch.linspace(-2, 2, 101)

    def sample(rounding, temperature):
        return rounding(v, temperature, torch.Generator().manual_seed(0))

    for temperature, classes in ((0.9, 3), (0.5, 2)):
        expected = sample(choose("ssl", refinement.Form(classes)), temperature)
        torch.testing.assert_close(sample(setting.rounding(), temperature), expected)


def test_findings_tell_what_holds():
    order = {"sga": -9, "ssl": -10, "ste": 3, "map": -1, "uniform-noise": -2, "deterministic-annealing": -4}
    rows = [row(name, change, gap=0.0 if name == "sga" else 0.5) for name, change in order.items()]
    assert ": holds (" in claims.curves(rows)
    assert ": holds (ssl -10.00, sga -9.00" in claims.ablations(rows)
    worse = [row(name, -change) for name, change in order.items()]
    assert ": does not hold (" in claims.curves(worse)
    assert ": does not hold (" in claims.ablations(worse)
    swept = [row(f"{name} {x}", slope * x, x=x) for name, slope in (("sga", 5), ("linear", 1), ("cosine", 2), ("ssl", -1)) for x in (1, 2)]  # fmt: skip
    assert ": holds (best to worst, in points: linear +1.00" in claims.tau(swept)
    assert ": holds (" in claims.learning_rate(swept)
    assert ": holds (2.3 -5.00" in claims.ssl_a([row("ssl", abs(a - 2.3) - 5, x=a) for a in (1, 2.3, 5)])
    assert ": does not hold (" in claims.ssl_a([row("ssl", -a, x=a) for a in (1, 2.3, 5)])
    gains = {("papers", 100): -1, ("papers", 500): -4, ("tuned", 100): -6.5, ("tuned", 500): -9.5, ("tuned, four times the steps", 2000): -10}  # fmt: skip
    tuned = [row(setting, change, steps, best_loss=2 + change / 50) for (setting, steps), change in gains.items()]
    assert ": holds (100 steps 65 %, with the papers' schedule 10 %; 500 steps 95 %" in claims.tuning(tuned)
    slow = [each | {"best_loss": 1.9} if each["setting"] == "tuned" else each for each in tuned]
    assert ": does not hold (" in claims.tuning(slow)
    every = [row(f"synthesis every {n}", -10 + n / 20, best_loss=1.8 + n / 1000, seconds=40 / n) for n in (1, 2, 4, 8)]
    assert ": holds (every 1 -9.95 % in 40 s, every 2" in claims.extrapolation(every)
    late = [each | {"best_loss": 1.9} if each["setting"] == "synthesis every 4" else each for each in every]
    assert ": does not hold (" in claims.extrapolation(late)
    lead = [row(f"ssl {c}", -5 - (c == 3) * (s == 500), steps=s) for c in (2, 3) for s in (500, 2000)]
    assert ": holds (" in claims.classes(lead)


def test_bd_rate_needs_two_levels():
    def at(level, bpp):
        return row("none", 0, level=level, bpp=bpp, psnr_db=30 + 3 * level)

    none = [at(0, 0.2), at(2, 0.6)]
    assert claims.bd_rate_text(none, [at(0, 0.18), at(2, 0.54)]) == "-10.00 %"
    assert claims.bd_rate_text(none, none[:1]) == ""


def test_crops_are_centred(scene):
    picture = to_picture(scene)
    np.testing.assert_array_equal(refinement.cropped(picture, 64).rgb, scene[16:80, 33:97])
    assert refinement.cropped(picture, 0) is picture
    assert refinement.cropped(picture, 100).rgb.shape == (96, 100, 3)


def test_tiles(tmp_path):
    for value in range(1, 6):
        Image.new("RGB", (20, 12), (value,) * 3).save(tmp_path / f"{value}.png")
    whole = refinement.tile([tmp_path / f"{value}.png" for value in range(1, 6)], 16, tmp_path)
    with Image.open(whole) as picture:
        array = np.asarray(picture)[..., 0]
    assert array.shape == (24, 48)
    assert [[int(tile.max()) for tile in np.split(rows, 3, axis=1)] for rows in np.split(array, 2)] == [
        [1, 2, 3],
        [4, 5, 0],
    ]


def test_an_experiment_on_tiles_says_so(png, tmp_path):
    arguments = ["ssl-a", str(png), str(png), "--out", str(tmp_path), "--crop", "64", "--tile", "--model", "tiny"]
    refinement.main([*arguments, "--device", "cpu", "--iterations", "1"])
    result = json.loads((tmp_path / "ssl-a.json").read_text())
    assert {tuple(row["size"]) for row in result["rows"]} == {(128, 64)}
    assert f"Crops of {png.stem}, {png.stem}, 64x64 each" in (tmp_path / "ssl-a.md").read_text()


def training_log(path, optimizer, losses, **options):
    facts = {"options": {"optimizer": optimizer, "lr": None, "seconds": 60, "seed": 0, **options}}
    lines = [{"record": "started", "step": 0, "facts": facts}]
    for number, loss in enumerate(losses):
        lines.append({"record": "averaged", "step": number, "seconds": 2 * number, "loss": loss + 1})
        lines.append({"record": "validated", "step": number, "seconds": 2 * number, "loss": loss, "levels": []})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_training_runs_are_compared_by_their_last_validation(tmp_path, capsys):
    logs = [training_log(tmp_path / "a", "adam", [3, 2]), training_log(tmp_path / "m", "muon", [3, 1.5, 1])]
    optimizers.main([*logs, "--cores", "1", "--out", str(tmp_path / "out" / "optimizers.json")])
    result = json.loads((tmp_path / "out" / "optimizers.json").read_text())
    assert [(run["optimizer"], run["steps"], run["validation_loss"]) for run in result["runs"]] == [
        ("adam", 1, 2),
        ("muon", 2, 1),
    ]
    table = capsys.readouterr().out
    assert table.index("| muon |") < table.index("| adam |")
    assert (tmp_path / "out" / "optimizers.svg").stat().st_size > 1000


def test_training_runs_that_differ_otherwise_are_refused(tmp_path):
    logs = [training_log(tmp_path / "a", "adam", [2]), training_log(tmp_path / "m", "muon", [1], seed=1)]
    with pytest.raises(SystemExit, match="differ in seed"):
        optimizers.main([*logs, "--cores", "1", "--out", str(tmp_path / "optimizers.json")])

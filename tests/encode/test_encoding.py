import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.golden import load_model_of

import sgacodec
from sgacodec import EncodeOptions, codings, devices, encoding
from sgacodec.devices import has_fast_bfloat16, torch_device
from sgacodec.errors import EncodeError, InvalidImageError, TargetNotReachedError
from sgacodec.format import container
from sgacodec.format.container import Section, SectionType
from sgacodec.models.levels import LEVEL_STEPS, level_lambda, max_level_q4
from sgacodec.picture import planes, to_picture
from sgacodec.plan import Target, choose_target, make_plan
from sgacodec.synthetic import render


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (64, 64), (65, 63), (97, 31)])
def test_any_size_round_trips(size, tiny_options):
    source = render(*size, np.random.default_rng(1)) if min(size) > 8 else np.full((*size, 3), 90, np.uint8)
    decoded = sgacodec.decode(sgacodec.encode(source, replace(tiny_options, quality=100)))
    assert decoded.size == size[::-1]
    assert np.abs(np.asarray(decoded).astype(int) - source).mean() < 12


def test_gray_and_alpha_come_back(scene, tiny_options):
    alpha = np.random.default_rng(0).integers(0, 256, scene.shape[:2]).astype(np.uint8)
    decoded = sgacodec.decode(sgacodec.encode(np.dstack([scene, alpha]), tiny_options))
    assert decoded.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(decoded)[:, :, 3], alpha)
    assert sgacodec.decode(sgacodec.encode(scene[:, :, 0], tiny_options)).mode == "L"


@pytest.mark.parametrize("written", [bytes([9]), b"\x2f" + bytes(9)])
def test_an_alpha_plane_that_does_not_come_back_is_noticed(written, tiny_options, monkeypatch):
    wrong = Section(SectionType.CODED_ALPHA, written, critical=True)
    monkeypatch.setattr(planes, "section_of", lambda _: wrong)
    with pytest.raises(EncodeError, match="does not decode to its own content"):
        sgacodec.encode(np.full((20, 30, 4), 90, np.uint8), tiny_options)


def test_rate_and_quality_rise_with_quality(scene, tiny_options):
    encoded = [
        encoding.encode_with(make_plan(replace(tiny_options, quality=q)), to_picture(scene)) for q in (0, 50, 100)
    ]
    assert sorted(e.bpp for e in encoded) == [e.bpp for e in encoded]
    assert sorted(e.psnr_db for e in encoded) == [e.psnr_db for e in encoded]


def test_refinement_lowers_the_loss_and_none_is_the_floor(scene, tiny_options):
    picture = to_picture(scene)
    refined = encoding.encode_with(make_plan(replace(tiny_options, iterations=60)), picture).refined
    assert refined.best.loss < refined.start.loss * 0.99
    one_step = encoding.encode_with(make_plan(replace(tiny_options, iterations=1)), picture).refined
    assert one_step.best.loss <= one_step.start.loss


def test_size_is_what_the_tables_say(scene, tiny_options):
    for quality in (0, 50, 100):
        encoded = encoding.encode_with(make_plan(replace(tiny_options, quality=quality)), to_picture(scene))
        assert len(encoded.data) <= encoded.table_bits / 8 * 1.005 + 32 + 16  # two streams end on whole words


def test_equal_options_give_equal_bytes(scene, tiny_options):
    options = replace(tiny_options, iterations=5, seed=3)
    assert sgacodec.encode(scene, options) == sgacodec.encode(scene, options)
    assert sgacodec.encode(scene, options) != sgacodec.encode(scene, replace(options, seed=4))


def test_lambda_chooses_the_level(tiny_model):
    for level, lmbda in enumerate(tiny_model.lambdas):
        target = choose_target(tiny_model, EncodeOptions(lmbda=lmbda))
        assert target.level_q4 == level * LEVEL_STEPS
        assert level_lambda(tiny_model, target.level_q4) == pytest.approx(lmbda)
    beyond = choose_target(tiny_model, EncodeOptions(lmbda=10.0))
    assert beyond.level_q4 == max_level_q4(tiny_model.decoder.n_levels)


def test_a_level_is_taken_as_it_is_and_keeps_any_lambda(tiny_model):
    own = choose_target(tiny_model, EncodeOptions(level=2.5))
    assert own == Target(40, level_lambda(tiny_model, 40))
    other = choose_target(tiny_model, EncodeOptions(level=2.5, lmbda=0.5, quality=3))
    assert other == Target(40, 0.5)
    assert choose_target(tiny_model, EncodeOptions(level=0.0)).level_q4 == 0


def test_one_level_covers_a_stretch_of_the_curve(scene, tiny_model, tiny_options):
    own = level_lambda(tiny_model, 32)
    options = replace(tiny_options, level=2.0, iterations=60)
    low, mid, high = (
        encoding.encode_with(make_plan(replace(options, lmbda=factor * own)), to_picture(scene))
        for factor in (0.4, 1, 2.5)
    )
    assert low.bpp < mid.bpp < high.bpp
    assert low.psnr_db < mid.psnr_db < high.psnr_db
    assert {container.parse(encoded.data).level_q4 for encoded in (low, mid, high)} == {32}


@pytest.mark.parametrize(
    "options",
    [EncodeOptions(level=99.0), EncodeOptions(level=7.1), EncodeOptions(level=99.0, lmbda=0.01)],
)
def test_targets_out_of_range(options, tiny_model):
    with pytest.raises(TargetNotReachedError):
        choose_target(tiny_model, options)


def test_unknown_device():
    with pytest.raises(EncodeError, match="--device cpu"):
        torch_device("warp")


def test_not_an_image():
    with pytest.raises(InvalidImageError, match="got str"):
        sgacodec.encode("picture.png")


@pytest.mark.parametrize("case", ["scene", "context-lap"])
@pytest.mark.parametrize("n_strips", [2, 3])
def test_strips_change_neither_loss_nor_gradient(n_strips, case, scene, monkeypatch):
    """Of relaxed and rounded latents; the picture ends within a strip, and a strip within y's padding."""
    import torch

    from sgacodec.nets import strips
    from sgacodec.nets.registry import float_model
    from sgacodec.refine import objective

    nets = float_model(load_model_of(case), 40, torch.device("cpu"))
    tall = np.concatenate([scene] * 4)[:370]
    x = torch.from_numpy(tall.transpose(2, 0, 1)[None].astype(np.float32))
    y, z = (latent.detach() for latent in codings.analyse(nets, to_picture(tall)))
    heights = []
    synthesise = nets.synthesise
    monkeypatch.setattr(nets, "synthesise", lambda y_hat: heights.append(y_hat.shape[2]) or synthesise(y_hat))

    def measure():
        heights.clear()
        target = objective.Objective(nets, x, 0.01, autocast=False)
        relaxed = y.clone().requires_grad_(True)
        surrogate, (sampled,) = target.sampled(relaxed, z, torch.Tensor.clone)
        surrogate.backward()
        (rounded,) = target.rounded(y, z)
        return sampled, rounded, relaxed.grad, len(heights) / 2

    *whole, n_whole = measure()
    monkeypatch.setattr(strips, "MIN_ROWS", 1)
    rows = -(-y.shape[2] // n_strips)
    monkeypatch.setattr(strips, "_STRIP_PIXELS", rows * y.shape[3] * nets.y_stride**2)
    *cut, n_cut = measure()
    assert (n_whole, n_cut) == (1, n_strips)
    for one, several in zip(whole[:2], cut[:2], strict=True):
        assert several.loss == pytest.approx(one.loss, rel=1e-5)
        assert several.bpp == pytest.approx(one.bpp, rel=1e-6)
        assert several.mse == pytest.approx(one.mse, rel=1e-5)
    assert whole[2].any()
    torch.testing.assert_close(cut[2], whole[2], atol=1e-6, rtol=1e-4)


def test_progress_is_reported(scene, tiny_options):
    seen = []
    sgacodec.encode(scene, replace(tiny_options, iterations=4), seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert all(np.isfinite(progress.sampled.loss) for progress in seen)


def test_pillow_plugin(scene, tmp_path):
    from sgacodec import pillow_plugin

    pillow_plugin.register()
    path = tmp_path / "scene.sga"
    Image.fromarray(scene).save(path, quality=30, preset="none", model="tiny", device="cpu")
    with Image.open(path) as opened:
        assert (opened.format, opened.size) == ("SGA", (130, 96))
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(sgacodec.decode(path.read_bytes())))
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        assert opened.convert("L").mode == "L"


@pytest.mark.parametrize(
    ("amx", "avx512", "faster", "expected"),
    [(True, False, False, True), (False, True, True, True), (False, True, False, False), (False, False, True, False)],
)
def test_a_cpu_convolves_in_bfloat16_only_where_it_is_made_for_it(amx, avx512, faster, expected, monkeypatch):
    cpu = torch_device("cpu")
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(devices, "_multiplies_faster", lambda: faster)
    assert has_fast_bfloat16(cpu, 96) is expected
    assert not has_fast_bfloat16(cpu, 24)

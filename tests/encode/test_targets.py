"""Encoding to a size or a PSNR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import sgacodec
from sgacodec import codings, encoding, targets
from sgacodec.errors import OptionError, TargetNotReachedError
from sgacodec.metrics import psnr_db
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan


def sizes(scene, options):
    """Return the sizes of the smallest and the largest file without a target."""
    return [len(sgacodec.encode(scene, replace(options, quality=q))) for q in (0, 100)]


def decoded_psnr(scene, data):
    return psnr_db(scene, np.asarray(sgacodec.decode(data)))


@pytest.mark.parametrize("model", ["tiny", "tiny-context"])
@pytest.mark.parametrize("share", [0.1, 0.45, 0.9])
def test_a_size_is_a_hard_cap(scene, tiny_options, model, share):
    options = replace(tiny_options, model=model)
    low, high = sizes(scene, options)
    n_bytes = round(low + share * (high - low))
    data = sgacodec.encode(scene, replace(options, target_size=n_bytes))
    assert 0.97 * n_bytes <= len(data) <= n_bytes
    sgacodec.verify(data)


@pytest.mark.parametrize("model", ["tiny", "tiny-context"])
def test_a_psnr_is_a_floor_of_the_decoded_picture(scene, tiny_options, model):
    options = replace(tiny_options, model=model)
    worst, best = (decoded_psnr(scene, sgacodec.encode(scene, replace(options, quality=q))) for q in (0, 100))
    wanted = (worst + best) / 2
    found = decoded_psnr(scene, sgacodec.encode(scene, replace(options, target_psnr=wanted)))
    assert wanted <= found < wanted + 0.15


def test_bits_per_pixel_are_those_of_the_whole_file(scene, tiny_options):
    low, high = sizes(scene, tiny_options)
    n_pixels = scene.shape[0] * scene.shape[1]
    bpp = 4 * (low + high) / n_pixels
    message = "A text that counts." * 3
    data = sgacodec.encode(scene, replace(tiny_options, target_bpp=bpp), message=message)
    assert 0.95 * bpp < 8 * len(data) / n_pixels <= bpp
    assert sgacodec.decode(data, extract=True).info["message"] == message


def test_refinement_starts_where_the_last_level_ended(scene, tiny_options):
    options = replace(tiny_options, iterations=30)
    low, high = sizes(scene, options)
    n_bytes = (2 * low + high) // 3
    seen = []
    plan = make_plan(replace(options, target_size=n_bytes))
    encoded = encoding.encode_with(plan, to_picture(scene), seen.append)
    assert len(encoded.data) <= n_bytes
    lengths = {progress.attempt: progress.iterations for progress in seen}
    assert sorted(lengths) == list(range(1, encoded.attempts + 1))
    assert lengths == {attempt: 30 if attempt == 1 else 10 for attempt in lengths}


def test_latents_keep_their_meaning_from_level_to_level(scene, tiny_options):
    plans = [make_plan(replace(tiny_options, level=level)) for level in (0.5, 0.75)]
    here, there = (codings.choose_coding(plan, to_picture(scene)) for plan in plans)
    moved_y, _ = there.moved(here, here.y, here.z)  # z is that of the other y, so it is not the same
    np.testing.assert_allclose(moved_y.numpy(), there.y.numpy(), rtol=2e-2, atol=2e-2)
    assert not np.allclose(here.y.numpy(), there.y.numpy(), rtol=2e-2, atol=2e-2)


def test_a_message_in_the_latents_counts(scene, tiny_options):
    options = replace(tiny_options, model="tiny-head")
    low, high = sizes(scene, options)
    n_bytes = (low + high) // 2
    data = sgacodec.encode(scene, replace(options, target_size=n_bytes), message=b"bits back")
    assert len(data) <= n_bytes
    assert sgacodec.decode(data, extract=True).info["message"] == b"bits back"


def test_what_is_out_of_reach_is_said_with_what_can_be_reached(scene, tiny_options):
    with pytest.raises(TargetNotReachedError, match="fit in 100 bytes; the smallest file of it has ") as refused:
        sgacodec.encode(scene, replace(tiny_options, target_size=100))
    smallest = int(str(refused.value).split()[-1])
    assert len(sgacodec.encode(scene, replace(tiny_options, target_size=smallest))) == smallest
    with pytest.raises(TargetNotReachedError, match=r"PSNR of 80 dB; the best file of it has \d\d\.\d\d dB"):
        sgacodec.encode(scene, replace(tiny_options, target_psnr=80))
    image = Image.fromarray(scene)
    image.info["icc_profile"] = np.random.default_rng(0).bytes(5000)
    with pytest.raises(TargetNotReachedError, match=r"take 5\d\d\d bytes without its colours.* 4000; leave some"):
        sgacodec.encode(image, replace(tiny_options, target_size=4000))


def test_a_large_target_gives_the_best_file(scene, tiny_options):
    best = sgacodec.encode(scene, replace(tiny_options, quality=100))
    assert sgacodec.encode(scene, replace(tiny_options, target_size=10**6)) == best


@pytest.mark.parametrize("target", [{"target_bpp": 1e308}, {"target_size": 2**63 - 1}])
def test_a_target_beyond_all_sizes_gives_the_best_file(scene, tiny_options, target):
    best = sgacodec.encode(scene, replace(tiny_options, quality=100))
    assert sgacodec.encode(scene, replace(tiny_options, **target)) == best


def test_only_a_picture_without_loss_keeps_a_psnr_beyond_all(scene, tiny_options):
    options = replace(tiny_options, target_psnr=1e308)
    with pytest.raises(TargetNotReachedError, match=r"PSNR of 1e\+308 dB; the best file of it has \d\d\."):
        sgacodec.encode(scene, options)
    drawn = np.full((64, 64, 3), 255, np.uint8)
    drawn[20:40, 10:50] = (200, 0, 0)
    np.testing.assert_array_equal(np.asarray(sgacodec.decode(sgacodec.encode(drawn, options))), drawn)


def test_less_than_a_byte_is_not_blamed_on_metadata(scene, tiny_options):
    with pytest.raises(TargetNotReachedError, match="does not fit in 0 bytes; the smallest file of it has"):
        sgacodec.encode(scene, replace(tiny_options, target_bpp=1e-9))


def test_a_drawn_picture_keeps_its_target(tiny_options):
    image = np.full((128, 160, 3), 255, np.uint8)
    image[20:60, 30:90] = (200, 0, 0)
    image[70::4, ::3] = 0
    smallest, largest = sizes(image, tiny_options)
    for n_bytes in (smallest, largest, (smallest + largest) // 2):
        assert len(sgacodec.encode(image, replace(tiny_options, target_size=n_bytes))) <= n_bytes


def test_an_overlay_larger_than_the_target_gives_way_to_a_level_without_one(tiny_options):
    wave = 178 + 50 * np.cos(np.arange(500)[:, None, None] / 7)
    image = (wave + np.random.default_rng(0).normal(0, 6, (500, 1, 3))).astype(np.uint8)
    options = replace(tiny_options, model="tiny-context")
    without, with_overlay = (sgacodec.encode(image, replace(options, quality=q)) for q in (0, 100))
    assert "overlay" not in sgacodec.read_info(without).sections
    assert sgacodec.read_info(with_overlay).sections["overlay"] > len(without)
    assert len(sgacodec.encode(image, replace(options, target_size=len(without)))) <= len(without)


def test_a_size_is_reached_where_most_of_it_lies_beside_the_colours(scene, tiny_options):
    image = Image.fromarray(scene)
    image.info["icc_profile"] = np.random.default_rng(0).bytes(5000)
    options = replace(tiny_options, iterations=3)
    low, high = sizes(image, options)
    n_bytes = low + (high - low) // 20
    n_found = len(sgacodec.encode(image, replace(options, target_size=n_bytes)))
    assert n_bytes - 0.03 * (n_bytes - 5000) <= n_found <= n_bytes


def test_files_get_smaller_than_the_lowest_level(scene, tiny_options):
    low, _ = sizes(scene, tiny_options)
    n_bytes = round(0.93 * low)
    assert 0.97 * n_bytes <= len(sgacodec.encode(scene, replace(tiny_options, target_size=n_bytes))) <= n_bytes


@pytest.mark.parametrize("model", ["tiny", "tiny-context"])
def test_what_lies_outside_of_a_picture_costs_next_to_nothing(scene, tiny_options, model):
    options = replace(tiny_options, model=model, quality=100)
    plan, picture = make_plan(options), to_picture(scene[:20, :36])
    coding = codings.choose_coding(plan, picture)
    y, z = coding.y, coding.z
    shape = y.shape[2:]
    coded = coding.code(y, z)
    stride = plan.model.decoder.y_stride
    rows, columns = -(-(20 + stride // 2) // stride), -(-(36 + stride // 2) // stride)
    assert rows < shape[0] or columns < shape[1]
    changed = y.clone()
    changed[:, :, rows:], changed[:, :, :, columns:] = 50, -50
    assert coding.code(changed, z).container.y_streams == coded.container.y_streams
    assert psnr_db(picture.rgb, np.asarray(sgacodec.decode(sgacodec.encode(picture.rgb, options)))) > 25


def test_the_dead_zone_takes_bits_off(scene, tiny_options):
    coding = codings.choose_coding(make_plan(tiny_options), to_picture(scene))
    bits = [coding.code(coding.y, coding.z, zone).table_bits for zone in (0, 0.01, 0.03, 0.06)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > bits[-1]


def test_pillow_saves_to_a_target(tmp_path, scene, tiny_options):
    from sgacodec import pillow_plugin

    pillow_plugin.register()
    low, high = sizes(scene, tiny_options)
    n_bytes = (low + high) // 2
    path = tmp_path / "a.sga"
    Image.fromarray(scene).save(path, target_size=n_bytes, preset="none", model="tiny", device="cpu")
    assert path.stat().st_size <= n_bytes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"target_size": 100}, {"quality": 5}),
        ({"target_bpp": 1}, {"lmbda": 5}),
        ({"target_psnr": 30}, {"level": 1}),
        ({"target_size": 100}, {"target_bpp": 1}),
        ({"target_bpp": 1}, {"target_psnr": 30}),
    ],
)
def test_a_target_goes_with_nothing_else_that_picks_the_level(first, second):
    (a,), (b,) = first, second
    with pytest.raises(OptionError, match=f"{a} and {b} exclude each other"):
        sgacodec.EncodeOptions(**first, **second)


@pytest.mark.parametrize("bad", [{"target_size": 0}, {"target_size": 1.5}, {"target_bpp": 0}, {"target_psnr": np.nan}])
def test_targets_that_are_none(bad):
    (name,) = bad
    with pytest.raises(OptionError, match=name):
        sgacodec.EncodeOptions(**bad)


def test_trimming_ends_on_the_side_where_the_target_is_kept():
    class Attempt:
        trims = True

        def file(self, dead_zone=0.0):
            return File(round(10_000 * (1 - 1.3 * dead_zone)))

    goal = targets.AtMostBytes(9_900)
    found = targets._trimmed(goal, Attempt(), targets._measured(goal, File(10_000)))
    assert 9_900 * (1 - goal.near) <= found.file.n_bytes <= 9_900


class File:
    def __init__(self, n_bytes):
        self.n_bytes, self.n_bytes_beside, self.psnr_db = n_bytes, 0, 30.0

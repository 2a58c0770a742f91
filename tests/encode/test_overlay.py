"""Drawn content in whole files: what an overlay takes over, what stays with the network, and what does not change."""

import io
from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image, ImageDraw
from support.damage import older_than
from support.golden import V1

import sgacodec
from sgacodec import codings, encoding
from sgacodec.bitsback import embed
from sgacodec.drawn import choice, reductions, tiles
from sgacodec.drawn.fill import fill
from sgacodec.errors import UnsupportedVersionError
from sgacodec.format import container
from sgacodec.format.container import SectionType
from sgacodec.metrics import psnr_db
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan

QUALITIES = (0, 50, 100)
HEADED = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu")


def in_colour(plane):
    return np.broadcast_to(plane.astype(np.uint8)[..., None], (*plane.shape, 3)).copy()


def checkerboard(size, side):
    rows, columns = np.mgrid[:size, :size] // side
    return in_colour((rows + columns) % 2 * 255)


def zone_plate(size):
    rows, columns = np.mgrid[:size, :size] - size / 2
    return in_colour(np.rint(127.5 + 127.5 * np.cos(np.pi * (rows**2 + columns**2) / size)))


def lines(size):
    image = Image.new("RGB", (size, size), (250, 250, 245))
    draw = ImageDraw.Draw(image)
    for k in range(0, size, 9):
        draw.line((k, 0, size - k, size), fill=(k, 20, 255 - k))
        draw.text((3, k), "overlay of text", fill=(0, 0, 0))
    return np.asarray(image)


def bars(size):
    colours = np.array([[255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255]], np.uint8)
    return np.broadcast_to(colours[np.arange(size) * 6 // size], (size, size, 3)).copy()


FLAT = {"green": np.full((80, 80, 3), (0, 255, 0), np.uint8), "bars": bars(96)}
BUSY = {
    "checkers of one pixel": checkerboard(80, 1),
    "checkers of two pixels": checkerboard(80, 2),
    "a zone plate": zone_plate(96),
    "lines and text": lines(112),
}


@pytest.fixture
def mixed(scene):
    """Text and lines beside a photograph, uint8 [96, 242, 3]."""
    return np.concatenate([lines(112)[:96], scene], axis=1)


def encoded_at(source, options, quality):
    return encoding.encode_with(make_plan(replace(options, quality=quality)), to_picture(source))


def overlay_of(data):
    return container.parse(data).section(SectionType.OVERLAY)


def check(data, source, mode="RGB"):
    """Decode a file twice; return the picture."""
    image = sgacodec.decode(data, extract=True)
    model = "tiny-head" if container.parse(data).carries else "tiny"
    stages = slow_decoder.decode(data, (V1 / f"{model}.safetensors").read_bytes())
    np.testing.assert_array_equal(np.atleast_3d(np.asarray(image)), stages["picture"])
    assert (image.mode, image.size) == (mode, (source.shape[1], source.shape[0]))
    return np.asarray(image)


@pytest.mark.parametrize("name", FLAT)
def test_flat_colours_come_back(name, tiny_options):
    for quality in QUALITIES:
        encoded = encoded_at(FLAT[name], tiny_options, quality)
        assert encoded.psnr_db >= 40
        assert len(encoded.data) < FLAT[name].size / 20
    assert overlay_of(encoded.data) is not None


@pytest.mark.parametrize("name", BUSY)
def test_busy_drawings_come_back(name, tiny_options):
    encoded = encoded_at(BUSY[name], tiny_options, 100)
    assert encoded.psnr_db >= 30
    assert len(encoded.data) < BUSY[name].size
    assert psnr_db(np.asarray(sgacodec.decode(encoded.data)), BUSY[name]) == encoded.psnr_db
    assert encoded.bpp == 8 * len(encoded.data) / (BUSY[name].size / 3)


def test_both_decoders_agree(mixed, tiny_options):
    for source in (lines(49), zone_plate(33), mixed[:50, 90:150]):
        data = sgacodec.encode(source, replace(tiny_options, quality=100))
        assert overlay_of(data) is not None
        check(data, source)


def test_only_the_drawn_part_of_a_mixed_picture_is_replaced(mixed, tiny_options):
    data = sgacodec.encode(mixed, replace(tiny_options, quality=30))
    with Image.open(io.BytesIO(overlay_of(data))) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3] == 255
    assert alpha[:, :96].mean() > 0.9
    assert alpha[:, 128:].mean() < 0.1
    assert container.parse(data).level_q4 == make_plan(replace(tiny_options, quality=30)).target.level_q4


def test_a_mixed_picture_costs_less_at_all_qualities(mixed, tiny_options, monkeypatch):
    for quality in (0, 30, 70, 100):
        plan = make_plan(replace(tiny_options, quality=quality))
        with_overlay = encoding.encode_with(plan, to_picture(mixed))
        with monkeypatch.context() as patched:
            patched.setattr(tiles, "enough", lambda _: False)
            without = encoding.encode_with(plan, to_picture(mixed))
        loss, before = (plan.target.lmbda * 255**2 * 10 ** (-e.psnr_db / 10) + e.bpp for e in (with_overlay, without))
        assert loss < 0.98 * before


def test_the_lowest_version_that_has_the_section(scene, tiny_options):
    assert sgacodec.encode(scene, tiny_options)[4] == 0x10
    data = sgacodec.encode(bars(64), tiny_options)
    assert data[4] == 0x12
    assert sgacodec.encode(bars(64), tiny_options, message=b"abc")[4] == 0x12
    assert sgacodec.read_info(data).sections == {"overlay": len(overlay_of(data))}


def test_a_version_that_does_not_know_overlays_refuses_them(tiny_options, monkeypatch):
    data = sgacodec.encode(bars(64), tiny_options)
    monkeypatch.setattr(container, "SectionType", older_than(SectionType.OVERLAY))
    with pytest.raises(UnsupportedVersionError, match="section type 7"):
        container.parse(data)


def test_photographs_do_not_change(scene, tiny_options, monkeypatch):
    """Not even what is measured on the way: the networks analyse them once."""
    analysed = []
    analyse = codings.analyse
    monkeypatch.setattr(codings, "analyse", lambda *a: analysed.append(a) or analyse(*a))
    with_choice = [sgacodec.encode(scene, replace(tiny_options, quality=q, iterations=2)) for q in QUALITIES]
    assert len(analysed) == 3
    monkeypatch.setattr(choice, "choose", lambda plan, picture, code: choice.Choice(plan, picture, code(plan, picture)))
    assert with_choice == [sgacodec.encode(scene, replace(tiny_options, quality=q, iterations=2)) for q in QUALITIES]


def test_a_clipped_sky_is_a_photograph(scene, tiny_options):
    """A quarter of it looks drawn, and the network codes that for less."""
    smooth = scene.copy()
    smooth[:24] = 255
    assert tiles.enough(tiles.look_drawn(smooth))
    assert overlay_of(sgacodec.encode(smooth, replace(tiny_options, quality=0))) is None


def test_gray(tiny_options):
    for source in (checkerboard(70, 1)[..., 0], zone_plate(70)[..., 0]):
        data = sgacodec.encode(source, replace(tiny_options, quality=100))
        assert psnr_db(check(data, source, "L"), source) > 30
        assert len(data) < source.size
        with Image.open(io.BytesIO(overlay_of(data))) as image:
            assert np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=2).max() == 0


def test_alpha(mixed, tiny_options):
    alpha = np.arange(mixed.shape[0] * mixed.shape[1]).reshape(mixed.shape[:2]).astype(np.uint8)
    source = np.dstack([mixed, alpha])
    data = sgacodec.encode(source, tiny_options)
    assert overlay_of(data) is not None
    np.testing.assert_array_equal(np.asarray(sgacodec.decode(data))[..., 3], alpha)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (16, 16), (17, 15), (65, 33)])
def test_sizes(size, tiny_options):
    source = np.full((*size, 3), (255, 0, 255), np.uint8)
    data = sgacodec.encode(source, replace(tiny_options, quality=100))
    np.testing.assert_array_equal(check(data, source), source)


@pytest.mark.parametrize("message", ["a lake", bytes(range(256))])
def test_with_a_message_in_the_latents(headed_model, mixed, message):
    for source in (bars(70), mixed):
        plan = replace(make_plan(HEADED), embedding=embed.Settings(must_carry=True))
        data = encoding.encode_with(plan, to_picture(source), None, message).data
        parsed = container.parse(data)
        assert parsed.carries
        assert overlay_of(data) is not None
        image = sgacodec.decode(data, extract=True)
        assert image.info["message"] == message
        assert psnr_db(np.asarray(image), source) > 24


def test_both_decoders_agree_on_a_message_under_an_overlay(headed_model):
    source = lines(20)
    plan = replace(make_plan(HEADED), embedding=embed.Settings(must_carry=True))
    data = encoding.encode_with(plan, to_picture(source), None, "a lake").data
    assert container.parse(data).carries
    assert overlay_of(data) is not None
    check(data, source)


def test_refinement_goes_on_below_an_overlay(mixed, tiny_options):
    picture = to_picture(mixed)
    plain, refined = (encoding.encode_with(make_plan(replace(tiny_options, iterations=n)), picture) for n in (0, 40))
    assert refined.refined.best.loss < plain.refined.best.loss * 0.99
    assert overlay_of(refined.data) == overlay_of(plain.data)


def test_nothing_is_refined_below_an_overlay_of_everything(tiny_options):
    seen = []
    data = sgacodec.encode(bars(64), replace(tiny_options, iterations=50), seen.append)
    assert seen == []
    assert container.parse(data).level_q4 == 0
    assert data == sgacodec.encode(bars(64), tiny_options)


def test_capacity_does_not_count_what_is_replaced(mixed, monkeypatch):
    """It is that of the picture which the network codes: the drawn part is filled."""
    found = encoding.capacity_bytes(to_picture(mixed), HEADED)
    chosen = choice.choose(make_plan(HEADED), to_picture(mixed), codings.Plain)
    assert chosen.picture.overlay is not None
    filled = replace(chosen.picture, overlay=None)
    monkeypatch.setattr(choice.tiles, "enough", lambda drawn: False)
    assert found == encoding.capacity_bytes(filled, HEADED)
    assert found != encoding.capacity_bytes(to_picture(mixed), HEADED)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_tiles_at_the_edges_are_smaller():
    values = np.arange(20 * 35).reshape(20, 35)
    assert tiles.sums(values).tolist() == [[values[r : r + 16, c : c + 16].sum() for c in (0, 16, 32)] for r in (0, 16)]
    assert tiles.areas(20, 35).tolist() == [[256, 256, 48], [64, 64, 12]]
    assert tiles.spread(np.array([[0, 1, 0], [0, 0, 1]], bool), 20, 35).sum() == 256 + 12


def test_what_looks_drawn(scene):
    assert not tiles.look_drawn(scene).any()
    for drawn in (*FLAT.values(), *BUSY.values()):
        assert tiles.enough(tiles.look_drawn(drawn))
    assert not tiles.look_drawn(scene[:81, :129]).any()  # a row and a column of tiles one pixel thin


def test_a_fill_keeps_what_is_known_and_lies_between_it():
    rows = np.arange(40)[:, None] * np.ones(50)
    ramp = in_colour(3 * rows)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 5:40] = True
    filled = fill(np.where(mask[..., None], 255, ramp).astype(np.uint8), mask)
    np.testing.assert_array_equal(filled[~mask], ramp[~mask])
    assert filled[mask].max() <= ramp.max()
    assert np.abs(filled.astype(int) - ramp).max() < 45
    assert (fill(ramp, np.ones((40, 50), bool)) == 128).all()


@pytest.mark.parametrize("name", reductions.REDUCTIONS)
def test_reductions_are_close_and_keep_black_and_white(name, mixed):
    mask = np.zeros(mixed.shape[:2], bool)
    mask[:, :112] = True
    reduced = reductions.REDUCTIONS[name](mixed, mask)
    assert reduced.shape == mixed.shape
    assert reduced.dtype == np.uint8
    assert psnr_db(reduced[mask], mixed[mask]) > 20
    assert len(np.unique(reduced[mask], axis=0)) <= max(256, len(np.unique(mixed[mask], axis=0)))
    with np.errstate(all="raise"):
        assert reductions.tile_bits(reduced).shape == tiles.look_drawn(mixed).shape

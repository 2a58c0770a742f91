"""The context model: what is written is what the float model rates, and a model that cannot be decoded is refused."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.golden import load_model_of

import sgacodec
from sgacodec import codings, encoding
from sgacodec.entropy.tables import TOTAL
from sgacodec.errors import ModelError
from sgacodec.exact.layers import AppendAbs, Conv, PixelShuffle, PixelUnshuffle
from sgacodec.format import container
from sgacodec.latents import streams
from sgacodec.latents.entropy_model import evaluator
from sgacodec.latents.synthesis import synthesise
from sgacodec.models.entropy import ENTROPY_MODELS
from sgacodec.models.file import dump_model, load_model
from sgacodec.models.model import check_decoder
from sgacodec.models.stored import network_from_stored, network_to_stored, to_stored
from sgacodec.nets.registry import float_model
from sgacodec.options import METHODS
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.refine import loop
from sgacodec.synthetic import render

LAKE = Path(__file__).parents[1] / "data" / "lake.png"
OPTIONS = sgacodec.EncodeOptions(model="tiny-context", preset="none", device="cpu")


@pytest.fixture(scope="module")
def model():
    return load_model_of("context")


@pytest.fixture(scope="module")
def prior(model):
    return model.decoder.entropy


@pytest.mark.parametrize("level", [0, 3.3125, 9])
@pytest.mark.parametrize("n_bands", [1, 2, 4])
def test_any_number_of_bands_is_read_back(level, n_bands, monkeypatch):
    picture = render(230, 70, np.random.default_rng(3))
    monkeypatch.setattr(codings, "_BAND_PIXELS", 230 * 70 / n_bands)
    data = encoding.encode(picture, dataclasses.replace(OPTIONS, level=level))
    assert len(container.parse(data).y_streams) == n_bands
    assert sgacodec.decode(data).size == (70, 230)


def test_passes_go_to_every_place_once(model):
    shape = (1, model.decoder.m_channels, 4, 8)
    evaluated = evaluator(model.decoder, 40)
    context = evaluated.begin(np.zeros((1, model.decoder.n_channels, 1, 2), np.int32))
    visits = np.zeros(shape, int)
    parts = list(evaluated.passes(context, np.zeros(shape, np.int64)))
    for part in parts:
        visits[part.where] += 1
    assert len(parts) == 2 * len(model.decoder.entropy.groups)
    assert np.all(visits == 1)


def test_refinement_begins_at_the_last_temperature():
    schedule = make_plan(dataclasses.replace(OPTIONS, iterations=100)).settings.schedule
    assert schedule.temperature(0) == schedule.temperature(100) < 1


@pytest.mark.parametrize("name", ["tiny-context", "tiny-context-lap"])
@pytest.mark.parametrize("level", [0, 4.5, 9])
def test_the_float_model_rates_and_restores_what_the_file_holds(level, name, scene):
    scene = scene[:64, :128]  # without padding, whose latents are coded as they are predicted
    plan = make_plan(dataclasses.replace(OPTIONS, level=level, model=name))
    nets = float_model(plan.model, plan.target.level_q4, plan.device)
    y, z = codings.analyse(nets, to_picture(scene))
    with torch.no_grad():
        bits, restored = nets.rate(y, z, torch.round)
    coded = encoding.encode_with(plan, to_picture(scene))
    assert coded.table_bits == pytest.approx(float(bits), rel=0.01)
    decoder = plan.model.decoder
    z_symbols = streams.to_symbols(
        z.numpy() - decoder.entropy.z_median[:, None, None] * 2.0**-decoder.entropy.z_frac_bits
    )
    writer = streams.Writer(y.numpy(), decoder.y_frac_bits)
    bands = streams.y_bands(decoder, z.shape[2], 1)
    symbols = streams.walk(decoder, plan.target.level_q4, z_symbols, bands, writer)
    np.testing.assert_allclose(symbols.y_hat_q * 2.0**-decoder.y_frac_bits, restored.numpy(), atol=0.02)
    pixels = synthesise(decoder, symbols.y_hat_q, plan.target.level_q4).transpose(2, 0, 1)
    with torch.no_grad():
        np.testing.assert_allclose(nets.synthesise(restored)[0].clamp(0, 255).numpy(), pixels, atol=2)


@pytest.mark.parametrize("method", METHODS)
def test_refinement_lowers_the_loss(method, scene):
    options = dataclasses.replace(OPTIONS, level=5, preset="balanced", iterations=40, method=method)
    found = encoding.encode_with(make_plan(options), to_picture(scene[:64, :64]))
    assert found.refined.best.loss < found.refined.start.loss


def test_refinement_leaves_channels_of_z_alone_that_hardly_ever_speak():
    """Of this crop all 40 steps were lost when one of them walked to a symbol that drawn blocks have."""
    picture = to_picture(np.asarray(Image.open(LAKE).convert("RGB"))[:128, :128])
    plan = make_plan(sgacodec.EncodeOptions(model="context-96-320", level=7, iterations=40, device="cpu"))
    nets = float_model(plan.model, plan.target.level_q4, plan.device)
    y, z = codings.analyse(nets, picture)
    (refined,) = loop.refine(encoding.make_objective(plan, picture, nets), y, z, plan.settings)
    tables = plan.model.decoder.entropy.z_tables
    settled = torch.tensor([tables.table(c)[-low] / TOTAL for c, low in enumerate(tables.minima)]) > 0.999
    assert 0 < settled.sum() < len(settled)
    before, after = ((each - nets.median).round() for each in (z, refined.z))
    assert torch.equal(before[:, settled], after[:, settled])
    assert not torch.equal(before[:, ~settled], after[:, ~settled])
    assert refined.best.loss < refined.start.loss * 0.995


def test_a_message_goes_to_a_section(scene):
    data = sgacodec.encode(scene, OPTIONS, message="A lake.")
    assert sgacodec.decode(data, extract=True).info["message"] == "A lake."


def test_the_model_file_keeps_the_model(model):
    again = load_model(dump_model(model))
    assert again.model_id == model.model_id
    assert again.decoder.entropy.groups == model.decoder.entropy.groups


def with_kernel(network, size):
    """The network with a kernel of this size in place of its last one."""
    last = network[-1]
    weight = np.zeros((*last.weight.shape[:2], size, size), np.int16)
    return (*network[:-1], dataclasses.replace(last, weight=weight, padding=size // 2))


def first_changed(networks, change):
    return (change(networks[0]), *networks[1:])


def resized(network, factor):
    """The network behind layers that make the picture smaller and as large again."""
    return (PixelUnshuffle(factor), PixelShuffle(factor), *network)


def strided(network):
    """The network behind a stride that a shuffle makes good: pointwise by its ends, and none."""
    channels = network[1].weight.shape[1]
    weight = np.ones((4 * channels, channels, 1, 1), np.int16)
    zeros = np.zeros(4 * channels, np.int64)
    return (Conv(weight, zeros, zeros + 1, 2, 0, 24), PixelShuffle(2), *network)


WRAPPING = np.array([2**62, -(2**63) + 5])
"""Falls, and its difference wraps to a positive one."""

DAMAGE = {
    "a group less": (lambda p: {name: getattr(p, name)[:-1] for name in GROUPED}, r"layer out\.0\.1 \(conv\)"),
    "passes without networks": (lambda p: {"first_passes": 3}, "do not fit its passes"),
    "too many passes": (lambda p: {"first_passes": 10}, "do not fit its groups"),
    "one pass": (lambda p: {"first_passes": 1}, "do not fit its groups"),
    "a network less": (lambda p: {"before": p.before[:-1]}, "do not fit its groups"),
    "no groups": (lambda p: dict.fromkeys(GROUPED, ()), "do not fit its groups"),
    "features that look around": (lambda p: {"features": with_kernel(p.features, 3)}, "more than one place"),
    "near that looks around": (
        lambda p: {"near": first_changed(p.near, lambda net: with_kernel(net, 3))},
        "more than one place",
    ),
    "out that looks around": (
        lambda p: {"out": first_changed(p.out, lambda net: with_kernel(net, 5))},
        "more than one place",
    ),
    "out with a stride": (
        lambda p: {"out": first_changed(p.out, strided)},
        r"layer out\.0\.0 \(conv\): it must keep the size",
    ),
    "features of four places": (
        lambda p: {"features": resized(p.features, 2)},
        r"layer features\.0 \(pixel_unshuffle\): it must keep the size",
    ),
    "around in large blocks": (
        lambda p: {"around": first_changed(p.around, lambda net: resized(net, 16))},
        r"layer around\.0\.0 \(pixel_unshuffle\): it must keep the size",
    ),
    "around of another size": (
        lambda p: {"around": first_changed(p.around, lambda net: (*net, PixelShuffle(2)))},
        "it must keep the size",
    ),
    "around without end": (
        lambda p: {"around": first_changed(p.around, lambda net: (AppendAbs(),) * 60 + net)},
        "channels; the most are",
    ),
    "near of other channels": (
        lambda p: {"near": (p.near[1], *p.near[1:])},
        r"layer near\.0\.0 \(conv\)",
    ),
    "a bias of too few levels": (lambda p: {"level_bias": p.level_bias[1:]}, "do not fit its levels"),
    "a bias that is too large": (lambda p: {"level_bias": p.level_bias + 2**23}, "too large"),
    "a unit that is not positive": (lambda p: {"inv_unit": p.inv_unit * 0}, "not positive"),
    "a unit that is too small": (lambda p: {"inv_unit": p.inv_unit << 22}, "may reach"),
    "a unit that is too large": (lambda p: {"inv_unit": p.inv_unit * 0 + 1}, "may reach"),
    "units of other channels": (lambda p: {"log_unit": p.log_unit[:, 1:]}, "do not fit its levels"),
    "formats that need a shift to the left": (lambda p: {"context_frac_bits": 40}, "fixed-point formats"),
    "thresholds that fall": (lambda p: {"log_sigma_thresholds": p.log_sigma_thresholds[::-1]}, "do not ascend"),
    "thresholds whose differences wrap": (
        lambda p: {"log_sigma_thresholds": np.append(WRAPPING, p.log_sigma_thresholds[2:])},
        "do not ascend",
    ),
    "a threshold less": (lambda p: {"log_sigma_thresholds": p.log_sigma_thresholds[1:]}, "do not fit"),
    "fractions in a column": (lambda p: {"fraction_bits": p.fraction_bits[:, None]}, "no list"),
    "fractions finer than the mean": (lambda p: {"fraction_bits": p.fraction_bits + 11}, "fractions"),
    "fractions below one": (lambda p: {"fraction_bits": p.fraction_bits - 9}, "fractions"),
    "more fractions than tables": (lambda p: {"fraction_bits": p.fraction_bits + 1}, "do not fit together"),
    "y as large as z": (lambda p: {"h_s": without_shuffles(p.h_s)}, "do not divide evenly"),
}
GROUPED = ("before", "around", "near", "out")


def without_shuffles(h_s):
    """One 1x1 convolution with as many outputs."""
    first, last = h_s[0], h_s[-1]
    weight = np.ones((len(last.bias), first.weight.shape[1], 1, 1), np.int16)
    return (dataclasses.replace(last, weight=weight),)


@pytest.mark.parametrize("name", DAMAGE)
def test_models_that_cannot_be_decoded_are_refused(name, model, prior):
    change, reason = DAMAGE[name]
    damaged = dataclasses.replace(model.decoder, entropy=dataclasses.replace(prior, **change(prior)))
    with pytest.raises(ModelError, match=reason):
        check_decoder(damaged)


def test_kinds_are_stored_by_their_names():
    assert {name: cls.__name__ for name, cls in ENTROPY_MODELS.items()} == {
        "hyperprior": "Hyperprior",
        "context": "ContextModel",
    }


def test_tables_of_another_type_are_refused(model, prior):
    """A descending table of unsigned integers has no negative difference; files have int64."""
    around = prior.around[0]
    log = dataclasses.replace(around[-1], table=around[-1].table[::-1].astype(np.uint64))
    damaged = dataclasses.replace(prior, around=((*around[:-1], log), *prior.around[1:]))
    content, tensors = network_to_stored(damaged.around[0], "net")
    with pytest.raises(TypeError):
        network_from_stored(content, tensors, "net")


def test_a_field_without_a_stored_form_is_an_error_of_the_program():
    @dataclass(frozen=True)
    class Part:
        known: "int"
        unknown: "str"

    with pytest.raises(TypeError, match="unknown is a str, which has no stored form"):
        to_stored(Part(3, "text"))

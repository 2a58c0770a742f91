from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder

from sgacodec.errors import ModelError
from sgacodec.exact import fast, layers, on_torch, proof, reference
from sgacodec.exact.fixedpoint import isqrt, shift_right
from sgacodec.exact.layers import (
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Deconv,
    Igdn,
    LeakyRelu,
    Log,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
)
from sgacodec.models.stored import network_from_stored, network_to_stored

RNG = np.random.default_rng(0)


def kernel(cls, n_in, n_out, size, stride, padding=None, **more):
    shape = (n_out, n_in // more.get("groups", 1), size, size) if cls is Conv else (n_in, n_out, size, size)
    return cls(
        weight=RNG.integers(-(2**15), 2**15, shape).astype(np.int16),
        bias=RNG.integers(-(2**30), 2**30, n_out),
        shift=RNG.integers(10, 20, n_out),
        stride=stride,
        padding=size // 2 if padding is None else padding,
        bits=16,
        **more,
    )


def igdn(channels):
    return Igdn(RNG.integers(0, 2**40, channels), RNG.integers(0, 2**16, (channels, channels)), 18, 24)


def log(offsets):
    """The natural logarithm with 12 fractional bits, of numbers with as many."""
    table = np.rint(2**12 * (np.log1p(np.arange(65) / 64) - 12 * np.log(2))).astype(np.int64)
    return Log(np.array(offsets), table, 24)


LAYERS = {
    "conv": (kernel(Conv, 3, 5, 5, 1),),
    "conv, stride 2": (kernel(Conv, 3, 5, 5, 2),),
    "conv, 1x1": (kernel(Conv, 3, 5, 1, 1),),
    "conv, two groups": (kernel(Conv, 3, 6, 3, 1), kernel(Conv, 6, 10, 3, 2, groups=2)),
    "conv, depthwise": (kernel(Conv, 3, 3, 5, 1, groups=3),),
    "conv, depthwise, stride 2": (kernel(Conv, 3, 3, 3, 2, groups=3),),
    "conv, depthwise, two each": (kernel(Conv, 3, 6, 3, 1, groups=3),),
    "deconv": (kernel(Deconv, 3, 5, 5, 2),),
    "deconv, narrow": (kernel(Deconv, 3, 1, 5, 2), kernel(Deconv, 1, 9, 5, 2), kernel(Deconv, 9, 2, 5, 2)),
    "deconv, 3x3": (kernel(Deconv, 3, 5, 3, 1),),
    "deconv, stride 4": (kernel(Deconv, 3, 5, 7, 4, 2),),
    "leaky_relu": (LeakyRelu(655, 16),),
    "igdn": (Clamp(-(2**15), 2**15 - 1), igdn(3)),
    "scale": (Scale(np.array([1, 70000, 2**20]), 12, 24),),
    "add": (kernel(Conv, 3, 3, 3, 1), Add(0, 24), Add(1, 20)),
    "pixel_shuffle": (kernel(Conv, 3, 8, 3, 1), PixelShuffle(2)),
    "pixel_unshuffle": (kernel(Conv, 3, 8, 3, 1), PixelShuffle(2), kernel(Conv, 2, 2, 3, 1), PixelUnshuffle(2)),
    "clamp": (Clamp(-5, 255),),
    "append_abs": (AppendAbs(),),
    "log": (log([1, 205, 2**24]),),
    "log of the last": (AppendAbs(), kernel(Conv, 6, 6, 3, 1, groups=6), log([1, 205, 900])),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 5), (40, 61)])
def test_fast_equals_reference(name, size):
    network = LAYERS[name]
    x = RNG.integers(-(2**23), 2**23, (1, 3, *size))
    proof.check_integers(network, 3, 2**23, name)
    expected = reference.run(network, x)
    np.testing.assert_array_equal(fast.run(network, x), expected)
    np.testing.assert_array_equal(on_torch.run(network, x, "cpu"), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", LAYERS)
def test_gpu_equals_reference(name):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = RNG.integers(-(2**23), 2**23, (1, 3, 40, 61))
    np.testing.assert_array_equal(on_torch.run(LAYERS[name], x, "cuda"), reference.run(LAYERS[name], x))


def test_known_values():
    assert shift_right(np.array([5, -5, 6, -6, 7]), 2).tolist() == [1, -1, 2, -1, 2]
    values = np.array([0, 1, 3, 4, 2**52 - 1, (2**26 - 1) ** 2, (2**26 - 1) ** 2 - 1])
    assert isqrt(values).tolist() == [0, 1, 1, 2, 2**26 - 1, 2**26 - 1, 2**26 - 2]


def test_deconv_of_one_pixel_is_its_kernel():
    layer = Deconv(np.arange(25, dtype=np.int16).reshape(1, 1, 5, 5) * 2, np.zeros(1, int), np.ones(1, int), 2, 2, 24)
    out = reference.run((layer,), np.array([[[[1]]]]))
    assert out[0, 0].tolist() == [[12, 13], [17, 18]]


def test_stored_form_round_trip():
    for name, network in LAYERS.items():
        listing, tensors = network_to_stored(network, "net")
        again = network_from_stored(listing, tensors, "net")
        x = RNG.integers(-(2**15), 2**15, (1, 3, 9, 9))
        np.testing.assert_array_equal(reference.run(again, x), reference.run(network, x), err_msg=name)


@pytest.mark.parametrize(
    "listing",
    [
        None,
        [{"kind": "gelu"}],
        [{"kind": "clamp", "low": 0}],
        [{"kind": "clamp", "low": 0, "high": True}],
        [{"kind": "clamp", "low": 0, "high": 1, "mode": 2}],
        [{"kind": "clamp", "low": 0, "high": 1}] * 300,
    ],
)
def test_bad_listings_are_refused(listing):
    with pytest.raises(ModelError):
        network_from_stored(listing, {}, "net")


def test_accumulators_beyond_float64_are_refused():
    layer = kernel(Conv, 3, 5, 5, 1)
    with pytest.raises(ModelError, match="does not hold exactly"):
        proof.check_integers((replace(layer, bias=np.full(5, 2**53)),), 3, 2**23, "net")
    with pytest.raises(ModelError, match="does not hold exactly"):
        proof.check_integers((igdn(3),), 3, 2**23, "net")


@pytest.mark.parametrize(
    "layer",
    [
        replace(kernel(Conv, 3, 5, 5, 1), bits=25),
        replace(kernel(Conv, 3, 5, 5, 1), shift=np.zeros(5, int)),
        replace(kernel(Conv, 3, 5, 5, 1), padding=5),
        replace(kernel(Deconv, 3, 5, 5, 2), padding=1),
        kernel(Conv, 4, 5, 5, 1),
        Add(7, 24),
        PixelShuffle(2),
        LeakyRelu(1, 0),
        Scale(np.ones(4, int), 1, 24),
    ],
)
def test_layers_that_do_not_fit_are_refused(layer):
    with pytest.raises(ModelError, match="out of range"):
        proof.check_integers((layer,), 3, 2**23, "net")


def test_halo_is_just_enough(tiny_model):
    g_s, step, halo = tiny_model.decoder.g_s, tiny_model.decoder.y_stride, tiny_model.decoder.halo
    x = RNG.integers(-20000, 20000, (1, tiny_model.decoder.m_channels, 12, 3))
    whole = fast.run(g_s, x)
    cut = fast.run(g_s, x[:, :, 4 - halo : 8 + halo])[:, :, halo * step : (halo + 4) * step]
    np.testing.assert_array_equal(cut, whole[:, :, 4 * step : 8 * step])
    short = fast.run(g_s, x[:, :, 4 - halo + 1 : 8 + halo - 1])[:, :, (halo - 1) * step : (halo + 3) * step]
    assert not np.array_equal(short, whole[:, :, 4 * step : 8 * step])


def test_every_kind_is_known_to_every_evaluator():
    """A kind that one of them lacks would be noticed here, not when a model uses it."""
    exact = set(layers.KINDS.values()) - {layers.Gdn}
    assert set(reference.RUN) == {*fast.WHOLE, *fast.POINTWISE} == set(on_torch.EXACT) == exact
    assert set(on_torch.REAL) == set(layers.KINDS.values())
    assert {layer.kind for network in LAYERS.values() for layer in network} == {cls.kind for cls in exact}


@pytest.mark.parametrize("name", LAYERS)
def test_the_slow_decoder_agrees(name):
    x = RNG.integers(-(2**15), 2**15, (1, 3, 6, 5))
    listing, tensors = network_to_stored(LAYERS[name], "net")
    own = slow_decoder.networks(tensors, ("net",))["net"]
    np.testing.assert_array_equal(slow_decoder.run(listing, own, x[0]), reference.run(LAYERS[name], x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_are_as_proven(name):
    x = RNG.integers(-(2**15), 2**15, (1, 3, 12, 8))
    shape = proof.shapes(LAYERS[name], 3, name)[-1]
    assert reference.run(LAYERS[name], x).shape[1:] == (
        shape.channels,
        12 * shape.up / shape.down,
        8 * shape.up / shape.down,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_reach_is_enough(name):
    """Rows that a cut through the input makes differ lie within the reach of the cut."""
    network, cut = LAYERS[name], 12
    shape = proof.shapes(network, 3, name)[-1]
    x = RNG.integers(-(2**15), 2**15, (1, 3, 24, 5))
    end = cut * shape.up // shape.down
    whole, part = reference.run(network, x)[:, :, :end], reference.run(network, x[:, :, :cut])
    np.testing.assert_array_equal(part[:, :, : end - shape.reach], whole[:, :, : end - shape.reach])


def test_fields_at_their_default_are_not_stored():
    """Files that were written before a field was added keep their bytes, and so their ids."""
    plain, grouped = (network_to_stored((kernel(Conv, 3, 3, 3, 1, groups=n),), "net")[0][0] for n in (1, 3))
    assert "groups" not in plain
    assert grouped["groups"] == 3


MISFITS = {
    "a convolution without padding": ((kernel(Conv, 3, 5, 3, 1, 0),), "does not keep the size"),
    "an even kernel": ((kernel(Conv, 3, 5, 4, 1, 2),), "does not keep the size"),
    "an add across resolutions": ((kernel(Deconv, 3, 3, 5, 2), Add(0, 24)), "both must be the same"),
    "an add of other channels": ((kernel(Conv, 3, 5, 3, 1), Add(0, 24)), "both must be the same"),
    "a stride in a synthesis": ((kernel(Deconv, 3, 3, 5, 2), kernel(Conv, 3, 3, 3, 2)), "has no strides"),
    "groups that do not divide the inputs": ((kernel(Conv, 3, 4, 3, 1, groups=2),), "out of range"),
    "groups that do not divide the outputs": ((kernel(Conv, 3, 4, 3, 1, groups=3),), "out of range"),
    "no groups": ((replace(kernel(Conv, 3, 3, 3, 1), groups=0),), "out of range"),
    "a float layer": ((layers.Gdn(np.ones(3), np.ones((3, 3))),), "is not an integer layer"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_networks_that_cannot_be_evaluated_are_refused(name):
    network, reason = MISFITS[name]
    with pytest.raises(ModelError, match=rf"layer g_s\.\d \(\w+\): .*{reason}"):
        proof.check_synthesis(network, 3, 2**15, "g_s")


@pytest.mark.parametrize(
    "layer",
    [
        Igdn(np.ones(4, np.int64), np.full((4, 4), 2**62), 8, 24),
        Scale(np.full(4, -(2**63)), 8, 24),
        Scale(np.full(4, 2**64 - 2, np.uint64), 8, 24),
    ],
)
def test_numbers_that_wrap_in_int64_do_not_pass_the_proof(layer):
    with pytest.raises(ModelError):
        proof.check_integers((layer,), 4, 2**15, "net")

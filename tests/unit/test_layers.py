from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder
from support.golden import load_model_of

from sgacodec.errors import ModelError
from sgacodec.exact import fast, layers, on_torch, parallel, proof, reference
from sgacodec.exact.fixedpoint import isqrt, shift_right
from sgacodec.exact.layers import (
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Deconv,
    Igdn,
    Lap,
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


def lap(size, bits=24):
    """Near the identity, so that no value looks like another."""
    matrix = 2**14 * (np.eye(size) + RNG.uniform(-0.3, 0.3, (size, size)))
    return Lap(np.rint(matrix).astype(np.int32), 14, bits)


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
    "lap": (kernel(Conv, 3, 64, 1, 1), PixelShuffle(8), lap(8)),
    "lap that clamps": (kernel(Conv, 3, 8, 3, 1), PixelShuffle(2), lap(2, 9)),
    "lap, several blocks each": (kernel(Conv, 3, 16, 5, 1), PixelShuffle(4), lap(4), kernel(Conv, 1, 3, 5, 1), lap(2)),
    "lap of less than what reaches it": (PixelUnshuffle(1), kernel(Deconv, 3, 4, 13, 6), lap(2), lap(6)),
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


@pytest.mark.parametrize("n_threads", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 8), (8, 24), (40, 8), (56, 120), (1000, 776)])
def test_a_lapped_transform_on_any_number_of_threads(n_threads, size, monkeypatch):
    monkeypatch.setattr(parallel, "n_threads", lambda: n_threads)
    layer, x = lap(8), RNG.integers(-(2**23), 2**23, (1, 2, *size))
    expected = reference.run((layer,), x)
    np.testing.assert_array_equal(fast.run((layer,), x), expected)
    for rows in (slice(0, 4), slice(-4, None)):
        np.testing.assert_array_equal(expected[:, :, rows, :4], x[:, :, rows, :4])
        np.testing.assert_array_equal(expected[:, :, rows, -4:], x[:, :, rows, -4:])


def test_a_lapped_transform_by_hand():
    layer = Lap(np.array([[2, 4], [6, -2]], np.int32), 1, 8)
    x = np.array([[[[1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60]]]])
    assert reference.run((layer,), x)[0, 0].tolist() == [[1, 8, 3, 14, 7, 6], [10, 80, 30, 127, 70, 60]]
    tall = reference.run((layer,), x.swapaxes(2, 3))[0, 0]
    assert tall.T.tolist() == [[1, 8, 3, 14, 7, 6], [10, 80, 30, 127, 70, 60]]
    square = np.array([[[[0, 0, 0, 0], [0, 1, 10, 0], [0, 3, 20, 0], [0, 0, 0, 0]]]])
    # within rows: (21, -7) and (43, -11); then within columns
    assert reference.run((layer,), square)[0, 0, 1:3, 1:3].tolist() == [[107, -29], [20, -10]]


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
        [{"kind": "lap", "shift": 14, "bits": 24}],
    ],
)
def test_bad_listings_are_refused(listing):
    with pytest.raises(ModelError):
        network_from_stored(listing, {}, "net")


def test_damaged_fields_of_a_lapped_transform():
    listing, tensors = network_to_stored((lap(4),), "net")
    assert network_from_stored(listing, tensors, "net")[0].matrix.dtype == np.int32
    for field in ("shift", "bits"):
        for value in (None, 1.5, "14", True):
            with pytest.raises(ModelError, match=rf"layer net\.0: field {field} is missing or has a wrong type"):
                network_from_stored([{**listing[0], field: value}], tensors, "net")
    for dtype in (np.int16, np.int64, np.uint32, np.float32):
        wrong = {name: array.astype(dtype) for name, array in tensors.items()}
        with pytest.raises(ModelError, match=r"layer net\.0 \(lap\): a shape, type or field is out of range"):
            proof.check_integers(network_from_stored(listing, wrong, "net"), 3, 2**15, "net")


def test_accumulators_beyond_float64_are_refused():
    layer = kernel(Conv, 3, 5, 5, 1)
    with pytest.raises(ModelError, match="does not hold exactly"):
        proof.check_integers((replace(layer, bias=np.full(5, 2**53)),), 3, 2**23, "net")
    with pytest.raises(ModelError, match="does not hold exactly"):
        proof.check_integers((igdn(3),), 3, 2**23, "net")
    for values, bound in ((2**31 - 1, 2**16), (2**28, 1)):  # of the first pass, and of the second
        wide = Lap(np.full((16, 16), values, np.int32), 20, 24)
        with pytest.raises(ModelError, match="does not hold exactly"):
            proof.check_integers((PixelShuffle(16), wide), 768, bound, "net")


def test_the_bound_of_a_lapped_transform_is_as_in_the_specification():
    largest = 2**53 // 2**24 // 16 - 1
    sharp = Lap(np.full((16, 16), largest, np.int32), 23, 24)
    assert sharp.bound([2**22]) == 2**23
    assert sharp.bound([2**24]) == 2**24
    with pytest.raises(ModelError, match="does not hold exactly"):
        replace(sharp, matrix=sharp.matrix + 1).bound([2**24])


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
        Lap(np.eye(3, dtype=np.int32), 1, 24),
        Lap(np.eye(66, dtype=np.int32), 1, 24),
        Lap(np.zeros((0, 0), np.int32), 1, 24),
        Lap(np.ones((2, 4), np.int32), 1, 24),
        Lap(np.ones(4, np.int32), 1, 24),
        Lap(np.int32(4), 1, 24),
        Lap(np.eye(4, dtype=np.int64), 1, 24),
        Lap(np.eye(4, dtype=np.float32), 1, 24),
        replace(lap(4), shift=0),
        replace(lap(4), shift=41),
        replace(lap(4), bits=25),
        replace(lap(4), bits=1),
    ],
)
def test_layers_that_do_not_fit_are_refused(layer):
    with pytest.raises(ModelError, match="out of range"):
        proof.check_integers((layer,), 3, 2**23, "net")


@pytest.mark.parametrize("case", ["scene", "context", "context-lap"])
def test_halo_is_just_enough(case):
    decoder = load_model_of(case).decoder
    g_s, step, halo = decoder.g_s, decoder.y_stride, decoder.halo
    x = RNG.integers(-20000, 20000, (1, decoder.m_channels, 12, 3))
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
    "a lap of two blocks": ((kernel(Deconv, 3, 3, 5, 2), lap(4)), "multiples of 2, and they are multiples of 1"),
    "a lap across blocks": ((kernel(Deconv, 3, 3, 7, 4, 2), lap(6)), "multiples of 3, and they are multiples of 1"),
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


def test_a_lapped_transform_of_the_whole_picture_is_one_of_its_blocks():
    """In an analysis sides are multiples of a number, of which what came before leaves a part."""
    assert proof.check_divides((lap(64), PixelUnshuffle(8), lap(8), PixelUnshuffle(8)), 3, 64, "g_a").multiple == 64
    with pytest.raises(ModelError, match=r"g_a\.1 \(lap\): .* multiples of 128, and they are multiples of 64"):
        proof.check_divides((PixelUnshuffle(8), lap(16)), 3, 64, "g_a")
    with pytest.raises(ModelError, match=r"g_a\.0 \(lap\): .* multiples of 12, and they are multiples of 64"):
        proof.check_divides((lap(12),), 3, 64, "g_a")
    with pytest.raises(ModelError, match=r"around\.0 \(lap\): .* multiples of 2, and they are multiples of 1"):
        proof.check_same_size((lap(2),), 3, 2**15, "around")


def test_how_far_a_lapped_transform_reaches():
    """Half a run beside a cut through two blocks; where what enters differs in a part of a run, all of it."""
    for padding, reach in ((0, 4), (1, 4), (4, 4), (5, 12), (12, 12), (13, 20)):
        network = (kernel(Conv, 3, 3, 2 * padding + 1, 1), lap(8))
        assert proof.shapes(network, 3, "net")[-1].reach == reach

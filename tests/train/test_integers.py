"""Networks between floats and integers: the integers compute what the floats do, and give them back."""

import numpy as np
import pytest
import torch

from sgacodec.errors import ModelError
from sgacodec.exact import fast, proof
from sgacodec.exact.layers import Add, Conv, Lap, PixelShuffle, Scale
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.train.export import integers

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def near_identity(size):
    return np.eye(size) + RNG.uniform(-0.2, 0.2, (size, size))


def lapped(matrix):
    """A synthesis in real units that ends with a lapped transform, before which the values are not rounded to whole ones."""
    weight, zeros = RNG.uniform(-20, 20, (48, 5, 3, 3)), np.zeros(48, np.int64)
    conv = Conv(weight, RNG.uniform(0, 255, 48), zeros, 1, 1, 24)
    return (conv, PixelShuffle(4), Lap(matrix, 0, 24), Scale(np.ones(3), 0, 24))


def evaluate(network, x):
    return FloatNetwork(network, CPU)(torch.from_numpy(x.astype(np.float32))).numpy()


@pytest.mark.parametrize("largest", [200.0, 700.0, 3000.0])
@pytest.mark.parametrize("out_frac_bits", [0, 3])
def test_a_lapped_transform_in_integers(largest, out_frac_bits):
    """The last layer alone rounds to the units of the output."""
    network, in_frac_bits = lapped(near_identity(4)), 10
    x = np.rint(RNG.normal(size=(1, 5, 4, 6)) * 2**in_frac_bits)
    whole = integers.integerise(network, [largest] * 4, in_frac_bits, out_frac_bits)
    assert whole[2].matrix.dtype == np.int32
    assert np.abs(whole[2].matrix).max() > 2**21
    proof.check_synthesis(whole, 5, 2**23, "g_s")
    found = fast.run(whole, x) * 2.0**-out_frac_bits
    expected = evaluate(network, x * 2.0**-in_frac_bits)
    assert np.abs(found - expected).max() < 0.5 * 2.0**-out_frac_bits + 0.05


def test_floats_come_back_from_a_lapped_transform():
    network, x = lapped(near_identity(4)), RNG.normal(size=(1, 5, 4, 6))
    for largest in (200.0, 700.0):
        whole = integers.integerise(network, [largest] * 4, 10, 0)
        again = integers.real_units(whole, 10, 0)
        np.testing.assert_allclose(again[2].matrix, network[2].matrix, atol=1e-6)
        np.testing.assert_allclose(evaluate(again, x), evaluate(network, x), atol=0.05)


def test_any_matrix_is_exact_or_refused():
    for factor in (1e-9, 1e-3, 30.0, 2000.0):
        (whole,) = integers.integerise((Lap(factor * RNG.normal(size=(64, 64)), 0, 24),), [1.0], 12, 12)
        assert whole.bound([2**23]) == 2**23
    with pytest.raises(ModelError, match="a factor is too large for 24 bits"):
        integers.integerise((Lap(np.full((4, 4), 1e8), 0, 24),), [1.0], 12, 12)


def test_a_finer_input_stays_finer_inside():
    """What two layers round on their way shrinks with the unit of the input."""

    def conv(n_out, n_in):
        zeros = np.zeros(n_out, np.int64)
        return Conv(RNG.normal(size=(n_out, n_in, 1, 1)), np.zeros(n_out), zeros, 1, 0, 24)

    network, x = (conv(64, 5), conv(64, 64), conv(64, 64)), np.rint(RNG.normal(size=(1, 5, 4, 6)) * 2**6)
    expected, errors = evaluate(network, x * 2.0**-12), {}
    for in_frac_bits in (12, 16):
        whole = integers.integerise(network, [0.2, 2.0, 20.0], in_frac_bits, 12)
        again = integers.real_units(whole, in_frac_bits, 12)
        np.testing.assert_allclose(evaluate(again, x * 2.0**-12), expected, atol=0.05)
        np.testing.assert_allclose(again[1].weight, network[1].weight, atol=1e-3)
        found = fast.run(whole, x * 2 ** (in_frac_bits - 12)) * 2.0**-12
        errors[in_frac_bits] = np.sqrt(np.square(found - expected).mean())
    assert errors[16] < 0.25 * errors[12]


def test_the_input_has_bits_for_all_that_share_its_units():
    """What a layer adds to the input must fit, too: 24 bits, with a factor of 4 to spare."""
    network = (Conv(np.ones((1, 1, 1, 1)), np.zeros(1), np.zeros(1, np.int64), 1, 0, 24), Add(0, 24))
    assert integers.input_frac_bits(network, [1.0, 1.0, 1.0], 15) == 15
    assert integers.input_frac_bits(network, [100.0, 1.0, 1.0], 15) == 14
    assert integers.input_frac_bits(network, [1.0, 1.0, 1000.0], 15) == 11

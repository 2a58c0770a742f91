"""Float weights of an integer model: what they compute is what the model computes, and they make the model again."""

import dataclasses

import numpy as np
import pytest
import torch

from sgacodec.entropy.tables import TOTAL
from sgacodec.errors import ModelError, TrainError
from sgacodec.exact.layers import Clamp, PixelShuffle
from sgacodec.models import store
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.synthetic import render
from sgacodec.train import checkpoint
from sgacodec.train.export import tables
from sgacodec.train.export.tables import factorised_tables
from sgacodec.train.families import mean_scale
from sgacodec.train.families.mean_scale_files import from_model, to_layers, to_model, widths

CPU = torch.device("cpu")


def net_of(weights):
    net = mean_scale.create(*widths(weights.state).values(), weights.lambdas, 0)
    checkpoint.load_weights(net, weights.state)
    return net


@pytest.fixture(scope="module", params=["tiny", "msh-vbr-96-192"])
def integer_model(request, tiny_model):
    return tiny_model if request.param == "tiny" else store.load_by_name(request.param)


@pytest.fixture(scope="module")
def recovered_tiny(tiny_model):
    return from_model(tiny_model)


@pytest.fixture(scope="module")
def recovered(request, integer_model, tiny_model):
    if integer_model is tiny_model:
        return request.getfixturevalue("recovered_tiny")
    return from_model(integer_model)


@pytest.mark.slow
@torch.no_grad()
def test_they_compute_what_the_model_computes(integer_model, recovered):
    """At every level, with the same symbols."""
    net, x = net_of(recovered), torch.from_numpy(render(64, 64, np.random.default_rng(0)))
    x = x.permute(2, 0, 1)[None].float()
    for index in (0, len(integer_model.lambdas) - 1):
        nets, level = HyperpriorNets(integer_model, 16 * index, CPU), torch.tensor([index])
        y, z = net.analyse(x / 255, level)
        expected_y, expected_z = nets.analyse(x)
        torch.testing.assert_close(y, expected_y, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(z, expected_z, atol=0.03, rtol=1e-3)
        symbols = net.symbols(y, z, level)
        output = net.decode(symbols.z, lambda mu, y=symbols.y: y, level)
        _, mu = nets.y_parameters(symbols.z + nets.median)
        expected = nets.synthesise(symbols.y + mu)
        torch.testing.assert_close(output.x_hat * 255, expected, atol=0.1, rtol=1e-3)


@pytest.mark.slow
def test_the_prior_has_the_masses_of_the_tables(integer_model, recovered):
    """The cost of coding z by the recovered prior instead of the tables, where these are right: under 0.1 %."""
    arrays = {name: value.double().numpy() for name, value in recovered.state.items()}
    medians = integer_model.decoder.entropy.z_median / 2.0**integer_model.decoder.entropy.z_frac_bits
    np.testing.assert_allclose(arrays["entropy_bottleneck.quantiles"][:, 0, 1], medians, atol=1e-5)
    found, stored = factorised_tables(arrays, medians), integer_model.decoder.entropy.z_tables
    entropy, cross = 0.0, 0.0
    for channel in range(len(stored)):
        for entry, frequency in enumerate(stored.table(channel)[:-1]):
            place = entry + stored.minima[channel] - found.minima[channel]
            other = found.table(channel)[place] if 0 <= place < found.lengths[channel] - 1 else 1
            entropy -= frequency / TOTAL * np.log2(frequency / TOTAL)
            cross -= frequency / TOTAL * np.log2(other / TOTAL)
    assert entropy <= cross < 1.001 * entropy + 0.01


@pytest.mark.slow
def test_they_make_the_model_again(tiny_model, recovered_tiny):
    """A file exported from them decodes as the model does, up to the rounding of kernels."""
    weights = recovered_tiny
    images = [render(64, 64, np.random.default_rng(seed)) for seed in range(4)]
    again = to_model(to_layers(weights.state, weights.lambdas), images, "again", {})
    assert again.lambdas == tiny_model.lambdas
    np.testing.assert_array_equal(again.decoder.entropy.z_median, tiny_model.decoder.entropy.z_median)
    np.testing.assert_allclose(again.decoder.inv_gain_y, tiny_model.decoder.inv_gain_y, rtol=1e-5, atol=1)
    for network in (lambda model: model.decoder.entropy.h_s, lambda model: model.decoder.g_s):
        pairs = zip(network(again), network(tiny_model), strict=True)
        for new, old in ((new, old) for new, old in pairs if hasattr(old, "weight")):
            assert np.abs(new.weight.astype(int) - old.weight).max() <= 1


def test_another_architecture_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(tables, "_FIT_STEPS", 1)  # the prior is not what this is about
    shuffled = (*tiny_model.decoder.g_s[:-2], PixelShuffle(1), Clamp(0, 255))
    other = dataclasses.replace(tiny_model, decoder=dataclasses.replace(tiny_model.decoder, g_s=shuffled))
    with pytest.raises(ModelError, match="g_s does not end with a convolution"):
        from_model(other)
    shallow = dataclasses.replace(tiny_model.encoder, g_a=tiny_model.encoder.g_a[:5])
    with pytest.raises(TrainError, match="not those of a mean-scale hyperprior"):
        widths(from_model(dataclasses.replace(tiny_model, encoder=shallow)).state)

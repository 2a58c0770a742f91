"""The float evaluator against CompressAI's modules, the integer networks against the float model."""

import numpy as np
import pytest
import torch

from sgacodec.errors import ModelError
from sgacodec.exact import fast, on_torch
from sgacodec.exact.layers import Lap
from sgacodec.latents.hyperprior import HyperpriorEvaluator
from sgacodec.latents.symbols import dequantise
from sgacodec.latents.synthesis import g_s_input
from sgacodec.models.file import dump_model
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.nets.rates import gaussian_bits
from sgacodec.train.data.weights import calibration_images, state_file, zoo
from sgacodec.train.export.tables import sigma_scales
from sgacodec.train.families.mean_scale_files import to_layers, to_model

CPU = torch.device("cpu")


def random_model(n, m, seed=0):
    models = pytest.importorskip("compressai.models")
    torch.manual_seed(seed)
    net = models.MeanScaleHyperprior(n, m).eval()
    with torch.no_grad():
        net.g_a[6].weight *= 30  # random weights give latents that all round to zero
        net.h_a[4].weight *= 30
    return net


@pytest.mark.parametrize(("n", "m"), [(128, 192), (192, 320), (8, 12)])
def test_float_networks_equal_compressai(n, m):
    net = random_model(n, m)
    model = to_layers(net.state_dict(), (0.013,))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        y = net.g_a(x)
        z = net.h_a(y)
        for network, module, given in (
            (model.g_a, net.g_a, x),
            (model.h_a, net.h_a, y),
            (model.h_s, net.h_s, z),
            (model.g_s, net.g_s, y),
        ):
            expected = module(given)
            torch.testing.assert_close(FloatNetwork(network, CPU)(given), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(128, 192), (192, 320)])
def test_import_of_both_zoo_widths(n, m, tmp_path, scene):
    """A randomly initialised CompressAI model becomes an integer model that codes a picture."""
    import sgacodec

    net = random_model(n, m)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    weights = state_file(tmp_path / "weights.pt")
    images = calibration_images(None, np.random.default_rng(0))[:2]
    model = to_model(to_layers(weights.state, weights.lambdas), images, "random", {})
    path = tmp_path / "random.safetensors"
    path.write_bytes(dump_model(model))
    options = sgacodec.EncodeOptions(model=str(path), preset="none", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGACODEC_MODELS", str(tmp_path))
        assert sgacodec.decode(sgacodec.encode(scene, options)).size == (130, 96)


@pytest.mark.slow
def test_integer_networks_follow_the_float_model():
    """Sigma, mu and pixels of the integer networks stay within a hundredth of the float ones."""
    net = random_model(16, 24, seed=1)
    images = calibration_images(None, np.random.default_rng(0))[:3]
    model = to_model(to_layers(net.state_dict(), (0.013,)), images, "random", {})
    x = torch.from_numpy(images[0].transpose(2, 0, 1)[None].copy()).float() / 255
    with torch.no_grad():
        y = net.g_a(x)
        z = net.h_a(y)
        medians = net.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)
        z_symbols = torch.round(z - medians)
        sigma, mu = net.h_s(z_symbols + medians).chunk(2, 1)
        y_symbols = torch.round(y - mu)
        x_hat = net.g_s(y_symbols + mu) * 255
    parameters = HyperpriorEvaluator(model.decoder, 0).begin(z_symbols.int().numpy())
    np.testing.assert_allclose(parameters.centre_q / 2**10, mu.numpy(), atol=0.01)
    scales = sigma_scales()[parameters.table_index]
    np.testing.assert_allclose(np.log(scales), np.log(np.clip(sigma.numpy(), 0.11, 256)), atol=0.08)
    pixels = fast.run(
        model.decoder.g_s[:-1],
        g_s_input(model.decoder, dequantise(y_symbols.int().numpy(), parameters.centre_q, 10), 0),
    )
    np.testing.assert_allclose(pixels, x_hat.numpy(), atol=0.6)


def test_nets_follow_the_integer_networks(tiny_model):
    """Refinement optimises what the decoder computes."""
    rng = np.random.default_rng(0)
    decoder = tiny_model.decoder
    nets = HyperpriorNets(tiny_model, 40, CPU)
    z = rng.integers(-3, 4, (1, decoder.entropy.inv_gain_z.shape[1], 2, 2)).astype(np.int32)
    parameters = HyperpriorEvaluator(decoder, 40).begin(z)
    sigma, mu = nets.y_parameters(torch.from_numpy(z).float() + nets.median)
    np.testing.assert_allclose(mu.numpy(), parameters.centre_q / 2**decoder.y_frac_bits, atol=0.01)
    scales = sigma_scales()[parameters.table_index]
    np.testing.assert_allclose(np.log(sigma.numpy()), np.log(scales), atol=0.08)
    y = rng.integers(-4, 5, parameters.centre_q.shape).astype(np.int32)
    x_hat = nets.synthesise(torch.from_numpy(y) + mu)
    pixels = fast.run(decoder.g_s, g_s_input(decoder, dequantise(y, parameters.centre_q, decoder.y_frac_bits), 40))
    np.testing.assert_allclose(x_hat.numpy(), pixels, atol=0.75)


def test_z_bits_are_the_tables_at_integers(tiny_model):
    tables = tiny_model.decoder.entropy.z_tables
    nets = HyperpriorNets(tiny_model, 0, CPU)
    z = np.zeros((1, len(tables), 1, 1), np.int32)
    bits = float(nets.z_bits(torch.from_numpy(z).float()).sum())
    assert bits == pytest.approx(tables.information_bits(z.ravel(), np.arange(len(tables))), rel=1e-5)


def test_gaussian_bits_match_the_tables(tiny_model):
    tables = tiny_model.decoder.entropy.y_tables
    sigma = sigma_scales()
    values = np.round(sigma).astype(np.int32)
    bits = gaussian_bits(torch.from_numpy(values), torch.from_numpy(sigma)).numpy().sum()
    assert tables.information_bits(values, np.arange(len(tables))) == pytest.approx(bits, rel=1e-4)


@pytest.mark.parametrize("block", [1, 20, 1 << 17], ids=["one sample", "five of eighteen", "all"])
def test_igdn_is_its_formula_and_has_its_gradient(block, monkeypatch):
    """In blocks that do not divide the samples evenly, too."""
    monkeypatch.setattr(on_torch, "_BLOCK", block)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    gamma = torch.rand(4, 4, dtype=torch.float64, generator=generator)
    beta = torch.rand(4, dtype=torch.float64, generator=generator) + 0.1
    norm = torch.sqrt(beta[:, None, None] + torch.einsum("oi,bihw->bohw", gamma, a * a))
    assert torch.allclose(on_torch._InverseGdn.apply(a, gamma, beta), a * norm)
    assert torch.autograd.gradcheck(lambda t: on_torch._InverseGdn.apply(t, gamma, beta), (a,))


def across_borders(side, matrix):
    """One matrix for a whole row: the filter's on its diagonal, between the halves of two that do nothing."""
    half = torch.eye(len(matrix) // 2, dtype=matrix.dtype)
    return torch.block_diag(half, *[matrix] * (side // len(matrix) - 1), half)


@pytest.mark.parametrize("size", [(4, 4), (4, 12), (16, 4), (12, 8)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_lapped_transform_is_its_formula_and_has_its_gradient(size, memory_format):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    layer, (down, across) = Lap(matrix.numpy() * 2**3, 3, 24), (across_borders(side, matrix) for side in size)
    a = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator)
    a = a.contiguous(memory_format=memory_format).requires_grad_()
    operator = on_torch.REAL[Lap]
    held = [torch.from_numpy(array) for array in operator.parameters(layer)]
    found, expected = operator.apply(layer, [a], *held), down @ a @ across.T
    assert torch.allclose(found, expected)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((weight * out).sum(), a)[0] for out in (found, expected)]
    assert torch.allclose(*gradients)
    assert torch.autograd.gradcheck(lambda t: operator.apply(layer, [t], *held), (a,))


def test_a_lapped_transform_keeps_the_precision_of_what_enters():
    """Where convolutions are in bfloat16, pixels between 128 and 255 are off by up to 0.5, and no more for the filter."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    layer, operator = Lap(matrix.numpy(), 0, 24), on_torch.REAL[Lap]
    a = (255 * torch.rand(1, 3, 64, 48, generator=generator)).bfloat16().requires_grad_()
    expected = operator.apply(layer, [a.double()], matrix.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = operator.apply(layer, [a], matrix)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)
    found.sum().backward()
    assert a.grad.dtype == a.dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [({"weight": torch.zeros(3)}, "is missing"), ({"h_a.4.weight": torch.zeros(3, 3, 5, 5)}, "is missing")],
)
def test_other_architectures_are_refused(content, message):
    with pytest.raises(ModelError, match=message):
        to_layers(content, (0.01,))


def test_bad_weight_files(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        state_file(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ModelError, match=r"torch\.save"):
        state_file(tmp_path / "text.pt")
    with pytest.raises(ModelError, match="--quality"):
        zoo("mbt2018-mean", None)
    with pytest.raises(ModelError, match="no image of at least 256"):
        calibration_images(tmp_path, np.random.default_rng(0))

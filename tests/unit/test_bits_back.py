"""Heads, posteriors and what embedding promises."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support import tiny_context_head, tiny_head
from support.golden import load_model_of

from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed, message
from sgacodec.bitsback.carriers import Carriers
from sgacodec.entropy import tables
from sgacodec.errors import CorruptStreamError, EncodeError, LimitError, ModelError, SgacodecError
from sgacodec.exact import fast
from sgacodec.exact.layers import AppendAbs, Clamp, Conv, Deconv, Igdn, LeakyRelu
from sgacodec.exact.transpose import check_transpose, transposed
from sgacodec.models.file import dump_model, load_model
from sgacodec.models.model import with_bits_back


@pytest.fixture(scope="module")
def head(headed_model):
    return heads.bits_back_of(headed_model, 0)


@pytest.fixture(scope="module")
def context_model():
    return load_model_of("context")


@pytest.fixture(scope="module")
def y():
    return np.rint(np.random.default_rng(2).normal(0, 1.5, (1, 24, 8, 12))).astype(np.int32)


def test_head_round_trips(headed_model):
    again = load_model(dump_model(headed_model))
    assert again.bits_back_id == headed_model.bits_back_id != again.model_id
    np.testing.assert_array_equal(again.bits_back.z_cells.frequencies, headed_model.bits_back.z_cells.frequencies)


def test_heads_that_do_not_fit_are_refused(tiny_model):
    head = tiny_head.add_head(tiny_model).bits_back
    narrow = tables.build([np.full(3, 0.3)] * 12, [5] * 12)
    thin = tables.build([np.full(1, 0.9)] * len(head.tables), [0] * len(head.tables))
    for changed in (
        replace(head, lattice_bits=11),
        replace(head, z_order=head.z_order * 0),
        replace(head, scales=head.scales << 10),
        replace(head, scales=head.scales[::-1]),
        replace(head, fraction_bits=head.fraction_bits + 1),
        replace(head, z_cells=narrow),
        replace(head, tables=thin),
        replace(head, h_a=head.h_a[:-1]),
        replace(head, h_s=(*head.h_s, Clamp(-(2**23), 2**23 - 1))),
    ):
        with pytest.raises(ModelError):
            with_bits_back(tiny_model, changed)


def test_heads_that_do_not_fit_a_hyperprior_are_refused(tiny_model):
    head = tiny_head.add_head(tiny_model).bits_back
    n = len(head.scales) - 1
    fraction_bits = head.fraction_bits[:n]
    kept = int((1 << fraction_bits).sum())
    lengths, minima = head.tables.lengths[:kept], head.tables.minima[:kept]
    fewer = replace(
        head,
        log_variance_thresholds=head.log_variance_thresholds[1:],
        scales=head.scales[:n],
        fraction_bits=fraction_bits,
        tables=tables.TableSet(head.tables.frequencies[: lengths.sum()], lengths, minima),
    )
    with pytest.raises(ModelError, match=f"has {n} scales, the decoder {n + 1}"):
        with_bits_back(tiny_model, fewer)


def test_heads_that_do_not_fit_a_context_model_are_refused(context_model):
    head = tiny_context_head.add_head(context_model).bits_back
    with pytest.raises(ModelError, match="networks give 16 and 32 channels"):
        with_bits_back(context_model, replace(head, h_s=(*head.h_s, AppendAbs())))
    with pytest.raises(ModelError, match="networks give 32 and 16 channels"):
        with_bits_back(context_model, replace(head, h_a=(*head.h_a, AppendAbs())))
    pointwise = Conv(np.ones((16, 8, 1, 1), np.int16), np.zeros(16, np.int64), np.ones(16, np.int64), 1, 0, 24)
    with pytest.raises(ModelError, match="strides are not the decoder's"):
        with_bits_back(context_model, replace(head, h_s=(pointwise,)))


def test_what_h_a_sees_of_y_is_in_units_of_the_level(context_model):
    """The same multiples of each channel's unit look the same at every level, but for rounding to whole y."""
    model = tiny_context_head.add_head(context_model)
    prior = model.decoder.entropy
    multiples = np.random.default_rng(0).normal(0, 1, (1, model.decoder.m_channels, 8, 12))
    for level in (0, 4, 9):
        unit = 2.0**prior.unit_frac_bits / prior.inv_unit[level][:, None, None]
        y = np.rint(multiples * unit).astype(np.int32)
        seen = heads.bits_back_of(model, 16 * level).likelihood.seen(y) * 2.0**-prior.context_frac_bits
        np.testing.assert_allclose(seen, multiples, atol=0.51 / unit.min())
        np.testing.assert_allclose(seen * unit, y, atol=0.3)


def kernel(cls, shape, stride, padding):
    weight = np.random.default_rng(0).integers(-(2**15), 2**15, shape).astype(np.int16)
    channels = shape[0] if cls is Conv else shape[1]
    return cls(weight, np.zeros(channels, np.int64), np.zeros(channels, np.int64), stride, padding, 54)


@pytest.mark.parametrize(
    "layer",
    [
        kernel(Deconv, (3, 5, 5, 5), 2, 2),
        kernel(Deconv, (3, 2, 4, 4), 4, 0),
        kernel(Conv, (5, 3, 3, 3), 1, 1),
        replace(kernel(Conv, (6, 1, 3, 3), 1, 1), groups=3),
        replace(kernel(Conv, (3, 1, 5, 5), 1, 2), groups=3),
    ],
)
def test_adjoint_is_the_transpose(layer):
    """<A x, g> = <x, A' g> in whole numbers."""
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**10), 2**10, (1, 3, 6, 7))
    out = fast.run((layer,), x).astype(np.int64)
    g = rng.integers(-(2**10), 2**10, out.shape)
    back = fast.run((transposed(layer),), g).astype(np.int64)
    assert back.shape == x.shape
    assert int((out * g).sum()) == int((x * back).sum())


def test_layers_without_an_exact_transpose_are_refused():
    huge = Deconv(np.full((1, 4096, 7, 7), 2**15 - 1, np.int16), np.zeros(4096), np.ones(4096), 1, 3, 24)
    for network in (
        (Igdn(np.ones(3, np.int64), np.ones((3, 3), np.int32), 8, 24),),
        (kernel(Conv, (5, 3, 3, 3), 2, 1),),
        (kernel(Conv, (5, 3, 3, 3), 1, 0),),
        (huge,),
    ):
        with pytest.raises(ModelError):
            check_transpose(network, "h_s")
    check_transpose((LeakyRelu(41, 12), kernel(Conv, (5, 3, 3, 3), 1, 1)), "h_s")


def test_quotients_of_frequencies_are_the_gradient_of_a_gaussian(head):
    """The derivatives of -log P(y | sigma, mu), against those of the integral of a density over a unit step."""
    rng = np.random.default_rng(3)
    n = 600
    sigma, mu = rng.uniform(0.3, 20, n), rng.uniform(-3, 3, n)
    values = np.rint(mu + sigma * rng.uniform(-2.2, 2.2, n)).astype(np.int32)
    parameters_q = np.rint(np.concatenate([sigma, mu]).reshape(1, -1, 1, 1) * 1024).astype(np.int64)
    found = head.likelihood.slope(values.reshape(1, -1, 1, 1), parameters_q).ravel() * 1024

    def nats(sigma, mu):
        upper, lower = (values + 0.5 - mu) / sigma, (values - 0.5 - mu) / sigma
        return np.array(
            [-math.log(math.erf(u / 2**0.5) - math.erf(v / 2**0.5)) for u, v in zip(upper, lower, strict=True)]
        )

    step = 1e-4
    by_sigma = (nats(sigma + step, mu) - nats(sigma - step, mu)) / (2 * step)
    by_mu = (nats(sigma, mu + step) - nats(sigma, mu - step)) / (2 * step)
    for got, expected in ((found[:n] * sigma, by_sigma * sigma), (found[n:] * sigma, by_mu * sigma)):
        assert np.corrcoef(got, expected)[0, 1] > 0.98
        assert 0.9 < (got * expected).sum() / (expected**2).sum() < 1.05


def test_refinement_saves_bits(head, y):
    content = np.random.default_rng(4).bytes(200)
    bits = [embed.embed(head, y, content, embed.Settings(steps, 4)).table_bits for steps in (0, 4, 16)]
    assert bits[0] > bits[1] > bits[2]


def test_refinement_survives_what_no_table_holds(head):
    absurd = np.full((1, 24, 8, 12), 2**19, np.int32)
    embedded = embed.embed(head, absurd, b"abc", embed.Settings(3))
    assert embedded.carriers.n > 0
    assert np.all(embedded.symbols.y == 2**19)


def test_given_values_are_kept_where_nothing_is_carried(head, y):
    z_plain = np.random.default_rng(5).integers(-3, 4, (1, 12, 2, 3)).astype(np.int32)
    embedded = embed.embed(head, y, b"", embed.Settings(2), z_plain)
    mask = heads.carrier_mask(head, embedded.carriers, heads.analyse(head, y))
    assert 0 < mask.sum() == embedded.carriers.n < mask.size
    np.testing.assert_array_equal(embedded.symbols.z[~mask], z_plain[~mask])


@pytest.mark.parametrize("place", [0.125, 0.25, 0.375])
def test_neighbours_on_the_lattice_have_the_odds_of_a_density(head, place):
    scales = np.flatnonzero((head.bits_back.scales > 0.27 * 2**16) & (head.bits_back.scales < 2**16))
    posterior = heads.Posterior(np.full(len(scales), place), scales, head.bits_back.scales[scales] * 2.0**-16)
    tables, grid = head.bits_back.tables.without_escape, heads.z_grid(head, posterior, 0)
    below, above = (tables.masses(value - grid.floor, grid.table_index) for value in (0, 1))
    expected = (0.5 - place) / posterior.sigma**2
    np.testing.assert_allclose(np.log(below / above), expected, rtol=0.45, atol=0.1)


def test_carriers_on_the_integers_are_those_least_certain(head, y):
    analysis = heads.analyse(head, y)
    mask = heads.carrier_mask(head, Carriers(8, 0, 0), analysis)
    grid = heads.z_grid(head, heads.amortised_posterior(head, analysis, 0), 0)
    certainty = [max(head.bits_back.tables.without_escape.table(index)) for index in grid.table_index.flat]
    assert max(np.array(certainty)[mask.ravel()]) <= min(np.array(certainty)[~mask.ravel()])
    assert mask.sum() == 8
    assert not heads.lattice_mask(head, Carriers(8, 0, 0), analysis.z_shape).any()


def test_carriers_fill_channel_after_channel(head):
    mask = heads.lattice_mask(head, Carriers(8, 2, 0), (12, 2, 3))
    first, second = head.bits_back.z_order[:2]
    assert mask[0, first].all()
    assert mask[0, second].ravel().tolist() == [True, True, False, False, False, False]
    assert mask.sum() == 8


def test_carriers_as_bytes():
    for carriers in (Carriers(0, 0, 0), Carriers(532, 4, 3), Carriers(2**20, 20, 64)):
        assert Carriers.from_bytes(carriers.to_bytes()) == carriers
    assert Carriers(532, 4, 3).to_bytes().hex() == "940464"
    with pytest.raises(CorruptStreamError):
        Carriers.from_bytes(b"\1\1\1")


def test_frames_have_a_limit(monkeypatch):
    framed = message.frame(bytes(100))
    monkeypatch.setattr(message, "MAX_MESSAGE_BYTES", 99)
    with pytest.raises(EncodeError, match="at most 99"):
        message.frame(bytes(100))
    with pytest.raises(LimitError, match="more than 99"):
        message.unframe(framed)


def test_bytes_that_claim_to_be_a_text(monkeypatch):
    monkeypatch.setattr(message, "_TEXT", 0)
    framed = message.frame(b"\xff")
    monkeypatch.undo()
    with pytest.raises(SgacodecError):
        message.unframe(bytes([framed[0] | 2]) + framed[1:])

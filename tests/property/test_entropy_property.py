"""constriction against a range decoder written from the specification, and round trips."""

import numpy as np
import pytest
from golden import slow_decoder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.plain_tables import plain

from sgacodec.entropy import range_coder, tables
from sgacodec.errors import CorruptStreamError, ModelError, SymbolRangeError


def random_tables(seed: int, count: int) -> tables.TableSet:
    rng = np.random.default_rng(seed)
    pmfs = [rng.dirichlet(np.full(int(rng.integers(1, 60)), 0.3)) * rng.uniform(0.5, 1) for _ in range(count)]
    return tables.build(pmfs, [int(rng.integers(-30, 5)) for _ in range(count)])


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 300), spread=st.integers(0, 400))
@example(seed=13, length=26, spread=13)
def test_round_trip_and_oracle(seed, length, spread):
    table_set = random_tables(seed, 7)
    rng = np.random.default_rng(seed + 1)
    index = rng.integers(0, 7, length)
    values = np.rint(rng.normal(0, 1 + spread, length)).astype(np.int32)
    data = range_coder.encode(values, index, table_set)
    np.testing.assert_array_equal(range_coder.decode(data, index, table_set, "test"), values)
    assert slow_decoder.read_stream(data, index.tolist(), plain(table_set)) == values.tolist()
    bits = table_set.information_bits(values, index)
    left_off = 24  # bits: zero bytes at the end are not written, one in 256 streams ends in such a byte
    assert bits - 1 - left_off <= 8 * len(data) <= bits * 1.0001 + 80


def test_stream_bytes_are_pinned():
    table_set = tables.build([np.array([0.1, 0.2, 0.3, 0.2])], [-1])
    values = np.array([0, 1, 2, -1, 1, 7, -3, 0], np.int32)
    assert range_coder.encode(values, np.zeros(8, np.intp), table_set).hex() == "57685b32"


def test_frequencies_reach_constriction_unchanged():
    """Every symbol of a table costs what its integer frequency says, down to the last unit."""
    frequencies = np.array([1, 2, 3, 2**23 + 1, 2**24 - 2**23 - 7])
    table_set = tables.TableSet(frequencies, np.array([5]), np.array([0]))
    values = np.tile(np.arange(4, dtype=np.int32), 50)
    data = range_coder.encode(values, np.zeros(200, np.intp), table_set)
    assert slow_decoder.read_stream(data, [0] * 200, plain(table_set)) == values.tolist()


@pytest.mark.parametrize("value", [2**20 - 1, -(2**20) + 1])
def test_far_escapes(value):
    table_set = random_tables(3, 1)
    values = np.array([0, value, 1], np.int32)
    data = range_coder.encode(values, np.zeros(3, np.intp), table_set)
    np.testing.assert_array_equal(range_coder.decode(data, np.zeros(3, np.intp), table_set, "test"), values)


def test_too_far_is_refused():
    with pytest.raises(SymbolRangeError, match="cannot hold"):
        range_coder.encode(np.array([2**22], np.int32), np.zeros(1, np.intp), random_tables(3, 1))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), junk=st.binary(max_size=60))
def test_junk_decodes_or_says_so(seed, junk):
    index = np.random.default_rng(seed).integers(0, 3, 40)
    table_set = random_tables(seed, 3)
    try:
        values = range_coder.decode(junk, index, table_set, "test")
    except CorruptStreamError as err:
        assert err.section == "test"  # noqa: PT017
    else:
        assert values.shape == (40,)


def test_a_stream_that_would_seem_cut_is_not_written():
    """First entries at the end are zeros that are left out; a reader could not tell them from a missing end."""
    table_set = tables.build([np.array([0.01, 0.98])], [0])
    values = np.append(np.ones(50, np.int32), np.zeros(100, np.int32))
    with pytest.raises(SymbolRangeError, match="run of values"):
        range_coder.encode(values, np.zeros(150, np.intp), table_set)


def test_left_over_words_are_noticed():
    table_set = random_tables(4, 1)
    index = np.zeros(500, np.intp)
    values = np.random.default_rng(0).integers(-3, 3, 500).astype(np.int32)
    data = range_coder.encode(values, index, table_set)
    with pytest.raises(CorruptStreamError, match="longer"):
        range_coder.decode(data + b"\1" * 12, index, table_set, "y band")
    with pytest.raises(CorruptStreamError, match="longer"):
        range_coder.decode(data + b"\0", index, table_set, "y band")


@given(seed=st.integers(0, 2**32))
def test_quantised_tables_are_close(seed):
    rng = np.random.default_rng(seed)
    pmf = rng.dirichlet(np.full(40, 0.5))
    frequencies = tables.quantise_pmf(pmf)
    assert frequencies.sum() == 2**24
    assert frequencies.min() >= 1
    assert np.abs(frequencies / 2**24 - pmf).max() < 45 / 2**24


@pytest.mark.parametrize(
    ("frequencies", "lengths"),
    [([2**24], [1]), ([2**23, 2**23 - 1], [2]), ([2**24, 0], [2]), ([2**23, 2**23], [3]), ([2**23, 2**23], [])],
)
def test_bad_tables_are_refused(frequencies, lengths):
    with pytest.raises(ModelError, match="frequency tables"):
        tables.TableSet(np.array(frequencies), np.array(lengths, int), np.zeros(len(lengths), int))

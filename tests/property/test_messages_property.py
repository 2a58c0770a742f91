"""Any message comes back from any picture, and constriction's ANS coder is the specification's."""

from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.plain_tables import plain

import sgacodec
from sgacodec import encoding
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed, message
from sgacodec.bitsback.extract import read_carriers
from sgacodec.entropy import tables
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.entropy.stack import Stack
from sgacodec.errors import CorruptStreamError, FormatError, ModelError, SymbolRangeError
from sgacodec.format import container
from sgacodec.format.container import SectionType
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan


def rich_tables(seed: int) -> tables.TableSet:
    rng = np.random.default_rng(seed)
    pmfs = [rng.dirichlet(np.full(int(rng.integers(2, 60)), 0.3)) * rng.uniform(0.5, 1) for _ in range(5)]
    return tables.build(pmfs, [int(rng.integers(-30, 5)) for _ in range(5)])


def without_escape(closed: tables.TableSet) -> list:
    """The second decoder takes every table's last entry for an escape; an impossible one is added."""
    return [([*frequencies, 0], minimum) for frequencies, minimum in plain(closed)]


contents = st.one_of(st.binary(max_size=60), st.text(max_size=60))


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), junk=st.binary(max_size=40), length=st.integers(0, 200))
@example(seed=0, junk=b"", length=40)
def test_stack_is_the_oracle_and_push_undoes_pop(seed, junk, length):
    table_set = rich_tables(seed)
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 5, length)
    start = junk.rstrip(b"\0")
    stack, oracle = Stack(start, "test"), slow_decoder.Stack(start)
    closed = table_set.without_escape
    popped = stack.pop(index, closed)
    assert slow_decoder.read_values(oracle, index.tolist(), without_escape(closed)) == popped.tolist()
    assert stack.to_bytes() == oracle.stream()
    values = np.rint(rng.normal(0, 30, length)).astype(np.int32)
    stack.push(values, index, table_set)
    oracle = slow_decoder.Stack(stack.to_bytes())
    assert slow_decoder.read_values(oracle, index.tolist(), plain(table_set)) == values.tolist()
    np.testing.assert_array_equal(stack.pop(index, table_set), values)
    stack.push(popped, index, closed)
    assert stack.to_bytes() == start


def test_a_value_off_a_closed_table_is_refused():
    closed = rich_tables(0).without_escape
    with pytest.raises(SymbolRangeError, match="off its table"):
        Stack(b"", "test").push(np.array([1000], np.int32), np.zeros(1, np.intp), closed)
    with pytest.raises(CorruptStreamError, match="zero bytes"):
        Stack(b"a\0", "test")


def test_closed_tables_keep_every_other_frequency():
    open_set = rich_tables(9)
    closed = open_set.without_escape
    for t in range(4):
        before, after = open_set.table(t), closed.table(t)
        np.testing.assert_array_equal(after[:-1], before[:-2])
        assert after[-1] == before[-2] + before[-1]


@given(st.integers(0, 2**32), st.integers(0, 3))
def test_lattice_tables_are_sums_of_cells(seed, exponent):
    rng = np.random.default_rng(seed)
    pmf = rng.dirichlet(np.full(int(rng.integers(40, 200)), 0.5))
    cells = tables.build([pmf], [int(rng.integers(-90, -20))])
    merged = lattice_tables(cells, 4, exponent)
    frequencies, first = slow_decoder.lattice_table(plain(cells)[0], 3, exponent)
    assert plain(merged) == [(frequencies, first)]


def test_cells_that_cover_no_value_are_refused():
    with pytest.raises(ModelError):
        lattice_tables(tables.build([np.full(3, 0.3)], [0]), 4, 0)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)), st.integers(0, 9), st.integers(0, 254))
def test_frames(content, n_padding, variant):
    framed = message.frame(content) + bytes(n_padding)
    stack = message.to_stack(framed, variant)
    assert message.unframe(message.from_stack(stack)) == content
    assert slow_decoder.unframe(slow_decoder.dewhiten(stack)) == content
    assert stack != message.to_stack(framed, (variant + 1) % message.MAX_VARIANTS)


@given(st.binary(max_size=40))
def test_junk_is_no_frame(junk):
    for read in (message.unframe, lambda data: message.unframe(message.from_stack(data))):
        try:
            content = read(junk)
        except FormatError:
            continue
        assert content == b""  # four bytes can be a frame by chance


def test_frame_bytes_are_pinned():
    framed = message.frame("A lake.")
    assert framed.hex(" ") == "1e 66 25 41 20 6c 61 6b 65 2e"
    stack = Stack(message.to_stack(framed), "test")
    assert stack.to_bytes().hex(" ") == "4b 91 89 41 c4 19 3a 38 ab b1 01"
    table = tables.TableSet(np.array([2**22, 2**22, 2**23]), np.array([3]), np.array([0]), has_escape=False)
    assert stack.pop(np.zeros(5, np.intp), table).tolist() == [0, 0, 2, 2, 2]
    assert stack.to_bytes().hex(" ") == "4b 91 89 41 c4 19 3a 56 63 03"
    stack.push(np.array([0, 1, 2, 2], np.int32), np.zeros(4, np.intp), table)
    assert stack.to_bytes().hex(" ") == "4b 91 89 41 c4 19 3a 99 d5 d8"


def pictures(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth or noisy colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width]


def check(picture, content, options):
    plan = replace(make_plan(options), embedding=embed.Settings(must_carry=True))
    data = encoding.encode_with(plan, to_picture(picture), None, content).data
    decoded = sgacodec.decode(data, extract=True)
    assert decoded.info["message"] == content
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(sgacodec.decode(data)))
    assert "message" not in sgacodec.decode(data).info
    return data


@pytest.mark.slow
@settings(max_examples=20)
@given(seed=st.integers(0, 99), height=st.integers(1, 90), width=st.integers(1, 90), content=contents)
@example(seed=0, height=1, width=1, content=b"")
@example(seed=0, height=1, width=1, content="x" * 5)
@example(seed=1, height=64, width=65, content=b"\0" * 9)
def test_side_information_comes_back(seed, height, width, content, headed_model):
    options = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu", quality=seed)
    data = check(pictures(seed, height, width), content, options)
    assert container.parse(data).model_id == headed_model.bits_back_id


@pytest.mark.slow
@settings(max_examples=4)
@given(seed=st.integers(0, 99), side=st.integers(150, 200), n_bytes=st.integers(0, 20_000))
@example(seed=3, side=200, n_bytes=20_000)
@example(seed=4, side=200, n_bytes=150)
def test_large_ones_spill_into_a_section(seed, side, n_bytes, headed_model):
    options = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu")
    content = np.random.default_rng(seed).bytes(n_bytes)
    plan = replace(make_plan(options), embedding=embed.Settings(must_carry=True))
    data = encoding.encode_with(plan, to_picture(pictures(seed, side, 200)), None, content).data
    assert sgacodec.decode(data, extract=True).info["message"] == content
    box = container.parse(data)
    appended = box.section(SectionType.MESSAGE) or b""
    carriers = read_carriers(box)
    assert not appended or carriers.exponent == 0 or carriers.n == 12 * 4 * -(-side // 64)
    if n_bytes >= 3000:
        assert n_bytes - 2000 < len(appended) < n_bytes
        assert carriers.n == 12 * 4 * -(-side // 64)
        assert carriers.exponent == headed_model.bits_back.lattice_bits


@settings(max_examples=5)
@given(seed=st.integers(0, 99), n_bytes=st.integers(0, 300))
def test_a_message_costs_no_more_than_its_section(seed, n_bytes, headed_model):
    """Carriers are used where they are worth it."""
    head = heads.bits_back_of(headed_model, 0)
    y = np.random.default_rng(seed).integers(-3, 4, (1, 24, 8, 8)).astype(np.int32)
    empty, full = (embed.embed(head, y, np.random.default_rng(seed).bytes(n)) for n in (0, n_bytes))
    assert full.n_bytes <= empty.n_bytes + n_bytes + 12


@settings(max_examples=5)
@given(content=contents, size=st.integers(1, 70))
def test_a_model_without_head_appends(content, size):
    options = sgacodec.EncodeOptions(model="tiny", preset="none", device="cpu")
    data = check(pictures(size, size, 33), content, options)
    assert container.parse(data).section(SectionType.BITS_BACK) is None
    without = sgacodec.encode(pictures(size, size, 33), options)
    assert len(data) <= len(without) + len(message.frame(content)) + 5
    assert data[4] == max(0x11, without[4])  # a picture of a single pixel has an overlay
    assert without[4] in (0x10, 0x12)


def test_carriers_cost_what_the_tables_say(headed_model, scene):
    """The stream is the tables' bits: nothing is lost between frame, Q, P(y | z) and P(z)."""
    head = heads.bits_back_of(headed_model, 0)
    y = np.random.default_rng(0).integers(-3, 4, (1, 24, 8, 12)).astype(np.int32)
    content = np.random.default_rng(1).bytes(40)
    for exponent in range(5):
        embedded = embed.embed(head, y, content, embed.Settings(0, exponent))
        assert abs(8 * len(embedded.stream) - embedded.table_bits) < 12

"""The golden files decode, stage by stage, to what they decoded to when they were written."""

import hashlib

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image
from support.golden import (
    BANDS,
    CASES,
    CODED_ALPHA,
    ESCAPES,
    OVERLAID,
    V1,
    file_of,
    hashes_of,
    load_model_of,
    model_bytes,
    sha256,
)

import sgacodec
from sgacodec import decoding
from sgacodec.exact import on_torch
from sgacodec.format import container
from sgacodec.format.container import SectionType
from sgacodec.latents import streams


@pytest.fixture(params=CASES)
def case(request):
    return request.param


class TableIndex(streams.Reader):
    """Reads as a decoder does, and keeps the table of every y."""

    def __init__(self, box, shape):
        super().__init__(box.y_streams)
        self.found, self._shape = [], shape

    def open(self, rows):
        super().open(rows)
        self.found.append(np.zeros(self._shape, np.int64)[:, :, rows])

    def visit(self, part, tables):
        band = self.found[-1]
        band[part.where] = part.table_index.reshape(band[part.where].shape)
        return super().visit(part, tables)


def walked(box, model):
    """Symbols and table index of a file without a message."""
    z = streams.read_z(model.decoder, box.z_stream, box.height, box.width)
    bands = streams.y_bands(model.decoder, z.shape[2], len(box.y_streams))
    reader = TableIndex(box, streams.y_shape(model.decoder, z))
    symbols = streams.walk(model.decoder, box.level_q4, z, bands, reader)
    return symbols, np.concatenate(reader.found, axis=2)


def test_every_stage(case):
    expected, model = hashes_of(case), load_model_of(case)
    box = container.parse(file_of(case))
    assert box.model_id == model.model_id
    symbols, table_index = walked(box, model)
    assert sha256(symbols.z[0], "<i4") == expected["z"]
    assert sha256(table_index[0], "<i4") == expected["table_index"]
    assert sha256(symbols.y[0], "<i4") == expected["y"]
    assert sha256(decoding.reconstruct(box, model, symbols), "u1") == expected["rgb"]


def test_picture(case):
    decoded = sgacodec.decode(file_of(case))
    with Image.open(V1 / case / "picture.png") as picture:
        assert decoded.mode == picture.mode
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(picture))


def test_slow_decoder_agrees(case):
    expected = hashes_of(case)
    stages = slow_decoder.decode(file_of(case), model_bytes(case))
    for name in ("z", "table_index", "y"):
        assert sha256(stages[name], "<i4") == expected[name], name
    assert sha256(stages["rgb"], "u1") == expected["rgb"]
    with Image.open(V1 / case / "picture.png") as picture:
        np.testing.assert_array_equal(stages["picture"], np.atleast_3d(np.asarray(picture)))


def test_torch_float64_agrees(case):
    expected, model = hashes_of(case), load_model_of(case)
    box = container.parse(file_of(case))

    def run(network, x):
        return on_torch.run(network, x, "cpu")

    symbols = decoding.decode_latents(box, model).symbols
    assert sha256(decoding.reconstruct(box, model, symbols, run), "u1") == expected["rgb"]


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_thread_counts_agree(threads, run_with_threads):
    code = (
        "import sys, hashlib, sgacodec\n"
        "for path in sys.argv[1:]:\n"
        "    print(hashlib.sha256(sgacodec.decode(open(path, 'rb').read()).tobytes()).hexdigest())\n"
        "assert 'torch' not in sys.modules and 'compressai' not in sys.modules\n"
    )
    decoded = run_with_threads(threads, code, *(V1 / name / "file.sga" for name in CASES))
    pictures = [Image.open(V1 / name / "picture.png").tobytes() for name in CASES]
    assert decoded.split() == [hashlib.sha256(picture).hexdigest() for picture in pictures]


def test_metadata_comes_back():
    decoded = sgacodec.decode((V1 / "metadata" / "file.sga").read_bytes())
    assert decoded.info["icc_profile"] == b"not a real profile " * 9
    assert decoded.getexif()[0x010E] == "a lake"


@pytest.mark.parametrize("case", OVERLAID)
def test_the_cases_cover_overlays(case):
    data = file_of(case)
    assert data[4] == 0x12
    assert SectionType.OVERLAY in [section.kind for section in container.parse(data).sections]


@pytest.mark.parametrize("case", CODED_ALPHA)
def test_the_cases_cover_coded_alpha(case):
    data = file_of(case)
    assert data[4] == 0x13
    content = container.parse(data).section(SectionType.CODED_ALPHA)
    assert len(content) == 1 if case == "alpha-constant" else content[0] == 0x2F


@pytest.mark.parametrize("case", BANDS)
def test_the_cases_cover_bands(case):
    assert len(container.parse(file_of(case)).y_streams) > 1


@pytest.mark.parametrize("case", ESCAPES)
def test_the_cases_cover_escapes(case):
    box, model = container.parse(file_of(case)), load_model_of(case)
    symbols, table_index = walked(box, model)
    z_index = streams.z_table_index(symbols.z.shape[1:])
    prior = model.decoder.entropy
    coded = ((prior.y_tables, symbols.y.ravel(), table_index.ravel()), (prior.z_tables, symbols.z.ravel(), z_index))
    assert sum((tables.entries(values, index) == tables.lengths[index] - 1).sum() for tables, values, index in coded)

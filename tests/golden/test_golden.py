"""The golden files decode, stage by stage, to what they decoded to when they were written."""

import hashlib
import json

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image
from support.golden import CASES, V1, sha256

import sgacodec
from sgacodec import decoding
from sgacodec.exact import on_torch
from sgacodec.format import container
from sgacodec.latents import streams
from sgacodec.latents.hyperprior import HyperpriorEvaluator


@pytest.fixture(params=CASES)
def case(request):
    folder = V1 / request.param
    return (folder / "file.sga").read_bytes(), json.loads((folder / "hashes.json").read_text()), folder


def test_every_stage(case, tiny_model):
    data, expected, _ = case
    box = container.parse(data)
    decoder = tiny_model.decoder
    assert box.model_id == tiny_model.model_id
    symbols = decoding.decode_latents(box, tiny_model).symbols
    assert sha256(symbols.z[0], "<i4") == expected["z"]
    context = HyperpriorEvaluator(decoder, box.level_q4).begin(symbols.z)
    assert sha256(context.table_index[0], "<i4") == expected["table_index"]
    assert sha256(symbols.y[0], "<i4") == expected["y"]
    assert sha256(decoding.reconstruct(box, tiny_model, symbols), "u1") == expected["rgb"]


def test_picture(case):
    data, _, folder = case
    decoded = sgacodec.decode(data)
    with Image.open(folder / "picture.png") as picture:
        assert decoded.mode == picture.mode
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(picture))


def test_slow_decoder_agrees(case):
    data, expected, folder = case
    stages = slow_decoder.decode(data, (V1 / "tiny.safetensors").read_bytes())
    for name in ("z", "table_index", "y"):
        assert sha256(stages[name], "<i4") == expected[name], name
    assert sha256(stages["rgb"], "u1") == expected["rgb"]
    with Image.open(folder / "picture.png") as picture:
        np.testing.assert_array_equal(stages["picture"], np.atleast_3d(np.asarray(picture)))


def test_torch_float64_agrees(case, tiny_model):
    data, expected, _ = case
    box = container.parse(data)

    def run(network, x):
        return on_torch.run(network, x, "cpu")

    symbols = decoding.decode_latents(box, tiny_model).symbols
    assert sha256(decoding.reconstruct(box, tiny_model, symbols, run), "u1") == expected["rgb"]


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


def test_the_cases_cover_bands_and_escapes(tiny_model):
    assert len(container.parse((V1 / "bands" / "file.sga").read_bytes()).y_streams) > 1
    box = container.parse((V1 / "escapes" / "file.sga").read_bytes())
    decoder = tiny_model.decoder
    symbols = decoding.decode_latents(box, tiny_model).symbols
    z, y = symbols.z, symbols.y.ravel()
    index = HyperpriorEvaluator(decoder, box.level_q4).begin(z).table_index.ravel()
    z_index = streams.z_table_index(z.shape[1:])
    escaped = (decoder.entropy.y_tables.entries(y, index) == decoder.entropy.y_tables.lengths[index] - 1).sum()
    escaped += (
        decoder.entropy.z_tables.entries(z.ravel(), z_index) == decoder.entropy.z_tables.lengths[z_index] - 1
    ).sum()
    assert escaped > 0

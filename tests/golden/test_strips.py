"""Pictures do not depend on the number of strips that g_s runs on, whose size is no part of the format."""

import numpy as np
import pytest
from PIL import Image
from support.golden import CASES, V1, WITH_MESSAGE, file_of, hashes_of, load_model_of, sha256

from sgacodec import decoding
from sgacodec.exact import fast
from sgacodec.format import container
from sgacodec.latents import synthesis


def rgb_in_strips(data, model, n_strips, monkeypatch):
    """Decode a file's pixels with g_s on this many strips of y."""
    parsed = container.parse(data)
    symbols = decoding.decode_latents(parsed, model).symbols
    height, width = symbols.y.shape[2:]
    rows = -(-height // n_strips)
    monkeypatch.setattr(synthesis, "MIN_ROWS", 1)
    monkeypatch.setattr(synthesis, "TILE_PIXELS", rows * width * model.decoder.y_stride**2)
    n_runs = 0

    def run(network, x):
        nonlocal n_runs
        n_runs += 1
        return fast.run(network, x)

    rgb = decoding.reconstruct(parsed, model, symbols, run)
    assert n_runs == n_strips
    return rgb


@pytest.mark.parametrize("n_strips", [1, 2, 4])
@pytest.mark.parametrize("case", [*CASES, *WITH_MESSAGE])
def test_golden_files_in_strips(case, n_strips, monkeypatch):
    rgb = rgb_in_strips(file_of(case), load_model_of(case), n_strips, monkeypatch)
    assert sha256(rgb, "u1") == hashes_of(case)["rgb"]
    with Image.open(V1 / case / "picture.png") as picture:
        if picture.mode == "RGB":
            np.testing.assert_array_equal(rgb, np.asarray(picture))


@pytest.mark.parametrize("n_strips", [2, 4, 8])
def test_a_picture_in_strips(n_strips, small_file, tiny_model, monkeypatch):
    whole = rgb_in_strips(small_file, tiny_model, 1, monkeypatch)
    np.testing.assert_array_equal(rgb_in_strips(small_file, tiny_model, n_strips, monkeypatch), whole)

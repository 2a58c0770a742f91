"""Pictures do not depend on the number of tiles that g_s runs on, whose size is no part of the format."""

import numpy as np
import pytest
from PIL import Image
from support.golden import CASES, V1, WITH_MESSAGE, file_of, hashes_of, load_model_of, sha256

from sgacodec import decoding
from sgacodec.exact import fast
from sgacodec.format import container
from sgacodec.latents import synthesis


def rgb_in_tiles(data, model, n_strips, monkeypatch, n_across=1):
    """Decode a file's pixels with g_s on this many strips of y, of so many tiles each."""
    parsed = container.parse(data)
    symbols = decoding.decode_latents(parsed, model).symbols
    height, width = symbols.y.shape[2:]
    shape = -(-height // n_strips), -(-width // n_across)
    monkeypatch.setattr(synthesis, "tile_shape", lambda *_: shape)
    n_runs = 0

    def run(network, x):
        nonlocal n_runs
        n_runs += 1
        return fast.run(network, x)

    rgb = decoding.reconstruct(parsed, model, symbols, run)
    stride = model.decoder.y_stride
    seen = -(-parsed.height // stride), -(-parsed.width // stride)
    assert n_runs == -(-seen[0] // shape[0]) * -(-seen[1] // shape[1])
    return rgb


@pytest.mark.parametrize("n_strips", [1, 2, 4])
@pytest.mark.parametrize("case", [*CASES, *WITH_MESSAGE])
def test_golden_files_in_strips(case, n_strips, monkeypatch):
    rgb = rgb_in_tiles(file_of(case), load_model_of(case), n_strips, monkeypatch)
    assert sha256(rgb, "u1") == hashes_of(case)["rgb"]
    with Image.open(V1 / case / "picture.png") as picture:
        if picture.mode == "RGB":
            np.testing.assert_array_equal(rgb, np.asarray(picture))


@pytest.mark.parametrize("n_across", [1, 2, 3])
@pytest.mark.parametrize("n_strips", [2, 3, 8])
def test_a_picture_in_tiles(n_strips, n_across, small_file, tiny_model, monkeypatch):
    whole = rgb_in_tiles(small_file, tiny_model, 1, monkeypatch)
    tiles = rgb_in_tiles(small_file, tiny_model, n_strips, monkeypatch, n_across)
    np.testing.assert_array_equal(tiles, whole)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 48), (4, 100_000), (100_000, 4), (188, 250), (512, 768)])
def test_tiles_are_whole_rows_or_near_squares(height, width):
    rows, columns = synthesis.tile_shape(height, width, 16)
    assert columns == width <= 128 or 32 <= columns <= 96
    assert 1 <= rows <= height
    assert rows * columns <= 4096 or rows == synthesis.MIN_ROWS

"""Pictures of any size out of tiles, and what is measured of them."""

import numpy as np
import pytest

from sgacodec_bench.speed import sizes


def test_a_mosaic_has_its_size_and_its_tiles():
    tiles = [np.full((20, 30, 3), value, np.uint8) for value in (1, 2, 3)]
    picture = sizes.mosaic(tiles, 0.012)
    assert picture.shape == (95, 127, 3)
    assert [int(picture[0, x, 0]) for x in (0, 30, 60, 90, 120)] == [1, 2, 3, 1, 2]
    assert int(picture[20, 0, 0]) == 3


def test_commands_are_measured():
    tiles = [np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)]
    rows = list(sizes.measured(tiles, 0.003, [0], "tiny"))
    assert [row["command"] for row in rows] == ["encode --iterations 0", "decode", "decode --crop"]
    assert all(row["peak_megabytes"] > 10 and row["cpu_seconds"] > 0 for row in rows)


def test_a_command_that_fails_ends_the_run():
    with pytest.raises(SystemExit, match="failed"):
        sizes.measure([*sizes.SGACODEC, "decode", "/nowhere.sga"])

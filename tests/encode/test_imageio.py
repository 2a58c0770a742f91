"""imageio reads and writes .sga files through Pillow, once the plugin is registered."""

import numpy as np
import pytest

import sgacodec
from sgacodec import pillow_plugin

imageio = pytest.importorskip("imageio.v3", reason="imageio is not installed")


def test_imageio_reads_and_writes(tmp_path, scene):
    pillow_plugin.register()
    path = tmp_path / "scene.sga"
    imageio.imwrite(path, scene, model="tiny", preset="none", device="cpu")
    assert path.read_bytes() == sgacodec.encode(
        scene, sgacodec.EncodeOptions(model="tiny", preset="none", device="cpu")
    )
    assert np.array_equal(imageio.imread(path), sgacodec.decode(path))

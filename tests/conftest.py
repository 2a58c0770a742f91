"""Fixtures: a tiny trained model, rendered scenes, and no model folder but the tests' own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

GOLDEN = Path(__file__).parent / "golden" / "v1"
TINY = "tiny"

sys.path.insert(0, str(Path(__file__).parent))
os.environ["SGACODEC_MODELS"] = str(GOLDEN)
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_model():
    from sgacodec.models.model import load_model_file

    return load_model_file(GOLDEN / "tiny.safetensors")


@pytest.fixture(scope="session")
def headed_model():
    """The tiny model with an untrained bits-back head, called tiny-head."""
    from sgacodec.models.model import load_model_file

    return load_model_file(GOLDEN / "tiny-head.safetensors")


@pytest.fixture(scope="session")
def scene():
    """A rendered picture, uint8 [96, 130, 3]."""
    from sgacodec.synthetic import render

    return render(96, 130, np.random.default_rng(5))


@pytest.fixture
def tiny_options():
    from sgacodec import EncodeOptions

    return EncodeOptions(model=TINY, preset="none", device="cpu")


@pytest.fixture(scope="session")
def small_file(scene):
    """An .sga file of the scene."""
    import sgacodec

    return sgacodec.encode(scene, sgacodec.EncodeOptions(model=TINY, preset="none", device="cpu"))


@pytest.fixture(scope="session")
def scene_files(tmp_path_factory):
    """A folder of eight rendered scenes, PNG, 96x128."""
    from PIL import Image

    from sgacodec.synthetic import render

    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(8):
        Image.fromarray(render(96, 128, np.random.default_rng(seed))).save(folder / f"{seed}.png")
    return folder

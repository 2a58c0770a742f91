"""Fixtures: a tiny trained model, rendered scenes, and no model folder but the tests' own."""

from __future__ import annotations

import os

# One thread each, before numpy and torch are loaded: their threads wait by spinning, and beside any other load the
# networks of these tests, all of them small, run ten times slower on two threads than on one. Tests that start
# processes pass it on; those of thread counts set their own.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from support import golden  # noqa: E402

TINY = "tiny"

os.environ["SGACODEC_MODELS"] = str(golden.V1)
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_model():
    from sgacodec.models.file import load_model_file

    return load_model_file(golden.V1 / "tiny.safetensors")


@pytest.fixture(scope="session")
def headed_model():
    """The tiny model with an untrained bits-back model, called tiny-head."""
    from sgacodec.models.file import load_model_file

    return load_model_file(golden.V1 / "tiny-head.safetensors")


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

"""Small files that carry a message, for damage."""

import pytest
from support.damage import LONG, SHORT, carrying
from support.golden import V1

from sgacodec.models.file import load_model_file


@pytest.fixture(scope="session", params=SHORT)
def carrying_model(request):
    """A model with a bits-back model."""
    return load_model_file(V1 / f"{request.param}.safetensors")


@pytest.fixture(scope="session")
def small(scene, carrying_model):
    """A file whose latents carry all of a message."""
    return carrying(scene[:20, :20], carrying_model.name, SHORT[carrying_model.name])


@pytest.fixture(scope="session")
def spilling(scene, carrying_model):
    """A file whose latents carry a part of a message; the rest stands in a section."""
    return carrying(scene[:20, :20], carrying_model.name, LONG)

"""Small files that carry a message, for damage."""

import pytest
from support.damage import CARRYING, LONG, SHORT

import sgacodec


@pytest.fixture(scope="session")
def small(scene):
    """A file whose latents carry all of a message."""
    return sgacodec.encode(scene[:20, :20], CARRYING, message=SHORT)


@pytest.fixture(scope="session")
def spilling(scene):
    """A file whose latents carry a part of a message; the rest stands in a section."""
    return sgacodec.encode(scene[:20, :20], CARRYING, message=LONG)

"""Commands run in an empty folder, with a picture in it."""

import pytest
from click.testing import CliRunner
from PIL import Image

from sgacodec_cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, data=None):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=data)

    return invoke


@pytest.fixture
def png(tmp_path, scene):
    path = tmp_path / "scene.png"
    Image.fromarray(scene).save(path)
    return path

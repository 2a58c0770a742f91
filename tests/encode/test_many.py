"""encode_many: results in the order of the paths, the same bytes as alone, errors as results."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.odd_images import phone_exif

import sgacodec
from sgacodec import many
from sgacodec.metrics import psnr_db
from sgacodec.models import store
from sgacodec.picture import read_picture


@pytest.fixture
def paths(scene_files, tmp_path):
    """Two pictures, and between them a text and a file that is not there."""
    (tmp_path / "text.png").write_text("hello")
    return [scene_files / "0.png", tmp_path / "text.png", str(tmp_path / "none.png"), str(scene_files / "1.png")]


def check(results, paths, options):
    assert [result.index for result in results] == [0, 1, 2, 3]
    assert [result.path for result in results] == paths
    first, text, none, last = results
    for result in (first, last):
        assert result.error is None
        with Image.open(result.path) as image:
            assert result.data == sgacodec.encode(image, options)
            assert (result.width, result.height) == image.size
        assert result.bpp == 8 * len(result.data) / (result.width * result.height)
        decoded = np.asarray(sgacodec.decode(result.data))
        assert result.psnr_db == psnr_db(read_picture(Path(result.path)).rgb, decoded)
        assert result.seconds > 0
    for result, words in ((text, "is not an image"), (none, "does not exist")):
        assert isinstance(result.error, sgacodec.InvalidImageError)
        assert words in str(result.error)
        assert result.data is result.width is result.bpp is result.psnr_db is None


@pytest.mark.parametrize("in_order", [True, False])
def test_one_after_the_other(paths, tiny_options, in_order):
    check(list(sgacodec.encode_many(paths, tiny_options, in_order=in_order)), paths, tiny_options)


@pytest.mark.slow
def test_two_at_once(paths, monkeypatch):
    """Every process has one thread here, as this one has; with others, sums differ."""
    options = sgacodec.EncodeOptions(model="tiny", iterations=3, device="cpu")
    steps = []
    results = list(
        sgacodec.encode_many(paths, options, jobs=2, report=lambda path, progress: steps.append((path, progress.step)))
    )
    check(results, paths, options)
    for path in (paths[0], paths[3]):
        assert [step for of, step in steps if of == path] == [1, 2, 3]


def test_pictures_are_encoded_as_they_are_asked_for(paths, tiny_options, monkeypatch):
    results = sgacodec.encode_many(paths, tiny_options)
    assert next(results).data is not None
    monkeypatch.setattr(many, "read_picture", pytest.fail)
    results.close()
    assert list(results) == []


def test_the_model_is_read_once(paths, tiny_options, monkeypatch):
    store._load.cache_clear()
    honest, loaded = store.load_model_file, []
    monkeypatch.setattr(store, "load_model_file", lambda path: loaded.append(path) or honest(path))
    list(sgacodec.encode_many(paths, tiny_options))
    assert len(loaded) == 1


def test_messages(paths, tiny_options):
    carried = [
        sgacodec.decode(next(sgacodec.encode_many(paths, tiny_options, message=message)).data, extract=True)
        for message in ("a lake", lambda picture: str(picture.rgb.shape), lambda picture: None)
    ]
    assert [image.info.get("message") for image in carried] == ["a lake", "(96, 128, 3)", None]


def test_warnings_come_with_their_picture(scene, tmp_path, tiny_options):
    Image.fromarray(scene).save(tmp_path / "a.png", dpi=(300, 300))
    Image.fromarray(scene).save(tmp_path / "b.png")
    a, b = sgacodec.encode_many([tmp_path / "a.png", tmp_path / "b.png"], tiny_options)
    assert ["resolution" in warning for warning in a.warnings] == [True]
    assert b.warnings == ()


def test_a_limit_of_pixels(paths, tiny_options):
    result = next(sgacodec.encode_many(paths, tiny_options, max_pixels=100))
    assert "over the limit of 100" in str(result.error)


def test_nothing_to_do():
    assert list(sgacodec.encode_many([], sgacodec.EncodeOptions(model="nope"))) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a.png"], {"quality": 3}), "must be sgacodec.EncodeOptions"),
        (("a.png",), "must be several"),
        ((Path("a.png"),), "must be several"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(arguments, words):
    with pytest.raises(sgacodec.OptionError, match=words):
        sgacodec.encode_many(*arguments)
    with pytest.raises(sgacodec.OptionError, match="jobs is 0"):
        sgacodec.encode_many([], jobs=0)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_holds_for_all_is_raised(paths, jobs):
    with pytest.raises(sgacodec.ModelNotFoundError, match="nope"):
        next(sgacodec.encode_many(paths, sgacodec.EncodeOptions(model="nope"), jobs=jobs))


def test_without_torch(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "sgacodec.encoding")
    monkeypatch.delattr(sgacodec, "encoding")
    with pytest.raises(sgacodec.EncodeError, match="pip install"):
        next(sgacodec.encode_many(paths))


@pytest.mark.slow
def test_a_program_without_a_main_guard_is_told(tmp_path, scene_files):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, sgacodec\n"
        "options = sgacodec.EncodeOptions(model='tiny', preset='none', device='cpu')\n"
        "list(sgacodec.encode_many(sys.argv[1:], options, jobs=2))\n"
    )
    command = [sys.executable, program, scene_files / "0.png", scene_files / "1.png"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=100, check=False)
    assert done.returncode == 1
    assert 'if __name__ == "__main__"' in done.stderr.splitlines()[-1]


def test_metadata_are_left_out_of_all(scene, tmp_path, tiny_options):
    for name in ("a.jpg", "b.png"):
        Image.fromarray(scene).save(tmp_path / name, exif=phone_exif())
    results = list(sgacodec.encode_many(sorted(tmp_path.iterdir()), replace(tiny_options, strip="gps")))
    for result in results:
        info = sgacodec.read_info(result.data)
        assert info.exif.camera == "Apple iPhone 15"
        assert not info.has_position

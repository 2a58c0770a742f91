"""Training images: what is used, what is skipped and said, what the crops are."""

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgacodec.errors import TrainError
from sgacodec.train.data.crops import enlarged_crops, level_sequence, random_crops, training_crops
from sgacodec.train.data.drawn import draw_over
from sgacodec.train.data.images import ImageSet, load_images
from sgacodec.train.options import TrainOptions

CPU = torch.device("cpu")


def load(*paths, patch_size=64, n_validation=2):
    return load_images(paths, patch_size, n_validation, CPU)


@pytest.fixture
def scene_zip(scene_files, tmp_path):
    path = tmp_path / "scenes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(scene_files.iterdir()):
            archive.write(file, f"inner/{file.name}")
    return path


def test_a_zip_and_a_folder_give_the_same(scene_files, scene_zip):
    folder, archive = load(scene_files), load(scene_zip)
    assert torch.equal(folder.train.pixels, archive.train.pixels)
    assert torch.equal(folder.validation, archive.validation)
    assert folder.fingerprint == archive.fingerprint
    assert (len(folder.train), len(folder.validation)) == (7, 1)
    assert folder.train.pixels.shape == (7 * 96 * 128, 3)
    assert folder.train.pixels.dtype == torch.uint8


def test_equal_files_count_once(scene_files, scene_zip):
    assert len(load(scene_files, scene_zip).train) == 7


def test_held_out_images_are_not_trained_on(scene_files):
    dataset = load(scene_files)
    assert dataset.validation.shape == (1, 3, 64, 64)
    images = dataset.train.pixels.reshape(7, 96, 128, 3)
    centres = images[:, 16:80, 32:96].permute(0, 3, 1, 2)
    assert not any(torch.equal(centre, dataset.validation[0]) for centre in centres)


def test_what_cannot_be_used_is_skipped_by_name(scene_files, tmp_path, caplog):
    whole = (scene_files / "0.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no image")
    Image.fromarray(np.zeros((63, 200, 3), np.uint8)).save(tmp_path / "flat.png")
    with caplog.at_level(logging.WARNING):
        assert len(load(scene_files, tmp_path).train) == 7
    messages = [record.getMessage() for record in caplog.records]
    assert any("half.png is damaged" in message for message in messages)
    assert any("notes.txt is not an image" in message for message in messages)
    assert "skipped 1 images that are smaller than a patch of 64x64" in messages


def test_a_damaged_member_of_a_zip_is_skipped_by_name(scene_zip, caplog):
    content = bytearray(scene_zip.read_bytes())
    content[2000] ^= 255  # inside the first member, which is stored
    scene_zip.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert len(load(scene_zip).train) == 6
    assert "scenes.zip:inner/0.png" in caplog.text


def test_nothing_left_is_an_error(scene_files, tmp_path):
    with pytest.raises(TrainError, match="0 images of at least 256x256 pixels"):
        load(scene_files, patch_size=256)
    with pytest.raises(TrainError, match="neither a folder nor a zip"):
        load(scene_files / "0.png")
    with pytest.raises(TrainError, match="neither a folder nor a zip"):
        load(tmp_path / "missing.zip")


def coordinates(height, width):
    """Return the pixels of a picture of its own rows and columns."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint8)
    return torch.from_numpy(np.stack([rows, columns, 0 * rows], -1).reshape(-1, 3))


def test_about_half_of_the_crops_are_enlarged():
    images = ImageSet(coordinates(200, 200), torch.tensor([[200, 200]]))
    plain = random_crops(images, 200, 64, torch.Generator().manual_seed(0))
    assert torch.equal(enlarged_crops(images, 200, 64, 1.0, torch.Generator().manual_seed(0)), plain)
    x = enlarged_crops(images, 200, 64, 2.0, torch.Generator().manual_seed(0))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((x * 255).round() / 255, x)
    same = (x == plain).flatten(1).all(1)
    assert 70 < same.sum() < 130
    extent = ((x.amax((2, 3)) - x.amin((2, 3))) * 255).round()[~same][:, :2]
    assert extent.min() == 31  # 32 pixels became 64
    assert extent.max() == 62


def batch_of(images, count, **options):
    return training_crops(
        images, count, TrainOptions(steps=1, patch_size=64, **options), torch.Generator().manual_seed(0)
    )


def test_some_patches_are_drawn_over_and_some_have_their_colours_swapped():
    images = ImageSet(coordinates(200, 200), torch.tensor([[200, 200]]))
    plain = batch_of(images, 200)
    assert torch.equal(plain, enlarged_crops(images, 200, 64, 1.0, torch.Generator().manual_seed(0)))
    x = batch_of(images, 200, drawn=0.2)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((x * 255).round() / 255, x)
    changed = ~(x == plain).flatten(1).all(1)
    swapped = torch.tensor([bool((crop.flatten(1).amax(1) == 0).any()) for crop in x]) & changed
    assert 20 < swapped.sum() < 60  # one of six orders is the one that was; the blue of these pixels is 0
    assert torch.equal(x[swapped].sum(1), plain[swapped].sum(1))
    assert 25 < (changed & ~swapped).sum() < 60
    assert torch.equal(x, batch_of(images, 200, drawn=0.2))


def test_drawn_patches_have_flat_areas_edges_and_patterns():
    generator = torch.Generator().manual_seed(0)
    patches = torch.full((40, 3, 64, 64), 0.5)
    for patch in patches:
        draw_over(patch, generator)
    assert patches.min() >= 0
    assert patches.max() <= 1
    steps = patches.diff(dim=3).abs().amax(1)
    assert (steps == 0).float().mean() > 0.5
    assert (steps > 0.5).flatten(1).any(1).float().mean() > 0.8
    alternating = ((steps[..., :-1] > 0) & (steps[..., 1:] > 0)).flatten(1).any(1)
    assert 0.3 < alternating.float().mean() < 1


def test_crops_are_parts_of_the_images():
    """Every crop of a picture of coordinates is a window, mirrored or transposed or neither."""
    height, width = 70, 90
    images = ImageSet(
        torch.cat([torch.full((64 * 64, 3), 255, dtype=torch.uint8), coordinates(height, width)]),
        torch.tensor([[64, 64], [height, width]]),
    )
    x = random_crops(images, 40, 64, torch.Generator().manual_seed(0))
    assert x.shape == (40, 3, 64, 64)
    assert x.is_contiguous(memory_format=torch.channels_last)
    seen = set()
    for crop in (x * 255).round().long():
        if crop[2].min() == 255:  # the other image
            continue
        row_steps, column_steps = crop[0].diff(dim=0), crop[1].diff(dim=1)
        transposed = bool((row_steps == 0).all())
        if transposed:
            row_steps, column_steps = crop[0].diff(dim=1), crop[1].diff(dim=0)
        assert set(row_steps.unique().tolist()) | set(column_steps.unique().tolist()) <= {1, -1}
        assert len(row_steps.unique()) == len(column_steps.unique()) == 1
        seen.add((transposed, int(row_steps[0, 0]), int(column_steps[0, 0])))
    assert len(seen) == 4
    again = random_crops(images, 40, 64, torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


def test_a_batch_has_its_levels_in_turn():
    generator = torch.Generator().manual_seed(0)
    batches = [level_sequence(8, 4, generator) for _ in range(100)]
    assert all(len(batch.unique()) == 4 for batch in batches)
    assert torch.cat(batches).unique().tolist() == list(range(8))
    assert torch.bincount(level_sequence(8, 20, generator)).sort().values.tolist() == [2] * 4 + [3] * 4


# --- what cannot be read ---------------------------------------------------------------------------------------------


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(path.read_bytes())


def damage_content(archive, name):
    at = archive.index(name.encode()) + len(name)
    archive[at + 10 : at + 60] = bytes(50)


def set_method(archive, name, method):
    set_field(archive, name, 8, 10, method)


def set_flags(archive, name, flags):
    set_field(archive, name, 6, 8, flags)


def set_field(archive, name, local, central, value):
    """Set a field of two bytes in an entry's local header and in its entry of the directory."""
    first, last = archive.index(name.encode()), archive.rindex(name.encode())
    for at in (first - 30 + local, last - 46 + central):
        archive[at : at + 2] = value.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("compression", "break_it"),
    [
        (zipfile.ZIP_DEFLATED, damage_content),
        (zipfile.ZIP_LZMA, damage_content),
        (zipfile.ZIP_BZIP2, damage_content),
        (zipfile.ZIP_STORED, damage_content),
        (zipfile.ZIP_STORED, lambda archive, name: set_method(archive, name, 99)),
        (zipfile.ZIP_STORED, lambda archive, name: set_flags(archive, name, 1)),
        (zipfile.ZIP_STORED, lambda archive, name: archive.__setitem__(archive.index(name.encode()), 0)),
    ],
    ids=["deflate", "lzma", "bzip2", "stored", "unknown method", "encrypted", "other name"],
)
def test_entries_that_cannot_be_read_are_skipped_by_name(compression, break_it, tmp_path, scene_files, caplog):
    files = {f"{n}.png": (scene_files / f"{n}.png").read_bytes() for n in range(3)}
    path = tmp_path / "some.zip"
    archive = zipped(path, {"broken.png": np.random.default_rng(0).bytes(3000), **files}, compression)
    break_it(archive, "broken.png")
    path.write_bytes(archive)
    assert len(load_images([path], 64, 1, CPU).train) == 2
    assert "skipped" in caplog.text
    assert "broken.png" in caplog.text


def test_whatever_reading_raises_skips_the_file(tmp_path, scene_files, caplog, monkeypatch):
    def fail(self):
        if self.name == "0.png":
            raise MemoryError
        return original(self)

    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", fail)
    assert len(load_images([scene_files], 64, 1, CPU).train) == 6
    assert "0.png cannot be read: MemoryError" in caplog.text


def test_archives_whose_directory_is_damaged(tmp_path, scene_files):
    whole = zipped(tmp_path / "some.zip", {"0.png": (scene_files / "0.png").read_bytes()})
    rng = np.random.default_rng(0)
    for _ in range(50):
        archive = bytearray(whole)
        archive[len(archive) - rng.integers(1, 80)] ^= rng.integers(1, 256)
        (tmp_path / "some.zip").write_bytes(archive)
        with pytest.raises(TrainError):
            load_images([tmp_path / "some.zip"], 64, 1, CPU)

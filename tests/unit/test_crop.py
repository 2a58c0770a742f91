"""A part of a picture is what it is in the whole, whatever bands and tiles it lies in; what is read is what it needs."""

import numpy as np
import pytest
from support.damage import with_pixel_crc
from support.golden import CASES, WITH_MESSAGE, file_of

import sgacodec
from sgacodec.decoding import decode_into
from sgacodec.errors import ChecksumError, OptionError
from sgacodec.format import container
from sgacodec.latents import streams, synthesis
from sgacodec.latents.entropy_model import evaluator
from sgacodec.models import store
from sgacodec.picture import NoSink


def crops_of(width, height):
    """At every kind of edge, over bands, of one pixel, and the whole."""
    half = max(1, width // 2), max(1, height // 2)
    return {
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, 1, 1),
        (width // 2, height // 2, 1, 1),
        (0, 0, *half),
        (width - half[0], height - half[1], *half),
        (width // 3, 0, max(1, width // 3), height),
        (0, height // 3, width, max(1, height // 3)),
        (min(15, width - 1), min(17, height - 1), max(1, width - 32), max(1, height - 33)),
    }


@pytest.mark.parametrize("case", [*CASES, *WITH_MESSAGE])
def test_crops_of_golden_files(case, monkeypatch):
    monkeypatch.setattr(synthesis, "TILE_PIXELS", 32 * 32)
    monkeypatch.setattr(synthesis, "MIN_ROWS", 1)
    data = file_of(case)
    whole = sgacodec.decode(data)
    for left, top, width, height in crops_of(*whole.size):
        part = sgacodec.decode(data, crop=(left, top, width, height))
        expected = whole.crop((left, top, left + width, top + height))
        assert (part.mode, part.size) == (expected.mode, (width, height))
        assert part.tobytes() == expected.tobytes()
        assert part.info == whole.info


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ((0, 0, 131, 96), "columns 0 to 130 and rows 0 to 95, and the picture 0 to 129 and 0 to 95"),
        ((-1, 0, 5, 5), "columns -1 to 3"),
        ((0, 96, 1, 1), "rows 96 to 96"),
        ((0, 0, 0, 5), "0 x 5 pixels; it must have at least one"),
        ((0, 0, 5, -5), "5 x -5 pixels"),
        ((0, 0, 5), "four integers"),
        ((0, 0, 5, 5.0), "four integers"),
        ((0, 0, 5, True), "four integers"),
        ("0,0,5,5", "four integers"),
    ],
)
def test_what_is_no_part_of_the_picture(crop, message, small_file):
    with pytest.raises(OptionError, match=message):
        sgacodec.decode(small_file, crop=crop)


@pytest.mark.parametrize("case", ["bands", "context-bands"])
def test_only_the_bands_that_a_crop_needs_are_read(case, monkeypatch):
    data = file_of(case)
    parsed = container.parse(data)
    opened = []
    open_band = streams.Reader.open
    monkeypatch.setattr(streams.Reader, "open", lambda self, rows: opened.append(rows) or open_band(self, rows))
    sgacodec.decode(data)
    bands = list(opened)
    assert len(bands) == len(parsed.y_streams) > 1
    opened.clear()
    sgacodec.decode(data, crop=(0, parsed.height - 1, 1, 1))
    assert opened == bands[-len(opened) :]
    assert len(opened) < len(bands)


def test_the_checksum_of_the_picture_is_that_of_all_its_pixels(small_file):
    data = with_pixel_crc(small_file, 0)
    with pytest.raises(ChecksumError, match="pixel CRC"):
        sgacodec.decode(data)
    with pytest.raises(ChecksumError, match="pixel CRC"):
        sgacodec.decode(data, crop=(0, 0, 130, 96))
    with pytest.raises(ChecksumError, match="pixel CRC"):
        decode_into(data, NoSink())
    assert sgacodec.decode(data, crop=(0, 0, 129, 96)).size == (129, 96)


@pytest.mark.parametrize("flipped", [0.3, 0.6, 0.9])
def test_the_checksum_of_the_file_is_checked_for_a_crop(flipped, small_file):
    damaged = bytearray(small_file)
    damaged[int(flipped * len(damaged))] ^= 1
    with pytest.raises(sgacodec.FormatError):
        sgacodec.decode(bytes(damaged), crop=(0, 0, 1, 1))


@pytest.mark.parametrize("case", ["scene", "context", "context-passes"])
@pytest.mark.parametrize("n_bands", [1, 2, 3, 7])
def test_what_is_known_of_a_band_is_a_part_of_what_is_known_of_all(case, n_bands):
    parsed = container.parse(file_of(case))
    decoder = store.load_by_id(parsed.model_id).decoder
    z = np.random.default_rng(n_bands).integers(-9, 9, (1, decoder.n_channels, 7, 3), dtype=np.int32)
    model = evaluator(decoder, parsed.level_q4)
    whole = model.begin(z)
    for rows in streams.y_bands(decoder, 7, n_bands):
        part = model.begin(z, rows)
        for found, expected in zip(arrays_of(part), arrays_of(whole), strict=True):
            np.testing.assert_array_equal(found, expected[:, :, rows])


def arrays_of(context):
    return [context] if isinstance(context, np.ndarray) else [context.centre_q, context.table_index]

"""Files with message: a second decoder extracts it too, and so does any number of threads."""

import json
from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image
from support.golden import V1, sha256

import sgacodec
from sgacodec import decoding, encoding
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed, posterior
from sgacodec.bitsback.extract import read_carriers
from sgacodec.format import container
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan

HEADED = V1 / "tiny-head.safetensors"
TEXT = "A lake, mountains behind it, and " * 3


@pytest.fixture
def golden():
    """The pinned file, what it must decode to, and its folder."""
    folder = V1 / "side-information"
    return (folder / "file.sga").read_bytes(), json.loads((folder / "hashes.json").read_text()), folder


def encoded(picture, side_information, **settings):
    """Encode with the model that has a head and with these settings."""
    options = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu")
    plan = replace(make_plan(options), embedding=embed.Settings(**settings))
    return encoding.encode_with(plan, to_picture(picture), None, side_information).data


def y_table_index(model, carriers, z):
    """The table of each y, of P(y | z)."""
    head = heads.bits_back_of(model)
    on_lattice = heads.lattice_mask(head, carriers, z.shape[1:])
    return heads.y_grid(head, heads.z_hat_q(head, z, on_lattice, carriers.exponent)).table_index


def test_the_golden_file_stage_by_stage(golden, headed_model):
    data, expected, _ = golden
    box = container.parse(data)
    assert box.model_id == headed_model.bits_back_id
    carriers = read_carriers(box)
    assert (carriers.n, carriers.exponent, carriers.steps) == (35, 3, 16)
    latents = decoding.decode_latents(box, headed_model)
    symbols = latents.symbols
    assert sha256(symbols.z[0], "<i4") == expected["z"]
    assert sha256(y_table_index(headed_model, carriers, symbols.z)[0], "<i4") == expected["table_index"]
    assert sha256(symbols.y[0], "<i4") == expected["y"]
    assert sha256(decoding.reconstruct(box, headed_model, symbols), "u1") == expected["rgb"]
    assert decoding.read_message(box, headed_model, latents) == expected["side_information"]


def test_the_golden_file_gives_picture_and_message(golden):
    data, expected, folder = golden
    decoded = sgacodec.decode(data, extract=True)
    assert decoded.info["message"] == expected["side_information"]
    assert expected["side_information"].startswith("Häuser am See")
    with Image.open(folder / "picture.png") as picture:
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(picture))


@pytest.mark.slow
def test_the_slow_decoder_reads_the_golden_file(golden):
    data, expected, folder = golden
    stages = slow_decoder.decode(data, HEADED.read_bytes())
    for name in ("z", "table_index", "y"):
        assert sha256(stages[name], "<i4") == expected[name], name
    assert sha256(stages["rgb"], "u1") == expected["rgb"]
    assert stages["side_information"] == expected["side_information"]
    with Image.open(folder / "picture.png") as picture:
        np.testing.assert_array_equal(stages["picture"], np.asarray(picture))


@pytest.mark.parametrize(
    ("side_information", "settings"),
    [
        (TEXT, {"steps": 0}),
        (TEXT, {"steps": 2}),
        (TEXT, {"steps": 1, "exponent": 0}),
        (b"", {"steps": 3}),
        (bytes(range(256)) * 2, {"steps": 2, "exponent": 4}),
    ],
)
def test_slow_decoder_agrees(side_information, settings, scene, headed_model):
    picture = scene[:64, :70]
    data = encoded(picture, side_information, **settings)
    stages = slow_decoder.decode(data, HEADED.read_bytes())
    box = container.parse(data)
    symbols = decoding.decode_latents(box, headed_model).symbols
    np.testing.assert_array_equal(stages["z"], symbols.z[0])
    np.testing.assert_array_equal(stages["y"], symbols.y[0])
    head, carriers = heads.bits_back_of(headed_model), read_carriers(box)
    np.testing.assert_array_equal(stages["table_index"], y_table_index(headed_model, carriers, symbols.z)[0])
    assert carriers.steps == settings["steps"]
    analysis = heads.analyse(head, symbols.y)
    on_lattice = heads.lattice_mask(head, carriers, symbols.z.shape[1:])
    z_q = heads.z_hat_q(head, symbols.z, on_lattice, carriers.exponent)
    observed = posterior.Observed(symbols.y, z_q, heads.carrier_mask(head, carriers, analysis))
    np.testing.assert_array_equal(stages["is_carrier"], observed.is_carrier[0])
    amortised = heads.amortised_posterior(head, analysis, carriers.exponent)
    refined = posterior.refine(head, amortised, observed, carriers.steps)
    np.testing.assert_array_equal(stages["posterior"], refined.mean[0])
    assert stages["side_information"] == side_information
    decoded = sgacodec.decode(data, extract=True)
    assert decoded.info["message"] == side_information
    np.testing.assert_array_equal(stages["picture"], np.asarray(decoded))


def test_slow_decoder_reads_an_appended_section(tiny_options, scene):
    data = sgacodec.encode(scene[:40, :30], tiny_options, message=TEXT)
    stages = slow_decoder.decode(data, (V1 / "tiny.safetensors").read_bytes())
    assert stages["side_information"] == sgacodec.decode(data, extract=True).info["message"] == TEXT


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_thread_counts_agree(threads, golden, run_with_threads):
    _, expected, folder = golden
    code = (
        "import sys, hashlib, sgacodec\n"
        "decoded = sgacodec.decode(open(sys.argv[1], 'rb').read(), extract=True)\n"
        "print(hashlib.sha256(decoded.tobytes()).hexdigest(), ascii(decoded.info['message']))\n"
        "assert 'torch' not in sys.modules and 'compressai' not in sys.modules\n"
    )
    assert (
        run_with_threads(threads, code, folder / "file.sga") == f"{expected['rgb']} {expected['side_information']!a}\n"
    )

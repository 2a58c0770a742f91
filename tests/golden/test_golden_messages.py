"""Files with message: a second decoder extracts it too, and so does any number of threads."""

from dataclasses import replace

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image
from support.golden import V1, WITH_MESSAGE, file_of, hashes_of, load_model_of, model_bytes, sha256

import sgacodec
from sgacodec import decoding, encoding
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed, posterior
from sgacodec.bitsback.extract import read_carriers
from sgacodec.format import container
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan

CARRIERS = {"side-information": (35, 3, 16), "context-message": (28, 4, 0)}
TEXT = "A lake, mountains behind it, and " * 3


@pytest.fixture(params=WITH_MESSAGE)
def case(request):
    return request.param


def encoded(case, picture, side_information, **settings):
    """Encode with the model of a golden file and with these settings."""
    options = sgacodec.EncodeOptions(model=WITH_MESSAGE[case], preset="none", device="cpu")
    plan = replace(make_plan(options), embedding=embed.Settings(**settings))
    return encoding.encode_with(plan, to_picture(picture), None, side_information).data


class TableIndex(embed._Recorder):
    """Goes through a y that is known, and keeps the table of every y, of P(y | z)."""

    def __init__(self, y, frac_bits):
        super().__init__(y, frac_bits)
        self.found = np.zeros(y.shape, np.int64)

    def visit(self, part, tables):
        self.found[part.where] = part.table_index.reshape(self.found[part.where].shape)
        return super().visit(part, tables)


def y_table_index(head, carriers, symbols):
    """The table of each y, of P(y | z)."""
    visitor = TableIndex(symbols.y, head.decoder.y_frac_bits)
    on_lattice = heads.lattice_mask(head, carriers, symbols.z.shape[1:])
    heads.walk_y(head, symbols.z, on_lattice, carriers.exponent, visitor)
    return visitor.found


def test_the_golden_file_stage_by_stage(case):
    expected, model, box = hashes_of(case), load_model_of(case), container.parse(file_of(case))
    assert box.model_id == model.bits_back_id
    carriers = read_carriers(box)
    assert (carriers.n, carriers.exponent, carriers.steps) == CARRIERS[case]
    latents = decoding.decode_latents(box, model)
    symbols = latents.symbols
    head = heads.bits_back_of(model, box.level_q4)
    assert sha256(symbols.z[0], "<i4") == expected["z"]
    assert sha256(y_table_index(head, carriers, symbols)[0], "<i4") == expected["table_index"]
    assert sha256(symbols.y[0], "<i4") == expected["y"]
    assert sha256(decoding.reconstruct(box, model, symbols), "u1") == expected["rgb"]
    assert decoding.read_message(box, model, latents) == expected["side_information"]


def test_the_golden_file_gives_picture_and_message(case):
    expected, decoded = hashes_of(case), sgacodec.decode(file_of(case), extract=True)
    assert decoded.info["message"] == expected["side_information"]
    assert expected["side_information"].startswith("Häuser am See")
    with Image.open(V1 / case / "picture.png") as picture:
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(picture))


@pytest.mark.parametrize("case", [pytest.param("side-information", marks=pytest.mark.slow), "context-message"])
def test_the_slow_decoder_reads_the_golden_file(case):
    expected, stages = hashes_of(case), slow_decoder.decode(file_of(case), model_bytes(case))
    for name in ("z", "table_index", "y"):
        assert sha256(stages[name], "<i4") == expected[name], name
    assert sha256(stages["rgb"], "u1") == expected["rgb"]
    assert stages["side_information"] == expected["side_information"]
    with Image.open(V1 / case / "picture.png") as picture:
        np.testing.assert_array_equal(stages["picture"], np.asarray(picture))


@pytest.mark.parametrize(
    ("case", "side_information", "settings"),
    [
        ("side-information", TEXT, {"steps": 0, "must_carry": True}),
        ("side-information", TEXT, {"steps": 2, "must_carry": True}),
        ("side-information", TEXT, {"steps": 1, "exponent": 0}),
        ("side-information", b"", {"steps": 3, "must_carry": True}),
        ("side-information", bytes(range(256)) * 2, {"steps": 2, "exponent": 4}),
        ("context-message", b"abc", {"steps": 0, "exponent": 0, "must_carry": True}),
        ("context-message", bytes(range(256)) * 2, {"steps": 0, "exponent": 4}),
    ],
)
def test_slow_decoder_agrees(case, side_information, settings, scene):
    picture, model = scene[:64, :70], load_model_of(case)
    data = encoded(case, picture, side_information, **settings)
    stages = slow_decoder.decode(data, model_bytes(case))
    box = container.parse(data)
    symbols = decoding.decode_latents(box, model).symbols
    np.testing.assert_array_equal(stages["z"], symbols.z[0])
    np.testing.assert_array_equal(stages["y"], symbols.y[0])
    head, carriers = heads.bits_back_of(model, box.level_q4), read_carriers(box)
    np.testing.assert_array_equal(stages["table_index"], y_table_index(head, carriers, symbols)[0])
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
def test_thread_counts_agree(threads, case, run_with_threads):
    expected = hashes_of(case)
    code = (
        "import sys, hashlib, sgacodec\n"
        "decoded = sgacodec.decode(open(sys.argv[1], 'rb').read(), extract=True)\n"
        "print(hashlib.sha256(decoded.tobytes()).hexdigest(), ascii(decoded.info['message']))\n"
        "assert 'torch' not in sys.modules and 'compressai' not in sys.modules\n"
    )
    found = run_with_threads(threads, code, V1 / case / "file.sga")
    assert found == f"{expected['rgb']} {expected['side_information']!a}\n"

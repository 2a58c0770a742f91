"""Files with side information: a second decoder extracts it too, and so does any number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sgacodec
from sgacodec import bbvi, container, decoding, encoding, sideinfo
from sgacodec import head as heads

sys.path.insert(0, str(Path(__file__).parent))
import slow_decoder

TEXT = "A lake, mountains behind it, and " * 3


@pytest.fixture
def embed(monkeypatch):
    """Encodes with the model that has a head and with these settings."""

    def encode(picture, side_information, **settings):
        def with_settings(head, y, content):
            return EMBED(head, y, content, sideinfo.Settings(**settings))

        monkeypatch.setattr(encoding.sideinfo, "embed", with_settings)
        options = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu")
        return encoding.encode(picture, options, side_information=side_information)

    return encode


EMBED = sideinfo.embed


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
def test_slow_decoder_agrees(side_information, settings, embed, scene, headed_model, headed_folder):
    picture = scene[:64, :70]
    data = embed(picture, side_information, **settings)
    stages = slow_decoder.decode(data, (headed_folder / "tiny-head.safetensors").read_bytes())
    box = container.parse(data)
    symbols = decoding.decode_symbols(box, headed_model)
    np.testing.assert_array_equal(stages["z"], symbols.z[0])
    np.testing.assert_array_equal(stages["y"], symbols.y[0])
    np.testing.assert_array_equal(stages["table_index"], symbols.parameters.table_index[0])
    head, carriers = heads.of_model(headed_model), sideinfo.read_carriers(box)
    assert carriers.steps == settings["steps"]
    mask = heads.carrier_mask(head, carriers.n, symbols.z.shape[1:])
    observed = bbvi.Observed(symbols.y, heads.z_hat_q(head, symbols.z, mask, carriers.exponent), mask)
    amortised = heads.amortised_posterior(head, heads.analyse(head, symbols.y), carriers.exponent)
    refined = bbvi.refine(head, amortised, observed, carriers)
    np.testing.assert_array_equal(stages["posterior"], np.concatenate([refined.mean, refined.sigma]))
    assert stages["side_information"] == side_information
    decoded = sgacodec.decode(data, extract=True)
    assert decoded.info["side_information"] == side_information
    np.testing.assert_array_equal(stages["picture"], np.asarray(decoded))


def test_slow_decoder_reads_an_appended_section(tiny_options, scene):
    data = sgacodec.encode(scene[:40, :30], tiny_options, side_information=TEXT)
    stages = slow_decoder.decode(data, (Path(__file__).parent / "v1" / "tiny.safetensors").read_bytes())
    assert stages["side_information"] == sgacodec.decode(data, extract=True).info["side_information"] == TEXT


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_thread_counts_agree(threads, embed, scene, headed_model, headed_folder, tmp_path):
    path = tmp_path / "scene.sga"
    path.write_bytes(embed(scene, TEXT, steps=5))
    code = (
        "import sys, sgacodec\n"
        "print(sgacodec.decode(open(sys.argv[1], 'rb').read(), extract=True).info['side_information'])\n"
        "assert 'torch' not in sys.modules and 'compressai' not in sys.modules\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == TEXT + "\n"

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from sgacodec.entropy.tables import TableSet
from sgacodec.errors import ModelError, ModelMismatchError, ModelNotFoundError
from sgacodec.exact.layers import Clamp, Conv
from sgacodec.models import store
from sgacodec.models.file import dump_model, load_model
from sgacodec.models.model import make_model


def test_round_trip(tiny_model):
    again = load_model(dump_model(tiny_model))
    assert again.model_id == tiny_model.model_id
    assert again.lambdas == tiny_model.lambdas
    np.testing.assert_array_equal(again.decoder.inv_gain_y, tiny_model.decoder.inv_gain_y)


def with_prior(decoder, **changes):
    return replace(decoder, entropy=replace(decoder.entropy, **changes))


def test_the_id_covers_the_decoder_and_nothing_else(tiny_model):
    def remake(**changes):
        parts = {"name": "x", "lambdas": tiny_model.lambdas, "decoder": tiny_model.decoder}
        return make_model(**{**parts, **changes}, encoder=tiny_model.encoder, card={"a": "b"}).model_id

    assert remake() == tiny_model.model_id
    median = tiny_model.decoder.entropy.z_median.copy()
    median[0] += 1
    assert remake(decoder=with_prior(tiny_model.decoder, z_median=median)) != tiny_model.model_id


def test_altered_decoder_is_noticed(tiny_model):
    data = bytearray(dump_model(tiny_model))
    name = b'"decoder.z_median":'
    n = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + n])["decoder.z_median"]
    assert name in data
    data[8 + n + entry["data_offsets"][0]] ^= 1
    with pytest.raises(ModelMismatchError, match="says id"):
        load_model(bytes(data))


@pytest.mark.parametrize("cut", [0, 4, 7, 100, 3000, -1])
def test_truncated_model_files(tiny_model, cut):
    with pytest.raises(ModelError):
        load_model(dump_model(tiny_model)[:cut])


def test_decoders_that_do_not_fit_are_refused(tiny_model):
    decoder = tiny_model.decoder
    for changed in (
        replace(decoder, g_s=decoder.g_s[:-1]),
        replace(decoder, g_s=(*decoder.g_s[:-1], Clamp(0, 256))),
        with_prior(decoder, h_s=decoder.entropy.h_s[:-1]),
        replace(decoder, inv_gain_y=decoder.inv_gain_y * 0),
        replace(decoder, inv_gain_y=decoder.inv_gain_y * 2**30),
        with_prior(decoder, z_median=decoder.entropy.z_median[:-1]),
        with_prior(decoder, sigma_thresholds=decoder.entropy.sigma_thresholds[::-1]),
        replace(decoder, y_frac_bits=0),
    ):
        with pytest.raises(ModelError):
            make_model("x", tiny_model.lambdas, changed, tiny_model.encoder, {})


def test_store_finds_by_name_id_and_path(tiny_model, tmp_path, monkeypatch):
    path = next(entry.path for entry in store.installed() if entry.name == "tiny")
    assert store.load_by_id(tiny_model.model_id).name == "tiny"
    assert store.load_by_name(tiny_model.model_id.hex()).name == "tiny"
    assert store.load_by_name(str(path)).name == "tiny"
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"no model with id .* SGACODEC_MODELS"):
        store.load_by_id(tiny_model.model_id)
    with pytest.raises(ModelNotFoundError, match=r"installed are: .*msh-vbr"):
        store.load_by_name("tiny")
    store.cache_folder().mkdir(parents=True)
    shutil.copy(path, store.cache_folder())
    (store.cache_folder() / "foreign.safetensors").write_bytes(b"junk")
    assert store.load_by_name("tiny").model_id == tiny_model.model_id


def test_a_model_that_another_of_its_name_hides_is_found_by_its_id(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    median = tiny_model.decoder.entropy.z_median + 1
    other = make_model(
        tiny_model.name, tiny_model.lambdas, with_prior(tiny_model.decoder, z_median=median), tiny_model.encoder, {}
    )
    for stem, model in (("a", tiny_model), ("b", other)):
        (tmp_path / f"{stem}.safetensors").write_bytes(dump_model(model))
    assert store.load_by_name(tiny_model.name).model_id == tiny_model.model_id
    for model in (tiny_model, other):
        assert store.load_by_name(model.model_id.hex()).model_id == model.model_id


def test_a_model_that_another_machine_has(tiny_model, monkeypatch):
    """What it hands on is found by the name that it was asked for there, even where that is a path, and by its ids."""
    path = next(entry.path for entry in store.installed() if entry.name == "tiny")
    data = store.file_to_hand_on(str(path))
    assert data == store.file_to_hand_on("tiny") == path.read_bytes()
    assert store.file_to_hand_on(store.DEFAULT_MODEL) is None
    monkeypatch.setenv("SGACODEC_MODELS", "")
    monkeypatch.setattr(store, "_given", {})
    with pytest.raises(ModelNotFoundError):
        store.file_to_hand_on("tiny")
    store.give("/elsewhere/tiny.safetensors", data)
    given = store.load_by_name("/elsewhere/tiny.safetensors")
    assert given.model_id == tiny_model.model_id
    assert store.load_by_id(tiny_model.model_id) is given
    with pytest.raises(ModelError):
        store.give("broken", data[:100])


def test_the_packaged_default_loads():
    model = store.load_by_name(store.DEFAULT_MODEL)
    assert model.decoder.z_stride == 64
    assert {"data", "licence", "command"} <= set(model.card)
    path = next(entry.path for entry in store.installed() if entry.name == store.DEFAULT_MODEL)
    assert path.stat().st_size < 24 * 2**20


def strided(g_s):
    """g_s with a convolution that halves the size after its first layer."""
    channels = g_s[0].weight.shape[1]
    shape = (channels, channels, 3, 3)
    layer = Conv(np.ones(shape, np.int16), np.zeros(channels, np.int64), np.full(channels, 4), 2, 1, 24)
    return (g_s[0], layer, *g_s[1:])


@pytest.mark.parametrize("change", [strided, lambda g_s: (replace(g_s[0], padding=1), *g_s[1:])])
def test_a_decoder_whose_sizes_are_wrong_is_refused_when_it_is_made(tiny_model, change):
    """Else decoding would end in an error of numpy's."""
    decoder = replace(tiny_model.decoder, g_s=change(tiny_model.decoder.g_s))
    with pytest.raises(ModelError, match=r"layer g_s\.\d"):
        make_model("x", tiny_model.lambdas, decoder, tiny_model.encoder, {})


def test_an_encoder_of_another_size_is_refused(tiny_model):
    encoder = tiny_model.encoder
    for changed in (
        replace(encoder, g_a=encoder.g_a[:-1]),
        replace(encoder, g_a=(replace(encoder.g_a[0], stride=1), *encoder.g_a[1:])),
        replace(encoder, h_a=encoder.h_a[:-1]),
        replace(encoder, gain_z=encoder.gain_z[:, 1:]),
    ):
        with pytest.raises(ModelError):
            make_model("x", tiny_model.lambdas, tiny_model.decoder, changed, {})


def test_an_unknown_entropy_model_is_refused(tiny_model):
    data = dump_model(tiny_model)
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    description = json.loads(header["__metadata__"]["sgacodec"])
    description["decoder"]["entropy_model"] = "oracle"
    header["__metadata__"]["sgacodec"] = json.dumps(description)
    text = json.dumps(header).encode()
    with pytest.raises(ModelError, match="entropy model 'oracle', which this version does not know"):
        load_model(len(text).to_bytes(8, "little") + text + data[8 + n :])


def test_a_header_that_nests_without_end_is_refused():
    header = b"[" * 100_000
    with pytest.raises(ModelError, match="not a sgacodec model file"):
        load_model(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    ("frequencies", "minimum"), [([2**63 - 1, 2**63 - 1, 2**24 + 2], 0), ([2**23, 2**23], -(2**63))]
)
def test_tables_that_wrap_in_int64_are_refused(frequencies, minimum):
    with pytest.raises(ModelError):
        TableSet(np.array(frequencies), np.array([len(frequencies)]), np.array([minimum]))

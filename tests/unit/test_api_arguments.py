"""Options are checked where they are made; files are taken in whatever a caller holds them in."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

import sgacodec
from sgacodec import strict_json
from sgacodec.errors import FormatError, OptionError
from sgacodec.options import EncodeOptions

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("quality", [-1, 101, NAN, INF, -INF, "50", True, 1j, [50]], "a number between 0 and 100"),
        ("lmbda", [0, -1.0, NAN, INF, "0.01", False], "must be a number finite"),
        ("level", [-0.1, NAN, INF, "1", True], "must be a number finite and at least 0"),
        ("preset", ["x", "", None, 3, ["fast"]], "there are none, fast, balanced, best"),
        ("iterations", [-1, 1.5, 10**7, "3", NAN, INF, True], "an integer between 0 and 1000000"),
        ("method", ["round", "", None, ["ssl"]], "there are ssl, linear"),
        ("classes", [1, 0, -2, 2.5, "2", None, NAN, 10**30], "an integer between 2 and"),
        ("model", ["", None, 3, b"tiny"], "the name, id or path of a model"),
        ("device", ["", None, 0], "the name of a torch device"),
        ("seed", [1.5, "0", None, 2**64, -(2**63) - 1, NAN, True], "an integer between -9223372036854775808 and"),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(field, values, words):
    for value in values:
        if value is None and field in ("lmbda", "level", "iterations"):
            continue
        with pytest.raises(OptionError) as caught:
            EncodeOptions(**{field: value})
        assert field in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"quality": np.float32(50), "level": np.int64(1)},
        {"quality": 0, "lmbda": 1e-300, "iterations": np.int32(0)},
        {"seed": 2**64 - 1},
        {"seed": -(2**63)},
        {"seed": np.uint64(7), "model": Path("x.safetensors"), "device": "cuda:1"},
    ],
)
def test_good_values(fields):
    EncodeOptions(**fields)


@pytest.mark.parametrize("seed", [-1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("model", ["tiny", "tiny-head"])
def test_seeds_of_any_size(seed, model, scene):
    options = EncodeOptions(model=model, iterations=1, device="cpu", seed=seed)
    sgacodec.decode(sgacodec.encode(scene[:64, :64], options, message="a"))


def test_a_device_that_does_not_compute(scene, small_file):
    with pytest.raises(sgacodec.EncodeError, match="'meta' is not available"):
        sgacodec.encode(scene, EncodeOptions(model="tiny", preset="none", device="meta"))
    with pytest.raises(sgacodec.SgacodecError, match="'meta' is not available"):
        sgacodec.decode(small_file, device="meta")


class Pathlike:
    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


def holders(data, path):
    padded = np.zeros(2 * len(data), np.uint8)
    padded[::2] = np.frombuffer(data, np.uint8)
    yield from (data, bytearray(data), memoryview(data), memoryview(padded)[::2], np.frombuffer(data, np.uint8))
    yield from (str(path), path, Pathlike(path), io.BytesIO(data))


def test_files_in_whatever_holds_them(small_file, tmp_path):
    path = tmp_path / "a.sga"
    path.write_bytes(small_file)
    expected = sgacodec.decode(small_file)
    for function in (sgacodec.decode, sgacodec.read_info, sgacodec.verify):
        for source in holders(small_file, path):
            result = function(source)
            assert (result.width, result.height, result.mode) == (expected.width, expected.height, expected.mode)
        with path.open("rb") as file:
            function(file)


@pytest.mark.parametrize("source", [None, 3, 1.5, [1, 2], "", io.StringIO("text"), b"", bytearray(), object()])
def test_what_holds_no_file(source):
    for function in (sgacodec.decode, sgacodec.read_info, sgacodec.verify):
        with pytest.raises(FormatError):
            function(source)


@pytest.mark.parametrize("max_pixels", [0, -1, 1.5, "100", None, True, NAN])
def test_max_pixels(small_file, max_pixels):
    with pytest.raises(sgacodec.LimitError, match="must be a positive integer"):
        sgacodec.decode(small_file, max_pixels=max_pixels)


@pytest.mark.parametrize("options", [{"quality": 50}, "fast", 50, EncodeOptions])
def test_options_that_are_none(scene, options):
    with pytest.raises(OptionError, match=r"must be sgacodec\.EncodeOptions"):
        sgacodec.encode(scene, options)


@pytest.mark.parametrize("message", [3, [b"a"], Path("a"), True])
def test_messages_that_are_none(scene, tiny_options, message):
    with pytest.raises(OptionError, match="must be bytes or str"):
        sgacodec.encode(scene, tiny_options, message=message)


@pytest.mark.parametrize("holder", [bytes, bytearray, memoryview])
def test_messages_in_whatever_holds_them(scene, tiny_options, holder):
    data = sgacodec.encode(scene, tiny_options, message=holder(b"abc"))
    assert sgacodec.decode(data, extract=True).info["message"] == b"abc"


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        sgacodec.decode(tmp_path / "none.sga")


def test_verify_raises_what_decode_raises(small_file):
    with pytest.raises(sgacodec.TruncatedError):
        sgacodec.verify(small_file[:-1])


def test_json_has_no_infinity():
    value = {"a": [INF, -INF, NAN, 1.5, (2, np.float64(INF))], "b": {"c": NAN}, "d": True, "e": None, "f": "NaN"}
    expected = {"a": [None, None, None, 1.5, [2, None]], "b": {"c": None}, "d": True, "e": None, "f": "NaN"}
    assert json.loads(strict_json.dumps(value), parse_constant=pytest.fail) == expected

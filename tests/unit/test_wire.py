import pytest

from sgacodec.errors import CorruptStreamError, TruncatedError
from sgacodec.format.wire import Reader, write_uint, write_varint


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (2**35 - 1, b"\xff\xff\xff\xff\x7f")],
)
def test_varint_bytes(value, data):
    assert write_varint(value) == data
    assert Reader(data).varint("x") == value


def test_uint_is_little_endian():
    assert write_uint(0x01020304, 4) == b"\x04\x03\x02\x01"
    assert Reader(b"\x04\x03\x02\x01").uint(4, "x") == 0x01020304


def test_varint_must_be_shortest():
    with pytest.raises(CorruptStreamError, match="shortest") as caught:
        Reader(b"\x80\x00").varint("width")
    assert caught.value.section == "width"
    assert caught.value.offset == 0


def test_varint_is_at_most_five_bytes():
    with pytest.raises(CorruptStreamError, match="five"):
        Reader(b"\xff" * 6).varint("x")


def test_reading_past_the_end_names_the_field():
    reader = Reader(b"abc")
    reader.take(2, "head")
    with pytest.raises(TruncatedError, match="2 bytes too early") as caught:
        reader.take(3, "tail")
    assert (caught.value.offset, caught.value.section) == (2, "tail")

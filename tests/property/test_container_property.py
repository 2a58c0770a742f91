from hypothesis import given
from hypothesis import strategies as st

from sgacodec.errors import SgacodecError
from sgacodec.format.container import Container, Section, SectionType, parse, serialize

sections = st.lists(
    st.builds(Section, st.integers(max(SectionType) + 1, 255), st.binary(max_size=40), st.just(False)),
    max_size=4,
    unique_by=lambda s: s.kind,
)
known = st.lists(
    st.builds(Section, st.sampled_from([1, 2, 3]), st.binary(max_size=300), st.booleans()),
    max_size=3,
    unique_by=lambda s: s.kind,
)
containers = st.builds(
    Container,
    width=st.integers(1, 2**24),
    height=st.integers(1, 2**24),
    grayscale=st.booleans(),
    model_id=st.binary(min_size=8, max_size=8),
    level_q4=st.integers(0, 255),
    z_stream=st.binary(max_size=300),
    y_streams=st.lists(st.binary(max_size=300), min_size=1, max_size=5).map(tuple),
    sections=known.map(tuple),
    pixel_crc=st.integers(0, 2**32 - 1),
)


@given(containers)
def test_parse_inverts_serialize(box):
    assert parse(serialize(box)) == box


@given(containers, sections)
def test_unknown_sections_survive_parsing(box, extra):
    data = serialize(Container(**{**vars(box), "sections": tuple(extra)}))
    assert [section.kind for section in parse(data).sections] == [section.kind for section in extra]


@given(st.binary(max_size=200))
def test_junk_is_refused(data):
    for head in (b"", b"\xa5SGA\x10"):
        try:
            parse(head + data)
        except SgacodecError:
            continue
        raise AssertionError("junk was taken for a file")

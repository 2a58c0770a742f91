"""Files behind URLs: read, written whole, listed; every store's errors are ours."""

import os

import pytest

from sgacodec import remote
from sgacodec.errors import SgacodecError

fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=["memory", "file"])
def base(request, tmp_path):
    """A folder in a store that puts whole files and in one that is written to and renamed."""
    fsspec.filesystem("memory").store.clear()
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path.as_posix()}"


@pytest.mark.parametrize(
    ("name", "answer"),
    [("s3://b/a.png", True), ("ray-1+x://b", True), ("a.png", False), ("/a//b", False), ("C://a", False), ("-", False)],
)
def test_what_a_url_is(name, answer):
    assert remote.is_url(name) is answer


def test_names():
    assert remote.join("s3://b", "a.png") == remote.join("s3://b/", "a.png") == "s3://b/a.png"
    assert remote.parent("s3://b/x/a.png") == "s3://b/x"
    assert remote.join(remote.parent("memory://a.png"), "b") == "memory://b"
    assert remote.local_path("file:///a/b.png") == "/a/b.png"
    assert remote.local_path("memory://b.png") is None
    assert [remote.is_shared(url) for url in ("memory://a", "file:///a", "s3://a")] == [False, True, True]


def test_what_is_written_is_read(base):
    url = f"{base}/new/deep/a.sga"
    remote.write_bytes(url, b"one", False)
    with pytest.raises(FileExistsError) as refused:
        remote.write_bytes(url, b"two", False)
    assert refused.value.filename == url
    assert remote.read_bytes(url) == b"one"
    remote.write_bytes(url, b"two", True)
    assert remote.read_bytes(url) == b"two"
    assert remote.files(base, recursive=True) == ["new/deep/a.sga"]


def test_a_failure_leaves_what_was_there(base, monkeypatch):
    url = f"{base}/a.sga"
    remote.write_bytes(url, b"one", False)
    fs, _ = fsspec.core.url_to_fs(url)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(fs), "mv", full)
    with pytest.raises(OSError, match="No space left") as failed:
        remote.write_bytes(url, b"two", True)
    assert failed.value.filename == url
    assert remote.read_bytes(url) == b"one"
    assert remote.files(base, recursive=True) == ["a.sga"]


def test_object_stores_put_whole_objects(monkeypatch):
    """There a rename is a copy, and to make a folder may mean to make a bucket."""
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(remote, "_PUTS_WHOLE", {"memory"})
    for name in ("mv", "makedirs"):
        monkeypatch.setattr(type(fs), name, pytest.fail)
    remote.write_bytes("memory://bucket/a", b"one", True)
    assert remote.read_bytes("memory://bucket/a") == b"one"


def test_listing(base):
    for name in ("b.png", "sub/deep/c.png", "a.png", "sub/a.png", "a-folder/x.png"):
        remote.write_bytes(f"{base}/{name}", b"", False)
    assert remote.files(base, recursive=False) == ["a.png", "b.png"]
    everything = ["a.png", "b.png", "a-folder/x.png", "sub/a.png", "sub/deep/c.png"]
    assert remote.files(f"{base}/", recursive=True) == everything
    assert remote.is_folder(base)
    assert remote.is_folder(f"{base}/sub")
    assert not remote.is_folder(f"{base}/a.png")
    assert [url.rpartition("/")[2] for url in remote.matches(f"{base}/?.png")] == ["a.png", "b.png"]
    asked = [f"{base}/{name}" for name in ("a.png", "none.png", "sub/a.png", "nowhere/a.png")]
    assert remote.existing(asked) == {asked[0], asked[2]}


def test_existing_asks_once_for_each_folder(base, monkeypatch):
    remote.write_bytes(f"{base}/1", b"", False)
    fs, _ = fsspec.core.url_to_fs(base)
    honest, asked = type(fs).ls, []
    monkeypatch.setattr(type(fs), "ls", lambda *args, **more: asked.append(args) or honest(*args, **more))
    assert remote.existing(f"{base}/{number}" for number in range(100)) == {f"{base}/1"}
    assert len(asked) == 1


def test_errors_name_the_url(base):
    with pytest.raises(FileNotFoundError) as missing:
        remote.read_bytes(f"{base}/none.png")
    assert missing.value.filename == f"{base}/none.png"
    assert missing.value.strerror == os.strerror(2)
    with pytest.raises(SgacodecError, match="nonsense://a cannot be opened"):
        remote.read_bytes("nonsense://a")


def test_errors_of_a_stores_own(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no\ncredentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(SgacodecError, match=r"memory://a cannot be read: no credentials"):
        remote.read_bytes("memory://a")


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(SgacodecError, match="pip install fsspec"):
        remote.read_bytes("s3://b/a.png")

"""`view`: who is answered, what the page says, and what is refused before there is a server."""

import http.client
import io
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pages import scenes_of, text_of

import sgacodec
from sgacodec.viewer import page
from sgacodec_cli import info, local_server, view
from sgacodec_cli.loaded import decoded, load
from sgacodec_cli.local_server import File, Server

SCRIPT = "<script>alert(1)</script>"
FILES = {"": File("text/html; charset=utf-8", b"<p>page"), "a.png": File("image/png", b"png")}


@pytest.fixture
def server():
    with Server(FILES, page.policy()) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", **headers):
    """The answer to a request, with its body as `content`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.content = answer.read()
    finally:
        connection.close()
    return answer


@pytest.mark.parametrize(("name", "kind"), [("", "text/html; charset=utf-8"), ("a.png", "image/png"), ("?x=1", "text/html; charset=utf-8")])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_are_served(server, name, kind, method):
    answer = ask(server, f"/{server.token}/{name}", method)
    content = FILES[name.partition("?")[0]].content
    assert (answer.status, answer.getheader("Content-Type")) == (200, kind)
    assert answer.getheader("Content-Length") == str(len(content))
    assert answer.content == (content if method == "GET" else b"")
    assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert "frame-ancestors 'none'" in answer.getheader("Content-Security-Policy")
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    assert "Python" not in answer.getheader("Server")


@pytest.mark.parametrize("path", ["/", "", "/a.png", "/x/a.png", "//a.png", "/favicon.ico", "/{}", "{}/a.png", 
                                  "/{}x/a.png", "/../{}/a.png", "http://localhost/{}/a.png"])  # fmt: skip
def test_nothing_is_told_without_the_token(server, path):
    answer = ask(server, path.format(server.token) or "/")
    assert answer.status == 403
    assert server.token.encode() not in answer.content


@pytest.mark.parametrize("name", ["b.png", "../a.png", "%61.png", "a.png/", "../../../../etc/passwd", "/etc/passwd"])
def test_there_are_no_other_files(server, name):
    assert ask(server, f"/{server.token}/{name}").status == 404


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("localhost:8000", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200),
                                              ("evil.example", 403), ("localhost.evil.example", 403), ("evil.example:80", 403),
                                              ("127.0.0.1.evil.example", 403), ("localhost:80@evil.example", 403), ("", 403)])  # fmt: skip
def test_a_request_names_this_machine(server, host, status):
    assert ask(server, f"/{server.token}/", Host=host).status == status


def test_a_request_names_one_host(server):
    with socket.create_connection(server.server_address) as connection:
        connection.sendall(f"GET /{server.token}/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".encode())
        assert b" 403 " in connection.recv(100)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_there_are_no_other_methods(server, method):
    assert ask(server, f"/{server.token}/", method).status == 501


def test_it_listens_on_the_loopback_interface_and_tokens_are_fresh(server):
    assert server.server_address[0] == "127.0.0.1"
    with Server(FILES, page.policy()) as other:
        assert other.token != server.token
        assert len(other.token) >= 32


def test_the_opening_address_leads_to_the_page_once(server):
    path = server.opening_address.removeprefix(f"http://127.0.0.1:{server.server_address[1]}")
    assert server.token not in path
    assert ask(server, path, Host="evil.example").status == 403
    answer = ask(server, path)
    assert (answer.status, answer.getheader("Location")) == (303, f"/{server.token}/")
    again = ask(server, path)
    assert (again.status, again.getheader("Location")) == (403, None)


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C comes as soon as there is a server; the files of servers are noted."""
    served = []

    def serve_forever(self):
        served.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", serve_forever)
    return served


def test_the_address_is_told_until_an_interrupt(run, png, small_file, interrupted):
    Path("a.sga").write_bytes(small_file)
    before = set(Path().iterdir())
    result = run("view", "a.sga", png, "--no-browser")
    assert result.exit_code == 130
    (served,) = interrupted
    assert result.stdout == f"{served.address}\n"
    assert served.address == f"http://127.0.0.1:{served.server_address[1]}/{served.token}/"
    assert "Ctrl-C" in result.stderr
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize("has_screen", [True, False])
def test_the_browser_is_opened_where_there_is_a_screen(run, small_file, interrupted, monkeypatch, has_screen):
    opened = threading.Event()
    addresses = []
    monkeypatch.setattr(
        local_server.webbrowser, "open", lambda address: addresses.append(address) or opened.set() or True
    )
    monkeypatch.setattr(local_server.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if has_screen:
        monkeypatch.setenv("DISPLAY", ":0")
    Path("a.sga").write_bytes(small_file)
    result = run("view", "a.sga")
    assert opened.wait(10 if has_screen else 0) is has_screen
    assert all(interrupted[0].token not in address for address in addresses)  # every user of a machine can see it
    assert ("there is no browser here" in result.stderr) is not has_screen
    assert result.stdout == f"{interrupted[0].address}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cut.sga"], 3, "cut.sga: the file has"),
        (["scene.png"], 3, "scene.png: "),
        (["none.sga"], 1, "none.sga: No such file"),
        (["a.sga", "none.png"], 1, "none.png does not exist"),
        (["a.sga", "cut.sga"], 3, "cut.sga: the file has"),
        (["a.sga", "text.png"], 1, "text.png is not an image"),
        (["a.sga", "--max-pixels", "100"], 3, "a.sga: "),
        (["a.sga", ""], 2, "the name of the input is empty"),
        ([], 2, "FILE.sga"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_no_server(run, png, small_file, monkeypatch, arguments, code, message):
    monkeypatch.setattr(Server, "__init__", lambda *_: pytest.fail("there is a server"))
    Path("a.sga").write_bytes(small_file)
    Path("cut.sga").write_bytes(small_file[:-9])
    Path("text.png").write_text("text")
    result = run("view", "--no-browser", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert message in line


def test_a_port_that_is_taken(run, small_file, server):
    Path("a.sga").write_bytes(small_file)
    port = server.server_address[1]
    result = run("view", "a.sga", "--no-browser", "--port", port)
    assert result.exit_code == 1
    assert f"port {port} cannot be had" in result.stderr
    assert "--port" in result.stderr


def encoded(name, image, options, **more):
    Path(name).write_bytes(sgacodec.encode(image, options, **more))
    return decoded(name, Path(name).read_bytes(), extract=True)


def test_the_page_says_what_is_known(run, png, small_file):
    Path("a.sga").write_bytes(small_file)
    files = view._files(decoded("a.sga", small_file), load(str(png)))
    assert set(files) == {"", "original.png", "decoded.png"}
    text = text_of(files[""].content)
    for _, fact in info.rows(sgacodec.read_info(small_file)):
        assert fact in text
    psnr_db = sgacodec.metrics.psnr_db(np.asarray(Image.open(png)), np.asarray(sgacodec.decode(small_file)))
    assert f"PSNR {psnr_db:.2f} dB" in text
    assert f"{png.stat().st_size} bytes" in text
    assert "tiny, level" in text
    (scene,) = scenes_of(files[""].content)
    assert (scene["width"], scene["height"]) == (130, 96)
    assert [each["name"] for each in scene["pictures"]] == ["original", "decoded"]
    shown = Image.open(io.BytesIO(files["decoded.png"].content))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(sgacodec.decode(small_file)))


def test_a_file_alone(small_file):
    files = view._files(decoded("-", small_file), None)
    assert set(files) == {"", "decoded.png"}
    assert "PSNR" not in text_of(files[""].content)
    assert "standard input" in text_of(files[""].content)


def test_messages_and_names_are_text(tmp_path, monkeypatch, scene, tiny_options):
    monkeypatch.chdir(tmp_path)
    name = f"\u202e {SCRIPT.replace('/', '')}\n'\"& \udc80.sga"
    loaded = encoded("a.sga", scene, tiny_options, message=f"A lake. {SCRIPT}")
    content = view._files(decoded(name, Path("a.sga").read_bytes(), extract=True), loaded)[""].content
    assert b"alert(1)" in content
    assert b"<script>alert" not in content
    assert f"A lake. {SCRIPT}" in text_of(content)
    assert "\u202e" not in content.decode()
    assert content.count(b"<script") == content.count(b"</script>") == 2


def test_a_message_that_is_no_text_and_one_that_is_long(tmp_path, monkeypatch, scene, tiny_options):
    monkeypatch.chdir(tmp_path)
    loaded = encoded("a.sga", scene, tiny_options, message=bytes(1234))
    assert "1,234 bytes, not a text" in text_of(view._files(loaded, None)[""].content)
    loaded = encoded("a.sga", scene, tiny_options, message="x" * 20_321)
    assert "321 more characters are left out" in text_of(view._files(loaded, None)[""].content)


def test_an_original_of_another_size(tmp_path, monkeypatch, small_file, scene):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene[:50, :60]).save("b.png")
    content = view._files(decoded("a.sga", small_file), load("b.png"))[""].content
    assert "the original picture has 60 x 50 pixels, the decoded picture has 130 x 96 pixels" in text_of(content)
    assert "no PSNR" in text_of(content)
    assert scenes_of(content)[0]["width"] == 130


def test_alpha_and_gray(tmp_path, monkeypatch, scene, tiny_options):
    """The PSNR is the one that `encode` tells: of what can be seen."""
    monkeypatch.chdir(tmp_path)
    alpha = np.zeros(scene.shape[:2], np.uint8)
    alpha[:, 40:] = 255
    Image.fromarray(np.dstack([scene, alpha])).save("a.png")
    Image.fromarray(scene).convert("L").save("g.png")
    seen = encoded("a.sga", Image.open("a.png"), tiny_options)
    gray = encoded("g.sga", Image.open("g.png"), tiny_options)
    rgb = seen.rgb[:, 40:]
    files = view._files(seen, load("a.png"))
    expected = f"{sgacodec.metrics.psnr_db(scene[:, 40:], rgb):.2f} dB where it is not transparent"
    assert expected in text_of(files[""].content)
    assert Image.open(io.BytesIO(files["decoded.png"].content)).mode == "RGBA"
    assert "The alpha channels" not in text_of(files[""].content)
    assert "decoded picture has an alpha channel" in text_of(view._files(seen, load("g.png"))[""].content)
    files = view._files(gray, load("g.png"))
    assert Image.open(io.BytesIO(files["original.png"].content)).mode == "L"
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(files["original.png"].content))), np.asarray(Image.open("g.png"))
    )


def test_large_pictures_are_shown_smaller(monkeypatch, small_file):
    monkeypatch.setattr(page, "SERVED_PIXELS", 130 * 96 // 3)
    files = view._files(decoded("a.sga", small_file), None)
    assert Image.open(io.BytesIO(files["decoded.png"].content)).size == (65, 48)
    assert "shown at 1/2 of its width and height" in text_of(files[""].content)
    assert scenes_of(files[""].content)[0]["width"] == 65


def test_profiles_stay_with_their_pictures():
    image = Image.new("RGB", (4, 4))
    image.info.update(icc_profile=b"profile", exif=b"Exif\0\0secret")
    shown = Image.open(io.BytesIO(page.image_file(image)))
    assert shown.info["icc_profile"] == b"profile"
    assert b"secret" not in page.image_file(image)

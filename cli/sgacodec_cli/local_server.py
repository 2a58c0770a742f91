"""A server of a few files, all in memory, for a browser on this machine alone.

What protects it: it listens on the loopback interface; every path begins with a token that cannot be guessed, so that
other users and other pages cannot read it; and a request must name this machine as its host, so that a name of somebody
else that is made to lead here (DNS rebinding) gets nothing. A browser's arguments can be seen by all users of the
machine, so it is started with another address, which leads to the pages once.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import socketserver
import sys
import threading
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sgacodec.errors import SgacodecError

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_OWN_NAMES = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
"""Any port: through a tunnel, the browser's is another one."""

_IDLE_SECONDS = 60
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@dataclass(frozen=True)
class File:
    """What a path leads to.

    Attributes:
        kind: its MIME type.
        content: its bytes.
    """

    kind: str
    content: bytes


def _token() -> str:
    return secrets.token_urlsafe(24)


class Server(ThreadingHTTPServer):
    """Serves files under a fresh token, until it is closed.

    Attributes:
        address: of the file that is named "".
        opening_address: leads there, once.
    """

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # there it would let another program take the port over

    def __init__(self, files: Mapping[str, File], policy: str, port: int = 0) -> None:
        """Listen.

        Args:
            files: by name.
            policy: the Content-Security-Policy.
            port: a free one for 0.

        Raises:
            SgacodecError: the port cannot be had.
        """
        self.files, self.policy = files, f"{policy}; frame-ancestors 'none'"
        self.token, self._opener = _token(), _token()
        try:
            super().__init__((_LOOPBACK, port), _Handler)
        except OSError as err:
            raise SgacodecError(
                f"port {port} cannot be had ({err.strerror or err}); name another with --port, or leave it out"
            ) from err
        origin = f"http://{_LOOPBACK}:{self.server_address[1]}"
        self.address, self.opening_address = f"{origin}/{self.token}/", f"{origin}/{self._opener}/"

    def server_bind(self) -> None:
        """Bind without asking for the name of the machine, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _LOOPBACK, self.server_address[1]

    def opens(self, token: str) -> bool:
        """Say whether a token is that of the opening address, which it is once."""
        found = hmac.compare_digest(token.encode(), self._opener.encode())
        if found:
            self._opener = _token()
        return found

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what a connection that broke off leaves."""
        log.debug("a request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; everything else is refused by the base class."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        name = self._asked_for()
        if name is None and self._is_from_here() and self.server.opens(self.path.strip("/")):
            self.send_response(HTTPStatus.SEE_OTHER)
            self._send_headers({"Location": f"/{self.server.token}/", "Content-Length": "0"})
            return
        file = None if name is None else self.server.files.get(name)
        if file is None:
            status = HTTPStatus.FORBIDDEN if name is None else HTTPStatus.NOT_FOUND
            file = File("text/plain; charset=utf-8", f"{status.phrase}: use the address that was printed\n".encode())
        else:
            status = HTTPStatus.OK
        self.send_response(status)
        self._send_headers({"Content-Type": file.kind, "Content-Length": str(len(file.content))})
        if with_content:
            self.wfile.write(file.content)

    def _send_headers(self, headers: Mapping[str, str]) -> None:
        for key, value in (dict(headers) | self._protection).items():
            self.send_header(key, value)
        self.end_headers()

    def _is_from_here(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and _OWN_NAMES.fullmatch(hosts[0]) is not None

    @property
    def _protection(self) -> dict[str, str]:
        return {
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    def _asked_for(self) -> str | None:
        """Return the name of the file, or None for a request that may have none."""
        if not self._is_from_here():
            return None
        start, _, rest = self.path.partition("?")[0].partition("/")
        token, slash, name = rest.partition("/")
        is_known = hmac.compare_digest(token.encode(), self.server.token.encode())
        return name if is_known and slash and not start else None

    def version_string(self) -> str:
        """Tell no versions."""
        return "sgacodec"

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def open_in_browser(address: str) -> bool:
    """Have a browser open an address, in a thread of its own, as some return when they are closed.

    Returns:
        Whether there may be one: without a screen only browsers for terminals are left, which cannot show pictures.
    """
    has_screen = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in _SCREENS)
    if has_screen:
        threading.Thread(target=_open, args=[address], daemon=True).start()
    return has_screen


def _open(address: str) -> None:
    if not webbrowser.open(address):
        log.warning("no browser was found; open the address yourself")

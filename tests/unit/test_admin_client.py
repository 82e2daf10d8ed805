"""Asking over a real UNIX socket, and the sentence for each way in which that can fail."""

import os
import socket
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

from twisted.trial.unittest import SynchronousTestCase

from coldstore.admin import client as client_module
from coldstore.admin.client import Client, NotRunning, Refused


class _Answers(BaseHTTPRequestHandler):
    """Answers as the path says: ``/STATUS/BODY``; tells on the server what it was asked."""

    server: "_Server"

    def do_GET(self) -> None:
        """Answer."""
        length = int(self.headers.get("content-length") or 0)
        self.server.asked.append((self.command, self.path, self.rfile.read(length)))
        _, status, body = self.path.split("/", 2)
        self.send_response(int(status))
        content = self.server.bodies[body.partition("?")[0]]
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def address_string(self) -> str:
        """Return a name for a peer that has none."""
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(UnixStreamServer):
    """A server on a UNIX socket."""

    bodies = {"list": b"[1]", "error": b'{"error": "no such thing"}', "html": b"<p>", "empty": b"{}"}

    def __init__(self, path: str) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        super().__init__(path, _Answers)


class ClientTests(SynchronousTestCase):
    """``Client``."""

    def setUp(self) -> None:
        """Make a folder for sockets: their paths must be short."""
        folder = tempfile.TemporaryDirectory(prefix="coldstore")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = str(self.folder / "admin.sock")

    def serve(self) -> _Server:
        """Serve in a thread until the test ends."""
        server = _Server(self.path)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return server

    def sentence(self) -> str:
        """Return why the appliance cannot be asked."""
        return str(self.assertRaises(NotRunning, Client(self.path).get, "/status"))

    def test_questions_and_orders(self) -> None:
        """Arguments are quoted into the question, an order carries its document; the answer is JSON."""
        server = self.serve()
        client = Client(self.path)
        self.assertEqual(client.get("/200/list", key="a b&c/ä"), [1])
        self.assertEqual(client.post("/200/empty", {"on": True}), {})
        self.assertEqual(
            server.asked,
            [
                ("GET", "/200/list?key=a+b%26c%2F%C3%A4", b""),
                ("POST", "/200/empty", b'{"on": true}'),
            ],
        )

    def test_refusals(self) -> None:
        """Anything but 200 is refused, in the appliance's words when it has some."""
        self.serve()
        client = Client(self.path)
        self.assertEqual(str(self.assertRaises(Refused, client.get, "/404/error")), "no such thing")
        self.assertEqual(
            str(self.assertRaises(Refused, client.get, "/503/empty")), "the appliance answered 503"
        )
        self.assertEqual(
            str(self.assertRaises(Refused, client.get, "/500/list")), "the appliance answered 500"
        )
        self.assertIn("is it ColdStore?", str(self.assertRaises(Refused, client.get, "/200/html")))

    def test_no_socket(self) -> None:
        """A missing socket: is it running, and how to name another one."""
        self.assertIn(f"there is no appliance at {self.path}", self.sentence())
        self.assertIn("--socket", self.sentence())

    def test_nobody_listens(self) -> None:
        """A socket that an ended appliance left: look into the log, start it again."""
        left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        left.bind(self.path)
        left.close()
        self.assertIn("nobody listens", self.sentence())

    def test_forbidden(self) -> None:
        """A socket of another user: whose it is, and the command that works."""
        left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        left.bind(self.path)
        self.addCleanup(left.close)

        def forbidden(connection: socket.socket, path: str) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(client_module._UnixConnection, "connect", lambda connection: forbidden(connection, ""))
        sentence = self.sentence()
        self.assertIn(f"you may not speak with the appliance at {self.path}", sentence)
        self.assertIn("sudo -u", sentence)

    def test_silence(self) -> None:
        """An appliance that takes the question and never answers is given up, with the time."""
        mute = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mute.bind(self.path)
        mute.listen(1)
        self.addCleanup(mute.close)
        self.patch(client_module, "QUESTION_SECONDS", 0.05)
        self.assertIn("did not answer within 0 s", self.sentence())

    def test_a_path_that_cannot_be(self) -> None:
        """A path that is too long for a socket, or is no socket, is told without a traceback."""
        self.path = str(self.folder / ("x" * 200))
        self.assertIn("no appliance answers", self.sentence())
        self.path = str(self.folder / "file")
        Path(self.path).touch()
        self.assertTrue(self.sentence())
        self.assertTrue(os.path.exists(self.path))

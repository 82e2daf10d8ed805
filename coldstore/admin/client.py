"""Asks a running appliance over its UNIX socket. Standard library only, so that the command answers at once."""

import http.client
import json
import socket
from collections.abc import Mapping
from urllib.parse import urlencode

TIMEOUT_SECONDS = 1900.0
"""An inventory of a large library may take half an hour; everything else answers at once."""


class NotRunning(Exception):
    """Nobody listens on the socket; says which."""


class Refused(Exception):
    """The appliance refuses; says why."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One appliance, by the path of its socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, question: str, **arguments: str) -> object:
        """
        Ask.

        :raise NotRunning: no appliance answers
        :raise Refused: it cannot answer; says why
        """
        return self._ask("GET", f"{question}?{urlencode(arguments)}" if arguments else question, None)

    def post(self, order: str, document: Mapping[str, object] | None = None) -> object:
        """Order; raises as ``get``."""
        return self._ask("POST", order, json.dumps(document or {}).encode())

    def _ask(self, method: str, target: str, body: bytes | None) -> object:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(
                f"no appliance answers at {self._path}: {error}. Is it running? "
                "Name its socket by --socket or COLDSTORE_ADMIN_SOCKET."
            ) from error
        finally:
            connection.close()
        try:
            document: object = json.loads(text)
        except ValueError as error:
            raise Refused(
                f"the appliance answered {answer.status} with something that is not JSON"
            ) from error
        if answer.status != 200:
            reason = document.get("error") if isinstance(document, dict) else None
            raise Refused(str(reason or f"the appliance answered {answer.status}"))
        return document

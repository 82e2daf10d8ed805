"""Asks a running appliance over its UNIX socket. Standard library only, so that the command answers at once."""

import http.client
import json
import os
import pwd
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

QUESTION_SECONDS = 60.0
"""Questions are answered from the record: one that takes longer means that something is wrong."""
ORDER_SECONDS = 2100.0
"""An inventory of a large library may take half an hour."""


class NotRunning(Exception):
    """The appliance cannot be asked; says why, and what to do about it."""


class Refused(Exception):
    """The appliance refuses; says why."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
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

    def get(self, question: str, **arguments: str | Sequence[str]) -> object:
        """
        Ask; an argument may be there several times.

        :raise NotRunning: no appliance answers
        :raise Refused: it cannot answer; says why
        """
        return self._ask(
            "GET", f"{question}?{urlencode(arguments, doseq=True)}" if arguments else question, None
        )

    def post(self, order: str, document: Mapping[str, object] | None = None) -> object:
        """Order; raises as ``get``."""
        return self._ask("POST", order, json.dumps(document or {}).encode())

    def _ask(self, method: str, target: str, body: bytes | None) -> object:
        timeout_seconds = QUESTION_SECONDS if method == "GET" else ORDER_SECONDS
        connection = _UnixConnection(self._path, timeout_seconds)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(_why(self._path, error, timeout_seconds)) from error
        finally:
            connection.close()
        return understood(answer.status, text, self._path)


def understood(status: int, text: bytes, path: str) -> object:
    """
    Return what an answer says.

    :raise Refused: it is no success, or none of ours
    """
    try:
        document: object = json.loads(text)
    except ValueError as error:
        raise Refused(
            f"whoever listens at {path} answered {status} with something that is not JSON: is it ColdStore?"
        ) from error
    if status != 200:
        reason = document.get("error") if isinstance(document, dict) else None
        raise Refused(str(reason or f"the appliance answered {status}"))
    return document


def _why(path: str, error: Exception, timeout_seconds: float) -> str:
    """Return a sentence about a failure to ask, with what to do."""
    if isinstance(error, FileNotFoundError):
        return (
            f"there is no appliance at {path}. Is it running? "
            "If it keeps its socket elsewhere, name it by --socket or COLDSTORE_ADMIN_SOCKET."
        )
    if isinstance(error, PermissionError):
        return f"you may not speak with the appliance at {path}{_belongs_to(path)}"
    if isinstance(error, ConnectionRefusedError):
        return f"the socket {path} is there, but nobody listens: the appliance has ended. Look into its log and start it again."
    if isinstance(error, TimeoutError):
        return f"the appliance at {path} did not answer within {timeout_seconds:.0f} s. Look into its log."
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"no appliance answers at {path}: {reason}. Is it running?"


def _belongs_to(path: str) -> str:
    """Return whose socket it is, as the end of a sentence; the folder's owner when the socket itself is out of sight."""
    for seen in (path, os.path.dirname(path)):
        try:
            name = pwd.getpwuid(os.stat(seen).st_uid).pw_name
        except (OSError, KeyError):
            continue
        return f": it belongs to {name}. Try: sudo -u {name} coldstore …"
    return ". Run the command as the user that runs the appliance."

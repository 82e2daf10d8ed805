"""What an operation gives back: a status, header fields, and a small document or a stream of bytes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from coldstore.s3.xml import Node, document


class AnswerStream(Protocol):
    """
    Bytes that are sent after the header: of a file, of several, or of a part of one.

    Exactly one of the two methods is called, once.
    """

    def start(self, request: Request) -> "Deferred[None]":
        """
        Send exactly the ``Content-Length`` bytes that the answer promised; the header has been written already.

        What the stream holds (files, pins) is let go in every case, the client's departure
        (``request.notifyFinish()``) included. ``request.finish()`` is the caller's.

        :return: fires when the last byte was given to the transport or the client has gone; fails when the bytes
            cannot be had, upon which the connection is aborted, so that the client sees a short body
        """

    def abandon(self) -> None:
        """Let go of what the stream holds: nobody is there to receive it (the client has gone before the header)."""


class Answer(NamedTuple):
    """
    What to send. With ``stream``, ``headers`` hold its ``Content-Length``; otherwise that is the length of ``body``.

    Request ids, ``Date`` and ``Server`` are added by whoever sends it, and the body of an answer to HEAD, of 204 and
    of 304 is left out.
    """

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    stream: AnswerStream | None = None


def xml_answer(root: Node, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer whose body is the document of ``root`` in S3's namespace."""
    return Answer(
        status=status, headers={"Content-Type": "application/xml", **(headers or {})}, body=document(root)
    )

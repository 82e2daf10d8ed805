"""Sends the bytes of a case, and reads what comes back until the connection ends or everything is answered."""

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.fuzzing.case import Ending

RESET = b"\x01\0\0\0\0\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One answer as it came.

    :ivar headers: by lower-case name
    :ivar is_whole: whether all of the body came that its length promised
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """
    What came of one case.

    :ivar rest: what came and is no answer
    :ivar seconds: from the end of sending to the end of all
    :ivar is_late: the bound has passed, and the connection is neither answered nor closed
    :ivar went_early: we left without waiting for answers
    """

    answers: Sequence[Answer]
    rest: bytes
    seconds: float
    is_late: bool
    went_early: bool


def exchange(
    address: tuple[str, int],
    sent: Sequence[bytes],
    *,
    answers: int,
    ending: Ending,
    pause_seconds: float,
    bound_seconds: float,
    context: ssl.SSLContext | None = None,
) -> Exchange:
    """
    Deliver one case.

    :param sent: the pieces
    :param answers: how many are awaited; fewer when the other side closes before
    :raise OSError: no connection could be made
    """
    plain = socket.create_connection(address, timeout=bound_seconds)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = plain if context is None else context.wrap_socket(plain)
    message = b"".join(sent)
    with connection:
        try:
            for piece in sent:
                connection.sendall(piece)
                if pause_seconds:
                    time.sleep(pause_seconds)
            if ending is Ending.RESETS:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return _gone()
            if ending is Ending.CLOSES:
                return _gone()
        except TimeoutError:
            return Exchange(answers=(), rest=b"", seconds=bound_seconds, is_late=True, went_early=False)
        except OSError:
            pass  # The other side has closed; what it said may still be there.
        return _read(connection, message, answers, bound_seconds)


def _gone() -> Exchange:
    return Exchange(answers=(), rest=b"", seconds=0.0, is_late=False, went_early=True)


def _read(connection: socket.socket, message: bytes, wanted: int, bound_seconds: float) -> Exchange:
    began = time.monotonic()
    received, is_late, ended = b"", False, False
    while not ended:
        left = began + bound_seconds - time.monotonic()
        if left <= 0:
            is_late = True
            break
        connection.settimeout(left)
        try:
            more = connection.recv(1 << 18)
        except TimeoutError:
            is_late = True
            break
        except OSError:
            more = b""
        ended = not more
        received += more
        if not ended and (b"HEAD" not in message or b"onnection: close\r\n" not in received):
            answers, _ = parsed(received, message)
            is_last = bool(answers) and answers[-1].headers.get("connection") == "close"
            ended = (len(answers) >= wanted or is_last) and answers[-1].is_whole
    answers, rest = parsed(received, message)
    return Exchange(
        answers=answers, rest=rest, seconds=time.monotonic() - began, is_late=is_late, went_early=False
    )


def parsed(received: bytes, message: bytes) -> tuple[list[Answer], bytes]:
    """
    Return the final answers in what was received, and what is left over.

    :param message: what was asked; only if it may hold a HEAD can an answer with a length have no body
    """
    answers: list[Answer] = []
    while received:
        head, ending, rest = received.partition(b"\r\n\r\n")
        if not ending or not head.startswith(b"HTTP/1."):
            break
        lines = head.decode("utf-8", "replace").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 100:
            received = rest
            continue
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = 0 if status in (204, 304) else int(headers.get("content-length", "0"))
        if b"HEAD" in message and (not rest or rest.startswith(b"HTTP/1.")):
            length = 0
        answers.append(
            Answer(status=status, headers=headers, body=rest[:length], is_whole=len(rest) >= length)
        )
        received = rest[length:]
    return answers, received

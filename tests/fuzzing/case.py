"""What is asked of an appliance, as values: requests before they are signed, what is done to their bytes, and how these are delivered."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Fields = tuple[tuple[bytes, bytes], ...]


class Signed(StrEnum):
    """How a request is signed."""

    NOT = "not"
    HEADER = "header"
    URL = "url"
    HEADER_V2 = "header-v2"
    URL_V2 = "url-v2"


class Framing(StrEnum):
    """How a body is sent, by its word in ``x-amz-content-sha256``; HASH stands for the body's own."""

    HASH = "hash"
    UNSIGNED = "UNSIGNED-PAYLOAD"
    SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


class Place(StrEnum):
    """Where in a message bytes are changed."""

    HEAD = "head"
    BODY = "body"


class Ending(StrEnum):
    """What a client does when it has sent what it sends."""

    WAITS = "waits"
    CLOSES = "closes"
    RESETS = "resets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    One request before it is signed.

    Names between ``@`` in target, headers, body and policy stand for what is known of the ground only (``@BUCKET@``).

    :ivar headers: besides Host, those of the signature and those of the body's length, unless they are among these
    :ivar chunk_bytes: of each chunk but the last, where the framing has chunks
    :ivar checksum: algorithm of the trailer, where the framing has one
    :ivar policy: the document that a form's signature covers
    :ivar transfer_chunks: whether HTTP's own chunks are used instead of a length
    """

    operation: str
    method: bytes
    target: bytes
    headers: Fields = ()
    body: bytes = b""
    signed: Signed = Signed.HEADER
    framing: Framing = Framing.HASH
    chunk_bytes: int = 8192
    checksum: str = "crc32"
    policy: bytes = b""
    transfer_chunks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """
    A change of the bytes of a message after it was signed.

    :ivar at: from 0 to 1, a place in the head or the body
    :ivar removed: so many bytes are taken away there
    :ivar added: these are put there
    """

    place: Place
    at: float
    removed: int = 0
    added: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    How bytes are sent.

    :ivar cuts: from 0 to 1, between pieces that are sent one after the other
    :ivar pause_seconds: between two pieces
    :ivar sent: from 0 to 1, how much is sent at all
    """

    cuts: tuple[float, ...] = ()
    pause_seconds: float = 0.0
    sent: float = 1.0
    ending: Ending = Ending.WAITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Requests on one connection, one behind the other."""

    asked: tuple[Asked, ...]
    edits: tuple[Edit, ...] = ()
    delivery: Delivery = Delivery()

    def written(self) -> dict[str, Any]:
        """Return it as JSON has it; bytes are texts of Latin-1."""
        made = _plain(asdict(self))
        assert isinstance(made, dict)
        return made

    @classmethod
    def read(cls, written: dict[str, Any]) -> "Case":
        """Return what ``written`` has made of a case."""
        return cls(
            asked=tuple(_asked(each) for each in written["asked"]),
            edits=tuple(
                Edit(**{**each, "place": Place(each["place"]), "added": each["added"].encode("latin-1")})
                for each in written["edits"]
            ),
            delivery=Delivery(
                **{
                    **written["delivery"],
                    "cuts": tuple(written["delivery"]["cuts"]),
                    "ending": Ending(written["delivery"]["ending"]),
                }
            ),
        )


def _asked(written: dict[str, Any]) -> Asked:
    texts = {name: written[name].encode("latin-1") for name in ("method", "target", "body", "policy")}
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in written["headers"])
    kinds = {"signed": Signed(written["signed"]), "framing": Framing(written["framing"])}
    return Asked(**{**written, **texts, **kinds, "headers": headers})


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def to_text(case: Case) -> str:
    """Return a case as a text."""
    return json.dumps(case.written(), indent=1)

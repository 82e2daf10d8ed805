"""The bytes of a case, for one ground at one moment."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from itertools import pairwise

from tests.fuzzing.case import Asked, Case, Delivery, Edit, Framing, Place, Signed
from tests.fuzzing.signing import Headers, Signer

CHECKSUMS: Mapping[str, int] = {"crc32": 4, "crc32c": 4, "sha1": 20, "sha256": 32, "crc64nvme": 8}
"""What trailers name, and how long their values are."""
CHUNKS_MOST = 500
"""Each has a signature, which takes its time."""
_CHUNKED = frozenset({Framing.SIGNED_CHUNKS, Framing.SIGNED_CHUNKS_TRAILER, Framing.UNSIGNED_CHUNKS_TRAILER})


def message(case: Case, facts: Mapping[bytes, bytes], signer: Signer) -> bytes:
    """
    Return all that a case has to send.

    :param facts: what the names between ``@`` stand for
    """
    made = b""
    for number, asked in enumerate(case.asked):
        head, body = _request(asked, facts, signer, is_last=number == len(case.asked) - 1)
        if number == 0:
            for edit in case.edits:
                if edit.place is Place.HEAD:
                    head = edited(head, edit)
                else:
                    body = edited(body, edit)
        made += head + body
    return made


def edited(text: bytes, edit: Edit) -> bytes:
    """Return bytes after an edit."""
    at = int(edit.at * len(text))
    return text[:at] + edit.added + text[at + edit.removed :]


def pieces(sent: bytes, delivery: Delivery) -> list[bytes]:
    """Return the pieces in which bytes are sent."""
    whole = sent[: round(delivery.sent * len(sent))]
    places = sorted({0, *(int(cut * len(whole)) for cut in delivery.cuts), len(whole)})
    return [whole[begin:end] for begin, end in pairwise(places)]


def _request(
    asked: Asked, facts: Mapping[bytes, bytes], signer: Signer, *, is_last: bool
) -> tuple[bytes, bytes]:
    moment = {b"@CREDENTIAL@": signer.credential.encode(), b"@DATE@": signer.stamp.encode()}

    def known(text: bytes) -> bytes:
        if b"@" in text:
            for name, value in (*facts.items(), *moment.items()):
                text = text.replace(name, value)
        return text

    policy = base64.b64encode(known(asked.policy))
    form = {b"@POLICY@": policy, b"@SIGNATURE@": signer.signature(policy).encode()}
    method, target, body = asked.method, known(asked.target), known(asked.body)
    if asked.policy:
        for name, value in form.items():
            body = body.replace(name, value)
    headers: Headers = [(known(name), known(value)) for name, value in asked.headers]
    given = {name.lower() for name, _ in headers}
    if b"host" not in given:
        headers.insert(0, (b"host", facts[b"@HOST@"]))
    is_chunked = asked.framing in _CHUNKED
    if is_chunked:
        headers += [
            (name, value)
            for name, value in (
                (b"content-encoding", b"aws-chunked"),
                (b"x-amz-decoded-content-length", str(len(body)).encode()),
            )
            if name not in given
        ]
        if asked.framing is not Framing.SIGNED_CHUNKS and b"x-amz-trailer" not in given:
            headers.append((b"x-amz-trailer", f"x-amz-checksum-{asked.checksum}".encode()))
    payload = asked.framing.value if asked.framing is not Framing.HASH else hashlib.sha256(body).hexdigest()
    payload = dict(headers).get(b"x-amz-content-sha256", payload.encode()).decode("latin-1")
    if is_chunked and asked.signed is not Signed.HEADER and b"x-amz-content-sha256" not in given:
        headers.append((b"x-amz-content-sha256", payload.encode("latin-1")))
    seed = ""
    match asked.signed:
        case Signed.HEADER:
            more, seed = signer.header(method, target, headers, payload.encode("latin-1"))
            headers += more
        case Signed.URL:
            if asked.framing is Framing.HASH and b"x-amz-content-sha256" not in given:
                headers.append((b"x-amz-content-sha256", payload.encode("latin-1")))
            target, seed = signer.url(method, target, headers, payload.encode("latin-1"))
        case Signed.HEADER_V2:
            headers += signer.header_v2(method, target, headers)
        case Signed.URL_V2:
            target = signer.url_v2(method, target, headers)
        case Signed.NOT:
            pass
    if is_chunked:
        body = _chunks(asked, body, signer, seed)
    if asked.transfer_chunks:
        headers.append((b"transfer-encoding", b"chunked"))
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif b"content-length" not in given and (body or method in (b"PUT", b"POST")):
        headers.append((b"content-length", str(len(body)).encode()))
    if is_last and b"connection" not in given:
        headers.append((b"connection", b"close"))
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n", body


def _chunks(asked: Asked, body: bytes, signer: Signer, seed: str) -> bytes:
    size = max(asked.chunk_bytes, len(body) // CHUNKS_MOST, 1)
    blocks = [body[at : at + size] for at in range(0, len(body), size)]
    is_signed = asked.framing is not Framing.UNSIGNED_CHUNKS_TRAILER
    made, previous = bytearray(), seed
    for block in [*blocks, b""]:
        previous = signer.chunk(previous, block)
        extension = b";chunk-signature=" + previous.encode() if is_signed else b""
        made += b"%x%s\r\n%s" % (len(block), extension, block)
        if block or asked.framing is Framing.SIGNED_CHUNKS:
            made += b"\r\n"
    if asked.framing is Framing.SIGNED_CHUNKS:
        return bytes(made)
    line = f"x-amz-checksum-{asked.checksum}:".encode() + _checksum(asked.checksum, body)
    made += line + b"\r\n"
    if is_signed:
        made += b"x-amz-trailer-signature:" + signer.trailer(previous, line + b"\n").encode() + b"\r\n"
    return bytes(made) + b"\r\n"


def _checksum(algorithm: str, body: bytes) -> bytes:
    if algorithm == "crc32":
        return base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))
    if algorithm in ("sha1", "sha256"):
        return base64.b64encode(hashlib.new(algorithm, body).digest())
    return base64.b64encode(bytes(CHECKSUMS.get(algorithm, 4)))

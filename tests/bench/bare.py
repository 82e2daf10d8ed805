"""
The baselines, each a server process: ``python -m tests.bench.bare klein KEYS FOLDER`` or ``python -m tests.bench.bare plain``.

``klein`` is what any S3 service made of Klein has to do at the least: one route, the signature verified, one row read by its
key; GET answers 4 KiB that are in memory, PUT reads its body and drops it. ``plain`` is a resource of twisted.web that
drops what it is sent and makes what is asked for, and that has nothing to verify. The port goes to standard output.
"""

import hashlib
import hmac
import sqlite3
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from klein import Klein
from twisted.internet import reactor
from twisted.internet.interfaces import IPullProducer
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

BODY = bytes(4096)
BLOCK = bytes(256 * 1024)
ROWS = 10_000


@lru_cache
def signing_key(secret: str, date: str, region: str) -> bytes:
    """Return a signing key; one of them serves for a day."""
    key = b"AWS4" + secret.encode()
    for step in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def is_signed(request: Any, secret: str) -> bool:
    """Whether the Authorization field of a request is right, by the description of Signature Version 4."""
    fields = request.requestHeaders
    text = fields.getRawHeaders("authorization", [""])[0].partition(" ")[2]
    claim = dict(item.strip().split("=", 1) for item in text.split(","))
    _, date, region, _, _ = claim["Credential"].split("/")
    path, _, query = request.uri.partition(b"?")
    canonical = "\n".join(
        [
            request.method.decode(),
            quote(unquote_to_bytes(path), safe="/~"),
            query.decode(),
            *(
                f"{name}:{' '.join(fields.getRawHeaders(name, [''])[0].split())}"
                for name in claim["SignedHeaders"].split(";")
            ),
            "",
            claim["SignedHeaders"],
            fields.getRawHeaders("x-amz-content-sha256", [""])[0],
        ]
    )
    signed = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            fields.getRawHeaders("x-amz-date", [""])[0],
            f"{date}/{region}/s3/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    right = hmac.digest(signing_key(secret, date, region), signed.encode(), "sha256").hex()
    return hmac.compare_digest(right, claim["Signature"])


class Rows:
    """A table with as many rows as the test has objects."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "CREATE TABLE objects (key BLOB PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID"
        )
        self._connection.executemany(
            "INSERT INTO objects VALUES (?, ?, ?)",
            ((b"k%06d" % at, len(BODY), "e" * 32) for at in range(ROWS)),
        )

    def row(self, key: bytes) -> Any:
        """Return size and ETag of a key."""
        return self._connection.execute("SELECT size, etag FROM objects WHERE key = ?", (key,)).fetchone()


def klein_resource(secret: str, rows: Rows) -> Any:
    """Return the bare route."""
    app = Klein()

    @app.route("/<bucket>/<path:key>", methods=["GET", "HEAD", "PUT"])
    def _(request: Any, bucket: str, key: str) -> bytes:
        if not is_signed(request, secret):
            request.setResponseCode(403)
            return b""
        found = rows.row(key.encode())
        if found is not None:
            request.setHeader("etag", f'"{found[1]}"')
        if request.method == b"PUT":
            request.content.read()
            return b""
        request.setHeader("content-length", str(len(BODY)))
        return b"" if request.method == b"HEAD" else BODY

    return app.resource()


class Sink:
    """Where the body of an upload goes."""

    def write(self, data: bytes) -> int:
        """Drop it."""
        return len(data)

    def seek(self, *where: int) -> int:
        """Do nothing."""
        return 0

    def tell(self) -> int:
        """Nothing was kept."""
        return 0

    def close(self) -> None:
        """Do nothing."""


class PlainSite(Site):
    """A site that keeps no body."""

    def getContentFile(self, length: int) -> Any:
        """Return where the body goes."""
        return Sink()


@implementer(IPullProducer)
class Made:
    """Makes bytes as they are taken."""

    def __init__(self, request: Any, size_bytes: int) -> None:
        self._request = request
        self._left = size_bytes

    def resumeProducing(self) -> None:
        """Write a block."""
        block = BLOCK[: self._left]
        self._left -= len(block)
        self._request.write(block)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """The client has gone."""


class Plain(Resource):
    """Drops bodies; makes as many bytes as the path says."""

    isLeaf = True

    def render_PUT(self, request: Request) -> bytes:
        """Everything has been dropped by now."""
        return b""

    def render_GET(self, request: Any) -> Any:
        """Answer ``/size/SIZE``."""
        size_bytes = int(request.path.rpartition(b"/")[2])
        request.setHeader("content-length", str(size_bytes))
        request.registerProducer(Made(request, size_bytes), False)
        return NOT_DONE_YET


def main(which: str, *arguments: str) -> None:
    """Serve until killed."""
    loop: Any = reactor
    if which == "klein":
        secret, folder = arguments
        site = Site(klein_resource(secret, Rows(Path(folder))))
    else:
        site = PlainSite(Plain())
    port = loop.listenTCP(0, site, backlog=512, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])

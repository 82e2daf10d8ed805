"""A bucket that cases are about: what is in it from the beginning, and what it looks like."""

import re
import ssl
import time
from collections.abc import Mapping
from itertools import count

from tests.endtoend.appliance import Appliance
from tests.endtoend.wire import Keys, RawAnswer, RawClient
from tests.fuzzing.case import Asked, Case, Ending
from tests.fuzzing.client import Answer, exchange
from tests.fuzzing.operations import PART_BYTES
from tests.fuzzing.signing import Signer
from tests.fuzzing.wire import message

LOOKS = (
    b"?versions&encoding-type=url",
    b"?uploads&encoding-type=url",
    b"?versioning",
    b"?tagging",
    b"?lifecycle",
    b"?x-coldstore-default-class",
    b"?acl",
    b"?ownershipControls",
    b"/kept",
    b"/kept?acl",
    b"/kept?tagging",
    b"/rising?uploadId=@UPLOAD@",
    b"?object-lock",
    b"/kept?retention",
    b"/kept?legal-hold",
)
ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"

Picture = tuple[tuple[int, bytes], ...]


class Ground:
    """
    One client's bucket, which is laid out anew now and then.

    :ivar facts: what the names between ``@`` stand for
    """

    _numbers = count(1)

    def __init__(self, appliance: Appliance, context: ssl.SSLContext | None, bound_seconds: float) -> None:
        self._appliance = appliance
        self._context = context
        self._bound_seconds = bound_seconds
        self._keys = appliance.users["first"]
        self._client = RawClient(appliance.port, self._keys, context=context)
        self.facts: Mapping[bytes, bytes] = {}
        self.lay()

    @property
    def address(self) -> tuple[str, int]:
        """Where the appliance listens."""
        return "127.0.0.1", self._appliance.port

    def signer(self) -> Signer:
        """Return who signs now."""
        return Signer(keys=Keys(self._keys.access_key, self._keys.secret_key), at=time.time())

    def lay(self) -> None:
        """Make a bucket as the operations expect it."""
        bucket = f"fuzz-{next(self._numbers)}"
        ask = self._ask
        ask("PUT", f"/{bucket}", headers={"x-amz-bucket-object-lock-enabled": "true"})
        ask("PUT", f"/{bucket}?versioning", ENABLED)
        head = ask("PUT", f"/{bucket}/kept", b"kept")
        ask("PUT", f"/{bucket}/other", b"x" * 20_000)
        ask("PUT", f"/{bucket}/a%20b/%C3%BC", b"")
        ask("PUT", f"/{bucket}/cold", b"cold", {"x-amz-storage-class": "GLACIER"})
        upload = ask("POST", f"/{bucket}/rising?uploads").body
        found = re.search(rb"<UploadId>([^<]+)</UploadId>", upload)
        assert found is not None, upload
        name = found[1].decode()
        owner = re.search(rb"<Owner><ID>([^<]+)</ID>", ask("GET", f"/{bucket}?acl").body)
        assert owner is not None
        first = ask("PUT", f"/{bucket}/rising?partNumber=1&uploadId={name}", bytes(PART_BYTES))
        second = ask("PUT", f"/{bucket}/rising?partNumber=2&uploadId={name}", b"the end")
        self.facts = {
            b"@HOST@": b"127.0.0.1:%d" % self._appliance.port,
            b"@BUCKET@": bucket.encode(),
            b"@OTHER@": b"fuzz-of-another",
            b"@OWNER@": owner[1],
            b"@VERSION@": head.headers["x-amz-version-id"].encode(),
            b"@ETAG@": head.headers["etag"].encode(),
            b"@UPLOAD@": found[1],
            b"@PART1@": first.headers["etag"].encode(),
            b"@PART2@": second.headers["etag"].encode(),
        }

    def _ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> RawAnswer:
        answer = self._client.ask(method, target, body, headers)
        assert answer.status == 200, f"{method} {target}: {answer}"
        return answer

    def picture(self) -> Picture:
        """
        Return what the bucket looks like.

        :raise AssertionError: it cannot be seen
        """
        looks = tuple(Asked(operation="look", method=b"GET", target=b"/@BUCKET@" + what) for what in LOOKS)
        seen = exchange(
            self.address,
            [message(Case(asked=looks), self.facts, self.signer())],
            answers=len(looks),
            ending=Ending.WAITS,
            pause_seconds=0,
            bound_seconds=self._bound_seconds,
            context=self._context,
        )
        assert len(seen.answers) == len(looks), (
            f"{len(seen.answers)} valid requests of {len(looks)} were answered: {seen}"
        )
        return tuple(_look(answer) for answer in seen.answers)

    def is_worn(self, picture: Picture) -> bool:
        """Whether what the operations expect has gone, or too much has come."""
        statuses = [status for status, _ in picture]
        return statuses[5] != 200 or statuses[7] != 200 or len(picture[0][1]) > 100_000


def changes(before: Picture, after: Picture) -> list[str]:
    """Return where two pictures differ, without what they have in common."""
    told = []
    for look, (status, body), (other_status, other) in zip(LOOKS, before, after, strict=True):
        if (status, body) != (other_status, other):
            begin = _shared(body, other)
            end = _shared(body[begin:][::-1], other[begin:][::-1])
            parts = (each[begin : len(each) - end] for each in (body, other))
            told.append(f"{look!r} {status} {other_status}: {' became '.join(map(repr, parts))}")
    return told


def _shared(one: bytes, other: bytes) -> int:
    """Return how many bytes both begin with."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def lay_for_another(appliance: Appliance, context: ssl.SSLContext | None) -> None:
    """Make the bucket of a user who lets nobody in."""
    client = RawClient(appliance.port, appliance.users["second"], context=context)
    for target, body in (("/fuzz-of-another", b""), ("/fuzz-of-another/kept", b"not for you")):
        answer = client.ask("PUT", target, body)
        assert answer.status == 200, answer


def keys_of_another(appliance: Appliance, context: ssl.SSLContext | None) -> bytes:
    """Return what that bucket lists."""
    client = RawClient(appliance.port, appliance.users["second"], context=context)
    return client.ask("GET", "/fuzz-of-another?versions").body


def _look(answer: Answer) -> tuple[int, bytes]:
    # Of an error only its code is the same every time.
    found = re.search(rb"<Code>[^<]*</Code>", answer.body) if answer.status >= 400 else None
    return answer.status, answer.body if found is None else found[0]

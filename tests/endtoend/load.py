"""A mixed load of several S3 clients that go on through crashes, each noting in a ledger what was promised to it."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.endtoend.ledger import Content, Ledger

MIB = 1024 * 1024
KEYS_PER_CLIENT = 14
AGAIN_SECONDS = 0.2
"""Between two attempts while the endpoint is away."""


class Unanswered(Exception):
    """Nobody can say whether the operation happened: the connection broke, or the answer was a 5xx."""


class Refused(Exception):
    """The operation was refused with a 4xx; ``code`` is S3's."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


def asked(call: Callable[..., Any], **arguments: Any) -> Any:
    """
    Make one request.

    :raise Unanswered: its outcome is unknown
    :raise Refused: it was refused and has changed nothing
    """
    try:
        return call(**arguments)
    except ClientError as error:
        status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        code = error.response.get("Error", {}).get("Code", "")
        if status >= 500:
            raise Unanswered(f"{status} {code}") from error
        raise Refused(status, code) from error
    except (HTTPClientError, BotoCoreError, OSError) as error:
        raise Unanswered(str(error)) from error


def read_whole(s3: Any, bucket: str, key: str) -> tuple[int, str]:
    """
    GET an object; return its size and SHA-256.

    :raise Unanswered: it could not be read to its end
    :raise Refused: it was refused
    """
    answer = asked(s3.get_object, Bucket=bucket, Key=key)
    digest, size_bytes = hashlib.sha256(), 0
    try:
        for block in answer["Body"].iter_chunks(MIB):
            digest.update(block)
            size_bytes += len(block)
    except (HTTPClientError, BotoCoreError, OSError) as error:
        raise Unanswered(str(error)) from error
    return size_bytes, digest.hexdigest()


class LoadClient(threading.Thread):
    """
    One client with keys of its own, until it is told to stop.

    :ivar complaints: what it saw that must not be
    :ivar counts: how often each operation ended how
    """

    def __init__(
        self,
        name: str,
        make_s3: Callable[[], Any],
        bucket: str,
        seed: int,
        *,
        bytes_max: int,
        is_up: threading.Event,
    ) -> None:
        """
        :param bytes_max: of content in all; small objects only after that
        :param is_up: is set while it is worth asking, cleared while the endpoint is known to be away
        """
        super().__init__(name=name, daemon=True)
        self.ledger = Ledger()
        self.complaints: list[str] = []
        self.counts: Counter[str] = Counter()
        self._make_s3 = make_s3
        self._bucket = bucket
        self._random = Random(seed)
        self._bytes_left = bytes_max
        self._is_up = is_up
        self._stopping = threading.Event()
        self._s3: Any = None

    def stop(self) -> None:
        """Let the operation under way be the last."""
        self._stopping.set()

    def run(self) -> None:
        """Do one thing after the other."""
        self._s3 = self._make_s3()
        operations = [
            (self._put_small, 30),
            (self._put_large, 12),
            (self._put_multipart, 5),
            (self._delete, 8),
            (self._restore, 20),
            (self._get, 30),
            (self._list, 6),
        ]
        try:
            while not self._stopping.is_set():
                if not self._is_up.wait(AGAIN_SECONDS):
                    continue
                (operation,) = self._random.choices(
                    [each for each, _ in operations], [weight for _, weight in operations]
                )
                name = operation.__name__.lstrip("_")
                try:
                    operation()
                    self.counts[f"{name}: done"] += 1
                except Unanswered:
                    self.counts[f"{name}: unanswered"] += 1
                    self._stopping.wait(AGAIN_SECONDS)
                except Refused as refused:
                    self.counts[f"{name}: {refused}"] += 1
                    self.complaints.append(f"{self.name}: {name} was refused: {refused}")
                self._stopping.wait(self._random.uniform(0, 0.1))
        except Exception as error:  # noqa: BLE001 - a thread's end must not go unseen
            self.complaints.append(f"{self.name} died: {error!r}")

    def _key(self) -> str:
        return f"{self.name}/{self._random.randrange(KEYS_PER_CLIENT):02d} ä"

    def _content(self, size_bytes: int, part_bytes: tuple[int, ...] = ()) -> Content:
        storage_class = self._random.choice(("GLACIER", "GLACIER", "DEEP_ARCHIVE", "STANDARD"))
        if size_bytes > self._bytes_left:
            size_bytes, part_bytes = min(size_bytes, 1000), ()
        self._bytes_left -= size_bytes
        return Content(self._random.getrandbits(40), size_bytes, storage_class, part_bytes)

    def _put(self, content: Content) -> None:
        key = self._key()
        try:
            asked(
                self._s3.put_object,
                Bucket=self._bucket,
                Key=key,
                Body=b"".join(content.parts()),
                StorageClass=content.storage_class,
            )
        except Unanswered:
            self.ledger.uncertain(key, content)
            raise
        self.ledger.acknowledged(key, content)

    def _put_small(self) -> None:
        self._put(self._content(self._random.choice((0, 1, 700, 5_000, 40_000, 200_000))))

    def _put_large(self) -> None:
        self._put(self._content(self._random.randrange(300_000, 9 * MIB)))

    def _put_multipart(self) -> None:
        sizes = (5 * MIB, 5 * MIB + self._random.randrange(MIB), self._random.randrange(1, MIB))
        content = self._content(sum(sizes), sizes)
        if not content.part_bytes:
            return
        key = self._key()
        place = {"Bucket": self._bucket, "Key": key}
        upload = asked(self._s3.create_multipart_upload, **place, StorageClass=content.storage_class)
        place["UploadId"] = upload["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": self._put_part(place, number, part)}
            for number, part in enumerate(content.parts(), 1)
        ]
        if self._random.random() < 0.15:
            self._patiently(lambda: asked(self._s3.abort_multipart_upload, **place), gone="NoSuchUpload")
            return
        self.ledger.uncertain(key, content)
        # Completing again what was completed already is answered as the first time.
        done = self._patiently(
            lambda: asked(self._s3.complete_multipart_upload, **place, MultipartUpload={"Parts": parts})
        )
        if done is not None:
            self.ledger.acknowledged(key, content)

    def _put_part(self, place: dict[str, str], number: int, part: bytes) -> str:
        sent = self._patiently(lambda: asked(self._s3.upload_part, **place, PartNumber=number, Body=part))
        if sent is None:
            raise Unanswered("stopped in the middle of an upload")
        return str(sent["ETag"])

    def _patiently(self, ask: Callable[[], Any], *, gone: str = "") -> Any:
        """Ask until there is an answer; None when we are stopped before or the answer is that it is gone."""
        while True:
            try:
                return ask()
            except Unanswered:
                self._is_up.wait(AGAIN_SECONDS)
                if self._stopping.wait(AGAIN_SECONDS):
                    return None
            except Refused as refused:
                if refused.code == gone:
                    return None
                raise

    def _delete(self) -> None:
        key = self._key()
        try:
            asked(self._s3.delete_object, Bucket=self._bucket, Key=key)
        except Unanswered:
            self.ledger.uncertain(key, None)
            raise
        self.ledger.acknowledged(key, None)

    def _restore(self) -> None:
        key = self._key()
        possible = self.ledger.possible(key)
        if len(possible) > 1 or possible[0] is None or not possible[0].is_cold:
            return
        try:
            asked(
                self._s3.restore_object,
                Bucket=self._bucket,
                Key=key,
                RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Standard"}},
            )
        except Refused as refused:
            if refused.code != "RestoreAlreadyInProgress":
                raise

    def _get(self) -> None:
        key = self._key()
        try:
            size_bytes, digest = read_whole(self._s3, self._bucket, key)
        except Refused as refused:
            is_cold = any(content is not None and content.is_cold for content in self.ledger.possible(key))
            if refused.code == "NoSuchKey":
                self._check(key, None, None)
            elif refused.code != "InvalidObjectState" or not is_cold:
                raise
            return
        self._check(key, size_bytes, digest)

    def _check(self, key: str, size_bytes: int | None, digest: str | None) -> None:
        complaint = self.ledger.complaint(key, size_bytes, digest)
        if complaint is not None:
            self.complaints.append(complaint)
        self.ledger.settle(key, size_bytes, digest)

    def _list(self) -> None:
        answer = asked(self._s3.list_objects_v2, Bucket=self._bucket, Prefix=f"{self.name}/")
        sizes = {entry["Key"]: int(entry["Size"]) for entry in answer.get("Contents", [])}
        for key in {*self.ledger.names(), *sizes}:
            self._check(key, sizes.get(key), None)

"""
S3 clients: each has keys of its own, does one thing at a time, hangs up, comes again, and keeps a ledger of what it was promised.

A client lives outside the machine: it goes on through every crash, and what was not answered may have happened or not.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.endtoend.ledger import Content, Ledger
from tests.simulation.chance import HOUR, Chance
from tests.simulation.reactor import VirtualReactor
from tests.simulation.wire import Account, Answer, Connection, NoAnswer

BUCKETS = ("alpha", "beta")
LOCKING = "beta"
"""The bucket that keeps versions, and has each under lock for a day."""
_SUPERSEDED = re.compile(rb"<Key>([^<]+)</Key><VersionId>([^<]+)</VersionId><IsLatest>false</IsLatest>")
KEYS_PER_CLIENT = 60
DOUBTED = 0.3
"""How often a client asks again when what it waits for is refused."""
CLASSES = ("GLACIER", "GLACIER", "GLACIER", "DEEP_ARCHIVE", "STANDARD", "STANDARD", "STANDARD")
TIERS = ("Expedited", "Standard", "Standard", "Bulk", "Bulk")
WRITER = {
    "put": 34,
    "damaged_put": 1,
    "multipart": 1,
    "delete": 14,
    "get": 20,
    "head": 16,
    "restore": 11,
    "list": 4,
    "purge": 3,
}
READER = {
    "put": 12,
    "damaged_put": 1,
    "multipart": 1,
    "delete": 4,
    "get": 42,
    "head": 26,
    "restore": 8,
    "list": 6,
    "purge": 3,
}
ROLES = (WRITER, READER, READER)
"""What a client mostly does: for one that backs up there are two that look. Of a hundred operations so many of each kind."""
_NOT_NOW = frozenset({500, 503})
_RESTORE = (
    '<RestoreRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Days>{days}</Days>'
    "<GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
)


@dataclass(slots=True)
class Wish:
    """A restore that was accepted, until the client has seen what became of it."""

    key: str
    tier: str
    asked_at: float


class Client:
    """
    One client.

    :ivar complaints: what it saw that must not be
    :ivar wishes: restores that it waits for, by key
    """

    def __init__(
        self,
        name: str,
        *,
        reactor: VirtualReactor,
        chance: Chance,
        connect: Callable[[bool], Connection | None],
        wall: Callable[[], float],
        keys: Callable[[], tuple[str, str] | None],
        region: str,
        operations_per_hour: float,
        tell: Callable[[str], None],
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        :param is_open: whether its bucket is known to be there, so that its day can begin
        :param connect: opens a connection, None while nobody listens
        :param tell: takes a line of the story
        """
        self.name = name
        self._reactor = reactor
        self._chance = chance
        self._random = chance.stream(f"client {name}")
        self._connect = connect
        self._wall = wall
        self._keys = keys
        self._region = region
        self._account: Account | None = None
        self._pause_seconds = HOUR / operations_per_hour
        self._tell = tell
        self._is_open = is_open
        role = self._random.choice(ROLES)
        self._names, self._weights = list(role), list(role.values())
        self._seeds = 0
        self.bucket = BUCKETS[len(name) % 2 if not name[-1].isdigit() else int(name[-1]) % 2]
        self.ledger = Ledger()
        self.complaints: list[str] = []
        self.wishes: dict[str, Wish] = {}
        self.restored: dict[str, int] = {}
        """How often it has seen that a restore of a key had come to its end."""
        self.counts: dict[str, int] = {}
        self.is_at_work = False
        self.is_over = False

    # ── its day ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Begin with the first request, some time from now."""
        self._reactor.callLater(self._random.expovariate(1.0) * self._pause_seconds, self._act)

    def _act(self) -> None:
        if self.is_over:
            return
        if not self._is_open():
            self._next(None)
            return
        (name,) = self._random.choices(self._names, self._weights)
        self.is_at_work = True
        Deferred.fromCoroutine(self._did(name)).addBoth(self._next)

    def _next(self, outcome: Any) -> None:
        self.is_at_work = False
        if outcome is not None:
            self.complain(f"{self.name}: {outcome.getTraceback()}")
        if not self.is_over:
            self._reactor.callLater(self._random.expovariate(1.0) * self._pause_seconds, self._act)

    async def _did(self, name: str) -> None:
        operation: Callable[[], Coroutine[Deferred[Any], Any, None]] = getattr(self, f"_{name}")
        self.counts[name] = self.counts.get(name, 0) + 1
        await operation()

    @property
    def operations(self) -> int:
        """How many operations it has begun."""
        return sum(self.counts.get(name, 0) for name in self._names)

    def complain(self, complaint: str) -> None:
        """Note what must not be."""
        self._tell(f"COMPLAINT of {self.name}: {complaint}")
        self.complaints.append(complaint)

    # ── one request ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(
        self,
        method: str,
        key: str,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        spoils: bool = False,
    ) -> Answer | None:
        """
        Send a request, and perhaps hang up.

        :param spoils: a bit of the body changes on its way
        :return: None when nobody listened, so that nothing can have happened
        :raise NoAnswer: nobody knows what happened
        """
        if self._account is None:
            keys = self._keys()
            if keys is None:
                return None
            self._account = Account(keys, self._region)
        connection = self._connect(method == "HEAD")
        if connection is None:
            return None
        target = f"/{self.bucket}/{key}" + (f"?{query}" if query else "")
        head, body = self._account.request(method, target, headers or {}, body, self._wall())
        if spoils:
            body = bytes((body[0] ^ 1,)) + body[1:]
        hangs_up = self._chance.happens("client hangs up")
        cut = self._random.randint(0, len(body)) if hangs_up else len(body)
        connection.send(head + body[:cut])
        if hangs_up:
            await self._sleep(self._random.choice((0.0, 0.001, 0.003, 0.01)))
            connection.hang_up()
        answer = await connection.done
        if answer.status in _NOT_NOW:
            self.counts[f"{answer.status} {answer.code}"] = (
                self.counts.get(f"{answer.status} {answer.code}", 0) + 1
            )
        return answer

    def rest(self, seconds: float) -> "Deferred[None]":
        """Let time go by."""
        return self._sleep(seconds)

    def _sleep(self, seconds: float) -> "Deferred[None]":
        return deferLater(self._reactor, seconds)  # type: ignore[arg-type]

    def _some_key(self) -> str:
        return f"{self.name}/{self._random.randrange(KEYS_PER_CLIENT):03}"

    def _content(self) -> Content:
        self._seeds += 1
        kind = self._random.random()
        if kind < 0.03:
            size = 0
        elif kind < 0.85:
            size = int(self._random.lognormvariate(7.0, 1.2)) % 16_384 + 1
        elif kind < 0.98:
            size = self._random.randint(1, 60_000)
        else:
            size = self._random.randint(65_000, 700_000)
        seed = int.from_bytes(hashlib.sha256(f"{self.name}/{self._seeds}".encode()).digest()[:6], "big")
        return Content(seed=seed, size_bytes=size, storage_class=self._random.choice(CLASSES))

    # ── operations ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _put(self) -> None:
        await self.put(self._some_key(), self._content())

    async def put(self, key: str, content: Content) -> None:
        """PUT an object."""
        (body,) = content.parts()
        headers = {"x-amz-storage-class": content.storage_class, **self._proof(body)}
        await self._written(key, content, lambda: self.ask("PUT", key, headers=headers, body=body), "PUT")

    async def _damaged_put(self) -> None:
        """A body that is not what its signed checksum says, as a broken network card makes it: nothing may come of it."""
        key, content = self._some_key(), self._content()
        body = b"".join(content.parts()) or b"."
        try:
            answer = await self.ask("PUT", key, headers=self._proof(body), body=body, spoils=True)
        except NoAnswer:
            return
        if answer is not None and answer.status == 200:
            self.complain(f"PUT {key}: bytes with another checksum were accepted")

    def _proof(self, body: bytes) -> dict[str, str]:
        """What is to be locked comes with its checksum."""
        digest = b64encode(hashlib.md5(body).digest()).decode()
        return {"content-md5": digest} if self.bucket == LOCKING else {}

    async def _purge(self) -> None:
        """Try to delete an old version for good, by every means there is: what is under lock stays (the judge sees to that)."""
        if self.bucket != LOCKING:
            return
        try:
            listed = await self.ask("GET", "", query=f"prefix={self.name}%2F&versions=")
            found = [] if listed is None else _SUPERSEDED.findall(listed.body)
            if not found:
                return
            key, version_id = (part.decode() for part in self._random.choice(found))
            bypass = {"x-amz-bypass-governance-retention": "true"}
            answer = await self.ask("DELETE", key, query=f"versionId={version_id}", headers=bypass)
        except NoAnswer:
            return
        if answer is None or answer.status in _NOT_NOW:
            return
        if answer.status == 204:
            self._tell(f"DELETE {key} {version_id}: gone")
        elif answer.code not in ("AccessDenied", "RequestTimeTooSkewed"):
            self.complain(f"DELETE {key} {version_id}: {answer.status} {answer.body!r}")

    async def _written(
        self,
        key: str,
        content: Content | None,
        request: Callable[[], Coroutine[Deferred[Any], Any, Answer | None]],
        what: str,
    ) -> None:
        try:
            answer = await request()
        except NoAnswer:
            self.ledger.uncertain(key, content)
            self.wishes.pop(key, None)
            self._tell(f"{what} {key}: no answer")
            return
        if answer is None:
            return
        if answer.status in (200, 204):
            self.ledger.acknowledged(key, content)
            self.wishes.pop(key, None)
            self._tell(f"{what} {key}: {content or 'gone'}")
        elif answer.status in _NOT_NOW:
            self.ledger.uncertain(key, content)
            self.wishes.pop(key, None)
            self._tell(f"{what} {key}: {answer.status} {answer.code}")
        elif answer.code not in ("QuotaExceeded", "RequestTimeTooSkewed"):
            self.complain(f"{what} {key}: {answer.status} {answer.body!r}")

    async def _multipart(self) -> None:
        key, content = self._some_key(), self._content()
        upload = await self._made(key, content)
        if upload is None:
            return
        etag = await self._part(key, upload, 1, content)
        if etag is None:
            return
        if self._random.random() < 0.1:
            await self._abandoned(key, upload)
            return
        await self._completed(key, upload, etag, content)

    async def multipart(self, key: str, content: Content, *, spare: Content) -> None:
        """Upload an object as the only part that counts of two: ``spare`` is sent and not listed."""
        upload = await self._made(key, content)
        if upload is None:
            return
        etag = await self._part(key, upload, 1, content)
        if etag is not None and await self._part(key, upload, 2, spare) is not None:
            await self._completed(key, upload, etag, content)

    async def abandon(self, key: str, content: Content) -> None:
        """Begin an upload, send a part, and give it up."""
        upload = await self._made(key, content)
        if upload is not None and await self._part(key, upload, 1, content) is not None:
            await self._abandoned(key, upload)

    async def _part(self, key: str, upload: str, number: int, content: Content) -> str | None:
        """Send a part; return its ETag, None when it was not taken."""
        (body,) = content.parts()
        try:
            part = await self.ask("PUT", key, query=f"partNumber={number}&uploadId={upload}", body=body)
        except NoAnswer:
            return None
        return part.headers["etag"] if part is not None and part.status == 200 else None

    async def _completed(self, key: str, upload: str, etag: str, content: Content) -> None:
        """Complete an upload with its first part."""
        document = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        ).encode()
        await self._written(
            key,
            content,
            lambda: self.ask("POST", key, query=f"uploadId={upload}", body=document),
            "multipart",
        )

    async def _made(self, key: str, content: Content) -> str | None:
        try:
            answer = await self.ask(
                "POST", key, query="uploads=", headers={"x-amz-storage-class": content.storage_class}
            )
        except NoAnswer:
            return None
        if answer is None or answer.status != 200:
            return None
        return answer.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()

    async def _abandoned(self, key: str, upload: str) -> None:
        try:
            await self.ask("DELETE", key, query=f"uploadId={upload}")
        except NoAnswer:
            return

    async def _delete(self) -> None:
        await self.delete(self._some_key())

    async def delete(self, key: str) -> None:
        """DELETE an object."""
        await self._written(key, None, lambda: self.ask("DELETE", key), "DELETE")

    async def _get(self) -> None:
        await self.read(self._some_key())

    async def read(self, key: str) -> str:
        """
        GET a key and compare it with the ledger; return what came of it: ``there``, ``gone``, ``cold``, ``later``.

        What is cold is asked for by HEAD, which tells a size at least.
        """
        try:
            answer = await self.ask("GET", key)
        except NoAnswer:
            return "later"
        if answer is None or answer.status in _NOT_NOW:
            return "later"
        if answer.status == 200:
            digest = hashlib.sha256(answer.body).hexdigest()
            self._compare(key, len(answer.body), digest)
            if key in self.wishes:
                self.wishes.pop(key)
                self.restored[key] = self.restored.get(key, 0) + 1
                self._tell(f"GET {key}: restored")
            return "there"
        if answer.status == 404 and answer.code == "NoSuchKey":
            self._compare(key, None, None)
            return "gone"
        if answer.status == 403 and answer.code == "InvalidObjectState":
            if not any(each is not None and each.is_cold for each in self.ledger.possible(key)):
                self.complain(f"GET {key}: cold, and nothing cold was ever put there")
            elif key in self.wishes and self._random.random() < DOUBTED:
                await self._doubt(key)
            return "cold"
        if answer.code != "RequestTimeTooSkewed":
            self.complain(f"GET {key}: {answer.status} {answer.body!r}")
        return "later"

    async def _doubt(self, key: str) -> None:
        """It is refused as cold: see that HEAD does not call it restored, twice, for it may become so in between."""
        for _ in range(2):
            seen = await self.look(key)
            restore = "" if seen is None or seen.status != 200 else seen.headers.get("x-amz-restore", "")
            if 'ongoing-request="false"' not in restore:
                return
            try:
                answer = await self.ask("GET", key)
            except NoAnswer:
                return
            if answer is None or answer.code != "InvalidObjectState":
                return
        self.complain(f"GET {key}: refused as cold, and HEAD says {restore}")

    def _compare(self, key: str, size_bytes: int | None, digest: str | None) -> None:
        complaint = self.ledger.complaint(key, size_bytes, digest)
        if complaint is None:
            self.ledger.settle(key, size_bytes, digest)
        else:
            self.complain(complaint)

    async def _head(self) -> None:
        await self.look(self._some_key())

    async def look(self, key: str) -> Answer | None:
        """HEAD a key and compare its size with the ledger; None when there is no answer now."""
        try:
            answer = await self.ask("HEAD", key)
        except NoAnswer:
            return None
        if answer is None or answer.status in _NOT_NOW:
            return None
        if answer.status == 404:
            self._compare(key, None, None)
        elif answer.status == 200:
            self._compare(key, int(answer.headers["content-length"]), None)
            if key in self.wishes and "x-amz-restore" not in answer.headers:
                # Expired meanwhile, or given up: the outbox says which.
                self.wishes.pop(key)
        elif answer.status != 403:
            self.complain(f"HEAD {key}: {answer.status}")
        return answer

    async def _restore(self) -> None:
        cold = [
            key
            for key in self.ledger.names()
            if all(each is not None and each.is_cold for each in self.ledger.possible(key))
        ]
        waiting = list(self.wishes)
        if waiting and self._random.random() < 0.5:
            await self.read(self._random.choice(waiting))
        elif cold:
            await self.wish(self._random.choice(cold))

    async def wish(self, key: str, tier: str | None = None) -> None:
        """Ask for a restore."""
        tier = tier or self._random.choice(TIERS)
        if tier == "Expedited" and any(
            each is not None and each.storage_class == "DEEP_ARCHIVE" for each in self.ledger.possible(key)
        ):
            tier = "Standard"
        body = _RESTORE.format(days=self._random.randint(1, 3), tier=tier).encode()
        try:
            answer = await self.ask("POST", key, query="restore=", body=body)
        except NoAnswer:
            return
        if answer is None or answer.status in _NOT_NOW:
            return
        if answer.status == 202:
            self.wishes.setdefault(key, Wish(key, tier, self._reactor.seconds()))
            self._tell(f"restore {key}, {tier}: accepted")
        elif answer.status not in (200, 409) and answer.code != "RequestTimeTooSkewed":
            self.complain(f"restore {key}: {answer.status} {answer.body!r}")

    async def _list(self) -> None:
        try:
            answer = await self.ask("GET", "", query=f"list-type=2&prefix={self.name}%2F")
        except NoAnswer:
            return
        if answer is None or answer.status != 200:
            return
        listed = {part.partition(b"</Key>")[0].decode() for part in answer.body.split(b"<Key>")[1:]}
        for key in self.ledger.names():
            if key in listed and not self.ledger.may_exist(key):
                self.complain(f"{key} is listed, and was deleted")
            if key not in listed and self.ledger.must_exist(key):
                self.complain(f"{key} is not listed, and was put")

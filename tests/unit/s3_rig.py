"""The whole S3 side in memory: the real HTTP parser and operations over an SQLite store and a simulated disk."""

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from coldstore.interfaces.bell import IBell
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.objects import ObjectVersion, Piece, StorageClass
from coldstore.model.precedence import Shares
from coldstore.plan.classes import ClassRule
from coldstore.plan.quota import DefaultQuotas
from coldstore.s3.operations import S3Operations
from coldstore.testing.staging import SimulatedStaging
from tests.unit.encryption_keys import MemoryKeyFile, data_keyring
from tests.unit.s3_wire import NOW, ParsedAnswer, Wire, request_bytes, run_here

HOT = ClassRule(pools=(), keep_on_disk=True, needs_restore=False)
COLD = ClassRule(pools=("a", "b"), keep_on_disk=False, needs_restore=True)
RULES = {
    StorageClass.STANDARD: HOT,
    StorageClass.STANDARD_IA: HOT,
    StorageClass.GLACIER: COLD,
    StorageClass.DEEP_ARCHIVE: ClassRule(
        pools=("a", "b"), keep_on_disk=False, needs_restore=True, allows_expedited=False
    ),
}


@implementer(IBell)
class CountingBell:
    """A bell that counts its rings."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        """Count."""
        self.rings += 1

    def wait(self, seconds: float) -> Deferred[None]:
        """Nobody waits in these tests."""
        return succeed(None)


class Rig:
    """One endpoint with one user; every request goes over a connection of its own."""

    def __init__(
        self,
        *,
        capacity_bytes: int = 1 << 30,
        region: str = "us-east-1",
        days_max: int = 365,
        quotas: DefaultQuotas | None = None,
        shares: Shares | None = None,
        sse_c_over_http: bool = False,
        blocks_public: bool = True,
        encrypts_all: bool = False,
    ) -> None:
        self.room_wanted: list[int] = []
        """What was asked for when there was no room."""
        self.doubtful: list[str] = []
        """Addresses of which the record may or may not know."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = SqliteStore(":memory:")
        self.store.open()
        self.staging = SimulatedStaging(capacity_bytes=capacity_bytes, shares=shares)
        self.staging.start()
        self.archive_bell, self.recall_bell = CountingBell(), CountingBell()
        self.janitor_bell, self.messages_bell = CountingBell(), CountingBell()
        self.region = region
        self.key_file = MemoryKeyFile()
        self.data_keys = data_keyring(self.store, self.key_file)
        self.operations = S3Operations(
            store=self.store,
            staging=self.staging,
            clock=self.clock,
            random=Random(11),
            rules=RULES,
            region=region,
            day_seconds=86_400.0,
            days_max=days_max,
            archive_bell=self.archive_bell,
            recall_bell=self.recall_bell,
            janitor_bell=self.janitor_bell,
            messages_bell=self.messages_bell,
            quotas=quotas or DefaultQuotas(),
            in_thread=run_here,
            data_keys=self.data_keys,
            encrypts_all=encrypts_all,
            sse_c_over_http=sse_c_over_http,
            blocks_public=blocks_public,
            room_wanted=self.room_wanted.append,
            doubtful=self.doubtful.extend,
        )

    def wire(self, **more: Any) -> Wire:
        """Open a connection to a site with these settings."""
        return Wire(
            self.operations.registry(), clock=self.clock, told_to_page=self.operations.told_to_page, **more
        )

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str | None = None,
    ) -> ParsedAnswer:
        """Send one request and return its answer."""
        wire = self.wire()
        seconds = self.clock.seconds()
        wire.send(request_bytes(method, target, headers, body, payload=payload, seconds=seconds))
        return wire.answer()

    def put(self, target: str, body: bytes = b"", **headers: str) -> ParsedAnswer:
        """Put an object; underscores in names of headers stand for dashes."""
        return self.ask(
            "PUT", target, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    def version(self, bucket: str, key: bytes) -> ObjectVersion:
        """Return what is under a key."""
        found: list[ObjectVersion] = []
        self.store.current_version(bucket, key).addCallback(found.append)
        return found[0]

    def first_address(self, bucket: str, key: bytes) -> str:
        """Return the address of the first piece of what is under a key."""
        found: list[list[Piece]] = []
        layout_id = self.version(bucket, key).layout_id
        self.store.pieces(layout_id, after_ordinal=0, limit=1).addCallback(found.append)
        return found[0][0].address

    def evict(self, bucket: str, key: bytes) -> None:
        """Have a version's bytes be on tape only, as the archive and the evictor would bring about."""
        version = self.version(bucket, key)
        connection = self.store._executor._connection  # type: ignore[attr-defined]
        connection.execute(
            "UPDATE versions SET on_disk = 0, layout_id = '', archive_state = 'archived', revision = revision + 1"
            " WHERE version_uid = ?",
            (version.version_uid,),
        )
        connection.execute("UPDATE layouts SET state = 'doomed' WHERE layout_id = ?", (version.layout_id,))
        self.store.discards(1)

    @property
    def piece_count(self) -> int:
        """How many pieces the disk holds."""
        return len(self.staging.medium.pieces)


def text_of(body: bytes, name: str) -> str | None:
    """Return the text of the first element of that name."""
    match = re.search(rf"<{name}>([^<]*)</{name}>", body.decode())
    return None if match is None else match.group(1)


def texts_of(body: bytes, name: str) -> list[str]:
    """Return the texts of all elements of that name, in order."""
    return re.findall(rf"<{name}>([^<]*)</{name}>", body.decode())

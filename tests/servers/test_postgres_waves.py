"""Steps side by side on a real PostgreSQL come to the same as one after the other on SQLite."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import Conflict, IMetadataStore, WriteCondition
from coldstore.metadata.postgres import client, groupcommit
from coldstore.metadata.postgres.merging import QUESTIONS_MAX
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable, NoSuchKey
from coldstore.model.events import Alert, NewMessage, Severity
from coldstore.model.objects import ObjectVersion, StorageClass
from coldstore.util.asynchronous import returns_deferred
from tests.contract.metadata_contract import facts_of, message_of, piece_of, upload_of
from tests.contract.metadata_keys import user_of
from tests.servers.postgres_stores import LONG_SECONDS, OwnDatabase


class Known(NamedTuple):
    """A store, and how it calls what was there before its steps were given: versions by key, messages as they are due."""

    store: IMetadataStore
    versions: list[int]
    messages: list[int]


Call = Callable[[Known], Deferred[Any]]
BUCKETS = ("b", "c")
UPLOADS = tuple(f"upload-{n}" for n in range(4))


def shown(result: Any) -> Any:
    """Return what must be equal of a result: numbers of versions may differ, and so may what is counted beside a step."""
    if isinstance(result, ObjectVersion):
        return result.facts, result.layout_id, result.archive_state, result.deleted_at, result.on_disk
    if isinstance(result, Alert):
        return result.count, result.sentence, result.severity
    if isinstance(result, list):
        return [shown(each) for each in result]
    return result


class CountedCalls:
    """A function that counts how often it is called."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self._inner = inner
        self.count = 0

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        return self._inner(*arguments)

    def __get__(self, connection: Any, _: type) -> Callable[..., Any]:
        return lambda *arguments: self(connection, *arguments)


class EqualityTests(TestCase):
    """Two stores, given the same steps at once."""

    timeout = 900

    async def opened(self, store: IMetadataStore) -> IMetadataStore:
        """Return a store with buckets and uploads."""
        self.addCleanup(store.close)
        await store.open()
        for name in BUCKETS:
            await store.create_bucket(name=name, owner_id="o", region="r", created_at=1.0, default_class=None)
        for upload_id in UPLOADS:
            await store.create_upload(upload_of(upload_id, b"uploaded", bucket="b"))
        return store

    async def test_equal(self) -> None:
        """Whatever is given at once, with conflicts and refusals, and in whatever order the steps of a wave go."""
        parts = CountedCalls(groupcommit._in_parts)
        self.patch(groupcommit, "_in_parts", parts)
        for seed, shuffle in ((1, None), (2, Random(2).shuffle), (3, Random(3).shuffle)):
            self.chance, self.serial, parts.count = Random(seed), 0, 0
            self.stores = [
                await self.opened(OwnDatabase(self.addCleanup).store(shuffle=shuffle)),
                await self.opened(SqliteStore(":memory:")),
            ]
            for number in range(16):
                await self.give(self.chance.choice([1, 3, 20, 80, 200]), f"seed {seed} round {number}")
                if number % 4 == 0:
                    await self.free()
                await self.compare()
            self.assertGreater(parts.count, 0)

    async def give(self, count: int, context: str) -> None:
        """Give steps to both stores at once, and compare what they come to."""
        calls = [self.call() for _ in range(count)]
        both = []
        for store in self.stores:
            versions = await store.list_current("b", from_key=b"", before_key=None, limit=99)
            due = await store.due_messages(now=1e9, limit=50)
            known = Known(store, [each.version_uid for each in versions], [each.message_id for each in due])
            ended: Any = await DeferredList([call(known) for call in calls], consumeErrors=True)
            both.append([shown(result) if is_well else type(result.value) for is_well, result in ended])
        self.assertEqual(*both, context)

    def call(self) -> Call:
        """Return a step that is like others."""
        what = self.chance.choices(
            [
                self.publish,
                self.delete,
                self.put_part,
                self.note_reads,
                self.deliver,
                self.alert,
                self.complete,
            ],
            [70, 20, 10, 6, 6, 1, 1],
        )[0]
        self.serial += 1
        return what(self.serial)

    def key(self) -> bytes:
        """One that was met before, perhaps."""
        return b"k%d" % self.chance.randrange(self.chance.choice([3, 30, 3000]))

    def bucket(self) -> str:
        """One that is there, mostly."""
        return self.chance.choices(["b", "c", "none"], [90, 9, 1])[0]

    def name(self, stem: str, again: float) -> str:
        """A new name, or one that was given before."""
        number = self.chance.randrange(self.serial) if self.chance.random() < again else self.serial
        return f"{stem}-{number}"

    def message(self, bucket: str, key: bytes, event: str, serial: int) -> NewMessage:
        """What is to be told of a key; those of one key are told in their order."""
        return replace(message_of(key, event, float(serial)), bucket=bucket)

    def publish(self, serial: int) -> Call:
        """A publication."""
        key, bucket = self.key(), self.bucket()
        facts = facts_of(
            key,
            bucket=bucket,
            created_at=1000.0 + serial,
            etag=f"etag-{serial % 5}",
            owner_id=self.chance.choice("op"),
            storage_class=self.chance.choice(list(StorageClass)),
        )
        pieces = [piece_of(self.name("piece", 0.02))]
        if self.chance.random() < 0.1:
            pieces.append(piece_of(f"second-{serial}", 2))
        arguments: dict[str, Any] = {
            "layout_id": self.name("layout", 0.05),
            "pieces": pieces,
            "wants_tape": self.chance.random() < 0.8,
            "condition": self.chance.choice(
                [*[None] * 6, WriteCondition(if_none_match="*"), WriteCondition(if_match="etag-1")]
            ),
            "messages": [self.message(bucket, key, f"put {serial}", serial)],
        }
        return lambda known: known.store.publish_version(facts, **arguments)

    def delete(self, serial: int) -> Call:
        """A deletion."""
        bucket, keys = self.bucket(), [self.key() for _ in range(self.chance.choice([1, 1, 3]))]
        messages = {key: self.message(bucket, key, f"delete {serial}", serial) for key in keys}
        if_match = self.chance.choice([None, None, "etag-2"]) if len(keys) == 1 else None
        return lambda known: known.store.delete_current(
            bucket, keys, at=2000.0 + serial, messages=messages, if_match=if_match
        )

    def put_part(self, serial: int) -> Call:
        """A part, perhaps in place of another one."""
        upload_id = self.chance.choice([*UPLOADS, "unknown"])
        piece = piece_of(self.name("part", 0.1), self.chance.randrange(1, 6))
        return lambda known: known.store.put_part(upload_id, piece)

    def note_reads(self, serial: int) -> Call:
        """Reads of some of what was there."""
        places = [self.chance.random() for _ in range(3)]

        def call(known: Known) -> Deferred[None]:
            of = known.versions
            return known.store.note_reads(
                {of[int(place * len(of))]: 2 for place in places if of}, at=float(serial)
            )

        return call

    def deliver(self, serial: int) -> Call:
        """A message that was delivered."""
        place = self.chance.random()

        def call(known: Known) -> Deferred[None]:
            of = known.messages or [0]
            return known.store.message_delivered(of[int(place * len(of))])

        return call

    def alert(self, serial: int) -> Call:
        """An alert: nobody knows what it touches."""
        return lambda known: known.store.raise_alert(
            kind="k", subject="s", severity=Severity.WARNING, sentence=f"{serial}", at=float(serial)
        )

    def complete(self, serial: int) -> Call:
        """The end of an upload, that mostly fails."""
        upload_id = self.chance.choice(UPLOADS)
        facts = facts_of(b"uploaded", created_at=1000.0 + serial, size_bytes=20)
        return lambda known: known.store.complete_upload(
            upload_id, facts, listed=[1, 2], wants_tape=True, condition=None, messages=[]
        )

    async def free(self) -> None:
        """Have both forget what nothing needs."""
        freed = []
        for store in self.stores:
            addresses = set()
            while found := await store.discards(40):
                addresses |= {one.address for one in found}
                await store.forget_discards([one.discard_id for one in found])
            freed.append(addresses)
        self.assertEqual(*freed)

    async def compare(self) -> None:
        """Whatever can be asked of both has the same answer."""
        for ask in (
            *(self.listing(name) for name in BUCKETS),
            *(self.use(name) for name in BUCKETS),
            *(self.parts(upload_id) for upload_id in UPLOADS),
            lambda store: store.backlog(),
            lambda store: store.totals(),
            self.alerts,
            self.outbox,
        ):
            self.assertEqual(*[await ask(store) for store in self.stores])

    def listing(self, bucket: str) -> Callable[[IMetadataStore], Awaitable[object]]:
        """What is in a bucket, with its pieces."""

        async def ask(store: IMetadataStore) -> object:
            found = await store.list_current(bucket, from_key=b"", before_key=None, limit=9999)
            pieces = await store.first_pieces([one.layout_id for one in found][:90])
            return [
                (shown(one), one.read_count, one.last_read_at, one.revision, pieces.get(one.layout_id))
                for one in found
            ]

        return ask

    def use(self, bucket: str) -> Callable[[IMetadataStore], Awaitable[object]]:
        """What a bucket has on the disk."""
        return lambda store: store.staging_use(bucket=bucket)

    def parts(self, upload_id: str) -> Callable[[IMetadataStore], Awaitable[object]]:
        """The parts of an upload, if it is there."""

        async def ask(store: IMetadataStore) -> object:
            return await store.pieces(upload_id, after_ordinal=0, limit=99)

        return ask

    async def alerts(self, store: IMetadataStore) -> object:
        """All alerts."""
        return shown(await store.alerts(include_cleared=True, limit=9))

    async def outbox(self, store: IMetadataStore) -> Sequence[object]:
        """What is to be told next of each key."""
        found = await store.due_messages(now=1e9, limit=9999)
        return sorted((one.bucket, one.key, one.event, one.body) for one in found)


async def listens(store: Any) -> None:
    """Wait until a store that was opened listens for another writer, which begins with a look, and asks nothing more by itself."""
    await store._executor._succession._listener.lasting.ready(LONG_SECONDS)
    await store.newest_epoch()


class FailingTests(TestCase):
    """Steps that fail when others of their transaction do not."""

    @returns_deferred
    async def setUp(self) -> None:
        """Have a store that counts what it sends."""
        self.store = OwnDatabase(self.addCleanup).store()
        self.addCleanup(self.store.close)
        await self.store.open()
        await self.store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        await self.publish(b"first", layout_id="there")
        await listens(self.store)
        self.sent = CountedCalls(client.Connection.run)
        self.patch(client.Connection, "run", self.sent)

    def publish(self, key: bytes, *, layout_id: str) -> Deferred[ObjectVersion]:
        """Publish something new."""
        return self.store.publish_version(
            facts_of(key),
            layout_id=layout_id,
            pieces=[piece_of(f"piece of {key!r}")],
            wants_tape=True,
            condition=None,
            messages=[],
        )

    async def given(self, layouts: Sequence[str]) -> list[object]:
        """Publish with these layouts at once; return who failed, and how."""
        ended: Any = await DeferredList(
            [self.publish(b"k%d" % n, layout_id=layout_id) for n, layout_id in enumerate(layouts)],
            consumeErrors=True,
        )
        return [(n, type(result.value)) for n, (is_well, result) in enumerate(ended) if not is_well]

    async def test_all_well(self) -> None:
        """Publications that disturb nobody take two round trips, however many there are, up to what the reactor can bear."""
        self.assertEqual(await self.given([f"l{n}" for n in range(QUESTIONS_MAX)]), [])
        self.assertEqual(self.sent.count, 2)

    async def test_late(self) -> None:
        """One that fails when it writes fails alone, and the others do not have to be run one by one."""
        layouts = [f"l{n}" for n in range(200)]
        layouts[77] = "there"
        self.assertEqual(await self.given(layouts), [(77, Conflict)])
        self.assertLess(self.sent.count, 70)
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=999)
        self.assertEqual(len(found), 200)

    async def test_several(self) -> None:
        """So do several."""
        layouts = [f"l{n}" for n in range(200)]
        for n in (0, 50, 51, 199):
            layouts[n] = "there"
        self.assertEqual(await self.given(layouts), [(n, Conflict) for n in (0, 50, 51, 199)])
        self.assertLess(self.sent.count, 150)

    async def test_none(self) -> None:
        """When all of them fail nothing is there."""
        self.assertEqual(await self.given(["there"] * 3), [(n, Conflict) for n in range(3)])
        self.assertEqual(len(await self.store.list_current("b", from_key=b"", before_key=None, limit=9)), 1)


class LookUpTests(TestCase):
    """Look-ups, which are asked together."""

    @returns_deferred
    async def setUp(self) -> None:
        """Have a store with some users, that counts what it sends."""
        self.database = OwnDatabase(self.addCleanup)
        self.store = self.database.store()
        self.addCleanup(self.store.close)
        await self.store.open()
        for n in range(3):
            await self.store.create_user(*user_of(f"u{n}", f"n{n}", f"k{n}"))
        await listens(self.store)
        self.sent = CountedCalls(client.Connection.run)
        self.patch(client.Connection, "run", self.sent)

    async def asked(self, steps: Sequence[Callable[[Database], Any]]) -> list[Any]:
        """Look these up at once; return what they come to, an error by its class."""
        ended: Any = await DeferredList([self.store._look_up(step) for step in steps], consumeErrors=True)
        return [result if is_well else type(result.value) for is_well, result in ended]

    async def test_together(self) -> None:
        """Those of one turn of the reactor are one question, and each gets its own answer."""
        found = await DeferredList([self.store.signer(f"k{n % 5}") for n in range(60)])
        names = [None if user is None else user.name for _, user in found]
        self.assertEqual(names, ["n0", "n1", "n2", None, None] * 12)
        self.assertEqual(self.sent.count, 1)

    async def test_several_questions(self) -> None:
        """A step of two questions asks the second with the others that have one."""

        async def twice(db: Database) -> object:
            (name,) = await db.row("SELECT name FROM users WHERE user_id = ?", ("u1",))
            return await db.row("SELECT user_id FROM users WHERE name = ?", (name,))

        self.assertEqual(await self.asked([twice] * 50), [("u1",)] * 50)
        self.assertEqual(self.sent.count, 2)

    async def test_wrong(self) -> None:
        """One that is wrong, or that refuses, fails alone."""

        async def refusing(db: Database) -> None:
            await db.row("SELECT name FROM users WHERE user_id = ?", ("u1",))
            raise NoSuchKey("b")

        async def fine(db: Database) -> object:
            return await db.row("SELECT name FROM users WHERE user_id = ?", ("u1",))

        async def wrong(db: Database) -> object:
            return await db.row("SELECT nonsense FROM users WHERE user_id = ?", ("u1",))

        self.assertEqual(await self.asked([fine, refusing, fine]), [("n1",), NoSuchKey, ("n1",)])
        bad, *others = await self.asked([wrong, fine, refusing, fine])
        self.assertEqual(bad.__name__, "UndefinedColumn")
        self.assertEqual(others, [("n1",), NoSuchKey, ("n1",)])

    async def test_end_of_the_connection(self) -> None:
        """One that ends its connection takes no other with it."""

        async def ending(db: Database) -> object:
            return await db.row("SELECT pg_terminate_backend(pg_backend_pid())")

        async def fine(db: Database) -> object:
            return await db.row("SELECT name FROM users WHERE user_id = ?", ("u1",))

        found = await self.asked([fine, ending, fine, fine])
        self.assertEqual(found, [("n1",), MetadataUnavailable, ("n1",), ("n1",)])

    async def test_beside_reads(self) -> None:
        """They wait for no read, however many are under way."""
        db = await self.database.statements()
        await db.row("SELECT pg_advisory_lock(7)")

        async def waits(db: Database) -> object:
            return await db.row("SELECT 1 FROM pg_advisory_lock_shared(7)")

        reads = [self.store._read(waits) for _ in range(5)]
        self.assertEqual((await self.store.signer("k2")).name, "n2")
        self.assertNoResult(DeferredList(reads))
        await db.row("SELECT pg_advisory_unlock(7)")
        self.assertEqual(await DeferredList(reads), [(True, (1,))] * 5)

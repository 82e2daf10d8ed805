"""A connection that is cut at each statement in turn: every step of a life comes to what it would have come to, once."""

import re
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.model.errors import PreconditionFailed
from coldstore.model.objects import Restore, RestorePhase, Tier
from coldstore.util.asynchronous import returns_deferred
from tests.contract.metadata_contract import (
    MAX_CRC,
    MetadataSteps,
    WriteCondition,
    facts_of,
    message_of,
    piece_of,
    upload_of,
)
from tests.servers.postgres_rig import LONG_SECONDS, PostgresCase
from tests.servers.proxy import Fault, Proxy, Way

QUESTIONS = (
    "SELECT last_version FROM store",
    "SELECT version_uid, key, layout_id, on_disk, archive_state, restore_phase, deleted_at, disposal, read_count, revision"
    " FROM versions ORDER BY version_uid",
    "SELECT layout_id, ordinal, address FROM pieces ORDER BY 1, 2",
    "SELECT layout_id, state, listed FROM layouts ORDER BY 1",
    "SELECT address FROM discards ORDER BY 1",
    "SELECT * FROM members ORDER BY 1, 2",
    "SELECT * FROM copies ORDER BY 1, 2",
    "SELECT event, key FROM outbox ORDER BY message_id",
    "SELECT owner_id, storage_class, used_bytes, promised_bytes FROM shares ORDER BY 1, 2",
    "SELECT * FROM backlogs ORDER BY 1",
    "SELECT count(*) FROM epochs",
)
"""What is there in the end, but for numbers that the server gives away: those of a transaction that was undone are left out."""
ARGUMENT = re.compile(rb"'[^']*'(::bytea)?|\b\d+(\.\d+)?\b")
UNDER_WAY_SECONDS = 0.03
"""How long a text whose answer is lost has for being carried out."""
ONGOING = Restore(phase=RestorePhase.ONGOING, tier=Tier.BULK, days=2, requested_at=50.0, requested_by="owner")


class CutTests(MetadataSteps, PostgresCase):
    """Each statement of a life, before it is sent and before its answer comes."""

    timeout = 600

    @returns_deferred
    async def setUp(self) -> None:  # type: ignore[override]
        """Count, and cut off, what connections are asked."""
        await PostgresCase.setUp(self)
        self.at_text: Callable[[bytes], object] = lambda _: None
        asked = Connection._asked

        async def noticed(connection: Connection, text: Any, arguments: Any) -> Any:
            self.at_text(text.encode() if isinstance(text, str) else text)
            return await asked(connection, text, arguments)

        self.patch(Connection, "_asked", noticed)

    async def test_every_statement(self) -> None:
        """Whichever it is, whether or not it arrived; a COMMIT both ways."""
        store = self.store_at(self.direct)
        await store.open()
        await store.close()
        texts: list[bytes] = []
        self.at_text = texts.append
        whole = await self.lived()
        self.assertGreater(len(texts), 40)
        forms: dict[bytes, int] = {}
        for number, text in enumerate(texts):
            forms.setdefault(ARGUMENT.sub(b"?", text), number)
        for number in forms.values():
            text, ways = texts[number], (self.lose_request, self.lose_answer)
            for lose in ways if b"COMMIT" in text else (ways[number % 2],):
                self.at_text = self.counted(number, lose)
                self.assertEqual(await self.lived(), whole, f"{lose.__name__} {number}: {text[:200]!r}")

    def counted(self, number: int, act: Callable[[], None]) -> Callable[[bytes], None]:
        """Return what acts when it is called for this time, counted from 0."""
        left = number

        def called(text: bytes) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                act()

        return called

    def lose_request(self) -> None:
        """Cut every connection."""
        self.relay.now(Fault.CUT)

    def lose_answer(self) -> None:
        """Let pass what goes to the server, and no more of what it answers; then cut."""
        self.relay.now(Fault.HOLD, Way.TO_CLIENT)
        reactor.callLater(UNDER_WAY_SECONDS, self.relay.now, Fault.CUT)  # type: ignore[attr-defined]

    async def lived(self) -> list[Any]:
        """Return what the steps of a life come to, on a database of its own, and what is there in the end."""
        where = self.cluster.copied(self.database)
        self.relay = Proxy(reactor, self.cluster.port)
        self.relay.start()
        self.serial = 0
        self.store = store = self.store_at(self.at(port=self.relay.port, database=where.database))
        try:
            await store.open()
            told = await self.life()
        finally:
            self.at_text = lambda _: None
            await store.close()
            await self.relay.stop()
        there = [self.cluster.sql(question, database=where.database) for question in QUESTIONS]
        self.cluster.drop(where)
        return [told, there]

    def store_at(self, address: Address) -> PostgresStore:
        """Return a store that is not open."""
        return PostgresStore(
            address, reactor=reactor, connect_seconds=LONG_SECONDS, answer_seconds=LONG_SECONDS, readers=1
        )

    async def life(self) -> list[Any]:
        """Return what the steps come to."""
        store = self.store
        await self.create_bucket("b")
        await store.take_epoch(at=1.0, host="")
        told: list[Any] = []
        first = await self.publish(b"a", messages=[message_of(b"a")])
        together: list[Deferred[Any]] = [
            store.publish_version(
                facts_of(key),
                layout_id=f"together-{number}",
                pieces=[piece_of(f"together-{number}")],
                wants_tape=True,
                condition=WriteCondition(if_none_match="*"),
                messages=(),
            )
            for number, key in enumerate((b"b", b"a", b"c"))
        ]
        outcomes = [
            await each.addErrback(lambda failure: failure.trap(PreconditionFailed)) for each in together
        ]
        told += [first, outcomes]
        await store.create_upload(upload_of("u", b"large"))
        for ordinal in (1, 2, 1):
            told.append(await store.put_part("u", piece_of(self.unique("part"), ordinal)))
        told.append(await self.publish(b"a", condition=WriteCondition(if_match=first.facts.etag)))
        kept = await self.publish(b"cold")
        bundle_id = await self.claim([kept])
        told += [await self.freeze(bundle_id), await self.write(bundle_id)]
        await self.settle(bundle_id)
        kept = await self.again(kept)
        await store.evict_version(kept.version_uid, revision=kept.revision)
        asked = await self.ask_restore(kept, ONGOING)
        piece = piece_of("recalled", 1, crc64nvme=MAX_CRC)
        told.append(await store.add_recalled(kept.version_uid, extent=0, layout_id="recall", piece=piece))
        told.append(
            await store.complete_recall(
                kept.version_uid, revision=asked.revision, expires_at=500.0, messages=[message_of(b"cold")]
            )
        )
        told.append(await self.delete(b"b", b"nothing", b"cold"))
        told.append(await self.drain())
        told.append(await store.list_page("b", prefix=b"", delimiter=b"", after=b"", max_entries=9))
        await store.note_reads({first.version_uid: 2}, at=9.0)
        return told

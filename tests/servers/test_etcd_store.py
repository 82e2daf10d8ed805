"""What only the store in etcd has: a replica that may be lost, a lease, outcomes that are unknown for a while, limits of a batch."""

import contextlib
import json
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from coldstore.interfaces.metadata import (
    AnotherAppliance,
    RecordElsewhere,
    SchemaTooNew,
    SchemaTooOld,
    StepTooLarge,
)
from coldstore.metadata.etcd import log as log_module
from coldstore.metadata.etcd import store as store_module
from coldstore.metadata.etcd import walk as walk_module
from coldstore.metadata.etcd.gateway import Event, Gateway, Watch
from coldstore.metadata.sql.tables import BY_NAME
from coldstore.model.errors import MetadataFull, MetadataUnavailable, NoSuchKey, TakenOver
from tests.servers.etcd import Etcd
from tests.servers.etcd_rows import (
    KEYS,
    all_keys,
    copy_of,
    mark_of,
    reactor,
    rows_in_etcd,
    rows_in_file,
)
from tests.servers.etcd_stores import OnOneEtcd
from tests.servers.proxy import Fault, Proxy, Way


class ReplicaTests(OnOneEtcd):
    """A replica that is lost, or is not what it should be."""

    async def some_life(self) -> set[bytes]:
        """Publish, replace and delete; return what is there."""
        store = await self.opened()
        await self.many(store, 60)
        await self.many(store, 20)
        await store.delete_current("b", [b"k%04d" % number for number in range(10, 30)], at=5.0, messages={})
        await store.close()
        return {b"k%04d" % number for number in range(60) if not 10 <= number < 30}

    async def test_gone(self) -> None:
        """It is loaded anew, page by page."""
        there = await self.some_life()
        before = rows_in_file(self.replica)
        for pages in (2000, 7):
            self.patch(walk_module, "PAGE_ROWS", pages)
            self.replica.unlink()
            store = await self.opened()
            self.assertEqual(await self.keys(store), there)
            await store.close()
            self.assertEqual(rows_in_file(self.replica), before)
            self.compare()
        self.assertEqual(self.replica.stat().st_mode & 0o777, 0o600)
        self.assertEqual([path.name for path in self.replica.parent.iterdir() if "loading" in path.name], [])

    async def test_damaged(self) -> None:
        """A file that is no database, is cut short, or has bytes turned is made anew; so is one of another schema."""
        there = await self.some_life()
        whole = self.replica.read_bytes()

        def other_schema() -> None:
            with contextlib.closing(sqlite3.connect(self.replica)) as connection:
                connection.execute("UPDATE migrations SET checksum = 'other' WHERE number = 1")
                connection.commit()

        def turned() -> None:
            with self.replica.open("r+b") as file:
                file.seek(4096 * 5)
                file.write(b"\xff" * 4096)

        damages: list[Callable[[], object]] = [
            lambda: self.replica.write_bytes(b"nonsense" * 1000),
            lambda: self.replica.write_bytes(whole[: len(whole) // 2]),
            lambda: self.replica.write_bytes(b""),
            turned,
            other_schema,
        ]
        for damage in damages:
            damage()
            store = await self.opened()
            self.assertEqual(await self.keys(store), there)
            await store.close()
            self.compare()

    async def test_behind(self) -> None:
        """One that is behind catches up with what happened since; one that is too far behind is made anew."""
        store = await self.opened()
        await self.many(store, 30)
        old, older = Path(self.mktemp()), Path(self.mktemp())
        for copy in (old, older):
            copy_of(self.replica, copy)
        await self.many(store, 10)
        await self.many(store, 10, prefix="l")
        await store.delete_current("b", [b"k0001", b"k0020"], at=5.0, messages={})
        there = await self.keys(store)
        await store.close()
        for copy, is_made_anew in ((old, False), (older, True)):
            inode = copy.stat().st_ino
            if is_made_anew:
                self.server.call("kv/compaction", {"revision": str(mark_of(self.replica)[0])})
            store = await self.opened(replica=copy)
            self.assertEqual(await self.keys(store), there)
            await store.close()
            self.assertEqual(rows_in_file(copy), rows_in_etcd(self.server))
            self.assertEqual(copy.stat().st_ino != inode, is_made_anew)

    async def test_batches_in_pieces(self) -> None:
        """A batch that etcd tells of in several messages is not seen by halves in a replica that is read meanwhile."""
        store = await self.opened()
        behind = Path(self.mktemp())
        copy_of(self.replica, behind)
        states = [rows_in_file(behind)]
        for number in range(3):
            await self.publish(store, b"%d" % number)
            states.append(rows_in_file(self.replica))
        await store.close()
        seen: list[Any] = []

        class Pieces:
            """A watch that tells of one event at a time, or of a piece with the end of one batch and the beginning of another."""

            def __init__(self, watch: Watch, size: int) -> None:
                self.watch, self.size, self.waiting = watch, size, []  # type: ignore[var-annotated]

            async def next(self) -> list[Event]:
                """Note what is there, then return a piece."""
                seen.append(rows_in_file(copy))
                while not self.waiting:
                    self.waiting = await self.watch.next()
                piece, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
                return piece

            def close(self) -> None:
                """See ``Watch``."""
                self.watch.close()

        real = Gateway.watch
        for size in (1, 5):

            async def watch(*arguments: Any, size: int = size, **named: Any) -> Any:
                return Pieces(await real(*arguments, **named), size)

            self.patch(Gateway, "watch", watch)
            copy = Path(self.mktemp())
            copy_of(behind, copy)
            await (await self.opened(replica=copy)).close()
            self.assertEqual(rows_in_file(copy), states[-1])
        self.assertGreater(len(seen), 10)
        for state in seen:
            self.assertIn(state, states)

    async def test_even_with_a_compacted_etcd(self) -> None:
        """One that lacks nothing is used as it is, however much etcd has forgotten."""
        await self.some_life()
        self.server.put(b"/other/key", b"1")
        revision = self.server.call("kv/range", {"key": b64encode(b"k").decode()})["header"]["revision"]
        self.server.call("kv/compaction", {"revision": revision})
        inode = self.replica.stat().st_ino
        await (await self.opened()).close()
        self.assertEqual(self.replica.stat().st_ino, inode)

    async def test_an_older_etcd(self) -> None:
        """One that knows more than etcd, or something else, is kept aside for whoever restored an old backup, and told."""
        there = await self.some_life()
        for revision, batch in (("revision + 1000", "batch"), ("revision - 5", "'other/1'")):
            with contextlib.closing(sqlite3.connect(self.replica)) as connection:
                connection.execute(f"UPDATE replica SET revision = {revision}, batch = {batch}")
                connection.commit()
            mark = mark_of(self.replica)
            with capturedLogs() as logs:
                store = await self.opened()
            self.assertEqual(await self.keys(store), there)
            await store.close()
            self.assertEqual(
                [one["aside"] for one in logs if one["log_level"] is LogLevel.critical],
                [f"{self.replica}.aside"],
            )
            self.assertEqual(mark_of(f"{self.replica}.aside"), mark)
            self.compare()

    async def test_an_empty_etcd(self) -> None:
        """Where a store was, nothing is begun anew: etcd may have been lost, or be the wrong one."""
        await self.some_life()
        before = rows_in_file(self.replica)
        self.server.clear()
        fault = await self.refused(RecordElsewhere, self.opened())
        self.assertIn(str(self.replica), str(fault))
        self.assertEqual(all_keys(self.server), {})
        self.assertEqual(rows_in_file(self.replica), before)

    async def test_an_empty_etcd_and_a_file_of_no_use(self) -> None:
        """A file of another schema, or a damaged one, is as good a reason: it may be the last that is left of the store."""
        await self.some_life()
        self.server.clear()
        with contextlib.closing(sqlite3.connect(self.replica)) as connection:
            connection.execute("UPDATE migrations SET checksum = 'other' WHERE number = 1")
            connection.commit()
        for content in (self.replica.read_bytes(), b"nonsense" * 1000):
            self.replica.write_bytes(content)
            await self.refused(RecordElsewhere, self.opened())
            self.assertEqual(all_keys(self.server), {})
            self.assertEqual(self.replica.read_bytes(), content)

    async def test_begun_and_no_more(self) -> None:
        """A first run that ended behind a fence, before it had written anything else, is no store of somebody else."""
        self.server.put(KEYS.batch, json.dumps({"batch": "run/2"}).encode())
        store = await self.opened()
        await self.publish(store, b"k")
        self.compare()

    async def test_what_is_not_ours(self) -> None:
        """Keys of somebody else under our prefix are left alone; beside it they do not matter."""
        self.server.put(b"/coldstore-not/k", b"1")
        self.server.put(b"/coldstore/k", b"1")
        fault = await self.refused(RecordElsewhere, self.opened())
        self.assertIn("choose another prefix", str(fault))
        self.assertEqual(all_keys(self.server), {b"/coldstore/k": b"1"})
        store = await self.opened(prefix="/coldstore/mine")
        await store.close()

    async def test_schema(self) -> None:
        """A store of another program is refused, and says what to do."""
        await self.some_life()
        newest = json.loads(all_keys(self.server)[KEYS.schema])["schema"]
        before = all_keys(self.server)
        for number, kind, words in (
            (newest + 1, SchemaTooNew, "newer program"),
            (newest - 1, SchemaTooOld, "coldstore db upgrade"),
        ):
            self.server.put(KEYS.schema, json.dumps({"schema": number}).encode())
            fault = await self.refused(kind, self.opened())
            self.assertIn(words, str(fault))
            self.assertEqual({**all_keys(self.server), KEYS.schema: before[KEYS.schema]}, before)

    async def test_numbers(self) -> None:
        """Numbers do not come again when the rows that had them are gone and the replica was lost."""
        store = await self.opened()
        await gatherResults([self.publish(store, b"k%d" % number, says=True) for number in range(10)])
        await store.delete_current("b", [b"k%d" % number for number in range(10)], at=5.0, messages={})
        discards = [one.discard_id for one in await store.discards(100)]
        messages = [one.message_id for one in await store.due_messages(now=1e10, limit=100)]
        self.assertEqual((len(discards), len(messages)), (10, 10))
        await store.forget_discards(discards)
        for message in messages:
            await store.message_delivered(message)
        await store.close()
        self.assertEqual(
            (rows_in_etcd(self.server)["discards"], rows_in_etcd(self.server)["outbox"]), ([], [])
        )
        self.replica.unlink()
        store = await self.opened()
        await self.publish(store, b"k", says=True)
        await store.delete_current("b", [b"k"], at=5.0, messages={})
        (discard,) = await store.discards(100)
        (message,) = await store.due_messages(now=1e10, limit=100)
        self.assertGreater(discard.discard_id, max(discards))
        self.assertGreater(message.message_id, max(messages))


class BatchTests(OnOneEtcd):
    """Many steps, and large ones."""

    async def test_many_rows(self) -> None:
        """Steps that change a hundred rows each do not fit together, and all come through, in their order."""
        store = await self.opened()
        await self.many(store, 400)
        found = await store.list_current("b", from_key=b"", before_key=None, limit=1000)
        self.assertEqual([one.sequence for one in found], sorted(one.sequence for one in found))
        given = [
            store.delete_current("b", [b"k%04d" % n for n in range(start, start + 40)], at=5.0, messages={})
            for start in range(0, 400, 40)
        ]
        given.append(store.delete_current("b", [b"none"], at=5.0, messages={}))
        await gatherResults(given)
        self.assertEqual(await self.keys(store), set())
        self.compare()

    async def test_many_bytes(self) -> None:
        """Steps that weigh more together than a batch may are written in several; one that does alone is refused alone."""
        store = await self.opened()
        given = [self.publish(store, b"k%02d" % number, text="x" * 200_000) for number in range(12)]
        # Written as JSON within JSON, a quotation mark takes four bytes.
        given.insert(5, self.publish(store, b"too much", text='"' * 600_000))
        given.append(self.publish(store, b"last"))
        outcomes = await DeferredList(given, consumeErrors=True)
        kinds = [type(outcome.value) if isinstance(outcome, Failure) else None for _, outcome in outcomes]
        self.assertEqual(kinds, [None] * 5 + [StepTooLarge] + [None] * 8)
        self.assertEqual(await self.keys(store), {b"last", *(b"k%02d" % number for number in range(12))})
        self.compare()

    async def test_batches(self) -> None:
        """What is given at once is written at once, as far as it fits: dozens of publications."""
        store = await self.opened()
        await self.publish(store, b"first")
        before = mark_of(self.replica)[0]
        await self.many(store, 200)
        self.assertLess(mark_of(self.replica)[0] - before, 40)

    async def test_nothing_changed(self) -> None:
        """Steps that refuse, or change nothing, write nothing."""
        store = await self.opened()
        before = mark_of(self.replica)
        await self.refused(NoSuchKey, store.current_version("b", b"none"))
        await store.delete_current("b", [b"none"], at=1.0, messages={})
        self.assertEqual(mark_of(self.replica), before)
        self.compare()


class FaultTests(OnOneEtcd):
    """Connections to etcd that go wrong under a store."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Put a relay before the server."""
        await super().setUp()
        self.proxy = Proxy(reactor, self.server.port)
        self.proxy.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.proxy.stop()))
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    async def test_every_moment_of_a_batch(self) -> None:
        """Cut, stalled or half closed, before the batch came through or after: everybody is told the truth, and it goes on."""
        store = await self.opened(self.url, request_seconds=1.0)
        told: set[bytes] = set()
        moments: list[tuple[Way, dict[str, Any]]] = [
            (Way.TO_SERVER, {"text": b"/v3/kv/txn", "passes": False}),
            (Way.TO_SERVER, {"text": b'"failure"'}),
            (Way.TO_CLIENT, {"text": b"HTTP/1.1 200", "passes": False}),
            (Way.TO_CLIENT, {"text": b'"succeeded"'}),
        ]
        for round_number, (fault, (way, when)) in enumerate(
            (fault, moment) for fault in (Fault.CUT, Fault.STALL, Fault.HALF_CLOSE) for moment in moments
        ):
            happened = self.proxy.at(fault, way, **when)
            good, bad = await self.many(store, 50, prefix=f"{round_number:02}/")
            await happened
            self.proxy.release()
            told |= good
            self.assertEqual(bad, set())
            self.assertEqual(await self.keys(store), told)
            self.compare()

    async def test_no_etcd_for_long(self) -> None:
        """Beyond our patience steps fail, whether what was under way came through is known later, and it goes on by itself."""
        store = await self.opened(self.url, request_seconds=5.0, patience_seconds=0.2)
        told = await self.many(store, 5, prefix="before")
        for number, (way, is_there) in enumerate(((Way.TO_SERVER, False), (Way.TO_CLIENT, True))):
            happened = self.proxy.at(
                Fault.CUT, way, text=b"/v3/kv/txn" if way is Way.TO_SERVER else b"HTTP/1.1", passes=False
            )
            Deferred.fromCoroutine(self.refuse_after(happened))
            key = b"doubtful %d" % number
            fault = await self.refused(MetadataUnavailable, self.publish(store, key))
            self.assertNotIsInstance(fault, MetadataFull)
            await self.refused(MetadataUnavailable, self.publish(store, b"in vain"))
            self.assertEqual(await self.keys(store), told[0])
            self.proxy.start()
            await self.publish(store, b"after %d" % number)
            told[0].update({b"after %d" % number} | ({key} if is_there else set()))
            self.assertEqual(await self.keys(store), told[0])
            self.compare()

    async def test_closed_while_etcd_hangs(self) -> None:
        """However much is queued, it takes a call or two to find out that nothing of it can be written."""
        store = await self.opened(request_seconds=2.0, patience_seconds=1.0, write_batch_max=1)
        given = DeferredList(
            [self.publish(store, b"%d" % number) for number in range(50)], consumeErrors=True
        )
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        begun = reactor.seconds()
        await store.close()
        self.assertLess(reactor.seconds() - begun, 50.0)
        self.assertEqual({type(fault.value) for _, fault in await given}, {MetadataUnavailable})

    async def refuse_after(self, happened: "Deferred[Any]") -> None:
        """Let nobody connect after something happened, and cut off who is."""
        await happened
        await self.proxy.refuse()
        self.proxy.now(Fault.CUT)

    async def test_replica_fails(self) -> None:
        """A commit that fails in the file after etcd has taken the batch: it comes back from etcd before anybody is told."""
        store = await self.opened()
        real = store_module._commit_with
        failures = iter([True, False, True, True, False])

        def failing(connection: Any, batch: Any) -> bool:
            if next(failures, False):
                connection.execute("ROLLBACK")
                return False
            return real(connection, batch)

        self.patch(store_module, "_commit_with", failing)
        for number in range(5):
            version = await self.publish(store, b"%d" % number)
            self.assertEqual(await store.current_version("b", b"%d" % number), version)
            self.compare()

    async def test_restarts_under_load(self) -> None:
        """etcd is killed again and again: what was acknowledged is there, and nothing that was refused for certain."""
        server = Etcd()
        self.addCleanup(server.remove)
        self.server = server
        store = await self.opened(patience_seconds=60.0, lease_seconds=60)
        told: set[bytes] = set()
        is_over = False

        async def lane(number: int) -> None:
            count = 0
            while not is_over:
                key = b"%d/%d" % (number, count)
                count += 1
                await self.publish(store, key)
                told.add(key)

        lanes = [Deferred.fromCoroutine(lane(number)) for number in range(8)]
        for pause in (0.2, 0.05, 0.3):
            before = len(told)
            await deferLater(reactor, pause)
            server.kill()
            server.start()
            while len(told) < before + 20:
                await deferLater(reactor, 0.02)
        is_over = True
        await gatherResults(lanes)
        self.assertEqual(await self.keys(store), told)
        self.compare()

    async def test_full(self) -> None:
        """A quota that is reached refuses for certain, and nothing else; reading goes on."""
        server = Etcd(quota_bytes=2 << 20)
        self.addCleanup(server.remove)
        self.server = server
        store = await self.opened()
        told: set[bytes] = set()
        for number in range(200):
            try:
                await self.publish(store, b"%d" % number, text="x" * 50_000)
                told.add(b"%d" % number)
            except MetadataFull:
                break
        else:
            self.fail("there is no end to a quota")
        await self.refused(MetadataFull, self.publish(store, b"in vain"))
        self.assertEqual(await self.keys(store), told)
        self.compare()
        await store.close()
        self.replica.unlink()


class WriterTests(OnOneEtcd):
    """One writer, by a lease."""

    async def test_two(self) -> None:
        """A second appliance is refused in a sentence that names the first, and may write once that has ended."""
        first = await self.opened()
        await self.publish(first, b"first")
        other = Path(self.mktemp())
        fault = await self.refused(AnotherAppliance, self.opened(replica=other, lease_seconds=1))
        self.assertRegex(str(fault), r"in use by another appliance \(process \d+ on \S+ since \d{4}-")
        await self.publish(first, b"second")
        await first.close()
        store = await self.opened(replica=other)
        self.assertEqual(await self.keys(store), {b"first", b"second"})

    async def test_after_a_crash(self) -> None:
        """Whoever has the replica need not wait for the lease of the process that died with it."""
        store = await self.opened(lease_seconds=3600)
        await self.publish(store, b"k")
        again = await self.opened()
        self.assertEqual(await self.keys(again), {b"k"})
        await self.publish(again, b"l")
        # The one that is not dead after all learns of it, and shows nothing any more.
        told = store.when_taken_over()
        fault = await self.refused(TakenOver, self.publish(store, b"late"))
        self.assertIn("another appliance has taken over", str(fault))
        self.assertEqual(await told, str(fault))
        await self.refused(TakenOver, self.publish(store, b"later"))
        await self.refused(MetadataUnavailable, store.current_version("b", b"k"))
        await self.refused(MetadataUnavailable, store.totals())
        self.assertEqual(await self.keys(again), {b"k", b"l"})

    async def test_question(self) -> None:
        """Which run is the newest is asked of etcd: one that was taken over hears of it though it writes nothing."""
        store = await self.opened(lease_seconds=3600)
        first = await store.take_epoch(at=1.0, host="m1 b1 one")
        self.assertEqual(await store.newest_epoch(), first)
        again = await self.opened()
        second = await again.take_epoch(at=2.0, host="m2 b2 two")
        fault = await self.refused(TakenOver, store.newest_epoch())
        self.assertEqual(await store.when_taken_over(), str(fault))
        self.assertEqual(await again.newest_epoch(), second)

    async def test_without_the_file(self) -> None:
        """Without it, the lease of who died is waited for."""
        dead = await self.opened(lease_seconds=2)
        await self.publish(dead, b"k")
        self.server.freeze()
        # It does not renew it, as if it had died.
        dead._executor._open.log._tick.cancel()  # type: ignore[attr-defined]
        dead._executor._open.log._tick = None  # type: ignore[attr-defined]
        self.server.thaw()
        store = await self.opened(replica=Path(self.mktemp()), lease_seconds=10)
        self.assertEqual(await self.keys(store), {b"k"})
        with capturedLogs():
            await self.refused(MetadataUnavailable, self.publish(dead, b"late"))

    def revoke(self) -> None:
        """End the writer's lease."""
        lease = self.server.call("kv/range", {"key": b64encode(KEYS.writer).decode()})["kvs"][0]["lease"]
        self.server.call("lease/revoke", {"ID": lease})

    async def test_lease_lost(self) -> None:
        """A lease that ended is taken again when nobody wrote meanwhile, whoever notices first: the next step or the renewal."""
        store = await self.opened(lease_seconds=3)
        for number in range(3):
            self.revoke()
            await self.publish(store, b"%d" % number)
            self.assertIn(KEYS.writer, all_keys(self.server))
        self.revoke()
        while KEYS.writer not in all_keys(self.server):
            await deferLater(reactor, 0.1)
        told, _ = await self.many(store, 20)
        self.assertEqual(len(told), 20)
        self.compare()

    async def test_renewal_goes_on(self) -> None:
        """A renewal that fails in a way that nobody has thought of is told, and is not the last one."""
        store = await self.opened(lease_seconds=3)
        gateway = store._executor._open._gateway  # type: ignore[attr-defined]
        real = gateway.keep_alive
        renewed: Deferred[int] = Deferred()

        async def first(*_: Any, **__: Any) -> int:
            gateway.keep_alive = second
            raise LookupError("nobody has thought of it")

        async def second(*arguments: Any, **named: Any) -> int:
            gateway.keep_alive = real
            seconds = int(await real(*arguments, **named))
            renewed.callback(seconds)
            return seconds

        gateway.keep_alive = first
        self.assertEqual(await renewed, 3)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_a_copy_elsewhere(self) -> None:
        """A copy of the file on another machine takes nothing away from the appliance that is alive."""
        store = await self.opened()
        copy = Path(self.mktemp())
        copy_of(self.replica, copy)
        self.patch(log_module, "host_name", lambda: "another.example")
        await self.refused(AnotherAppliance, self.opened(replica=copy, lease_seconds=1))
        await self.publish(store, b"k")
        await store.close()
        self.assertEqual(await self.keys(await self.opened(replica=copy)), {b"k"})

    async def test_lease_lost_to_another(self) -> None:
        """While ours was lost somebody else wrote, and is gone again: we may not go on with what we know."""
        store = await self.opened()
        await self.publish(store, b"k")
        self.revoke()
        other = await self.opened(replica=Path(self.mktemp()))
        await self.publish(other, b"of the other")
        await other.close()
        self.assertNotIn(KEYS.writer, all_keys(self.server))
        with capturedLogs():
            fault = await self.refused(MetadataUnavailable, self.publish(store, b"late"))
        self.assertIn("taken over", str(fault))
        rows = rows_in_etcd(self.server)["versions"]
        place = BY_NAME["versions"].column_names.index("key")
        self.assertEqual({row[place] for row in rows}, {b"k", b"of the other"})

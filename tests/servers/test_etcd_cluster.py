"""The store on three members, of which one or two are gone for a while."""

from collections import Counter
from collections.abc import Callable, Set
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from coldstore.metadata.etcd.gateway import Status
from coldstore.metadata.etcd.store import EtcdStore
from coldstore.metadata.sql.tables import BY_NAME
from coldstore.model.errors import MetadataUnavailable
from tests.ports import free_port
from tests.servers import etcd
from tests.servers.etcd import Etcd
from tests.servers.etcd_rows import reactor, rows_in_etcd
from tests.servers.etcd_stores import OnOneEtcd

LANES = 8
MORE = 20
"""Steps that are answered until something else happens."""


class ClusterTests(OnOneEtcd):
    """Members end and come back."""

    timeout = 300

    def make_server(self) -> Etcd:
        """Return one of three."""
        self.cluster = etcd.cluster()
        self.cluster.make_whole()
        self.cluster.leader()
        return self.cluster.members[0]

    def spoken_to(self, store: EtcdStore) -> Etcd:
        """Return the member that a store speaks to."""
        url = store._executor._open._gateway._endpoints[0]  # type: ignore[attr-defined]
        (member,) = [one for one in self.cluster.members if one.url == url]
        return member

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not claim():
            await deferLater(reactor, 0.02)

    def check_once(self, told: set[bytes], doubtful: Set[bytes] = frozenset()) -> None:
        """What was answered is there, once; of the rest nothing is, but for that whose outcome was unknown: that at most once."""
        self.compare()
        rows = rows_in_etcd(self.server)
        for table, column in (("versions", "key"), ("audit_events", "subject")):
            place = BY_NAME[table].column_names.index(column)
            found = Counter(row[place] for row in rows[table])
            keys = {key if isinstance(key, bytes) else key.encode() for key in found}
            self.assertEqual(told - keys, set(), f"{table}: lost")
            self.assertEqual(keys - told - doubtful, set(), f"{table}: from nowhere")
            self.assertEqual(set(found.values()), {1}, f"{table}: done twice")

    async def step(self, store: EtcdStore, key: bytes) -> None:
        """Write a version, and a line that would be there twice if it were written twice."""
        await self.publish(store, key)
        await store.audit(at=1.0, who="w", what="w", subject=key.decode(), detail="")

    async def test_one_is_gone(self) -> None:
        """One ends, or hangs: the leader, or the one that is spoken to. Everybody waits a moment, and it goes on."""
        store = await self.opened(
            self.cluster.urls, patience_seconds=120.0, lease_seconds=60, request_seconds=3.0
        )
        told: set[bytes] = set()
        is_over = False

        async def lane(number: int) -> None:
            for each in count():
                if is_over:
                    break
                key = b"%d/%d" % (number, each)
                await self.step(store, key)
                told.add(key)

        async def more() -> None:
            enough = len(told) + MORE
            await self.until(lambda: len(told) >= enough)

        lanes = gatherResults([Deferred.fromCoroutine(lane(number)) for number in range(LANES)])
        for choose in (self.cluster.leader, lambda: self.spoken_to(store)):
            for end, begin in ((Etcd.kill, Etcd.start), (Etcd.freeze, Etcd.thaw)):
                await more()
                victim = choose()
                end(victim)
                await more()
                begin(victim)
        await more()
        is_over = True
        await lanes
        self.assertEqual(await self.keys(store), told)
        self.check_once(told)

    async def test_most_are_gone(self) -> None:
        """With one of three nothing is written: steps wait, then they fail; questions are answered; and it goes on with the second."""
        store = await self.opened(
            self.cluster.urls, patience_seconds=120.0, lease_seconds=2, request_seconds=2.0
        )
        told: set[bytes] = {b"before"}
        doubtful: set[bytes] = set()
        await self.step(store, b"before")
        store._executor._open.log._patience_seconds = 1.0  # type: ignore[attr-defined]
        leader = self.cluster.leader()
        others = [one for one in self.cluster.members if one is not leader]
        for number, (first, second) in enumerate(((leader, others[0]), (others[1], others[0]))):
            first.kill()
            second.kill()
            for key in (b"%d/first" % number, b"%d/second" % number):
                fault = await self.refused(MetadataUnavailable, Deferred.fromCoroutine(self.step(store, key)))
                self.assertIn("etcd", str(fault))
                doubtful.add(key)
            self.assertIn(b"before", await self.keys(store))
            second.start()
            # It may have to become the writer again first.
            for attempt in count():
                key = b"%d/after, %d" % (number, attempt)
                try:
                    await self.step(store, key)
                    told.add(key)
                    break
                except MetadataUnavailable:
                    doubtful.add(key)
            first.start()
        self.check_once(told, doubtful)

    async def test_patience(self) -> None:
        """A step that has the time waits until most are there again, and is done once."""
        store = await self.opened(
            self.cluster.urls, patience_seconds=120.0, lease_seconds=60, request_seconds=1.0
        )
        gone = self.cluster.members[:2]
        for member in gone:
            member.kill()
        waiting = Deferred.fromCoroutine(self.step(store, b"k"))
        await deferLater(reactor, 2.5)
        self.assertFalse(waiting.called)
        for member in gone:
            member.begin()
        for member in gone:
            member.wait_until_ready()
        await waiting
        self.check_once({b"k"})

    async def test_endpoints(self) -> None:
        """It opens, and goes on, with whichever of its endpoints answers: nobody is at the first, the second hangs."""
        self.server = self.cluster.leader()
        hanging = next(member for member in self.cluster.members if member is not self.server)
        hanging.freeze()
        self.addCleanup(hanging.thaw)
        urls = [f"http://127.0.0.1:{free_port()}", hanging.url, self.server.url]
        settings: dict[str, Any] = {"patience_seconds": 120.0, "lease_seconds": 60, "request_seconds": 3.0}
        store = await self.opened(urls, **settings)
        await self.step(store, b"k")
        self.check_once({b"k"})
        gateway = store._executor._open._gateway  # type: ignore[attr-defined]
        statuses = await gateway.statuses()
        self.assertEqual([isinstance(statuses[url], Status) for url in urls], [False, False, True])
        await store.close()

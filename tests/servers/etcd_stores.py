"""Stores on an etcd, for tests."""

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from coldstore.metadata.etcd.store import EtcdStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.objects import ObjectVersion
from tests.contract.metadata_contract import facts_of, message_of, piece_of
from tests.servers import etcd
from tests.servers.etcd import Etcd
from tests.servers.etcd_rows import last_batch, mark_of, rows_in_etcd, rows_in_file, store_on


class OnOneEtcd(TestCase):
    """Stores on a server, of which one is open at a time."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with nothing."""
        self.server = self.make_server()
        self.replica = Path(self.mktemp())
        self.count = 0

    def make_server(self) -> Etcd:
        """Return an empty one."""
        server = etcd.shared()
        server.clear()
        return server

    async def opened(
        self, url: str | Sequence[str] = "", replica: Path | None = None, **changes: Any
    ) -> EtcdStore:
        """Open a store, with a bucket."""
        store = store_on(url or self.server.url, replica or self.replica, **changes)
        self.addCleanup(store.close)
        await store.open()
        if not await store.buckets(owner_id=None, after="", limit=1):
            await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        return store

    def publish(
        self, store: EtcdStore, key: bytes, *, text: str = "", says: bool = False
    ) -> Deferred[ObjectVersion]:
        """Publish a version."""
        self.count += 1
        return store.publish_version(
            facts_of(key, user_metadata=(("text", text),)),
            layout_id=f"layout {self.count}",
            pieces=[piece_of(f"piece {self.count}")],
            wants_tape=True,
            condition=None,
            messages=[message_of(key)] if says else [],
        )

    async def keys(self, store: EtcdStore) -> set[bytes]:
        """Return what is there."""
        found = await store.list_current("b", from_key=b"", before_key=None, limit=100_000)
        return {version.facts.key for version in found}

    async def refused(self, kind: type[Exception], step: Awaitable[object]) -> Exception:
        """Return the failure of a step, which must be of this kind."""
        try:
            result = await step
        except kind as refusal:
            return refusal
        raise self.failureException(f"{kind.__name__} was expected, not {result!r}")

    async def many(self, store: EtcdStore, count: int, *, prefix: str = "k") -> tuple[set[bytes], set[bytes]]:
        """Publish many at once; return the keys that were acknowledged, and those that were not."""
        keys = [f"{prefix}{number:04}".encode() for number in range(count)]
        outcomes = await DeferredList([self.publish(store, key) for key in keys], consumeErrors=True)
        for has_succeeded, outcome in outcomes:
            if not has_succeeded:
                self.assertIsInstance(outcome.value, MetadataUnavailable)
        told = {key for key, (has_succeeded, _) in zip(keys, outcomes, strict=True) if has_succeeded}
        return told, set(keys) - told

    def compare(self) -> None:
        """The replica is what etcd has."""
        self.assertEqual(rows_in_file(self.replica), rows_in_etcd(self.server))
        self.assertEqual(mark_of(self.replica)[1], last_batch(self.server))

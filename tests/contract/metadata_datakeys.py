"""What every metadata store does with keys of data, and with the versions whose keys are under them."""

from typing import TYPE_CHECKING

from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.model.datakeys import DataKeyRecord
from coldstore.model.objects import (
    Encryption,
    ObjectVersion,
    StorageClass,
    VersionFacts,
    WrappedKey,
)

_Base = TestCase if TYPE_CHECKING else object
OLD, NEW = "0" * 16, "f" * 16


def encrypted(key: bytes, master_key: str = OLD) -> VersionFacts:
    """Return facts of an empty object whose key is under one of data."""
    return VersionFacts(
        bucket="b",
        key=key,
        version_id="null",
        size_bytes=0,
        etag="etag",
        storage_class=StorageClass.STANDARD,
        headers=(),
        user_metadata=(),
        checksum=None,
        crc64nvme=0,
        part_sizes="",
        created_at=1.0,
        owner_id="owner",
        encryption=Encryption(
            "AES256", "", f"of {key!r}", 65536, master_key=master_key, sealed_etag="e", part_numbers="1,3"
        ),
    )


class DataKeySteps(_Base):
    """Mixed into the contract of a store, which has the bucket ``b``."""

    store: IMetadataStore

    async def publish_facts(self, facts: VersionFacts) -> ObjectVersion:
        """Publish a version without pieces."""
        return await self.store.publish_version(
            facts,
            layout_id=f"layout {facts.key!r}",
            pieces=[],
            wants_tape=False,
            condition=None,
            messages=[],
        )

    async def test_data_keys(self) -> None:
        """Keys are known for ever; one of them is in use, and who else was is retired; exports are noted."""
        self.assertEqual(await self.store.data_keys(), [])
        await self.store.note_data_keys({OLD: 1.0}, in_use=OLD, at=5.0)
        await self.store.note_data_keys_exported([OLD, "unknown"], at=6.0)
        for _ in range(2):
            await self.store.note_data_keys({NEW: 7.0}, in_use=NEW, at=8.0)
        first = DataKeyRecord(key_id=OLD, since=1.0, retired_at=8.0, exported_at=6.0)
        second = DataKeyRecord(key_id=NEW, since=7.0)
        self.assertEqual(await self.store.data_keys(), [first, second])
        # An older file was put back, with a key that nobody knew.
        await self.store.note_data_keys({OLD: 2.0, "a" * 16: 3.0}, in_use=OLD, at=9.0)
        self.assertEqual(
            await self.store.data_keys(),
            [
                DataKeyRecord(key_id="a" * 16, since=3.0, retired_at=9.0),
                DataKeyRecord(key_id=NEW, since=7.0, retired_at=9.0),
                DataKeyRecord(key_id=OLD, since=1.0, exported_at=6.0),
            ],
        )

    async def test_rewrapping(self) -> None:
        """Versions are found by the key that they are under, and come under another one; what was among their facts stays there."""
        versions = [await self.publish_facts(encrypted(b"k%d" % n)) for n in range(5)]
        await self.publish_facts(encrypted(b"other", NEW))
        await self.publish_facts(encrypted(b"plain")._replace(encryption=None))
        self.assertEqual([version.wrapped_key.master_key for version in versions], [OLD] * 5)
        found = await self.store.versions_under_data_key(OLD, after_uid=0, limit=3)
        self.assertEqual(found, versions[:3])
        rest = await self.store.versions_under_data_key(OLD, after_uid=found[-1].version_uid, limit=3)
        self.assertEqual(rest, versions[3:])
        self.assertEqual(await self.store.count_under_data_key(OLD, limit=99), 5)
        self.assertEqual(await self.store.count_under_data_key(OLD, limit=2), 2)

        wrapped = {
            version.version_uid: (version.wrapped_key, WrappedKey(NEW, "anew")) for version in versions[:4]
        }
        wrapped[versions[3].version_uid] = (WrappedKey("b" * 16, "x"), WrappedKey(NEW, "anew"))
        wrapped[10**9] = (WrappedKey(OLD, "x"), WrappedKey(NEW, "anew"))
        self.assertEqual(await self.store.rewrap_keys(wrapped), 3)
        self.assertEqual(await self.store.rewrap_keys(wrapped), 0)
        self.assertEqual(await self.store.count_under_data_key(OLD, limit=99), 2)
        self.assertEqual(await self.store.count_under_data_key(NEW, limit=99), 4)
        now = await self.store.current_version("b", b"k0")
        self.assertEqual((now.facts, now.rewrapped), (versions[0].facts, WrappedKey(NEW, "anew")))
        self.assertEqual(now.wrapped_key, WrappedKey(NEW, "anew"))
        self.assertGreater(now.revision, versions[0].revision)

        # And once more: from one to which they came.
        again = {now.version_uid: (WrappedKey(NEW, "not that"), WrappedKey("c" * 16, "third"))}
        self.assertEqual(await self.store.rewrap_keys(again), 0)
        again = {now.version_uid: (WrappedKey(NEW, "anew"), WrappedKey("c" * 16, "third"))}
        self.assertEqual(await self.store.rewrap_keys(again), 1)
        self.assertEqual(
            (await self.store.current_version("b", b"k0")).wrapped_key, WrappedKey("c" * 16, "third")
        )

    async def test_batch_of_rewrapping(self) -> None:
        """As many as a batch may have are one step."""
        versions = [await self.publish_facts(encrypted(b"k%d" % n)) for n in range(BATCH_MAX)]
        wrapped = {
            version.version_uid: (version.wrapped_key, WrappedKey(NEW, "x" * 120)) for version in versions
        }
        self.assertEqual(await self.store.rewrap_keys(wrapped), BATCH_MAX)

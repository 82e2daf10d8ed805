"""What every metadata store must keep of versions: several of a key, delete markers, null versions."""

from random import Random
from typing import Any

from coldstore.interfaces.metadata import (
    BATCH_MAX,
    DELETIONS_MAX,
    Conflict,
    StepTooLarge,
    WriteCondition,
)
from coldstore.model.errors import (
    BucketNotEmpty,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    ShowsDeleteMarker,
)
from coldstore.model.objects import ArchiveState, ListedVersion, ObjectVersion, Versioning
from coldstore.plan.listing import rolled_up
from tests.contract.metadata_contract import (
    DEEP_ARCHIVE,
    EVERY_CLASS,
    GLACIER,
    ONGOING,
    STANDARD,
    MetadataSteps,
    facts_of,
    message_of,
    piece_of,
    shown_of,
    upload_of,
)

ENABLED, SUSPENDED = Versioning.ENABLED, Versioning.SUSPENDED


def least(one: Any, two: Any) -> Any:
    """The function of SQL, for a database that only has SQLite's ``min``."""
    return None if one is None or two is None else min(one, two)


class VersionsContract(MetadataSteps):
    """The promises."""

    async def set_to(self, versioning: Versioning) -> None:
        """Set the state of bucket ``b``."""
        await self.store.set_versioning(name="b", versioning=versioning)

    async def put_as(self, key: bytes, version_id: str, **changes: object) -> ObjectVersion:
        """Publish a version whose piece is called like its id."""
        return await self.publish(
            key,
            version_id=version_id,
            pieces=[piece_of(self.unique(version_id))],
            **changes,  # type: ignore[arg-type]
        )

    async def mark(self, *keys: bytes, at: float = 2000.0) -> list[ObjectVersion]:
        """Delete what is under keys of a bucket that keeps versions."""
        return await self.store.delete_current(
            "b",
            keys,
            at=at,
            messages={},
            owner_id="owner",
            marker_ids=[self.unique("marker") for _ in keys],
        )

    async def remove_these(self, *wanted: tuple[bytes, str]) -> list[str]:
        """Delete versions; return the ids of those that were there."""
        return [one.facts.version_id for one in await self.store.delete_versions("b", wanted, at=2000.0)]

    async def listed(
        self,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        *,
        most: int = 1000,
        after: tuple[bytes, str] = (b"", ""),
    ) -> list[ListedVersion | bytes]:
        """Return all entries of a listing in pages of a size."""
        found: list[ListedVersion | bytes] = []
        while True:
            page = await self.store.list_versions(
                "b",
                prefix=prefix,
                delimiter=delimiter,
                after_key=after[0],
                after_version_id=after[1],
                max_entries=most,
            )
            entries: list[ListedVersion | bytes] = [*page.rows, *page.prefixes]
            entries.sort(
                key=lambda one: (one, 0) if isinstance(one, bytes) else (one.shown[0], -one.sequence)
            )
            self.assertLessEqual(len(entries), most)
            found += entries
            if not page.is_truncated:
                return found
            self.assertEqual(len(entries), most)
            last = entries[-1]
            is_common = isinstance(last, bytes)
            after = (page.last_key, page.last_version_id)
            self.assertEqual(after, (last, "") if is_common else (last.shown[0], last.version_id))

    async def names(self, key: bytes) -> list[str]:
        """Return the ids of the versions of a key, newest first; with ``-`` before those of markers, ``*`` behind the latest."""
        return [
            f"{'-' * one.is_marker}{one.version_id}{'*' * one.is_latest}"
            for one in await self.listed(prefix=key)
            if isinstance(one, ListedVersion) and one.shown[0] == key
        ]

    async def test_state(self) -> None:
        """A bucket begins without versioning; what is set stays set, and is told at once."""
        self.assertEqual((await self.store.bucket("b")).versioning, Versioning.UNSET)
        for state in (ENABLED, SUSPENDED, ENABLED):
            changed = await self.store.set_versioning(name="b", versioning=state)
            self.assertEqual((changed.name, changed.versioning), ("b", state))
            self.assertEqual(await self.store.bucket("b"), changed)
            self.assertEqual(await self.store.buckets(owner_id=None, after="", limit=9), [changed])
        await self.refused(NoSuchBucket, self.store.set_versioning(name="c", versioning=ENABLED))
        await self.refused(ValueError, self.store.set_versioning(name="b", versioning=Versioning.UNSET))

    async def test_publish(self) -> None:
        """In an enabled bucket nothing is replaced; what was there is found by its id, and the newest is current."""
        before = await self.put_as(b"k", "unheeded")
        self.assertEqual(before.facts.version_id, "null")
        await self.set_to(ENABLED)
        first = await self.put_as(b"k", "v1", created_at=5000.0)
        second = await self.put_as(b"k", "v2", created_at=4000.0)
        self.assertEqual(await self.store.current_version("b", b"k"), second)
        self.assertEqual(await self.names(b"k"), ["v2*", "v1", "null"])
        for version, since in ((before, 5000.0), (first, 4000.0), (second, None)):
            found, piece = await self.store.version_content("b", b"k", version.facts.version_id)
            self.assertEqual((found.facts, found.superseded_at), (version.facts, since))
            self.assertEqual(found, await self.again(version))
            assert piece is not None
            self.assertEqual([piece.address], await self.addresses(version))
        self.assertEqual(await self.drain(), [])
        await self.refused(NoSuchVersion, self.store.version_content("b", b"k", "v3"))
        await self.refused(NoSuchVersion, self.store.version_content("b", b"l", "v1"))
        await self.refused(NoSuchBucket, self.store.version_content("c", b"k", "v1"))
        await self.refused(ValueError, self.publish(b"k"))
        self.assertEqual((await self.store.totals()).object_count, 3)

    async def test_suspended(self) -> None:
        """A suspended bucket keeps versions with ids of their own, and one null version, which is replaced."""
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v1")
        await self.set_to(SUSPENDED)
        await self.put_as(b"k", "a")
        self.assertEqual(await self.names(b"k"), ["null*", "v1"])
        await self.put_as(b"k", "b")
        self.assertEqual(await self.names(b"k"), ["null*", "v1"])
        self.assertEqual([one[:1] for one in await self.drain()], ["a"])
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v2")
        await self.set_to(SUSPENDED)
        self.assertEqual(await self.names(b"k"), ["v2*", "null", "v1"])
        # The null version that is replaced need not be the current one.
        await self.put_as(b"k", "c")
        self.assertEqual(await self.names(b"k"), ["null*", "v2", "v1"])
        self.assertEqual([one[:1] for one in await self.drain()], ["b"])
        await self.check_backlog()

    async def test_delete(self) -> None:
        """Deleting puts a marker there, also where nothing is; while it is current, nothing is under the key."""
        await self.put_as(b"k", "")
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v1")
        marker, other = await self.mark(b"k", b"nothing")
        self.assertEqual((marker.is_marker, marker.facts.key, other.facts.key), (True, b"k", b"nothing"))
        self.assertEqual((marker.facts.owner_id, marker.facts.created_at), ("owner", 2000.0))
        self.assertEqual((marker.on_disk, marker.archive_state), (False, ArchiveState.NOT_WANTED))
        self.assertEqual(await self.again(marker), marker)
        for step in (self.store.current_version("b", b"k"), self.store.current_content("b", b"k")):
            error = await self.refused(ShowsDeleteMarker, step)
            self.assertEqual(getattr(error, "version_id", ""), marker.facts.version_id)
        self.assertEqual(await self.store.version_content("b", b"k", marker.facts.version_id), (marker, None))
        self.assertEqual(await self.store.list_current("b", from_key=b"", before_key=None, limit=9), [])
        page = await self.store.list_page("b", prefix=b"", delimiter=b"/", after=b"", max_entries=9)
        self.assertEqual((page.rows, page.prefixes), ([], []))
        self.assertEqual(await self.names(b"k"), [f"-{marker.facts.version_id}*", "v1", "null"])
        self.assertEqual(await self.drain(), [])
        (again,) = await self.mark(b"k")
        self.assertEqual(
            (await self.names(b"k"))[:2], [f"-{again.facts.version_id}*", f"-{marker.facts.version_id}"]
        )
        await self.put_as(b"k", "v2")
        self.assertEqual((await self.names(b"k"))[0], "v2*")
        self.assertEqual((await self.store.current_version("b", b"k")).facts.version_id, "v2")
        totals = await self.store.totals()
        self.assertEqual((totals.object_count, totals.object_bytes), (3, 30))
        await self.check_backlog()

    async def test_null_markers(self) -> None:
        """In a suspended bucket the marker is a null version itself: it replaces one, and is replaced by one."""
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v1")
        await self.set_to(SUSPENDED)
        await self.put_as(b"k", "a")
        (marker,) = await self.mark(b"k")
        self.assertEqual(marker.facts.version_id, "null")
        self.assertEqual(await self.names(b"k"), ["-null*", "v1"])
        self.assertEqual(len(await self.drain()), 1)
        await self.mark(b"k")
        self.assertEqual(await self.names(b"k"), ["-null*", "v1"])
        await self.put_as(b"k", "b")
        self.assertEqual(await self.names(b"k"), ["null*", "v1"])
        self.assertEqual(await self.drain(), [])
        await self.set_to(ENABLED)
        (marker,) = await self.mark(b"k")
        self.assertEqual(await self.names(b"k"), [f"-{marker.facts.version_id}*", "null", "v1"])
        await self.set_to(SUSPENDED)
        await self.mark(b"k")
        self.assertEqual(await self.names(b"k"), ["-null*", f"-{marker.facts.version_id}", "v1"])
        self.assertEqual(len(await self.drain()), 1)

    async def test_markers_need_ids(self) -> None:
        """Without ids for markers, or with too many at once, nothing is deleted where versions are kept; elsewhere they do no harm."""
        await self.put_as(b"k", "")
        self.assertEqual([one.is_marker for one in await self.mark(b"k", b"l")], [False])
        for state in (ENABLED, SUSPENDED):
            await self.set_to(state)
            await self.refused(Conflict, self.delete(b"k"))
            many = [b"%d" % number for number in range(DELETIONS_MAX + 1)]
            await self.refused(StepTooLarge, self.mark(*many))
        self.assertEqual(await self.listed(), [])

    async def test_delete_versions(self) -> None:
        """A version that is deleted by its id is gone for good; of those left the newest is current, be it a marker."""
        await self.set_to(ENABLED)
        for version_id in ("v1", "v2"):
            await self.put_as(b"k", version_id)
        (marker,) = await self.mark(b"k")
        await self.put_as(b"k", "v3")
        name = marker.facts.version_id
        self.assertEqual(await self.remove_these((b"k", "v1"), (b"k", "nope"), (b"l", "v2")), ["v1"])
        self.assertEqual(await self.names(b"k"), ["v3*", f"-{name}", "v2"])
        self.assertEqual(await self.remove_these((b"k", "v3")), ["v3"])
        self.assertEqual(await self.names(b"k"), [f"-{name}*", "v2"])
        await self.refused(ShowsDeleteMarker, self.store.current_version("b", b"k"))
        self.assertEqual(await self.remove_these((b"k", name)), [name])
        self.assertEqual(await self.names(b"k"), ["v2*"])
        current = await self.store.current_version("b", b"k")
        self.assertEqual((current.facts.version_id, current.superseded_at), ("v2", None))
        self.assertEqual(await self.remove_these((b"k", "v2"), (b"k", "v2")), ["v2"])
        error = await self.refused(NoSuchKey, self.store.current_version("b", b"k"))
        self.assertNotIsInstance(error, ShowsDeleteMarker)
        self.assertEqual(await self.remove_these((b"k", "v2")), [])
        self.assertEqual(len(await self.drain()), 3)
        self.assertEqual(await self.listed(), [])
        await self.check_backlog()
        await self.refused(NoSuchBucket, self.store.delete_versions("c", [(b"k", "v")], at=1.0))
        await self.refused(NoSuchBucket, self.store.delete_versions("c", [], at=1.0))
        too_many = [(b"k", f"{number}") for number in range(DELETIONS_MAX + 1)]
        await self.refused(StepTooLarge, self.store.delete_versions("b", too_many, at=1.0))

    async def test_delete_several_of_a_key(self) -> None:
        """Current and superseded versions of keys go in one step; what is left is current."""
        await self.set_to(ENABLED)
        for key in (b"k", b"l"):
            for number in range(6):
                await self.put_as(key, f"{key.decode()}{number}")
        wanted = [(b"k", "k5"), (b"l", "l1"), (b"k", "k4"), (b"k", "k2"), (b"l", "l5")]
        self.assertEqual(await self.remove_these(*wanted), [version_id for _, version_id in wanted])
        self.assertEqual(await self.names(b"k"), ["k3*", "k1", "k0"])
        self.assertEqual(await self.names(b"l"), ["l4*", "l3", "l2", "l0"])

    async def test_null_version_of_any_bucket(self) -> None:
        """The id ``null`` names what is in a bucket that never had versioning, too."""
        version = await self.put_as(b"k", "")
        self.assertEqual((await self.store.version_content("b", b"k", "null"))[0], version)
        self.assertEqual(await self.remove_these((b"k", "null")), ["null"])
        await self.refused(NoSuchKey, self.store.current_version("b", b"k"))
        await self.refused(NoSuchVersion, self.store.version_content("b", b"k", "null"))

    async def test_conditions(self) -> None:
        """Conditions look at what is under the key: a marker is nothing."""
        await self.set_to(ENABLED)
        absent, same = WriteCondition(if_none_match=True), WriteCondition(if_match="e")
        await self.put_as(b"k", "v1", condition=absent, etag="e")
        await self.refused(PreconditionFailed, self.put_as(b"k", "v2", condition=absent))
        await self.put_as(b"k", "v2", condition=same, etag="f")
        await self.refused(PreconditionFailed, self.put_as(b"k", "v3", condition=same))
        await self.mark(b"k")
        await self.refused(NoSuchKey, self.put_as(b"k", "v3", condition=WriteCondition(if_match="*")))
        await self.put_as(b"k", "v3", condition=absent, etag="g")

        def marked(if_match: str) -> object:
            return self.store.delete_current(
                "b", [b"k"], at=1.0, messages={}, if_match=if_match, owner_id="o", marker_ids=["m"]
            )

        await self.refused(PreconditionFailed, marked("f"))  # type: ignore[arg-type]
        self.assertEqual((await self.names(b"k"))[0], "v3*")
        (marker,) = await marked("g")  # type: ignore[misc]
        self.assertTrue(marker.is_marker)
        self.assertEqual(await marked("g"), [])  # type: ignore[misc]
        deletion = self.store.delete_versions("b", [(b"k", "v1")], at=1.0, if_match="f")
        await self.refused(PreconditionFailed, deletion)
        await self.store.delete_versions("b", [(b"k", "v1")], at=1.0, if_match="e")
        self.assertNotIn("v1", await self.names(b"k"))

    async def test_messages(self) -> None:
        """A message is written for each key that got a marker."""
        await self.set_to(ENABLED)
        messages = {key: message_of(key, event="marked") for key in (b"1", b"2", b"3")}
        await self.store.delete_current(
            "b", [b"1", b"2"], at=1.0, messages=messages, owner_id="o", marker_ids=["m1", "m2"]
        )
        told = await self.store.due_messages(now=1e9, limit=9)
        self.assertEqual({message.key for message in told}, {b"1", b"2"})

    async def test_bucket_with_versions(self) -> None:
        """A bucket is empty when neither versions nor markers are in it."""
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v1")
        (marker,) = await self.mark(b"k")
        await self.refused(BucketNotEmpty, self.store.delete_bucket("b"))
        await self.remove_these((b"k", "v1"))
        await self.refused(BucketNotEmpty, self.store.delete_bucket("b"))
        await self.remove_these((b"k", marker.facts.version_id))
        await self.store.delete_bucket("b")
        await self.refused(NoSuchBucket, self.store.bucket("b"))

    async def test_upload(self) -> None:
        """A completed upload is a version like any other, and is found again behind newer ones."""
        await self.set_to(ENABLED)
        await self.put_as(b"k", "v1")
        await self.store.create_upload(upload_of("u"))
        await self.store.put_part("u", piece_of("part"))
        done = await self.store.complete_upload(
            "u", facts_of(b"k", version_id="v2"), listed=[1], wants_tape=True, condition=None, messages=()
        )
        self.assertEqual(done.facts.version_id, "v2")
        self.assertEqual(await self.store.completed_upload("b", b"k", "u"), done)
        await self.put_as(b"k", "v3")
        self.assertEqual(await self.names(b"k"), ["v3*", "v2", "v1"])
        self.assertEqual(await self.store.completed_upload("b", b"k", "u"), await self.again(done))
        self.assertIsNone(await self.store.completed_upload("b", b"k", "v"))

    async def test_list(self) -> None:
        """A listing has every version with what it is, newest first within a key, and goes on behind any of them."""
        await self.set_to(ENABLED)
        made = {
            key: [await self.put_as(key, f"{key.hex()}{number}") for number in range(3)]
            for key in (b"a", b"b", b"c/d")
        }
        markers = {one.facts.key: one for one in await self.mark(b"b", b"e")}
        wanted: list[ListedVersion] = []
        for key in sorted([*made, b"e"]):
            of_key = [*([markers[key]] if key in markers else []), *reversed(made.get(key, []))]
            wanted += [
                ListedVersion(shown_of(one), one.facts.version_id, one.sequence, one.is_marker, place == 0)
                for place, one in enumerate(of_key)
            ]
        for most in (1, 2, 3, 5, 1000):
            self.assertEqual(await self.listed(most=most), wanted)
        self.assertEqual(await self.listed(prefix=b"b"), [one for one in wanted if one.shown[0] == b"b"])
        self.assertEqual(await self.listed(delimiter=b"/", most=2), [*wanted[:7], b"c/", wanted[-1]])
        self.assertEqual(await self.listed(after=(b"b", "")), wanted[7:])
        self.assertEqual(await self.listed(after=(b"a", wanted[1].version_id)), wanted[2:])
        # What the page ended with is gone: nothing that is left is passed over.
        await self.remove_these((b"a", wanted[0].version_id), (b"a", wanted[1].version_id))
        left = [wanted[2]._replace(is_latest=True), *wanted[3:]]
        self.assertEqual(await self.listed(after=(b"a", wanted[1].version_id)), left)
        page = await self.store.list_versions(
            "b", prefix=b"", delimiter=b"", after_key=b"", after_version_id="", max_entries=0
        )
        self.assertEqual((page.rows, page.is_truncated), ([], False))
        missing = self.store.list_versions(
            "c", prefix=b"", delimiter=b"", after_key=b"", after_version_id="", max_entries=1
        )
        await self.refused(NoSuchBucket, missing)

    async def test_list_folders(self) -> None:
        """Whatever keys look like, pages with a delimiter show what a slow and plain reading of them would."""
        random = Random(7)
        await self.set_to(ENABLED)
        letters = ("a", "b", "/", "//", "é", "\U0001f4fc")
        keys = [*{"".join(random.choices(letters, k=random.randint(1, 5))).encode() for _ in range(60)}]
        keys += [b"big/%03d/%d" % (folder, number) for folder in range(30) for number in range(2)]
        for number, key in enumerate(random.choices(sorted(keys), k=250)):
            if random.random() < 0.3:
                await self.mark(key)
            else:
                await self.put_as(key, f"v{number}")
        every = await self.listed()
        for prefix, delimiter in ((b"", b"/"), (b"big/", b"/"), (b"", b"//"), (b"a", "é".encode())):
            wanted: list[ListedVersion | bytes] = []
            for row in every:
                assert isinstance(row, ListedVersion)
                if row.shown[0].startswith(prefix):
                    entry = rolled_up(row.shown[0], prefix, delimiter) or row
                    if not wanted or wanted[-1] != entry:
                        wanted.append(entry)
            for most in (1, 7, 1000):
                self.assertEqual(
                    await self.listed(prefix, delimiter, most=most), wanted, (prefix, delimiter, most)
                )

    async def test_archive(self) -> None:
        """Superseded versions go to tape, leave the disk and come back as current ones do."""
        await self.set_to(ENABLED)
        first, second = (
            await self.put_as(b"k", "v1"),
            await self.put_as(b"k", "v2", storage_class=DEEP_ARCHIVE),
        )
        await self.mark(b"k")
        waiting = await self.store.pending(classes=EVERY_CLASS, after_sequence=0, limit=9)
        self.assertEqual([one.version_uid for one in waiting], [first.version_uid, second.version_uid])
        await self.archive(*waiting)
        self.assertEqual(await self.store.backlog(), [])
        found = await self.store.evictable(classes=EVERY_CLASS, archived_before=1e9, limit=9)
        self.assertEqual(len(found), 2)
        for version in found:
            await self.store.evict_version(version.version_uid, revision=version.revision)
        self.assertEqual(len(await self.drain()), 2)
        await self.ask_restore(first)
        self.assertEqual(await self.promised(), {GLACIER: 10})
        self.assertTrue(await self.recall(first, "back"))
        restored = await self.complete(first)
        self.assertTrue(restored.on_disk)
        self.assertEqual((await self.store.version_content("b", b"k", "v1"))[0], restored)
        # Deleted for good while its bytes come back: they are freed.
        await self.ask_restore(second)
        await self.remove_these((b"k", "v2"))
        self.assertEqual(await self.promised(), {})
        self.assertFalse(await self.recall(second, "late", "other"))
        self.assertEqual(await self.drain(), ["late"])

    async def promised(self) -> dict[object, int]:
        """Return what restores will bring, by class."""
        in_use = await self.store.staging_use(bucket="b")
        return {one.storage_class: one.promised_bytes for one in in_use if one.promised_bytes}

    async def test_superseded_while_claimed(self) -> None:
        """A version that is superseded stays in its bundle, and a null version that is replaced stays until the bundle is settled."""
        await self.set_to(SUSPENDED)
        replaced = await self.put_as(b"k", "")
        await self.set_to(ENABLED)
        version = await self.put_as(b"k", "v1")
        bundle_id = await self.claim([replaced, version])
        await self.put_as(b"k", "v2")
        await self.set_to(SUSPENDED)
        await self.put_as(b"k", "")
        self.assertEqual(await self.drain(), [])
        await self.freeze(bundle_id)
        await self.write(bundle_id)
        await self.settle(bundle_id)
        self.assertEqual(len(await self.drain()), 1)
        self.assertEqual((await self.again(version)).archive_state, ArchiveState.ARCHIVED)
        self.assertIsNotNone((await self.again(replaced)).deleted_at)
        await self.check_backlog()

    async def test_fullest_steps(self) -> None:
        """The largest batches that are allowed, of versions that need most rows each, fit into a step."""
        keys = [b"k%02d" % number for number in range(DELETIONS_MAX)]
        for number, key in enumerate(keys):
            await self.put_as(key, "", storage_class=EVERY_CLASS[number % len(EVERY_CLASS)])
        await self.set_to(ENABLED)
        for number in range(0, len(keys), BATCH_MAX):
            await self.archive(
                *[await self.store.current_version("b", key) for key in keys[number : number + BATCH_MAX]]
            )
        for key in keys:
            version = await self.store.current_version("b", key)
            await self.store.evict_version(version.version_uid, revision=version.revision)
            await self.ask_restore(version, ONGOING)
            await self.put_as(key, f"new-{key.decode()}", storage_class=STANDARD)
        await self.set_to(SUSPENDED)
        marked = await self.store.delete_current(
            "b",
            keys,
            at=1.0,
            messages={key: message_of(key) for key in keys},
            owner_id="owner",
            marker_ids=[key.decode() for key in keys],
        )
        self.assertEqual(len(marked), DELETIONS_MAX)
        self.assertEqual(await self.promised(), {})
        gone = await self.store.delete_versions("b", [(key, "null") for key in keys], at=1.0)
        self.assertEqual(len(gone), DELETIONS_MAX)
        self.assertEqual(
            len(await self.store.list_current("b", from_key=b"", before_key=None, limit=99)), DELETIONS_MAX
        )
        await self.check_backlog()

"""The way in: every method of the interface as a step for the executor."""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from coldstore.interfaces.metadata import (
    BATCH_MAX,
    KEYS_MAX,
    Backlog,
    CopyCount,
    DiscardedPiece,
    Epoch,
    IMetadataStore,
    MemberVersion,
    StagingUse,
    StepTooLarge,
    StoreTotals,
    WantedExtent,
    WriteCondition,
)
from coldstore.metadata.sql import (
    acts as of_acts,
)
from coldstore.metadata.sql import (
    backlog,
    buckets,
    bundles,
    cartridges,
    configurations,
    copies,
    datakeys,
    deletions,
    digests,
    history,
    keys,
    layouts,
    locks,
    policies,
    protection,
    ranges,
    record,
    restores,
    reviews,
    shares,
    telling,
    uploads,
    users,
    versions,
)
from coldstore.metadata.sql import tags as of_tags
from coldstore.metadata.sql.bounds import check_arguments
from coldstore.metadata.sql.cartridges import add as record_new
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.executor import Executor
from coldstore.metadata.sql.footprints import BoundStep
from coldstore.metadata.sql.kept import Kept
from coldstore.metadata.sql.rows import pairs_text
from coldstore.metadata.sql.runs import runs_text
from coldstore.model.bundles import Bundle, BundleState, Copy, Member
from coldstore.model.cartridges import Cartridge, Drive, DriveState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.datakeys import DataKeyRecord
from coldstore.model.due import (
    Act,
    Candidate,
    DuePage,
    Outcome,
    Position,
    RangeProgress,
    Review,
    Scope,
    Subject,
    Waiting,
    WaitingCount,
)
from coldstore.model.events import Alert, AuditEvent, NewMessage, OutboxMessage, Severity
from coldstore.model.keys import AccessKey, MasterKey, SealedSigner
from coldstore.model.locks import UNLOCKED, BucketLock, Lock, Retention
from coldstore.model.objects import (
    Bucket,
    ListedPage,
    ObjectVersion,
    Pairs,
    Piece,
    Restore,
    StorageClass,
    Upload,
    User,
    VersionFacts,
    Versioning,
    VersionsPage,
    WrappedKey,
)
from coldstore.model.policies import UserPolicy
from coldstore.model.quotas import QuotaKind, Use
from coldstore.util.asynchronous import all_of, returns_deferred, shielded

_P = ParamSpec("_P")
_T = TypeVar("_T")

FEW = 16
"""Rows of a page that are still looked up."""
KEPT_MAX = 1_000
"""Access keys, and buckets, that are kept in memory."""
PAGE_MAX = 1_000
"""Rows that one page of a long list may hold."""
_TIDY_STEPS = 8
"""Tidying steps that go into one commit."""


@implementer(IMetadataStore)
class SqlStore:
    """
    The metadata in a database of SQL.

    :param executor: runs the steps
    """

    appliance_id = ""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._signers: Kept[SealedSigner | None] = Kept(KEPT_MAX)
        self._buckets: Kept[Bucket] = Kept(KEPT_MAX)
        self._taken_over: str | None = None
        self._want_takeover: list[Deferred[str]] = []

    def _write(
        self,
        step: Callable[Concatenate[Database, _P], Coroutine[Any, Any, _T]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Deferred[_T]:
        try:
            check_arguments((*args, *kwargs.values()), items_max=BATCH_MAX)
        except StepTooLarge as refusal:
            return fail(refusal)
        return self._executor.write(BoundStep(step, args, kwargs))

    def _change(
        self,
        kept: Kept[Any],
        step: Callable[Concatenate[Database, _P], Coroutine[Any, Any, _T]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Deferred[_T]:
        """Write to rows that are kept."""

        def changed(outcome: Any) -> Any:
            # Also after a failure: of a commit whose outcome is unknown it may have come.
            kept.forget()
            return outcome

        # Not when whoever asked leaves: what is read between that and the commit would be kept for good.
        return shielded(self._write(step, *args, **kwargs).addBoth(changed))

    def _read(
        self,
        step: Callable[Concatenate[Database, _P], Coroutine[Any, Any, _T]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Deferred[_T]:
        try:
            check_arguments((*args, *kwargs.values()), items_max=KEYS_MAX)
        except StepTooLarge as refusal:
            return fail(refusal)
        return self._executor.read(lambda db: step(db, *args, **kwargs))

    def _look_up(
        self,
        step: Callable[Concatenate[Database, _P], Coroutine[Any, Any, _T]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Deferred[_T]:
        return self._executor.look_up(lambda db: step(db, *args, **kwargs))

    # ── life of the store ───────────────────────────────────────────────────────────────────────────────────────────

    @returns_deferred
    async def open(self) -> None:
        """Connect; see that the record is here."""
        try:
            await self._executor.open()
            self.appliance_id = await self._read(record.appliance_id)
        except BaseException:
            await self._executor.close()
            raise

    def close(self) -> Deferred[None]:
        """Finish what is under way."""
        return self._executor.close()

    def take_epoch(self, *, at: float, host: str) -> Deferred[Epoch]:
        """Begin a new run."""
        return self._write(users.take_epoch, at=at, host=host)

    def newest_epoch(self) -> Deferred[Epoch | None]:
        """Return the latest run."""
        return self._look_up(users.newest_epoch)

    def hosts(self) -> Deferred[list[str]]:
        """Return the machines of all runs."""
        return self._look_up(users.hosts)

    def when_taken_over(self) -> Deferred[str]:
        """Return what tells of an appliance that has taken over."""
        if self._taken_over is not None:
            return succeed(self._taken_over)
        told: Deferred[str] = Deferred()
        self._want_takeover.append(told)
        return told

    def taken_over(self, sentence: str) -> None:
        """Tell everybody who wanted to know; for whoever runs the steps. Repeatable: the first sentence counts."""
        if self._taken_over is not None:
            return
        self._taken_over = sentence
        wanted, self._want_takeover = self._want_takeover, []
        for each in wanted:
            if not each.called:
                each.callback(sentence)

    def totals(self) -> Deferred[StoreTotals]:
        """Count everything."""
        return self._read(users.totals)

    # ── users ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_user(self, user: User, key: AccessKey) -> Deferred[None]:
        """Record a user."""
        return self._change(self._signers, users.create, user, key)

    def users(self) -> Deferred[list[User]]:
        """Return all users."""
        return self._read(users.everybody)

    def user_names(self, user_ids: Collection[str]) -> Deferred[dict[str, str]]:
        """Return the names of users."""
        return self._read(users.names, sorted(user_ids))

    def user(self, user_id: str) -> Deferred[User | None]:
        """Return a user."""
        return self._look_up(users.of_id, user_id)

    def user_policies(self, user_id: str) -> Deferred[list[UserPolicy]]:
        """Return a user's policies."""
        return self._read(policies.of_user, user_id)

    def set_user_policy(self, *, user_name: str, policy: UserPolicy) -> Deferred[None]:
        """Give a user a policy."""
        return self._change(self._signers, policies.put, user_name=user_name, policy=policy)

    def remove_user_policy(self, *, user_name: str, policy_name: str) -> Deferred[None]:
        """Take a policy from a user."""
        return self._change(self._signers, policies.remove, user_name=user_name, policy_name=policy_name)

    def set_user_quotas(self, *, name: str, quotas: Mapping[QuotaKind, int | None]) -> Deferred[User]:
        """Set quotas of a user."""
        return self._change(self._signers, users.set_quotas, name=name, quotas=quotas)

    def set_user_disabled(self, *, name: str, disabled_at: float | None) -> Deferred[User]:
        """Have a user's keys accepted or not."""
        return self._change(self._signers, users.set_disabled, name=name, disabled_at=disabled_at)

    def delete_user(self, name: str) -> Deferred[User]:
        """Forget a user."""
        return self._change(self._signers, users.delete, name)

    def staging_use(
        self, *, owner_id: str | None = None, bucket: str | None = None
    ) -> Deferred[list[StagingUse]]:
        """Return what an owner or a bucket has on the disk."""
        return self._look_up(shares.in_use, owner_id=owner_id, bucket=bucket)

    def quota_use(self, *, owner_id: str | None = None, bucket: str | None = None) -> Deferred[Use]:
        """Return what an owner or a bucket has of all that quotas count."""
        return self._look_up(shares.use_of, owner_id=owner_id, bucket=bucket)

    def uses_of_users(self) -> Deferred[list[tuple[User, Use]]]:
        """Return all users with what each has."""
        return self._read(shares.of_users)

    def uses_of_buckets(self, *, after: str, limit: int) -> Deferred[list[tuple[Bucket, Use]]]:
        """Return buckets with what is in each."""
        return self._read(shares.of_buckets, after=after, limit=min(limit, PAGE_MAX))

    # ── access keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def signer(self, access_key: str) -> Deferred[SealedSigner | None]:
        """Return who signs with this key."""
        return self._signers.get(access_key, lambda: self._look_up(keys.signer, access_key))

    def access_keys_of(self, user_id: str) -> Deferred[list[AccessKey]]:
        """Return a user's keys."""
        return self._read(keys.of_user, user_id)

    def access_keys(self, *, after: str, limit: int) -> Deferred[list[AccessKey]]:
        """Return everybody's keys."""
        return self._read(keys.listed, after=after, limit=min(limit, PAGE_MAX))

    def add_access_key(self, key: AccessKey) -> Deferred[None]:
        """Give a user one more key."""
        return self._change(self._signers, keys.add, key)

    def set_access_key_disabled(self, *, access_key: str, disabled_at: float | None) -> Deferred[AccessKey]:
        """Have a key accepted or not."""
        return self._change(self._signers, keys.set_disabled, access_key=access_key, disabled_at=disabled_at)

    def delete_access_key(self, access_key: str) -> Deferred[AccessKey]:
        """Forget a key."""
        return self._change(self._signers, keys.delete, access_key)

    def note_key_uses(self, uses: Mapping[str, float]) -> Deferred[None]:
        """Record when keys were used."""
        return self._write(keys.note_uses, uses)

    def seal_secrets(self, sealed: Mapping[str, tuple[str, str]]) -> Deferred[None]:
        """Change sealed secrets."""
        return self._change(self._signers, keys.seal, sealed)

    def plain_secrets(self, *, after: str, limit: int) -> Deferred[dict[str, str]]:
        """Return secrets in the clear."""
        return self._read(keys.plain_secrets, after=after, limit=min(limit, PAGE_MAX))

    @returns_deferred
    async def forget_plain_secrets(self) -> None:
        """Erase them."""
        while await self._write(keys.forget_plain, KEYS_MAX):
            pass

    def master_keys(self) -> Deferred[list[MasterKey]]:
        """Return the master keys in use."""
        return self._read(keys.master_keys)

    def add_master_key(self, key: MasterKey) -> Deferred[None]:
        """Record a master key."""
        return self._write(keys.add_master_key, key)

    def forget_master_key(self, check_value: str) -> Deferred[None]:
        """Forget one."""
        return self._write(keys.forget_master_key, check_value)

    # ── keys of data ────────────────────────────────────────────────────────────────────────────────────────────────

    def data_keys(self) -> Deferred[list[DataKeyRecord]]:
        """Return all that ever were."""
        return self._read(datakeys.known)

    def note_data_keys(self, since: Mapping[str, float], *, in_use: str, at: float) -> Deferred[None]:
        """Record which there are."""
        return self._write(datakeys.note, since, in_use=in_use, at=at)

    def note_data_keys_exported(self, key_ids: Sequence[str], *, at: float) -> Deferred[None]:
        """Record that they were written out."""
        return self._write(datakeys.note_exported, key_ids, at=at)

    def count_under_data_key(self, key_id: str, *, limit: int) -> Deferred[int]:
        """Count versions under a key."""
        return self._read(datakeys.count_under, key_id, limit=limit)

    def versions_under_data_key(
        self, key_id: str, *, after_uid: int, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """Return versions under a key."""
        return self._read(datakeys.under, key_id, after_uid=after_uid, limit=min(limit, PAGE_MAX))

    def rewrap_keys(self, wrapped: Mapping[int, tuple[WrappedKey, WrappedKey]]) -> Deferred[int]:
        """Have versions be under other keys."""
        return self._write(datakeys.rewrap, wrapped)

    # ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_bucket(
        self,
        *,
        name: str,
        owner_id: str,
        region: str,
        created_at: float,
        default_class: StorageClass | None,
        object_lock: BucketLock | None = None,
        documents: Mapping[ConfigurationKind, str] = MappingProxyType({}),
    ) -> Deferred[Bucket]:
        """Create a bucket."""
        return self._change(
            self._buckets,
            configurations.create_bucket,
            name=name,
            owner_id=owner_id,
            region=region,
            created_at=created_at,
            default_class=default_class,
            object_lock=object_lock,
            documents=documents,
        )

    def bucket(self, name: str) -> Deferred[Bucket]:
        """Return a bucket."""
        return self._buckets.get(name, lambda: self._look_up(buckets.named, name))

    def buckets(self, *, owner_id: str | None, after: str, limit: int) -> Deferred[list[Bucket]]:
        """Return buckets by name."""
        return self._read(buckets.listed, owner_id=owner_id, after=after, limit=limit)

    def set_default_class(self, *, name: str, default_class: StorageClass | None) -> Deferred[None]:
        """Set or clear a bucket's default class."""
        return self._change(self._buckets, buckets.set_default_class, name=name, default_class=default_class)

    def set_bucket_quotas(self, *, name: str, quotas: Mapping[QuotaKind, int | None]) -> Deferred[Bucket]:
        """Set quotas of a bucket."""
        return self._change(self._buckets, buckets.set_quotas, name=name, quotas=quotas)

    def set_versioning(self, *, name: str, versioning: Versioning) -> Deferred[Bucket]:
        """Enable or suspend versioning."""
        return self._change(self._buckets, buckets.set_versioning, name=name, versioning=versioning)

    def set_restore_days_max(self, *, name: str, days_max: int | None) -> Deferred[Bucket]:
        """Set the most days of a restore in a bucket."""
        return self._change(self._buckets, buckets.set_restore_days_max, name=name, days_max=days_max)

    def set_bucket_tags(self, *, name: str, tags: Pairs) -> Deferred[None]:
        """Give a bucket tags."""
        return self._change(self._buckets, of_tags.set_of_bucket, name=name, tags=pairs_text(tags))

    def set_bucket_configuration(
        self, *, name: str, kind: ConfigurationKind, document: str | None
    ) -> Deferred[Bucket]:
        """Set or remove a document of a bucket."""
        return self._change(self._buckets, configurations.set_one, name=name, kind=kind, document=document)

    def bucket_configuration(self, *, bucket_uid: int, kind: ConfigurationKind) -> Deferred[str | None]:
        """Return a document of a bucket."""
        return self._look_up(configurations.document_of, bucket_uid=bucket_uid, kind=kind)

    def configured_buckets(
        self, *, kind: ConfigurationKind, after_uid: int, limit: int
    ) -> Deferred[list[Bucket]]:
        """Return buckets that have a document of a kind."""
        return self._read(configurations.having, kind=kind, after_uid=after_uid, limit=limit)

    def delete_bucket(self, name: str) -> Deferred[None]:
        """Remove an empty bucket."""
        return self._change(self._buckets, buckets.delete, name)

    # ── object versions ─────────────────────────────────────────────────────────────────────────────────────────────

    def publish_version(
        self,
        facts: VersionFacts,
        *,
        layout_id: str,
        pieces: Sequence[Piece],
        wants_tape: bool,
        condition: WriteCondition | None,
        messages: Sequence[NewMessage],
        bucket_uid: int | None = None,
        lock: Lock = UNLOCKED,
    ) -> Deferred[ObjectVersion]:
        """Make a version current."""
        return self._write(
            versions.publish,
            facts,
            layout_id=layout_id,
            pieces=pieces,
            wants_tape=wants_tape,
            condition=condition,
            messages=messages,
            wanted_bucket_uid=bucket_uid,
            lock=lock,
        )

    def current_version(self, bucket: str, key: bytes) -> Deferred[ObjectVersion]:
        """Return what is under a key."""
        return self._look_up(versions.current, bucket, key)

    def current_content(self, bucket: str, key: bytes) -> Deferred[tuple[ObjectVersion, Piece | None]]:
        """Return what is under a key, with the one piece that is all of it."""
        return self._look_up(versions.current_content, bucket, key)

    def version_content(
        self, bucket: str, key: bytes, version_id: str
    ) -> Deferred[tuple[ObjectVersion, Piece | None]]:
        """Return the version of an id, with the one piece that is all of it."""
        return self._look_up(versions.content_of, bucket, key, version_id)

    def version(self, version_uid: int) -> Deferred[ObjectVersion | None]:
        """Return a version."""
        return self._look_up(versions.by_uid, version_uid)

    def list_current(
        self, bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """Return current versions by key."""
        return self._read(versions.listed, bucket, from_key=from_key, before_key=before_key, limit=limit)

    def list_page(
        self, bucket: str, *, prefix: bytes, delimiter: bytes, after: bytes, max_entries: int
    ) -> Deferred[ListedPage]:
        """Return a page of a bucket."""
        return self._read(
            versions.page, bucket, prefix=prefix, delimiter=delimiter, after=after, max_entries=max_entries
        )

    def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes,
        delimiter: bytes,
        after_key: bytes,
        after_version_id: str,
        max_entries: int,
    ) -> Deferred[VersionsPage]:
        """Return a page of all versions of a bucket."""
        return self._read(
            history.page,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version_id=after_version_id,
            max_entries=max_entries,
        )

    def delete_current(
        self,
        bucket: str,
        keys: Sequence[bytes],
        *,
        at: float,
        messages: Mapping[bytes, NewMessage],
        if_match: str | None = None,
        owner_id: str = "",
        marker_ids: Sequence[str] = (),
    ) -> Deferred[list[ObjectVersion]]:
        """Delete what is under the keys."""
        return self._write(
            deletions.delete_current,
            bucket,
            keys,
            at=at,
            messages=messages,
            if_match=if_match,
            owner_id=owner_id,
            marker_ids=marker_ids,
        )

    def delete_versions(
        self,
        bucket: str,
        wanted: Sequence[tuple[bytes, str]],
        *,
        at: float,
        if_match: str | None = None,
        bypass: bool = False,
        who: str = "",
    ) -> Deferred[list[ObjectVersion]]:
        """Delete versions of given ids."""
        return self._write(
            deletions.delete_these, bucket, wanted, at=at, if_match=if_match, bypass=bypass, who=who
        )

    # ── object lock ─────────────────────────────────────────────────────────────────────────────────────────────────

    def set_object_lock(self, *, name: str, object_lock: BucketLock, at: float, who: str) -> Deferred[Bucket]:
        """Have a bucket take locks."""
        return self._change(
            self._buckets, locks.set_of_bucket, name=name, object_lock=object_lock, at=at, who=who
        )

    def set_retention(
        self, version_uid: int, *, retention: Retention | None, at: float, bypass: bool, who: str
    ) -> Deferred[ObjectVersion]:
        """Give a version a retention."""
        return self._write(
            locks.set_retention, version_uid, retention=retention, at=at, bypass=bypass, who=who
        )

    def set_legal_hold(
        self, version_uid: int, *, is_on: bool, at: float, who: str
    ) -> Deferred[ObjectVersion]:
        """Put a version under legal hold, or end that."""
        return self._write(locks.set_legal_hold, version_uid, is_on=is_on, at=at, who=who)

    def advance_lock_clock(self, *, now: float, elapsed_seconds: float) -> Deferred[float | None]:
        """Move the time of locks on."""
        return self._write(protection.advance, now=now, elapsed_seconds=elapsed_seconds)

    def set_tags(self, version_uid: int, *, tags: Pairs) -> Deferred[ObjectVersion]:
        """Give a version tags."""
        return self._write(of_tags.set_of_version, version_uid, tags=pairs_text(tags))

    def set_acl(self, version_uid: int, *, acl: Pairs) -> Deferred[ObjectVersion]:
        """Give a version grants."""
        return self._write(versions.set_acl, version_uid, acl=pairs_text(acl))

    def part_digests(self, version_uid: int, *, offset_bytes: int, length_bytes: int) -> Deferred[bytes]:
        """Return a run of the digests of a version's parts."""
        return self._look_up(digests.run, version_uid, offset_bytes=offset_bytes, length_bytes=length_bytes)

    def pieces(self, layout_id: str, *, after_ordinal: int, limit: int) -> Deferred[list[Piece]]:
        """Return the pieces of a layout."""
        ask = self._look_up if limit <= FEW else self._read
        return ask(layouts.pieces, layout_id, after_ordinal=after_ordinal, limit=limit)

    def first_pieces(self, layout_ids: Collection[str]) -> Deferred[dict[str, Piece]]:
        """Return the first pieces of layouts."""
        return self._read(layouts.first_pieces, layout_ids)

    def copy_count(self, version_uid: int, *, wanted: int) -> Deferred[CopyCount]:
        """Return how many verified copies a version has."""
        return self._look_up(copies.count, version_uid, wanted=wanted)

    def note_reads(self, reads: Mapping[int, int], *, at: float) -> Deferred[None]:
        """Count reads."""
        return self._write(versions.note_reads, reads, at=at)

    # ── multipart uploads ───────────────────────────────────────────────────────────────────────────────────────────

    def create_upload(self, upload: Upload) -> Deferred[None]:
        """Begin an upload."""
        return self._write(uploads.create, upload)

    def upload(self, bucket: str, key: bytes, upload_id: str) -> Deferred[Upload]:
        """Return an upload in progress."""
        return self._read(uploads.one, bucket, key, upload_id)

    def uploads(
        self, bucket: str, *, prefix: bytes, after_key: bytes, after_upload_id: str, limit: int
    ) -> Deferred[list[Upload]]:
        """Return uploads in progress."""
        return self._read(
            uploads.listed,
            bucket,
            prefix=prefix,
            after_key=after_key,
            after_upload_id=after_upload_id,
            limit=limit,
        )

    def put_part(self, upload_id: str, piece: Piece) -> Deferred[None]:
        """Record a part."""
        return self._write(uploads.put_part, upload_id, piece)

    def parts(self, upload_id: str, *, after_ordinal: int, limit: int) -> Deferred[list[Piece]]:
        """Return the parts of an upload in progress."""
        return self._read(uploads.parts, upload_id, after_ordinal=after_ordinal, limit=limit)

    def complete_upload(
        self,
        upload_id: str,
        facts: VersionFacts,
        *,
        listed: Sequence[int],
        wants_tape: bool,
        condition: WriteCondition | None,
        messages: Sequence[NewMessage],
        revision: int | None = None,
        part_digests: bytes = b"",
    ) -> Deferred[ObjectVersion]:
        """Publish parts as a version."""
        return self._write(
            uploads.complete,
            upload_id,
            facts,
            listed=runs_text(listed),
            wants_tape=wants_tape,
            condition=condition,
            messages=messages,
            revision=revision,
            part_digests=part_digests,
        )

    def completed_upload(self, bucket: str, key: bytes, upload_id: str) -> Deferred[ObjectVersion | None]:
        """Return the current version that an upload became."""
        return self._read(uploads.completed, bucket, key, upload_id)

    def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> Deferred[None]:
        """End an upload."""
        return self._write(uploads.abort, bucket, key, upload_id)

    def abandoned_uploads(self, limit: int) -> Deferred[list[Upload]]:
        """Return uploads whose bucket is gone."""
        return self._read(uploads.abandoned, limit)

    def abandon_upload(self, upload_id: str) -> Deferred[None]:
        """End an upload whatever its bucket."""
        return self._write(uploads.abandon, upload_id)

    # ── discarding what nothing needs ───────────────────────────────────────────────────────────────────────────────

    @returns_deferred
    async def discards(self, limit: int, *, after: int = 0) -> list[DiscardedPiece]:
        """Return pieces to free; makes more of them out of what is dead as long as that is too few."""
        wanted = min(limit, PAGE_MAX)
        while True:
            is_all = not await self._write(layouts.tidy)
            if not is_all:
                # One alone mostly does all there is to do. Given together they share a commit.
                is_all = not all(await all_of(self._write(layouts.tidy) for _ in range(_TIDY_STEPS)))
            found = await self._read(layouts.discards, wanted, after=after)
            if is_all or len(found) == wanted:
                return found

    def forget_discards(self, discard_ids: Sequence[int]) -> Deferred[None]:
        """Forget freed pieces."""
        return self._write(layouts.forget_discards, discard_ids)

    def add_discards(self, addresses: Sequence[str]) -> Deferred[None]:
        """Record pieces to free."""
        return self._write(layouts.add_discards, addresses)

    def referenced(self, addresses: Collection[str]) -> Deferred[frozenset[str]]:
        """Return those addresses that are known."""
        return self._read(layouts.referenced, addresses)

    # ── moving what stays ───────────────────────────────────────────────────────────────────────────────────────────

    def pieces_at(self, addresses: Collection[str]) -> Deferred[list[Piece]]:
        """Return the pieces at these addresses."""
        return self._read(layouts.pieces_at, addresses)

    def move_pieces(self, moves: Mapping[str, str]) -> Deferred[frozenset[str]]:
        """Have pieces lie elsewhere."""
        return self._write(layouts.move, moves)

    # ── archive ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def backlog(self) -> Deferred[list[Backlog]]:
        """Return what is not yet on every tape."""
        return self._read(backlog.backlog)

    def pending(
        self, *, classes: Collection[StorageClass], after_sequence: int, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """Return what waits to be bundled."""
        return self._read(
            bundles.pending, classes=classes, after_sequence=after_sequence, limit=min(limit, PAGE_MAX)
        )

    def open_bundle(
        self, *, bundle_id: str, pools: tuple[str, ...], created_at: float, epoch: int
    ) -> Deferred[None]:
        """Begin a bundle."""
        return self._write(
            bundles.open_bundle, bundle_id=bundle_id, pools=pools, created_at=created_at, epoch=epoch
        )

    def claim_members(
        self,
        bundle_id: str,
        members: Sequence[Member],
        *,
        last_extents: Collection[int],
        locks: Mapping[int, Lock] = MappingProxyType({}),
    ) -> Deferred[list[Member]]:
        """Add members to a bundle."""
        return self._write(bundles.claim_members, bundle_id, members, last_extents=last_extents, locks=locks)

    def fix_offsets(self, bundle_id: str, offsets: Mapping[int, int]) -> Deferred[None]:
        """Record where members begin."""
        return self._write(bundles.fix_offsets, bundle_id, offsets)

    def freeze_bundle(
        self, bundle_id: str, *, member_count: int, size_bytes: int, content_bytes: int
    ) -> Deferred[Bundle]:
        """Fix a bundle's plan."""
        return self._write(
            bundles.freeze,
            bundle_id,
            member_count=member_count,
            size_bytes=size_bytes,
            content_bytes=content_bytes,
        )

    def release_members(self, bundle_id: str) -> Deferred[bool]:
        """Give claims back."""
        return self._write(bundles.release, bundle_id)

    def bundles(
        self, *, states: Collection[BundleState], settled: bool | None, after: str, limit: int
    ) -> Deferred[list[Bundle]]:
        """Return bundles by id."""
        return self._read(bundles.listed, states=states, settled=settled, after=after, limit=limit)

    def bundle(self, bundle_id: str) -> Deferred[Bundle | None]:
        """Return a bundle."""
        return self._read(bundles.one, bundle_id)

    def members(self, bundle_id: str, *, after_position: int, limit: int) -> Deferred[list[MemberVersion]]:
        """Return members by position."""
        return self._read(
            bundles.members, bundle_id, after_position=after_position, limit=min(limit, PAGE_MAX)
        )

    def extents(self, version_uid: int) -> Deferred[list[Member]]:
        """Return the extents of a version."""
        return self._read(bundles.extents, version_uid)

    def copies(
        self, *, bundle_id: str | None = None, barcode: str | None = None, version_uid: int | None = None
    ) -> Deferred[list[Copy]]:
        """Return the copies of a bundle, a cartridge or a version."""
        return self._read(copies.listed, bundle_id=bundle_id, barcode=barcode, version_uid=version_uid)

    def unfinished_copies(self, limit: int) -> Deferred[list[Copy]]:
        """Return copies that are to be made or verified."""
        return self._read(copies.unfinished, limit)

    def lost_copies(self, limit: int) -> Deferred[list[Copy]]:
        """Return copies that are to be made anew."""
        return self._read(copies.lost_ones, limit)

    def start_copy(self, *, bundle_id: str, pool: str, barcode: str, epoch: int) -> Deferred[Copy]:
        """Begin to write a copy."""
        return self._write(copies.start, bundle_id=bundle_id, pool=pool, barcode=barcode, epoch=epoch)

    def copy_synced(
        self,
        *,
        bundle_id: str,
        pool: str,
        epoch: int,
        partition: str,
        start_block: int,
        size_bytes: int,
        sha256: str,
        at: float,
    ) -> Deferred[Copy]:
        """Record that a copy is on tape."""
        return self._write(
            copies.synced,
            bundle_id=bundle_id,
            pool=pool,
            epoch=epoch,
            partition=partition,
            start_block=start_block,
            size_bytes=size_bytes,
            sha256=sha256,
            at=at,
        )

    def copy_verified(self, *, bundle_id: str, pool: str, epoch: int, at: float) -> Deferred[Bundle]:
        """Record that a copy was read back."""
        return self._write(copies.verified, bundle_id=bundle_id, pool=pool, epoch=epoch, at=at)

    def copy_failed(self, *, bundle_id: str, pool: str, reason: str) -> Deferred[Copy]:
        """Give an attempt up."""
        return self._write(copies.failed, bundle_id=bundle_id, pool=pool, reason=reason)

    def resume_copy(self, *, bundle_id: str, pool: str, epoch: int) -> Deferred[Copy]:
        """Take over a copy that is to be verified."""
        return self._write(copies.resume, bundle_id=bundle_id, pool=pool, epoch=epoch)

    def lose_copy(self, *, bundle_id: str, pool: str, reason: str) -> Deferred[Copy]:
        """Record that a copy can no longer be read."""
        return self._write(copies.lost, bundle_id=bundle_id, pool=pool, reason=reason)

    def settle_members(self, bundle_id: str, *, after_position: int, at: float) -> Deferred[int | None]:
        """Derive what became of a batch of members."""
        return self._write(bundles.settle, bundle_id, after_position=after_position, at=at)

    def unmanifested(self, barcode: str) -> Deferred[list[Bundle]]:
        """Return bundles that no proven manifest on the cartridge names."""
        return self._read(copies.unmanifested, barcode)

    def mark_manifested(self, *, barcode: str, session_id: str, bundle_ids: Sequence[str]) -> Deferred[None]:
        """Record a proven manifest."""
        return self._write(
            copies.mark_manifested, barcode=barcode, session_id=session_id, bundle_ids=bundle_ids
        )

    # ── what stays on disk ──────────────────────────────────────────────────────────────────────────────────────────

    def evictable(
        self, *, classes: Collection[StorageClass], archived_before: float, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """Return what may leave the disk."""
        return self._read(restores.evictable, classes=classes, archived_before=archived_before, limit=limit)

    def evict_version(self, version_uid: int, *, revision: int) -> Deferred[None]:
        """Take a version off the disk."""
        return self._write(restores.evict, version_uid, revision=revision)

    # ── lifecycle ───────────────────────────────────────────────────────────────────────────────────────────────────

    def lifecycle_ranges(self, *, after: tuple[int, str], limit: int) -> Deferred[list[RangeProgress]]:
        """Return how far ranges were gone through."""
        return self._read(ranges.progress, after=after, limit=min(limit, PAGE_MAX))

    def change_lifecycle_ranges(
        self, bucket_uid: int, *, begun: Mapping[str, Subject], ended: Collection[str], counts_newer: bool
    ) -> Deferred[None]:
        """Begin ranges, end others."""
        return self._write(ranges.change, bucket_uid, begun=begun, ended=ended, counts_newer=counts_newer)

    def advance_lifecycle_range(self, bucket_uid: int, range_id: str, *, through: Position) -> Deferred[None]:
        """A range was gone through up to a place."""
        return self._write(ranges.advance, bucket_uid, range_id, through=through)

    def watch_lifecycle_range(self, bucket_uid: int, range_id: str, *, until: float) -> Deferred[None]:
        """Have what comes in with a time up to this be reviewed."""
        return self._write(ranges.watch, bucket_uid, range_id, until=until)

    def due_versions(
        self,
        bucket_uid: int,
        subject: Subject,
        scope: Scope,
        *,
        after: Position,
        until: float,
        newer_max: int,
        limit: int,
    ) -> Deferred[DuePage]:
        """Return a page of what is due."""
        return self._read(
            ranges.due,
            bucket_uid,
            subject,
            scope,
            after=after,
            until=until,
            newer_max=newer_max,
            limit=min(limit, PAGE_MAX),
        )

    def due_uploads(
        self, bucket_uid: int, scope: Scope, *, until: float, limit: int
    ) -> Deferred[Sequence[Upload]]:
        """Return uploads that are due."""
        return self._read(ranges.due_uploads, bucket_uid, scope, until=until, limit=min(limit, PAGE_MAX))

    def carry_out(
        self,
        bucket: str,
        acts: Sequence[Act],
        *,
        revision: int,
        at: float,
        owner_id: str,
        region: str,
        events: Collection[str],
    ) -> Deferred[list[Outcome]]:
        """Carry out acts of the lifecycle."""
        return self._write(
            of_acts.carry_out,
            bucket,
            acts,
            revision=revision,
            at=at,
            owner_id=owner_id,
            region=region,
            events=events,
        )

    def abort_due_upload(self, upload: Upload, *, revision: int, rule_id: str, at: float) -> Deferred[None]:
        """End an upload by a rule."""
        return self._write(
            of_acts.abort_upload, upload.bucket, upload, revision=revision, rule_id=rule_id, at=at
        )

    def due_reviews(self, *, now: float, limit: int) -> Deferred[list[Review]]:
        """Return what is to be looked at."""
        return self._read(reviews.due, now=now, limit=min(limit, PAGE_MAX))

    def noncurrent_of_key(self, version_uid: int, *, limit: int) -> Deferred[list[Candidate]]:
        """Return what is not current of a key."""
        return self._read(reviews.noncurrent_of_key, version_uid, limit=min(limit, PAGE_MAX))

    def keep_reviews(self, *, done: Sequence[int], waiting: Sequence[Waiting]) -> Deferred[None]:
        """Forget reviews, and ask for others."""
        return self._write(reviews.keep, done=done, waiting=waiting)

    def reviews_waiting(self) -> Deferred[list[WaitingCount]]:
        """Count what is to be looked at."""
        return self._read(reviews.counts)

    # ── restore ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def change_restore(
        self, version_uid: int, *, revision: int, restore: Restore | None, messages: Sequence[NewMessage]
    ) -> Deferred[ObjectVersion]:
        """Begin, extend, upgrade or end a restore."""
        return self._write(
            restores.change, version_uid, revision=revision, restore=restore, messages=messages
        )

    def wanted_extents(self, *, after: tuple[int, int], limit: int) -> Deferred[list[WantedExtent]]:
        """Return extents that restores lack."""
        return self._read(restores.wanted_extents, after=after, limit=min(limit, PAGE_MAX))

    def ongoing_restores(self, *, on_disk: bool, limit: int) -> Deferred[list[ObjectVersion]]:
        """Return versions that are being restored."""
        return self._read(restores.ongoing, on_disk=on_disk, limit=limit)

    def add_recalled(self, version_uid: int, *, extent: int, layout_id: str, piece: Piece) -> Deferred[bool]:
        """Record an extent that came back."""
        return self._write(
            restores.add_recalled, version_uid, extent=extent, layout_id=layout_id, piece=piece
        )

    def recall_layout(self, version_uid: int) -> Deferred[str | None]:
        """Return the layout of a recall under way."""
        return self._read(restores.recall_layout, version_uid)

    def complete_recall(
        self, version_uid: int, *, revision: int, expires_at: float, messages: Sequence[NewMessage]
    ) -> Deferred[ObjectVersion]:
        """Make an ongoing restore restored."""
        return self._write(
            restores.complete, version_uid, revision=revision, expires_at=expires_at, messages=messages
        )

    def expired_restores(self, *, now: float, limit: int) -> Deferred[list[ObjectVersion]]:
        """Return promises that have ended."""
        return self._read(restores.expired, now=now, limit=limit)

    # ── cartridges and drives ───────────────────────────────────────────────────────────────────────────────────────

    def cartridges(self) -> Deferred[list[Cartridge]]:
        """Return all cartridges."""
        return self._read(cartridges.everything)

    def cartridge(self, barcode: str) -> Deferred[Cartridge | None]:
        """Return a cartridge."""
        return self._read(cartridges.one, barcode)

    def add_cartridges(self, cartridges: Sequence[Cartridge]) -> Deferred[None]:
        """Record new cartridges."""
        return self._write(record_new, cartridges)

    def record_cartridge(self, cartridge: Cartridge, *, audit: str) -> Deferred[Cartridge]:
        """Replace a cartridge's record."""
        return self._write(cartridges.record, cartridge, audit=audit)

    def drives(self) -> Deferred[list[Drive]]:
        """Return all drives."""
        return self._read(cartridges.drives)

    def record_drive(self, drive: Drive, *, audit: str) -> Deferred[None]:
        """Insert or replace a drive's record."""
        return self._write(cartridges.record_drive, drive, audit=audit)

    def set_drive_state(
        self, *, index: int, state: DriveState, reason: str, at: float, by: str, host: str | None = None
    ) -> Deferred[Drive]:
        """Put a drive up or down."""
        return self._write(
            cartridges.set_drive_state, index=index, state=state, reason=reason, at=at, by=by, host=host
        )

    def take_drive(self, *, index: int, host: str) -> Deferred[None]:
        """Record whose a drive is."""
        return self._write(cartridges.take_drive, index=index, host=host)

    # ── telling others ──────────────────────────────────────────────────────────────────────────────────────────────

    def due_messages(self, *, now: float, limit: int) -> Deferred[list[OutboxMessage]]:
        """Return due messages."""
        return self._read(telling.due_messages, now=now, limit=limit)

    def message_delivered(self, message_id: int) -> Deferred[None]:
        """Forget a message."""
        return self._write(telling.message_delivered, message_id)

    def message_failed(self, message_id: int, *, error: str, next_attempt_at: float) -> Deferred[None]:
        """Put a message off."""
        return self._write(telling.message_failed, message_id, error=error, next_attempt_at=next_attempt_at)

    def message_dead(self, message_id: int, *, error: str, at: float) -> Deferred[None]:
        """Give a message up."""
        return self._write(telling.message_dead, message_id, error=error, at=at)

    def raise_alert(
        self, *, kind: str, subject: str, severity: Severity, sentence: str, at: float
    ) -> Deferred[Alert]:
        """Open an alert or count it."""
        return self._write(
            telling.raise_alert, kind=kind, subject=subject, severity=severity, sentence=sentence, at=at
        )

    def clear_alert(self, *, kind: str, subject: str, at: float) -> Deferred[None]:
        """Close an alert."""
        return self._write(telling.clear_alert, kind=kind, subject=subject, at=at)

    def alerts(self, *, include_cleared: bool, limit: int) -> Deferred[list[Alert]]:
        """Return alerts."""
        return self._read(telling.alerts, include_cleared=include_cleared, limit=limit)

    def audit(self, *, at: float, who: str, what: str, subject: str, detail: str) -> Deferred[None]:
        """Write down who did what."""
        return self._write(telling.audit, at=at, who=who, what=what, subject=subject, detail=detail)

    def audit_trail(self, *, before_id: int | None, limit: int) -> Deferred[list[AuditEvent]]:
        """Return the audit trail."""
        return self._read(telling.audit_trail, before_id=before_id, limit=limit)

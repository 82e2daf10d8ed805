"""
The metadata store: the domain's atomic steps, never generic CRUD.

Every method is one whole step, atomic and durable when its Deferred fires. A step touches at most ``KEYS_MAX`` rows
and ``BYTES_MAX`` bytes (etcd's limits; every backend asserts them). What concerns many members is done in batches that
are driven by a cursor and harmless to repeat. Steps that act on a row read earlier compare its ``revision`` and fail
with ``Conflict`` when it moved: read again and decide anew. What announces something writes its outbox row in the same step.

Faults: ``MetadataUnavailable`` (a refusal, S3 says 503) when the store cannot be reached or is closed; the outcome of a
changing step is then unknown and is looked up, never assumed, unless it is ``MetadataFull``: then nothing was changed.
Times are unix seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

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
    ArchiveState,
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

KEYS_MAX = 100
BYTES_MAX = 1_000_000
BATCH_MAX = 40
"""Members, pieces or messages that one batch may carry, so that a step with its side rows stays below KEYS_MAX."""

DELETIONS_MAX = 16
"""Deletions that one step may carry where versions are kept: each may change five rows."""

DELETED_KEYS_MAX = 30
"""
Keys that one step may delete where versions are not kept, whoever owns what is under them and whatever is to be told: each may change
three rows, and one for each class is changed besides. Of one owner, BATCH_MAX.
"""


class Conflict(Exception):
    """The row changed since it was read; read it again."""


class StepTooLarge(AssertionError):
    """A step was called with more than the interface allows: a bug of the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCondition:
    """
    What must hold for a write to become visible (S3 conditional writes).

    Each is an unquoted ETag or ``*``, which stands for any: what ``if_match`` names must be there, what ``if_none_match``
    names must not (RFC 9110, 13.1).
    """

    if_none_match: str | None = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedPiece:
    """A piece of disk that nothing needs any more; ``discard_id`` names the duty to free it."""

    discard_id: int
    address: str
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is not yet on every tape, per storage class. ``oldest_at`` is None when there is nothing."""

    storage_class: StorageClass
    object_count: int
    size_bytes: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingUse:
    """
    What lies on the staging disk with one class: ``used`` is the length of all pieces of objects and uploads, those
    included that were deleted and are not freed yet; ``promised`` the size of objects that ongoing restores bring back.
    """

    storage_class: StorageClass
    used_bytes: int
    promised_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberVersion:
    """A member of a bundle with the version whose bytes it is; ``tape_lock`` is what the tape says of its lock."""

    member: Member
    version: ObjectVersion
    tape_lock: Lock = UNLOCKED


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedExtent:
    """
    One extent that an ongoing restore still wants, with every copy of its bundle that is SYNCED or VERIFIED, and after
    those the LOST ones: a copy of which some bytes are damaged may still give back the others.

    ``bundle_sha256`` and ``bundle_size_bytes`` are of the whole tar.
    """

    version: ObjectVersion
    member: Member
    copies: tuple[Copy, ...]
    bundle_size_bytes: int
    bundle_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCount:
    """``x-coldstore-copies``: verified copies of the least copied extent, and how many its class asks for."""

    verified: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """
    One run of the appliance, begun at ``began_at`` (unix seconds) on ``host``; ``host_before`` had the run before (``Host.text``
    both, empty: nobody noted it).
    """

    number: int
    began_at: float
    host: str
    host_before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTotals:
    """
    Counts for ``status`` and ``/metrics``. ``object_count`` and ``object_bytes`` are of all versions, current or not;
    ``on_disk_bytes`` is everything that was not freed yet, ``on_tape_bytes`` the content of archived bundles, counted once, not per
    copy, what was deleted since included.
    """

    bucket_count: int
    object_count: int
    object_bytes: int
    on_disk_bytes: int
    on_tape_bytes: int
    ongoing_restores: int
    restored_objects: int
    outbox_messages: int
    open_alerts: int


class IMetadataStore(Interface):
    """Everything ColdStore remembers."""

    appliance_id = Attribute(
        "The appliance's id (a UUID in text), made when the store was new. Known once open fired."
    )

    # ── life of the store ───────────────────────────────────────────────────────────────────────────────────────────

    def open() -> Deferred[None]:
        """
        Connect; make the schema of a store that is new. Steps may be called once this fired.

        It fails with ``SchemaTooNew`` or ``SchemaTooOld`` when the store was written by another ColdStore, with
        ``RecordElsewhere`` when it does not hold the record, and then has changed nothing; with ``AnotherAppliance``
        when another process has it open for writing, where the database itself can tell.
        """

    def close() -> Deferred[None]:
        """Finish the steps under way, refuse new ones, let go of everything. Repeatable."""

    def take_epoch(*, at: float, host: str) -> Deferred[Epoch]:
        """
        Begin a new run of the appliance on a machine (``Host.text``): its number is greater than every earlier one.

        From now on, steps that a store of an earlier epoch writes change nothing and fail with ``MetadataUnavailable``: ``TakenOver``
        where it is known that this is why.
        """

    def newest_epoch() -> Deferred[Epoch | None]:
        """
        Return the run that was begun last, None when there was none. The database itself is asked, not a copy of ours: what had come to
        pass there when this was called is seen. Fails with ``TakenOver`` where that is known already.
        """

    def hosts() -> Deferred[list[str]]:
        """Return the machines (``Host.text``) on which runs were begun, each once, the latest first."""

    def when_taken_over() -> Deferred[str]:
        """
        Return what fires once it is known that another appliance has begun a run on this store after our ``take_epoch``, with a
        sentence that names it; or that the store does not hold any more what it had confirmed. Never fires before that, and does not
        fail. Whoever is told begins nothing more.
        """

    def totals() -> Deferred[StoreTotals]:
        """Count for an operator; may take longer than a point read."""

    # ── users ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_user(user: User, key: AccessKey) -> Deferred[None]:
        """Record a user with a first key. Fails with ``Conflict`` when the id, the name or the access key is taken."""

    def users() -> Deferred[list[User]]:
        """Return all users by name."""

    def user_names(user_ids: Collection[str]) -> Deferred[dict[str, str]]:
        """Return the names of those of at most KEYS_MAX users that there are, by id."""

    def user(user_id: str) -> Deferred[User | None]:
        """Return a user, None when there is none."""

    def user_policies(user_id: str) -> Deferred[list[UserPolicy]]:
        """Return what is said of what a user may do, by the names of the policies; nothing of one who is not there."""

    def set_user_policy(*, user_name: str, policy: UserPolicy) -> Deferred[None]:
        """
        Give a user a policy, in place of one that has its name. ``signer`` says so from now on. Fails with ``Conflict`` without such a
        user, and when he would have more than POLICIES_MAX.
        """

    def remove_user_policy(*, user_name: str, policy_name: str) -> Deferred[None]:
        """Take a policy from a user. ``signer`` says so from now on. Fails with ``Conflict`` without such a user or such a policy."""

    def set_user_disabled(*, name: str, disabled_at: float | None) -> Deferred[User]:
        """
        Have none of a user's keys accepted, or (None) all that are not disabled themselves. ``signer`` says so from now on.

        Fails with ``Conflict`` without such a user.
        """

    def delete_user(name: str) -> Deferred[User]:
        """Forget a user with all keys; fails with ``Conflict``, which says why, without such a user and when he owns a bucket."""

    def set_user_quotas(*, name: str, quotas: Mapping[QuotaKind, int | None]) -> Deferred[User]:
        """Set some quotas of a user, None for the default, and no others; fails with ``Conflict`` without such a user."""

    def staging_use(*, owner_id: str | None = None, bucket: str | None = None) -> Deferred[list[StagingUse]]:
        """
        Return what an owner, or a bucket, has on the staging disk, by class; exactly one is given. Exact: every step that
        changes it counts it. Fails with ``NoSuchBucket``.
        """

    def quota_use(*, owner_id: str | None = None, bucket: str | None = None) -> Deferred[Use]:
        """Return all that quotas count, of an owner or of a bucket; as ``staging_use``."""

    def uses_of_users() -> Deferred[list[tuple[User, Use]]]:
        """Return all users by name, with what each has."""

    def uses_of_buckets(*, after: str, limit: int) -> Deferred[list[tuple[Bucket, Use]]]:
        """Return buckets by name, beginning behind ``after``, with what is in each."""

    # ── access keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def signer(access_key: str) -> Deferred[SealedSigner | None]:
        """
        Return who signs with this key, None when nobody does: there is no such key, or it or its user is disabled.

        The same object is returned until something about users or keys changes.
        """

    def access_keys_of(user_id: str) -> Deferred[list[AccessKey]]:
        """Return the keys of a user, the oldest first."""

    def access_keys(*, after: str, limit: int) -> Deferred[list[AccessKey]]:
        """Return keys of everybody in the order of their ids, beginning behind ``after``."""

    def add_access_key(key: AccessKey) -> Deferred[None]:
        """
        Give a user one more key. Fails with ``Conflict``, which says why, without such a user, when he has ``ACCESS_KEYS_MAX``, and
        when the access key is taken.
        """

    def set_access_key_disabled(*, access_key: str, disabled_at: float | None) -> Deferred[AccessKey]:
        """Have a key not accepted, or (None) accepted. ``signer`` says so from now on. Fails with ``Conflict`` without such a key."""

    def delete_access_key(access_key: str) -> Deferred[AccessKey]:
        """Forget a key that is disabled; fails with ``Conflict`` when it is not, or there is none."""

    def note_key_uses(uses: Mapping[str, float]) -> Deferred[None]:
        """
        Record when (unix seconds) keys, at most BATCH_MAX, were used last; keys that are gone are left out. Harmless to repeat.
        """

    def seal_secrets(sealed: Mapping[str, tuple[str, str]]) -> Deferred[None]:
        """
        Change what is recorded as the sealed secrets of at most BATCH_MAX keys: by key what is there (``""``: the secret is in the
        clear), and what is to be there. Keys with something else, or that are gone, are left as they are. Harmless to repeat.
        """

    def plain_secrets(*, after: str, limit: int) -> Deferred[dict[str, str]]:
        """
        Return secrets in the clear by access key, in the order of those, beginning behind ``after``: of stores from before secrets
        were encrypted, also when a sealed one is recorded meanwhile.
        """

    def forget_plain_secrets() -> Deferred[None]:
        """
        Erase all secrets in the clear, in files of this machine also what is left of them there. Fails with ``Conflict`` when one is
        not recorded as a sealed one, and keeps it. Harmless to repeat.
        """

    def master_keys() -> Deferred[list[MasterKey]]:
        """Return the master keys that secrets are encrypted under, the oldest first."""

    def add_master_key(key: MasterKey) -> Deferred[None]:
        """Record that secrets may be encrypted under a master key from now on. Harmless to repeat."""

    def forget_master_key(check_value: str) -> Deferred[None]:
        """Record that none is any more. Harmless to repeat."""

    # ── keys of data ────────────────────────────────────────────────────────────────────────────────────────────────

    def data_keys() -> Deferred[list[DataKeyRecord]]:
        """Return all keys of data that ever were recorded, the oldest first, that in use last."""

    def note_data_keys(since: Mapping[str, float], *, in_use: str, at: float) -> Deferred[None]:
        """
        Record at most BATCH_MAX keys of data, by id since when they are there; ``in_use``, one of them or recorded before, encrypts new
        objects from ``at`` on, all others are retired. No key is ever forgotten. Harmless to repeat.
        """

    def note_data_keys_exported(key_ids: Sequence[str], *, at: float) -> Deferred[None]:
        """Record that at most BATCH_MAX keys were written out for the safe. Harmless to repeat."""

    def count_under_data_key(key_id: str, *, limit: int) -> Deferred[int]:
        """Return how many versions have their key under a key of data, counted up to ``limit``."""

    def versions_under_data_key(key_id: str, *, after_uid: int, limit: int) -> Deferred[list[ObjectVersion]]:
        """Return versions with their key under a key of data, deleted ones among them, by uid, beginning behind ``after_uid``."""

    def rewrap_keys(wrapped: Mapping[int, tuple[WrappedKey, WrappedKey]]) -> Deferred[int]:
        """
        Record the keys of at most BATCH_MAX versions, by uid, under other keys of data: what is expected there, and what is to be
        there. Versions with something else, or that are gone, are left as they are. What was among their facts stays
        there. Return how many changed. Harmless to repeat.
        """

    # ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_bucket(
        *,
        name: str,
        owner_id: str,
        region: str,
        created_at: float,
        default_class: StorageClass | None,
        object_lock: BucketLock | None = None,
        documents: Mapping[ConfigurationKind, str] = MappingProxyType({}),
    ) -> Deferred[Bucket]:
        """
        Create a bucket that is configured by these documents; with ``object_lock`` its versioning is Enabled as well. Fails with
        ``BucketAlreadyOwned`` or ``BucketExists``.
        """

    def bucket(name: str) -> Deferred[Bucket]:
        """Return a bucket; fails with ``NoSuchBucket``."""

    def buckets(*, owner_id: str | None, after: str, limit: int) -> Deferred[list[Bucket]]:
        """Return buckets by name, those of ``owner_id`` or (None) all, whose name is greater than ``after``."""

    def set_default_class(*, name: str, default_class: StorageClass | None) -> Deferred[None]:
        """Set or clear the class of objects whose writer names none; fails with ``NoSuchBucket``."""

    def set_bucket_quotas(*, name: str, quotas: Mapping[QuotaKind, int | None]) -> Deferred[Bucket]:
        """Set some quotas of a bucket, None for the default, and no others; fails with ``NoSuchBucket``."""

    def set_versioning(*, name: str, versioning: Versioning) -> Deferred[Bucket]:
        """
        Enable or suspend versioning; fails with ``NoSuchBucket``, and with ``InvalidBucketState`` to suspend it where versions can be
        locked. What is in the bucket stays as it is.
        """

    def set_restore_days_max(*, name: str, days_max: int | None) -> Deferred[Bucket]:
        """Set the most days that a restore in a bucket may be asked for, None for the default; fails with ``NoSuchBucket``."""

    def set_bucket_tags(*, name: str, tags: Pairs) -> Deferred[None]:
        """Give a bucket these tags in place of those it has; fails with ``NoSuchBucket``."""

    def set_bucket_configuration(
        *, name: str, kind: ConfigurationKind, document: str | None
    ) -> Deferred[Bucket]:
        """
        Configure a bucket by a document of at most DOCUMENT_MAX_BYTES in place of the one of its kind, or (None) remove that; its
        revision is a new one. Fails with ``NoSuchBucket``.
        """

    def bucket_configuration(*, bucket_uid: int, kind: ConfigurationKind) -> Deferred[str | None]:
        """Return the document of a kind that a bucket is configured by, None without one."""

    def configured_buckets(*, kind: ConfigurationKind, after_uid: int, limit: int) -> Deferred[list[Bucket]]:
        """Return buckets that have a document of a kind, in the order of their uids, beginning behind ``after_uid``."""

    def delete_bucket(name: str) -> Deferred[None]:
        """
        Remove an empty bucket. Fails with ``NoSuchBucket`` or ``BucketNotEmpty`` (a version or a delete marker is in it).

        Open multipart uploads do not block it; ``abandoned_uploads`` names them afterwards.
        """

    # ── object versions ─────────────────────────────────────────────────────────────────────────────────────────────

    def publish_version(
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
        """
        Make a version current, all in one step. In a bucket that is Enabled it gets the ``version_id`` of its facts, and what was current
        is superseded. Else it becomes the null version: it replaces the earlier null version of its key, which is deleted as
        ``delete_current`` does, and supersedes any other.

        ``pieces`` are at most BATCH_MAX (none for an empty object); they are referenced from now on. ``bucket_uid``: the bucket that
        the writer was allowed to write to; by now another one may have its name, and that is ``NoSuchBucket`` too. ``lock`` is what the
        writer says of it: without a retention of its own the version gets the bucket's default, counted from its creation.

        Fails with ``NoSuchBucket``; ``PreconditionFailed`` or (``if_match`` and no such key) ``NoSuchKey`` when the
        condition does not hold, for which a delete marker is nothing; ``BucketTakesNoLocks`` with a lock in a bucket without;
        ``ObjectLocked`` when the version that it would replace is under lock; ``Conflict`` when the layout exists, or an address is in use or about to be freed.
        Nothing has changed then. Not repeatable: look up the key after an unknown outcome.
        """

    def current_version(bucket: str, key: bytes) -> Deferred[ObjectVersion]:
        """
        Return what is under the key; fails with ``NoSuchBucket`` or ``NoSuchKey``: with ``ShowsDeleteMarker`` where that is
        why nothing is there.
        """

    def current_content(bucket: str, key: bytes) -> Deferred[tuple[ObjectVersion, Piece | None]]:
        """
        Return what is under the key and, where one piece holds all its bytes (as of most objects), that piece, in one look-up.
        Without it ``pieces`` tells. Fails as ``current_version``.
        """

    def version_content(
        bucket: str, key: bytes, version_id: str
    ) -> Deferred[tuple[ObjectVersion, Piece | None]]:
        """
        Return the version of a key, or the delete marker, that has this id, with a piece as ``current_content`` does. One look-up,
        whatever other versions there are. Fails with ``NoSuchBucket`` or ``NoSuchVersion``.
        """

    def version(version_uid: int) -> Deferred[ObjectVersion | None]:
        """
        Return a version by its uid, deleted or not; None once it is forgotten. A deleted version is remembered, without
        bytes on disk, as long as a bundle holds it.
        """

    def list_current(
        bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """
        Return current versions with ``from_key <= key`` (and ``key < before_key``), bytewise by key.

        Fails with ``NoSuchBucket``. Cost follows ``limit``, not what is in the bucket.
        """

    def list_page(
        bucket: str, *, prefix: bytes, delimiter: bytes, after: bytes, max_entries: int
    ) -> Deferred[ListedPage]:
        """
        Return a page of what is current, as it is at one moment: keys that begin with ``prefix``, in ascending bytewise order.

        Keys in which ``delimiter`` (UTF-8; empty: none) follows behind the prefix are shown as one entry for all that share what
        is before it.

        :param after: entries up to and including this key or common prefix are left out; empty: none
        :param max_entries: up to 1,000

        Fails with ``NoSuchBucket``. Cost follows what is shown, not what is in the bucket: neither superseded versions nor delete
        markers are looked at.
        """

    def list_versions(
        bucket: str,
        *,
        prefix: bytes,
        delimiter: bytes,
        after_key: bytes,
        after_version_id: str,
        max_entries: int,
    ) -> Deferred[VersionsPage]:
        """
        Return a page of all versions and delete markers, as they are at one moment: by key as ``list_page``, of each key the newest
        first; what has keys in common up to the delimiter is one entry.

        :param after_version_id: with it the page begins behind this version of ``after_key``, with all versions of that key when it has no
            such version (any more); empty: behind ``after_key``

        Fails with ``NoSuchBucket``. Cost follows what is shown, not what is in the bucket.
        """

    def delete_current(
        bucket: str,
        keys: Sequence[bytes],
        *,
        at: float,
        messages: Mapping[bytes, NewMessage],
        if_match: str | None = None,
        owner_id: str = "",
        marker_ids: Sequence[str] = (),
    ) -> Deferred[list[ObjectVersion]]:
        """
        Delete what is under each of at most BATCH_MAX keys (DELETED_KEYS_MAX where they may be of many owners); return what was there
        before (missing keys are left out).

        Where the bucket's versioning was ever set, every key instead gets a delete marker, there or not, which is what is returned:
        Enabled, one with an id of its own; Suspended, a null marker, which replaces the null version. That takes at most DELETIONS_MAX
        keys, with the markers' owner and an id for each key.

        A deleted version's ongoing restore ends. Its bytes on disk are discarded, unless a bundle claims it that is
        not archived: then it stays with ``deleted_at`` set until that bundle is settled. A message is written for
        each key that existed, or got a marker. ``if_match`` (only with one key): fails with ``PreconditionFailed`` on another ETag; a
        key with nothing under it is then left as it is. Fails with ``NoSuchBucket``; with ``ObjectLocked`` when one of the versions that
        would go is under lock; and ``Conflict`` without markers' ids where they are needed. Harmless to repeat, but for one more marker.
        """

    def delete_versions(
        bucket: str,
        wanted: Sequence[tuple[bytes, str]],
        *,
        at: float,
        if_match: str | None = None,
        bypass: bool = False,
        who: str = "",
    ) -> Deferred[list[ObjectVersion]]:
        """
        Delete at most DELETIONS_MAX versions or delete markers for good, by key and id; return those that were there.

        Of a key whose current version goes, the newest of the others is current in the same step. What becomes of bytes and restores,
        and ``if_match`` (only with one), is as with ``delete_current``. Fails with ``NoSuchBucket``, and with ``ObjectLocked`` when some of
        them are under lock, which it names: then none is deleted. Harmless to repeat.

        :param bypass: whether ``who`` may, and wants to, bypass retentions of mode GOVERNANCE: then an audit event tells of it
        """

    # ── object lock ─────────────────────────────────────────────────────────────────────────────────────────────────

    def set_object_lock(*, name: str, object_lock: BucketLock, at: float, who: str) -> Deferred[Bucket]:
        """
        Have a bucket take locks, or change what versions get that come into being from now on; with an audit event. Fails with
        ``NoSuchBucket``, and ``InvalidBucketState`` where versioning is not Enabled. Harmless to repeat.
        """

    def set_retention(
        version_uid: int, *, retention: Retention | None, at: float, bypass: bool, who: str
    ) -> Deferred[ObjectVersion]:
        """
        Give a version a retention in place of the one that it has, or (None) take it away; with an audit event. Harmless to repeat.

        Fails with ``ObjectLocked`` when the one that it has would be broken (``plan.lock.is_loosened``), whoever asks; with
        ``BucketTakesNoLocks``; with ``Conflict`` when the version is deleted or unknown, or a delete marker.

        :param bypass: whether ``who`` may, and wants to, bypass retentions of mode GOVERNANCE
        """

    def set_legal_hold(version_uid: int, *, is_on: bool, at: float, who: str) -> Deferred[ObjectVersion]:
        """
        Put a version under legal hold, or end that; with an audit event. Harmless to repeat. Fails with ``BucketTakesNoLocks``, and with
        ``Conflict`` as ``set_retention``.
        """

    def advance_lock_clock(*, now: float, elapsed_seconds: float) -> Deferred[float | None]:
        """
        Move on the time by which retentions end, and return it (``plan.lock.paced``); None while no bucket takes locks.

        :param now: the time of day
        :param elapsed_seconds: what a clock that nobody sets measured since it was moved on last in this run; 0 the first time
        """

    def set_tags(version_uid: int, *, tags: Pairs) -> Deferred[ObjectVersion]:
        """
        Give a version these tags (none: ``()``) in place of those it has. Harmless to repeat.

        Fails with ``Conflict`` when the version is deleted or unknown, or a delete marker.
        """

    def set_acl(version_uid: int, *, acl: Pairs) -> Deferred[ObjectVersion]:
        """
        Give a version these grants, as header fields (``ObjectVersion.acl``), in place of those it has. As ``set_tags``.
        """

    def part_digests(version_uid: int, *, offset_bytes: int, length_bytes: int) -> Deferred[bytes]:
        """Return a run of what a version was published with as ``part_digests``; less, or nothing, where there is no more."""

    def pieces(layout_id: str, *, after_ordinal: int, limit: int) -> Deferred[list[Piece]]:
        """Return the listed pieces of a layout by ordinal, beginning after ``after_ordinal`` (0: from the start)."""

    def first_pieces(layout_ids: Collection[str]) -> Deferred[dict[str, Piece]]:
        """
        Return the first piece of each of at most KEYS_MAX layouts: of small objects that is all of it. Left out are unknown
        and empty layouts, and those of uploads of which some parts do not count.
        """

    def copy_count(version_uid: int, *, wanted: int) -> Deferred[CopyCount]:
        """Return how many verified copies the least copied extent of a version has."""

    def note_reads(reads: Mapping[int, int], *, at: float) -> Deferred[None]:
        """Add to the read counts of at most BATCH_MAX versions and set when they were last read. Unknown uids are ignored."""

    # ── multipart uploads ───────────────────────────────────────────────────────────────────────────────────────────

    def create_upload(upload: Upload) -> Deferred[None]:
        """Begin a multipart upload; fails with ``NoSuchBucket``, and ``Conflict`` when the upload id is in use."""

    def upload(bucket: str, key: bytes, upload_id: str) -> Deferred[Upload]:
        """Return an upload in progress; fails with ``NoSuchBucket`` or ``NoSuchUpload``."""

    def uploads(
        bucket: str, *, prefix: bytes, after_key: bytes, after_upload_id: str, limit: int
    ) -> Deferred[list[Upload]]:
        """
        Return uploads in progress by key and upload id. With ``after_upload_id`` empty: of keys greater than
        ``after_key`` (all keys when that is empty too); else also of ``after_key`` itself with a greater upload id.
        """

    def put_part(upload_id: str, piece: Piece) -> Deferred[None]:
        """
        Record a part; an earlier one of this number is discarded. Harmless to repeat with the same piece.

        Fails with ``NoSuchUpload`` (the bucket being gone counts), and ``Conflict`` when the address is in use.
        """

    def parts(upload_id: str, *, after_ordinal: int, limit: int) -> Deferred[list[Piece]]:
        """Return the parts of an upload in progress by number; fails with ``NoSuchUpload``."""

    def complete_upload(
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
        """
        Publish the parts whose numbers are ``listed`` (ascending, at most 10,000, at least one) as a version, as
        ``publish_version`` does. Parts that are not listed no longer count and are discarded in batches afterwards.

        Fails with ``NoSuchUpload``, and as ``publish_version``; with ``Conflict`` when a listed part is missing, the
        sizes do not add up to the version's, or a part was recorded since the upload had ``revision`` (read it before
        the parts: a part sent again meanwhile would otherwise be published under the checksums of the earlier one).

        ``part_digests`` are remembered as long as the version is not deleted, whatever becomes of its pieces.
        """

    def completed_upload(bucket: str, key: bytes, upload_id: str) -> Deferred[ObjectVersion | None]:
        """
        Return the version that this upload became, None when there is none (any more); it is looked for among what is current and the
        hundred versions before.
        """

    def abort_upload(bucket: str, key: bytes, upload_id: str) -> Deferred[None]:
        """End an upload; its parts are discarded. Fails with ``NoSuchBucket`` or ``NoSuchUpload``."""

    def abandoned_uploads(limit: int) -> Deferred[list[Upload]]:
        """Return uploads whose bucket is gone; ``abandon_upload`` ends them."""

    def abandon_upload(upload_id: str) -> Deferred[None]:
        """End an upload whatever its bucket; harmless to repeat."""

    # ── discarding what nothing needs ───────────────────────────────────────────────────────────────────────────────

    def discards(limit: int, *, after: int = 0) -> Deferred[list[DiscardedPiece]]:
        """
        Return pieces whose bytes may go, oldest first: at most ``limit`` (up to 1,000), behind the duty ``after``.

        May first take dead versions and layouts apart, in bounded steps; fewer than ``limit`` mean that none is left.
        """

    def forget_discards(discard_ids: Sequence[int]) -> Deferred[None]:
        """The bytes of at most BATCH_MAX pieces are gone; harmless to repeat."""

    def add_discards(addresses: Sequence[str]) -> Deferred[None]:
        """Record the duty to free at most BATCH_MAX pieces that no row refers to. Addresses in use are left alone."""

    def referenced(addresses: Collection[str]) -> Deferred[frozenset[str]]:
        """Return those of at most KEYS_MAX addresses that a piece or a discard duty names."""

    # ── moving what stays ───────────────────────────────────────────────────────────────────────────────────────────

    def pieces_at(addresses: Collection[str]) -> Deferred[list[Piece]]:
        """Return the pieces that lie at these at most KEYS_MAX addresses, in no order; nothing for unknown ones."""

    def move_pieces(moves: Mapping[str, str]) -> Deferred[frozenset[str]]:
        """
        Have at most BATCH_MAX pieces lie at other addresses, which hold the same bytes: from old to new.

        Return the old addresses of those that moved. One that is not a piece's any more is left out: its new address
        is then nobody's. Nothing refers to the old address of a piece that moved: who reads there still must be left the
        time to end before ``add_discards`` is called with it. Versions and uploads do not change by it.

        Fails with ``Conflict`` when a new address is in use or about to be freed; nothing has moved then.
        """

    # ── archive ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def backlog() -> Deferred[list[Backlog]]:
        """Sum what is PENDING or CLAIMED (and not deleted), per class."""

    def pending(
        *, classes: Collection[StorageClass], after_sequence: int, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """Return PENDING versions of these classes in order of sequence, at most ``limit`` (up to 1,000)."""

    def open_bundle(
        *, bundle_id: str, pools: tuple[str, ...], created_at: float, epoch: int
    ) -> Deferred[None]:
        """Begin a bundle, FILLING. Fails with ``Conflict`` when the id exists."""

    def claim_members(
        bundle_id: str,
        members: Sequence[Member],
        *,
        last_extents: Collection[int],
        locks: Mapping[int, Lock] = MappingProxyType({}),
    ) -> Deferred[list[Member]]:
        """
        Add at most BATCH_MAX members to a FILLING bundle; return those that were taken.

        A member is left out when its version is deleted or not PENDING. A version whose uid is in ``last_extents``
        gets all its extents with this call (or had the others before, in this or earlier bundles) and becomes CLAIMED.
        It is left out as well when its extent is in another bundle. Positions must ascend beyond those of the bundle;
        those left out leave gaps. Repeating a member that is there already returns it unchanged.

        ``locks`` has, by uid, what the tape is to say of locks: it is fixed with the first extent of a version.

        Fails with ``Conflict`` when the bundle is not FILLING, a position does not continue it, or a version of
        ``last_extents`` would have extents without a bundle.
        """

    def fix_offsets(bundle_id: str, offsets: Mapping[int, int]) -> Deferred[None]:
        """
        Record ``bundle_offset_bytes`` of at most BATCH_MAX positions of a FILLING bundle; harmless to repeat.

        Fails with ``Conflict`` when the bundle is not FILLING or has no such position.
        """

    def freeze_bundle(
        bundle_id: str, *, member_count: int, size_bytes: int, content_bytes: int
    ) -> Deferred[Bundle]:
        """
        FILLING to FROZEN: from now on the plan is fixed, and one PLANNED copy per pool exists.

        Fails with ``Conflict`` when the bundle is not FILLING, has another number of members, or one without offset.
        """

    def release_members(bundle_id: str) -> Deferred[bool]:
        """
        Give back at most BATCH_MAX claims of a FILLING bundle (its versions become PENDING again, deleted ones are
        discarded); true when none is left: the bundle is then VOID. Extents of one version in several bundles: all
        FILLING bundles that hold an extent of it must be released. Harmless to repeat.

        Fails with ``Conflict`` when the bundle is unknown, FROZEN or ARCHIVED.
        """

    def bundles(
        *, states: Collection[BundleState], settled: bool | None, after: str, limit: int
    ) -> Deferred[list[Bundle]]:
        """Return bundles by id that are in one of the states (and settled or not, None: either)."""

    def bundle(bundle_id: str) -> Deferred[Bundle | None]:
        """Return a bundle."""

    def members(bundle_id: str, *, after_position: int, limit: int) -> Deferred[list[MemberVersion]]:
        """Return members by position, beginning after ``after_position`` (-1: from the start), at most 1,000."""

    def extents(version_uid: int) -> Deferred[list[Member]]:
        """Return the extents of a version in order (of bundles that are not VOID)."""

    def copies(
        *, bundle_id: str | None = None, barcode: str | None = None, version_uid: int | None = None
    ) -> Deferred[list[Copy]]:
        """Return the copies of a bundle, on a cartridge, or of all bundles that hold a version: exactly one is given."""

    def unfinished_copies(limit: int) -> Deferred[list[Copy]]:
        """Return copies that are PLANNED, WRITING or SYNCED, by bundle id and pool."""

    def lost_copies(limit: int) -> Deferred[list[Copy]]:
        """Return copies that are LOST, by bundle id and pool: they are to be made anew from another one."""

    def start_copy(*, bundle_id: str, pool: str, barcode: str, epoch: int) -> Deferred[Copy]:
        """
        PLANNED or LOST to WRITING on a cartridge; where a lost one was is forgotten.

        Fails with ``Conflict`` when it is neither, or when the cartridge holds another copy of the same bundle that is
        not PLANNED.
        """

    def copy_synced(
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
        """
        WRITING to SYNCED. The first copy fixes the bundle's SHA-256 (until it fails with no other good one there);
        another one that differs fails with ``Conflict``, as does an ``epoch`` that is not the copy's, another state, or
        a size that is not the frozen one.
        """

    def copy_verified(*, bundle_id: str, pool: str, epoch: int, at: float) -> Deferred[Bundle]:
        """
        SYNCED to VERIFIED; the bundle becomes ARCHIVED in the same step when every copy is VERIFIED now.

        Fails with ``Conflict`` on another state or epoch.
        """

    def copy_failed(*, bundle_id: str, pool: str, reason: str) -> Deferred[Copy]:
        """
        WRITING or SYNCED back to PLANNED (of an ARCHIVED bundle: to LOST) without a cartridge, one failure more. Harmless
        on a PLANNED copy.

        Fails with ``Conflict`` on a VERIFIED or LOST one.
        """

    def resume_copy(*, bundle_id: str, pool: str, epoch: int) -> Deferred[Copy]:
        """Take over a SYNCED copy of an earlier epoch, to verify it. Fails with ``Conflict`` when it is not SYNCED."""

    def lose_copy(*, bundle_id: str, pool: str, reason: str) -> Deferred[Copy]:
        """
        VERIFIED to LOST: it could not be read. An ARCHIVED bundle stays so. Harmless on a LOST copy.

        While the bundle is FROZEN its members are still on disk, so the copy becomes PLANNED again, as upon a failure.
        Fails with ``Conflict`` on any other state.
        """

    def settle_members(bundle_id: str, *, after_position: int, at: float) -> Deferred[int | None]:
        """
        Look at the next at most BATCH_MAX members of an ARCHIVED bundle: versions of which every extent's bundle is
        ARCHIVED become ARCHIVED; deleted ones have their bytes discarded.

        Return the position to go on after, or None when the bundle was done: it is then ``is_settled``. Harmless to repeat.
        Fails with ``Conflict`` when the bundle is not ARCHIVED.
        """

    def unmanifested(barcode: str) -> Deferred[list[Bundle]]:
        """Return bundles with a SYNCED or VERIFIED copy on the cartridge that no proven session manifest names."""

    def mark_manifested(*, barcode: str, session_id: str, bundle_ids: Sequence[str]) -> Deferred[None]:
        """A session manifest naming at most BATCH_MAX bundles is proven on the cartridge. Harmless to repeat."""

    # ── what stays on disk ──────────────────────────────────────────────────────────────────────────────────────────

    def evictable(
        *, classes: Collection[StorageClass], archived_before: float, limit: int
    ) -> Deferred[list[ObjectVersion]]:
        """
        Return versions that are ARCHIVED, on disk, not deleted, not empty, without restore, of one of the classes and
        archived before that time; least recently archived or read first.
        """

    def evict_version(version_uid: int, *, revision: int) -> Deferred[None]:
        """
        Take an ARCHIVED version without restore off the disk; its pieces are discarded.

        Fails with ``Conflict`` when the version moved, is not ARCHIVED or has a restore.
        """

    # ── lifecycle ───────────────────────────────────────────────────────────────────────────────────────────────────

    def lifecycle_ranges(*, after: tuple[int, str], limit: int) -> Deferred[list[RangeProgress]]:
        """Return how far ranges were gone through, by bucket and id, beginning behind ``after`` ((0, ""): from the start)."""

    def change_lifecycle_ranges(
        bucket_uid: int, *, begun: Mapping[str, Subject], ended: Collection[str], counts_newer: bool
    ) -> Deferred[None]:
        """
        Begin at most BATCH_MAX ranges of a bucket, those that are there stay as they are, and end as many. Harmless to repeat.

        From now on the steps that make versions due otherwise than by time have them reviewed: those of a bucket with ranges that get a
        time that a range was gone through already, become current again, get other tags, or of whose key other versions go.

        :param counts_newer: of a bucket with rules that demand newer versions: also every one that something newer replaces
        """

    def advance_lifecycle_range(bucket_uid: int, range_id: str, *, through: Position) -> Deferred[None]:
        """
        A range was gone through up to a place, which may be before where it was; nothing happens when there is no such range any more.
        Harmless to repeat.
        """

    def watch_lifecycle_range(bucket_uid: int, range_id: str, *, until: float) -> Deferred[None]:
        """
        Have what comes in from now on with a time up to ``until`` be reviewed, as if the range had been gone through up to there: to be called
        before it is, or what comes in behind a page that was read would be passed over. Harmless to repeat.
        """

    def due_versions(
        bucket_uid: int,
        subject: Subject,
        scope: Scope,
        *,
        after: Position,
        until: float,
        newer_max: int,
        limit: int,
    ) -> Deferred[DuePage]:
        """
        Return versions of a bucket with times behind ``after`` and up to ``until``, by time and uid, that are of the subject and meet the
        scope, at most ``limit`` (up to 1,000). A page may have few or none and not be the last: cost is bounded, and follows how many
        have such a time, not how many there are.

        :param newer_max: up to where newer versions are counted
        """

    def due_uploads(bucket_uid: int, scope: Scope, *, until: float, limit: int) -> Deferred[Sequence[Upload]]:
        """Return uploads of a bucket that were begun by a time (of the scope the prefix counts), the oldest first."""

    def carry_out(
        bucket: str,
        acts: Sequence[Act],
        *,
        revision: int,
        at: float,
        owner_id: str,
        region: str,
        events: Collection[str],
    ) -> Deferred[list[Outcome]]:
        """
        Carry out at most ACTS_MAX acts on different versions of a bucket, and return what became of each. What was done is in the audit
        trail, and in the outbox if its event is among ``events``, with the same step. A version that is not as it was read is left as it
        is.

        What becomes of bytes and restores is as with ``delete_current``; a class changes only if every extent has a verified copy in each
        pool that the act names, no restore is there, and no bundle needs it that is not archived.

        :param revision: of the bucket's lifecycle configuration: fails with ``Conflict`` when it has another one now, or none
        :param owner_id: of delete markers

        Fails with ``NoSuchBucket``. After an unknown outcome look at the versions again.
        """

    def abort_due_upload(upload: Upload, *, revision: int, rule_id: str, at: float) -> Deferred[None]:
        """
        End an upload as ``abort_upload`` does, with a line in the audit trail.

        Fails with ``NoSuchBucket``, ``NoSuchUpload``, or ``Conflict`` as ``carry_out``.
        """

    def due_reviews(*, now: float, limit: int) -> Deferred[list[Review]]:
        """Return what is to be looked at by ``now``, longest due first, at most ``limit`` (up to 1,000)."""

    def noncurrent_of_key(version_uid: int, *, limit: int) -> Deferred[list[Candidate]]:
        """Return what is not current of the key of a version, newest first; nothing when that is not known any more."""

    def keep_reviews(*, done: Sequence[int], waiting: Sequence[Waiting]) -> Deferred[None]:
        """
        Forget at most BATCH_MAX reviews, and have half as many versions looked at later, each instead of an earlier wish of this kind.
        Harmless to repeat.
        """

    def reviews_waiting() -> Deferred[list[WaitingCount]]:
        """Count what is to be looked at, by bucket and reason; takes longer the more there is."""

    # ── restore ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def change_restore(
        version_uid: int, *, revision: int, restore: Restore | None, messages: Sequence[NewMessage]
    ) -> Deferred[ObjectVersion]:
        """
        Begin, extend, upgrade or (None) end a restore of a version that is not deleted, with its messages.

        Ending it discards pieces that an unfinished recall had brought; a version on disk stays on disk (the evictor
        decides). Fails with ``Conflict`` when the version moved, is deleted, or would be RESTORED without bytes on disk.
        """

    def wanted_extents(*, after: tuple[int, int], limit: int) -> Deferred[list[WantedExtent]]:
        """
        Return extents that ONGOING restores of versions not on disk still want, ordered by (version uid, extent) and
        beginning after that pair ((0, -1): from the start), at most 1,000.
        """

    def ongoing_restores(*, on_disk: bool, limit: int) -> Deferred[list[ObjectVersion]]:
        """Return versions with an ONGOING restore whose bytes are (or are not) on disk, oldest request first."""

    def add_recalled(version_uid: int, *, extent: int, layout_id: str, piece: Piece) -> Deferred[bool]:
        """
        Record that an extent's bytes are back (durable) as part of ``layout_id``, a new layout for this recall; the
        piece's ordinal is the extent's plus one. All extents of one recall use the layout that the first one named
        (``recall_layout`` tells it), whatever later ones name. The version's revision stays.

        Return true when the version still wants them; false when it does not (deleted, restore ended, extent there
        already): the piece was then recorded for discarding. Harmless to repeat with the same piece. A piece that is
        not the extent by length and CRC raises ``ValueError``: a bug of the caller.
        """

    def recall_layout(version_uid: int) -> Deferred[str | None]:
        """Return the layout of the recall under way, None when no extent came back yet."""

    def complete_recall(
        version_uid: int, *, revision: int, expires_at: float, messages: Sequence[NewMessage]
    ) -> Deferred[ObjectVersion]:
        """
        All extents are back (or the bytes never left): on disk, RESTORED, expiry set, messages written; one step.

        Fails with ``Conflict`` when the version moved, its restore is not ONGOING, or an extent is missing.
        """

    def expired_restores(*, now: float, limit: int) -> Deferred[list[ObjectVersion]]:
        """Return versions whose RESTORED promise ended at or before ``now``, earliest first."""

    # ── cartridges and drives ───────────────────────────────────────────────────────────────────────────────────────

    def cartridges() -> Deferred[list[Cartridge]]:
        """Return all cartridges by barcode."""

    def cartridge(barcode: str) -> Deferred[Cartridge | None]:
        """Return one cartridge."""

    def add_cartridges(cartridges: Sequence[Cartridge]) -> Deferred[None]:
        """Record at most BATCH_MAX cartridges that are new; known barcodes are left alone."""

    def record_cartridge(cartridge: Cartridge, *, audit: str) -> Deferred[Cartridge]:
        """
        Replace the record whose revision is the given one's; return it with the next revision. A non-empty ``audit``
        is written as what was done, by ``changed_by`` at ``changed_at``, for ``reason``. Fails with ``Conflict``.
        """

    def drives() -> Deferred[list[Drive]]:
        """Return all drives by index."""

    def record_drive(drive: Drive, *, audit: str) -> Deferred[None]:
        """Insert or replace a drive's record; audit as for cartridges."""

    def set_drive_state(
        *, index: int, state: DriveState, reason: str, at: float, by: str, host: str | None = None
    ) -> Deferred[Drive]:
        """
        Put a known drive up or down, audited; fails with ``Conflict`` when there is no such drive.

        :param host: the machine that has the drive from now on (``Host.text``); None: the one that has it
        """

    def take_drive(*, index: int, host: str) -> Deferred[None]:
        """Record which machine has a drive from now on (``Host.text``); fails with ``Conflict`` when there is no such drive."""

    # ── telling others ──────────────────────────────────────────────────────────────────────────────────────────────

    def due_messages(*, now: float, limit: int) -> Deferred[list[OutboxMessage]]:
        """
        Return messages whose next attempt is due, longest due first: a new message is due since it was made.

        Of the messages about one key only the oldest is among them, until it is delivered or given up: they leave in
        the order in which they were written.
        """

    def message_delivered(message_id: int) -> Deferred[None]:
        """Forget a delivered message; harmless to repeat."""

    def message_failed(message_id: int, *, error: str, next_attempt_at: float) -> Deferred[None]:
        """Count a failed attempt and put the next one off."""

    def message_dead(message_id: int, *, error: str, at: float) -> Deferred[None]:
        """Give a message up: it is kept as a dead letter and no longer due."""

    def raise_alert(
        *, kind: str, subject: str, severity: Severity, sentence: str, at: float
    ) -> Deferred[Alert]:
        """Open an alert, or count it once more and renew its sentence when (kind, subject) is open already."""

    def clear_alert(*, kind: str, subject: str, at: float) -> Deferred[None]:
        """Close an open alert; harmless when there is none."""

    def alerts(*, include_cleared: bool, limit: int) -> Deferred[list[Alert]]:
        """Return alerts, newest first."""

    def audit(*, at: float, who: str, what: str, subject: str, detail: str) -> Deferred[None]:
        """Write down who did what."""

    def audit_trail(*, before_id: int | None, limit: int) -> Deferred[list[AuditEvent]]:
        """Return the audit trail, newest first, older than ``before_id``."""


class AnotherAppliance(Exception):
    """
    Another process has what only one appliance can have.

    :ivar holder: who that is, as far as it is known: ``process 1234 on archive1 since 2026-11-29T11:32:35Z``
    """

    def __init__(self, what: str, holder: str) -> None:
        """:param what: what it has: ``the database coldstore on db1``"""
        super().__init__(f"{what} is in use by another appliance ({holder}); one library has one appliance")
        self.holder = holder


class SchemaTooNew(Exception):
    """The store was written by a newer ColdStore; this one must not touch it."""


class SchemaTooOld(Exception):
    """The store was written by an older ColdStore, and only an operator has it changed; says by which command."""


class RecordElsewhere(Exception):
    """The store is not the one that holds the record: it was moved away, or has not come whole; says what to do."""


__all__ = [
    "BATCH_MAX",
    "BYTES_MAX",
    "DELETED_KEYS_MAX",
    "DELETIONS_MAX",
    "KEYS_MAX",
    "AnotherAppliance",
    "ArchiveState",
    "Backlog",
    "Conflict",
    "CopyCount",
    "DiscardedPiece",
    "Epoch",
    "IMetadataStore",
    "MemberVersion",
    "RecordElsewhere",
    "SchemaTooNew",
    "SchemaTooOld",
    "StagingUse",
    "StepTooLarge",
    "StoreTotals",
    "WantedExtent",
    "WriteCondition",
]

"""
Buckets, users, object versions, multipart uploads and the pieces of disk that hold their bytes.

Of what every request makes anew these are named tuples: a frozen dataclass sets its fields one by one, in Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.locks import UNLOCKED, BucketLock, Lock
from coldstore.model.quotas import NO_QUOTAS, Quotas

Pairs = tuple[tuple[str, str], ...]
"""Names and values in a fixed order: equal things compare equal and hash."""


class StorageClass(StrEnum):
    """S3's storage classes that an object here can have (API enum ``StorageClass``)."""

    STANDARD = "STANDARD"
    REDUCED_REDUNDANCY = "REDUCED_REDUNDANCY"
    STANDARD_IA = "STANDARD_IA"
    ONEZONE_IA = "ONEZONE_IA"
    INTELLIGENT_TIERING = "INTELLIGENT_TIERING"
    GLACIER_IR = "GLACIER_IR"
    GLACIER = "GLACIER"
    DEEP_ARCHIVE = "DEEP_ARCHIVE"


class Tier(StrEnum):
    """How urgent a restore is (API enum ``Tier``)."""

    EXPEDITED = "Expedited"
    STANDARD = "Standard"
    BULK = "Bulk"


class Versioning(StrEnum):
    """
    Whether a bucket keeps what is overwritten and deleted (API enum ``BucketVersioningStatus``); once set it is never unset again.

    Enabled: every publication is a version with an id of its own. Suspended: like UNSET, each publication replaces the *null version*
    of its key, the one that was written while the bucket was not Enabled; the others stay.
    """

    UNSET = ""
    ENABLED = "Enabled"
    SUSPENDED = "Suspended"


NULL_VERSION_ID = "null"
"""The id of the one version of a key that was written while its bucket was not Enabled."""


NAMES_VERSION = "?versionId="
"""Stands in a version's name between the key and the version id, as in a copy's source."""


class ChecksumKind(StrEnum):
    """Of the whole object, or of the checksums of its parts (API enum ``ChecksumType``)."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


class Checksum(NamedTuple):
    """A checksum as S3 shows it: ``algorithm`` in S3's upper case, ``value`` in base64 (composite: with ``-N``)."""

    algorithm: str
    value: str
    kind: ChecksumKind = ChecksumKind.FULL_OBJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """
    Somebody who may have access keys (``model.keys``). ``user_id`` is the canonical id that S3 shows as owner.

    ``quotas`` are what the user may have. ``disabled_at``: since when no key of the user is accepted; None: they are.
    """

    user_id: str
    name: str
    created_at: float
    quotas: Quotas = NO_QUOTAS
    disabled_at: float | None = None


def _none_configured() -> Mapping[ConfigurationKind, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """
    A bucket; ``default_class`` is given to objects whose writer names no class. ``bucket_uid`` is never reused.

    ``quotas`` are what may be in it, ``restore_days_max`` the most days that a restore in it may be asked for; None: the default of
    the configuration. ``tags`` are sorted by name.
    ``configurations`` has the kinds of documents that it is configured by, each with a revision that no other document has had.
    ``object_lock`` is None where versions cannot be locked; in such a bucket versioning is Enabled, for good.
    """

    bucket_uid: int
    name: str
    owner_id: str
    region: str
    created_at: float
    default_class: StorageClass | None = None
    quotas: Quotas = NO_QUOTAS
    versioning: Versioning = Versioning.UNSET
    restore_days_max: int | None = None
    tags: Pairs = ()
    configurations: Mapping[ConfigurationKind, int] = field(default_factory=_none_configured, hash=False)
    object_lock: BucketLock | None = None


class Piece(NamedTuple):
    """
    One run of bytes in staging or cache, written once.

    ``address`` is the disk's own name for it and opaque to everybody else; ``ordinal`` is the part number (1 for a
    plain PUT) or, in a restored copy, the extent's ordinal plus one. ``etag`` and ``checksum`` are those of an
    uploaded part; what is said of them in ``VersionFacts`` holds for it too.
    """

    ordinal: int
    address: str
    length_bytes: int
    crc64nvme: int
    etag: str = ""
    checksum: Checksum | None = None
    created_at: float = 0.0


class ArchiveState(StrEnum):
    """How far a version is on its way to tape."""

    NOT_WANTED = "not-wanted"
    """Its class asks for no tape copy."""
    PENDING = "pending"
    """Waits to become a member of a bundle."""
    CLAIMED = "claimed"
    """Is a member of bundles of which not every copy is verified."""
    ARCHIVED = "archived"
    """Every copy of every bundle that holds it is verified."""


class RestorePhase(StrEnum):
    """Where a restore stands; S3 shows it as ``x-amz-restore``."""

    ONGOING = "ongoing"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """
    A promise made by RestoreObject: the bytes readable for ``days``.

    ``expires_at`` (unix seconds, midnight UTC) is known once ``phase`` is RESTORED.
    """

    phase: RestorePhase
    tier: Tier
    days: int
    requested_at: float
    expires_at: float | None = None
    requested_by: str = ""


TAGGING = "x-amz-tagging"
"""Among the stored headers: the tags that a writer gave, sorted by name, URL-encoded as that header field has them."""


class WrappedKey(NamedTuple):
    """
    The key of an object under a key of data.

    :ivar master_key: the id of that one
    :ivar text: what is encrypted under it (base64)
    """

    master_key: str
    text: str


class Encryption(NamedTuple):
    """
    How the bytes of an object are encrypted: with a key that its owner keeps (SSE-C), or with one of the appliance's (SSE-S3).

    ``algorithm`` is S3's name of it, ``wrapped_key`` (base64) the object's own key under the owner's, of which ``key_md5`` (base64) says
    which it was, or under the key of data whose id is ``master_key``; the other one of these two is empty. ``chunk_bytes`` is
    how much each chunk holds. ``size_bytes`` and ``part_sizes`` are those of the object as S3 shows it; of an upload they are not known
    yet. ``part_numbers`` has the numbers that its parts were uploaded with as text ("1-3,7"), empty where they are 1, 2, 3 and so
    on. ``sealed_etag`` is the ETag, encrypted (base64), where it is that of the bytes as S3 shows them: tapes have no other.
    """

    algorithm: str
    key_md5: str
    wrapped_key: str
    chunk_bytes: int
    size_bytes: int = 0
    part_sizes: str = ""
    part_numbers: str = ""
    master_key: str = ""
    sealed_etag: str = ""

    @property
    def is_by_server(self) -> bool:
        """Whether the appliance has the key, and no client brings one."""
        return bool(self.master_key)

    def bound_to(self, bucket: str, key: bytes) -> bytes:
        """
        Return what an object's key under a key of data is bound to: its layout, and where it is. What may have blanks is
        last, so no two objects look the same.
        """
        layout = (self.chunk_bytes, self.size_bytes, self.part_sizes or "-", self.part_numbers or "-")
        return " ".join(map(str, layout)).encode("ascii") + b" " + bucket.encode("utf-8") + b"/" + key


class VersionFacts(NamedTuple):
    """
    What a writer fixes when a version comes into being; but for ``storage_class`` it never changes, so bundles may rely on it
    (``ObjectVersion.archived_facts``).

    ``version_id`` is what the version is called where its bucket is Enabled, else it becomes ``NULL_VERSION_ID`` when it is
    published. ``headers`` are the stored system headers in lower case (``content-type`` and so on; ``TAGGING``), ``user_metadata`` the
    ``x-amz-meta-*`` without the prefix. ``part_sizes`` is run-length text of a multipart object ("5242880x3,17"),
    empty otherwise. ``crc64nvme`` covers all bytes of the object. These three are of the bytes as they are stored: those of
    an encrypted object are encrypted, and what S3 shows of it is ``content_bytes`` and ``content_part_sizes``; ``checksum`` is
    of the object as S3 shows it, and its value is encrypted as well.
    """

    bucket: str
    key: bytes
    version_id: str
    size_bytes: int
    etag: str
    storage_class: StorageClass
    headers: Pairs
    user_metadata: Pairs
    checksum: Checksum | None
    crc64nvme: int
    part_sizes: str
    created_at: float
    owner_id: str
    encryption: Encryption | None = None

    @property
    def content_bytes(self) -> int:
        """The size of the object as S3 shows it."""
        return self.size_bytes if self.encryption is None else self.encryption.size_bytes

    @property
    def content_part_sizes(self) -> str:
        """The sizes of its parts as S3 shows them, as run-length text; empty when it was not uploaded in parts."""
        return self.part_sizes if self.encryption is None else self.encryption.part_sizes


class ObjectVersion(NamedTuple):
    """
    One version of one key, as recorded.

    ``version_uid`` is ours, unique and never reused; ``sequence`` grows with every publication (clocks step, version
    ids repeat). ``layout_id`` names the list of pieces that hold its bytes while ``on_disk``. ``revision`` changes
    with every change of the row: steps that act on what was read compare it. ``deleted_at`` is set when the version
    was deleted or overwritten while a bundle still needs it.

    Of a key's versions the one with the greatest sequence is current; ``superseded_at`` says since when another is (None: it is
    current, or was when it was deleted). A *delete marker* (``is_marker``) has no bytes: while it is current, nothing is under its key.

    ``tags`` are those that it was given later, sorted by name; None as long as it has those of its writer, which are among its
    facts (``TAGGING``). So it is with ``acl``, the grants of its access control list as header fields have them (``x-amz-grant-read``
    and so on): ``()`` is a list that grants nobody anything; a version whose writer said nothing is its owner's alone. ``lock`` is what
    keeps it from being deleted. ``rewrapped`` is its key under a later key of data than that among its facts, which stays there: it is so
    on tape.

    ``archived_class`` is the class that bundles have of it where that is another one than it has now;
    ``transition_class`` the one to which it goes once it has the copies on tape that that class asks for, where its own asks for none.
    """

    version_uid: int
    sequence: int
    facts: VersionFacts
    layout_id: str
    on_disk: bool
    archive_state: ArchiveState
    archived_at: float | None
    restore: Restore | None
    last_read_at: float
    read_count: int
    deleted_at: float | None
    revision: int
    is_marker: bool = False
    superseded_at: float | None = None
    tags: Pairs | None = None
    lock: Lock = UNLOCKED
    acl: Pairs | None = None
    archived_class: StorageClass | None = None
    transition_class: StorageClass | None = None
    rewrapped: WrappedKey | None = None

    @property
    def wrapped_key(self) -> WrappedKey:
        """Its key under a key of data; of a version that is encrypted under one."""
        encryption = self.facts.encryption
        assert encryption is not None and encryption.is_by_server, "the appliance has the key"
        return self.rewrapped or WrappedKey(encryption.master_key, encryption.wrapped_key)

    @property
    def packing_class(self) -> StorageClass:
        """The class whose copies on tape it gets."""
        return self.transition_class or self.facts.storage_class

    @property
    def archived_facts(self) -> VersionFacts:
        """Its facts as bundles have them, which never changes."""
        return (
            self.facts
            if self.archived_class is None
            else self.facts._replace(storage_class=self.archived_class)
        )

    @property
    def name(self) -> str:
        """What people call it: bucket and key, with the version id where that is needed to tell it from others."""
        facts = self.facts
        is_alone = facts.version_id == NULL_VERSION_ID and self.superseded_at is None
        of_id = "" if is_alone else f"{NAMES_VERSION}{facts.version_id}"
        return f"{facts.bucket}/{facts.key.decode('utf-8', 'replace')}{of_id}"


ListedObject = tuple[bytes, float, str, int, str, str | None, str | None, str, str | None, float | None]
"""
What a listing shows of a current version: ``key``, ``created_at``, ``etag``, ``content_bytes``, ``storage_class``,
``checksum_algorithm``, ``checksum_kind``, ``owner_id``, ``restore_phase``, ``restore_expires_at``.

Classes, kinds and phases are the values of what they are in ``ObjectVersion``; times are unix seconds. A page has a thousand
of these: they stay as they come from the store, since an object made of each would take a third of the time of a listing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPage:
    """
    A page of a bucket: keys, and (with a delimiter) what keys have in common up to it.

    :ivar rows: what is shown itself, by key
    :ivar prefixes: the common prefixes, in order
    :ivar last: the last entry, a key or a common prefix, behind which the next page begins
    :ivar is_truncated: whether there is more behind it
    """

    rows: list[ListedObject]
    prefixes: list[bytes]
    last: bytes
    is_truncated: bool

    @property
    def entry_count(self) -> int:
        """How many entries it has."""
        return len(self.rows) + len(self.prefixes)


class ListedVersion(NamedTuple):
    """
    What a listing shows of a version.

    :ivar shown: as a listing of what is current shows it
    :ivar sequence: of two versions of a key the one with the greater sequence is newer
    """

    shown: ListedObject
    version_id: str
    sequence: int
    is_marker: bool
    is_latest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsPage:
    """
    A page of the versions in a bucket: by key, of each key the newest first.

    :ivar rows: what is shown itself
    :ivar prefixes: the common prefixes, in order
    :ivar last_key, last_version_id: the last entry, behind which the next page begins; of a common prefix without version id
    :ivar is_truncated: whether there is more behind it
    """

    rows: list[ListedVersion]
    prefixes: list[bytes]
    last_key: bytes
    last_version_id: str
    is_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """
    A multipart upload in progress; ``upload_id`` is also the layout that its parts will form.

    ``revision`` grows with every recorded part: a completion can tell whether the parts are still those it has read.
    ``encryption`` is that of all its parts, ``lock`` what its writer wants of the version that it becomes. ``owner_id`` is whose
    the object will be, ``initiator_id`` who began the upload (empty: the owner, or somebody who did not sign).
    """

    upload_id: str
    bucket: str
    key: bytes
    owner_id: str
    storage_class: StorageClass
    headers: Pairs
    user_metadata: Pairs
    checksum_algorithm: str
    checksum_kind: ChecksumKind | None
    created_at: float
    revision: int = 0
    encryption: Encryption | None = None
    lock: Lock = UNLOCKED
    initiator_id: str = ""

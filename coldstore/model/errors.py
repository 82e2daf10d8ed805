"""Refusals: what a caller asked for and cannot have. S3 has one answer for each (``coldstore.s3.errors``)."""

from collections.abc import Mapping


class ColdStoreError(Exception):
    """A refusal: the request is understood and cannot be fulfilled; nothing was changed."""


class NoSuchBucket(ColdStoreError):
    """No bucket has this name."""


class BucketExists(ColdStoreError):
    """Another user owns a bucket of this name."""


class BucketAlreadyOwned(ColdStoreError):
    """The caller owns a bucket of this name already."""


class BucketNotEmpty(ColdStoreError):
    """The bucket still holds object versions or delete markers."""


class NoSuchKey(ColdStoreError):
    """The bucket has no current object under this key."""


class ShowsDeleteMarker(NoSuchKey):
    """
    What is current under this key is a delete marker.

    :ivar version_id: of the marker
    """

    def __init__(self, bucket: str, version_id: str) -> None:
        super().__init__(bucket)
        self.version_id = version_id


class NoSuchVersion(ColdStoreError):
    """The key has no version of this id."""


class NoSuchUpload(ColdStoreError):
    """The multipart upload is unknown, completed or aborted."""


class PreconditionFailed(ColdStoreError):
    """A conditional write found another state than it demanded; says which condition."""


class InvalidBucketState(ColdStoreError):
    """The bucket's versioning and its object lock go together, and the two would not any more; says why."""


class BucketTakesNoLocks(ColdStoreError):
    """The bucket has no object lock, so nothing in it can be locked."""


class ObjectLocked(ColdStoreError):
    """
    Versions are under lock, and not even one of them was changed or deleted.

    :ivar reasons: what keeps each, by key and version id
    """

    def __init__(self, reasons: Mapping[tuple[bytes, str], str]) -> None:
        super().__init__("; ".join(f"version {of_id}: {reason}" for (_, of_id), reason in reasons.items()))
        self.reasons = dict(reasons)


class ObjectIsCold(ColdStoreError):
    """The bytes may not be read before a restore."""


class RestoreInProgress(ColdStoreError):
    """A recall of this object is under way already."""


class RestoreNotAllowed(ColdStoreError):
    """The object's class is not one that is restored."""


class StagingFull(ColdStoreError):
    """The disk cannot promise the bytes that were asked for."""


class ObjectDamaged(ColdStoreError):
    """The bytes do not match their recorded checksum and no other copy could be read."""


class DataKeyMissing(ColdStoreError):
    """
    A key of data is not to be had now; says to an operator which, and what to do.

    :ivar key_id: which; empty when there is none at all
    """

    def __init__(self, message: str, key_id: str) -> None:
        super().__init__(message)
        self.key_id = key_id


class MetadataUnavailable(ColdStoreError):
    """The metadata store cannot be reached now."""


class TakenOver(MetadataUnavailable):
    """Another appliance has begun a run on the metadata store: nothing of ours is recorded any more. Says which."""


class MetadataFull(MetadataUnavailable):
    """The metadata store has no room to record more; unlike otherwise it is certain that nothing was changed."""

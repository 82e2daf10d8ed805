"""What is said to who wants to read bytes that are not there to be read: how to have them restored, or to wait."""

from coldstore.model.errors import ObjectIsCold
from coldstore.model.objects import ObjectVersion, RestorePhase
from coldstore.plan.restore import check_readable
from coldstore.s3.errors import S3Error
from coldstore.s3.services import Services

LATER_SECONDS = 60


def require_bytes(services: Services, version: ObjectVersion, what: str) -> None:
    """
    Let a read of a version's bytes pass.

    :param what: cannot be done with an object of such a storage class, as S3 says it
    :raise S3Error: InvalidObjectState before a restore, ServiceUnavailable while the bytes are on their way to the disk
    """
    facts = version.facts
    try:
        check_readable(version, services.now(), needs_restore=services.needs_restore(facts.storage_class))
    except ObjectIsCold:
        raise S3Error(
            "InvalidObjectState",
            f"{what} storage class {facts.storage_class.value}: {_way_out(version)}",
            details={"StorageClass": facts.storage_class.value},
        ) from None
    if facts.size_bytes and not version.on_disk:
        raise S3Error(
            "ServiceUnavailable",
            "The bytes of this object are not on disk at the moment. Please try again later.",
            headers={"Retry-After": str(LATER_SECONDS)},
        )


def _way_out(version: ObjectVersion) -> str:
    restore = version.restore
    if restore is not None and restore.phase is RestorePhase.ONGOING:
        return "a restore is under way, and x-amz-restore on HEAD tells when it is through."
    return (
        "have it restored first (RestoreObject), as with "
        "aws s3api restore-object --bucket BUCKET --key KEY --restore-request Days=DAYS"
    )

"""What is told to notification targets: S3 event records (S3 user guide: event message structure) and our own."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote_plus

from coldstore.model.events import NewMessage
from coldstore.model.objects import ObjectVersion

LIFECYCLE_DELETED = "s3:LifecycleExpiration:Delete"
LIFECYCLE_MARKED = "s3:LifecycleExpiration:DeleteMarkerCreated"
LIFECYCLE_MOVED = "s3:LifecycleTransition"
LIFECYCLE_EVENTS = (LIFECYCLE_DELETED, LIFECYCLE_MARKED, LIFECYCLE_MOVED)
S3_SERVICE = "s3.amazonaws.com"
"""Stands for the requester and its address in events that no request caused."""


def iso_time(at: float) -> str:
    """Return unix seconds as S3 writes times in XML and JSON: UTC with milliseconds."""
    # Times have microseconds; half of one makes up for what binary fractions lack.
    milliseconds = int(at * 1000 + 0.0005)
    return _iso_second(milliseconds // 1000) + _ISO_ENDINGS[milliseconds % 1000]


def iso_times(times: Iterable[float]) -> list[str]:
    """Return what ``iso_time`` does of each: for the thousands of a listing."""
    milliseconds = [int(at * 1000 + 0.0005) for at in times]
    return [_iso_second(each // 1000) + _ISO_ENDINGS[each % 1000] for each in milliseconds]


_ISO_ENDINGS = tuple(f".{milliseconds:03d}Z" for milliseconds in range(1000))


@lru_cache(maxsize=1024)
def _iso_second(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}"


def restore_posted(
    version: ObjectVersion, *, at: float, region: str, requester: str, address: str, request_id: str
) -> NewMessage:
    """The event of an accepted restore request (``s3:ObjectRestore:Post``)."""
    record = _record(
        version,
        "ObjectRestore:Post",
        at=at,
        region=region,
        requester=requester,
        address=address,
        request_id=request_id,
    )
    return _message(version, "s3:ObjectRestore:Post", record, at=at)


def restore_completed(version: ObjectVersion, *, at: float, region: str, expires_at: float) -> NewMessage:
    """The event of a copy that became readable (``s3:ObjectRestore:Completed``)."""
    record = _record(version, "ObjectRestore:Completed", at=at, region=region)
    record["glacierEventData"] = {
        "restoreEventData": {
            "lifecycleRestorationExpiryTime": iso_time(expires_at),
            "lifecycleRestoreStorageClass": version.facts.storage_class.value,
        }
    }
    return _message(version, "s3:ObjectRestore:Completed", record, at=at)


def restore_ended(version: ObjectVersion, *, at: float, region: str) -> NewMessage:
    """The event of a copy whose time is over (``s3:ObjectRestore:Delete``)."""
    return _message(
        version,
        "s3:ObjectRestore:Delete",
        _record(version, "ObjectRestore:Delete", at=at, region=region, schema="2.3"),
        at=at,
    )


def restore_failed(version: ObjectVersion, *, at: float, region: str, reason: str) -> NewMessage:
    """Our own event: no copy could be read (``coldstore:Restore:Failed``); S3 has none for this."""
    record = _record(version, "Restore:Failed", at=at, region=region)
    record["eventSource"] = "coldstore"
    record["coldstoreEventData"] = {"reason": reason}
    return _message(version, "coldstore:Restore:Failed", record, at=at)


def lifecycle_acted(version: ObjectVersion, event: str, *, at: float, region: str) -> NewMessage:
    """
    One of ``LIFECYCLE_EVENTS``, of a rule that was carried out.

    :param version: what was deleted, the delete marker that was put, or what moved, with its new class
    """
    record = _record(version, event.removeprefix("s3:"), at=at, region=region, schema="2.3")
    if event == LIFECYCLE_MOVED:
        record["lifecycleEventData"] = {
            "transitionEventData": {"destinationStorageClass": version.facts.storage_class.value}
        }
    return _message(version, event, record, at=at)


def _message(version: ObjectVersion, event: str, record: dict[str, object], *, at: float) -> NewMessage:
    return NewMessage(
        event=event,
        bucket=version.facts.bucket,
        key=version.facts.key,
        body=json.dumps({"Records": [record]}, separators=(",", ":")),
        created_at=at,
    )


def _record(
    version: ObjectVersion,
    name: str,
    *,
    at: float,
    region: str,
    requester: str = S3_SERVICE,
    address: str = S3_SERVICE,
    request_id: str = "",
    schema: str = "2.1",
) -> dict[str, object]:
    facts = version.facts
    described: dict[str, object] = {
        "key": quote_plus(facts.key, safe="/"),
        "size": facts.content_bytes,
        "eTag": facts.etag,
        "sequencer": f"{version.sequence:016X}",
    }
    if facts.version_id != "null":
        described["versionId"] = facts.version_id
    return {
        "eventVersion": schema,
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": iso_time(at),
        "eventName": name,
        "userIdentity": {"principalId": requester},
        "requestParameters": {"sourceIPAddress": address},
        "responseElements": {"x-amz-request-id": request_id, "x-amz-id-2": request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "coldstore",
            "bucket": {
                "name": facts.bucket,
                "ownerIdentity": {"principalId": facts.owner_id},
                "arn": f"arn:aws:s3:::{facts.bucket}",
            },
            "object": described,
        },
    }

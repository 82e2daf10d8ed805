"""RestoreObject: a promise that cold bytes become readable for some days."""

from dataclasses import dataclass

from coldstore.interfaces.metadata import Conflict
from coldstore.model.errors import RestoreInProgress
from coldstore.model.objects import Bucket, ObjectVersion, Restore, Tier
from coldstore.model.quotas import Use
from coldstore.plan.messages import restore_completed, restore_posted
from coldstore.plan.restore import BeginRestore, ExtendRestore, expiry, plan_restore
from coldstore.s3.answers import Answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.services import Services
from coldstore.s3.xml import Element, MalformedDocument, read_document

RESTORE_TRIES = 8
"""How often a request is decided anew because the version moved meanwhile."""
SELECT_ELEMENTS = ("SelectParameters", "OutputLocation")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """What a client asks for. ``days`` is None when it says nothing."""

    days: int | None
    tier: Tier


def parse_restore(document: bytes) -> RestoreRequest:
    """
    Read a RestoreRequest.

    A ``Tier`` beside ``Days`` is taken for the one in ``GlacierJobParameters``: some clients write it there.

    :raise S3Error: NotImplemented for select jobs
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "RestoreRequest")
    if root.one("Type") is not None:
        raise S3Error("NotImplemented", "ColdStore does not implement this part of S3: select jobs")
    for name in SELECT_ELEMENTS:
        if root.one(name) is not None:
            raise MalformedDocument(f"{name} is for select jobs only")
    return RestoreRequest(days=_days(root), tier=_tier(root))


def _days(root: Element) -> int | None:
    text = root.text_of("Days")
    if text is None:
        return None
    text = text.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise MalformedDocument(f"Days is {shown(text)}, and no number")
    return int(text)


def _tier(root: Element) -> Tier:
    parameters = root.one("GlacierJobParameters")
    text = root.text_of("Tier") if parameters is None else parameters.text_of("Tier")
    if text is None:
        if parameters is not None:
            raise MalformedDocument("GlacierJobParameters has no Tier")
        return Tier.STANDARD
    try:
        return Tier(text.strip())
    except ValueError:
        raise MalformedDocument(f"Tier is {shown(text)}, and none of Expedited, Standard and Bulk") from None


class RestoreOperations:
    """The operation of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def restore_object(self, call: Call) -> Answer:
        """
        RestoreObject: 202 when a recall begins or becomes more urgent, 200 when a readable copy gets another expiry.

        When it is answered, HEAD shows it.
        """
        services = self._services
        bucket = await services.bucket(call)
        if call.body.length_bytes == 0:
            raise S3Error(
                "MissingRequestBodyError", "Request body is empty: a RestoreRequest with Days is needed."
            )
        asked = parse_restore(await services.document(call, bucket))
        for _ in range(RESTORE_TRIES):
            version = await services.version(bucket.name, call.object_key, call.version_id)
            try:
                return await self._decide(call, bucket, version, asked)
            except Conflict:
                continue
        raise S3Error("OperationAborted")

    async def _decide(
        self, call: Call, bucket: Bucket, version: ObjectVersion, asked: RestoreRequest
    ) -> Answer:
        services, now = self._services, self._services.now()
        rule = services.rules.get(version.facts.storage_class)
        if rule is None or not rule.needs_restore:
            raise S3Error(
                "InvalidObjectState",
                f"Restore is not allowed for the object's current storage class: {version.facts.storage_class.value} "
                "can be read at once.",
                details={"StorageClass": version.facts.storage_class.value},
            )
        days = _checked_days(asked.days, services.days_max, bucket)
        if asked.tier is Tier.EXPEDITED and not rule.allows_expedited:
            raise S3Error(
                "InvalidArgument",
                f"Retrieval option is not supported by this storage class: {asked.tier.value} by "
                f"{version.facts.storage_class.value}; there are Standard and Bulk.",
                details={"ArgumentName": "Tier", "ArgumentValue": asked.tier.value},
            )
        try:
            decision = plan_restore(
                now,
                version,
                days=days,
                tier=asked.tier,
                requested_by=call.caller.user_id or call.caller.name,
                needs_restore=True,
                day_seconds=services.day_seconds,
            )
        except RestoreInProgress:
            raise _in_progress(version.restore) from None
        is_new = not isinstance(decision, ExtendRestore)
        posted = restore_posted(
            version,
            at=now,
            region=services.region,
            requester=call.caller.user_id or call.caller.name,
            address=call.remote_address,
            request_id=call.request_id,
        )
        promised_bytes = version.facts.size_bytes if isinstance(decision, BeginRestore) else 0
        payer = await services.payer(call, version.facts.owner_id)
        with (
            await services.reservations.reserve(
                caller=payer, bucket=bucket, wanted=Use(restores=promised_bytes)
            ),
            await services.admission.admit_restore(
                caller=payer,
                bucket=bucket,
                size_bytes=0 if version.on_disk else promised_bytes,
                storage_class=version.facts.storage_class,
            ),
        ):
            changed = await services.store.change_restore(
                version.version_uid,
                revision=version.revision,
                restore=decision.restore,
                messages=[posted] if is_new else [],
            )
        if isinstance(decision, BeginRestore) and (changed.on_disk or changed.facts.size_bytes == 0):
            await self._complete(changed)
        if is_new:
            services.recall_bell.ring()
            services.messages_bell.ring()
        return Answer(status=202 if is_new else 200)

    async def _complete(self, version: ObjectVersion) -> None:
        """End a restore whose bytes never left the disk."""
        services, now = self._services, self._services.now()
        assert version.restore is not None
        expires_at = expiry(now, version.restore.days, day_seconds=services.day_seconds)
        try:
            await services.store.complete_recall(
                version.version_uid,
                revision=version.revision,
                expires_at=expires_at,
                messages=[restore_completed(version, at=now, region=services.region, expires_at=expires_at)],
            )
        except Conflict:
            return  # the version moved; whoever watches over restores whose bytes are on disk completes it


def _in_progress(current: Restore | None) -> S3Error:
    assert current is not None, "a restore is in progress"
    return S3Error(
        "RestoreAlreadyInProgress",
        f"Object restore is already in progress: of tier {current.tier.value}, for {current.days} days. "
        "Meanwhile only a faster tier can be asked for, with the same days.",
    )


def _checked_days(days: int | None, days_max: int, bucket: Bucket) -> int:
    """Return the days that are asked for, as long as neither the bucket's limit nor that of all is exceeded."""
    if days is None:
        raise MalformedDocument("a RestoreRequest for this storage class needs Days")
    own = bucket.restore_days_max
    is_own = own is not None and own < days_max
    most = own if own is not None and is_own else days_max
    if not 1 <= days <= most:
        raise S3Error(
            "InvalidArgument",
            f"Days must be between 1 and {most}" + (f", the limit of bucket {bucket.name}" if is_own else ""),
            details={"ArgumentName": "Days", "ArgumentValue": str(days)},
        )
    return days

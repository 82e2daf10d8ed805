"""Operations on single objects and on sets of them: PutObject, HeadObject, GetObject, DeleteObject, DeleteObjects."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.task import deferLater

from coldstore.interfaces.metadata import DELETED_KEYS_MAX, DELETIONS_MAX, Conflict, WriteCondition
from coldstore.interfaces.staging import BytesDamaged, DiskFault
from coldstore.model.errors import (
    ColdStoreError,
    ObjectDamaged,
    ObjectLocked,
    PreconditionFailed,
)
from coldstore.model.objects import (
    ArchiveState,
    Bucket,
    Checksum,
    Encryption,
    ObjectVersion,
    Piece,
    VersionFacts,
    Versioning,
)
from coldstore.s3.absent import marker_headers
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.attributes import part_checksums
from coldstore.s3.call import Call
from coldstore.s3.cold import require_bytes
from coldstore.s3.conditions import (
    UNCONDITIONAL,
    check_read,
    delete_condition,
    matches_validator,
    precondition_failed,
    read_conditions,
    unquoted,
    write_condition,
)
from coldstore.s3.encryption import ObjectKey, Sealing, encryption_headers, shown_checksum
from coldstore.s3.encryption_reading import opened_at_hand, opened_run
from coldstore.s3.errors import S3Error, s3_error
from coldstore.s3.integrity import checksum_headers
from coldstore.s3.locking import bypasses, check_written, readable_lock, who
from coldstore.s3.locks import locked, shown_lock, wants_bypass
from coldstore.s3.paths import KEY_LIMIT_BYTES, key_too_long
from coldstore.s3.pieces import PinnedRun, Run, Segment, at_hand, segments_of
from coldstore.s3.ranges import ByteRange, header_range, part_range
from coldstore.s3.receiving import Arrived, check_size, receive
from coldstore.s3.sending import RunStream
from coldstore.s3.services import Services, check_version_id, made_header, version_header
from coldstore.s3.stored import (
    Description,
    description,
    http_date,
    overridden,
    quoted,
    restore_header,
    shown_headers,
)
from coldstore.s3.tags import tagging_count
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

DELETE_MAX = 1000
DELETE_DOCUMENT_MAX_BYTES = 8 * 1024 * 1024
"""A thousand keys of 1,024 bytes, every one of them escaped."""
JUDGED_IN_A_TURN = 20
"""Keys that are judged by policies before others get a turn of the reactor: of a large policy each takes milliseconds."""
MOVED_TRIES = 3
"""How often a version is read again whose pieces were taken away while they were being looked up."""


class ObjectOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def put_object(self, call: Call) -> Answer:
        """PutObject: everything that needs no body is checked before the body is asked for."""
        services = self._services
        if "partNumber" in call.query:
            raise S3Error(
                "InvalidArgument",
                "A part can only be uploaded to a multipart upload: uploadId is missing.",
                details={"ArgumentName": "uploadId", "ArgumentValue": ""},
            )
        bucket = await services.bucket(call)
        owned = await services.acl_giving.of_new(call, bucket)
        described = description(call.headers, bucket, services.rules, owned, now=services.now())
        condition = write_condition(call.headers)
        sealing = await services.object_keys.of_writer(call, bucket)
        plan = call.body.object_plan()
        check_written(described, bucket, plan)
        content_bytes = check_size(call.body)
        await services.check_write(bucket.name, call.object_key, condition)
        with (
            await services.reserve_version(call, bucket, described.owner_id, content_bytes=content_bytes),
            await services.admission.admit(
                caller=await services.payer(call, described.owner_id),
                bucket=bucket,
                size_bytes=content_bytes if sealing is None else sealing.stored_bytes(content_bytes),
                storage_class=described.storage_class,
            ) as admitted,
        ):
            arrived = await receive(services.staging, call.body, plan, admitted, sealing)
            version = await publish(services, call, bucket, described, arrived, condition, sealing)
        return Answer(
            headers={
                "ETag": quoted(version.facts.etag),
                **checksum_headers(arrived.checksum),
                **made_header(version),
                **encryption_headers(version.facts.encryption),
                **await services.expiration(bucket, version),
            }
        )

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def head_object(self, call: Call) -> Answer:
        """HeadObject: answers for cold objects as for others."""
        bucket = await self._services.bucket(call)
        version = await self._services.version(bucket.name, call.object_key, call.version_id)
        await self._services.authority.require_version(call, bucket, version)
        key = self._services.object_keys.of_reader(call, version, needs_key=_wants_checksum(call))
        _check_conditions(call, version)
        headers = await self._headers(call, bucket, version, _wanted_range(call, version), key)
        return Answer(status=_status(headers), headers=headers)

    async def get_object(self, call: Call) -> Answer:
        """GetObject."""
        bucket = await self._services.bucket(call)
        for _ in range(MOVED_TRIES):
            version, piece = await self._services.content(bucket.name, call.object_key, call.version_id)
            await self._services.authority.require_version(call, bucket, version)
            key = self._services.object_keys.of_reader(call, version)
            _check_conditions(call, version)
            require_bytes(self._services, version, "The operation is not valid for the object's")
            wanted = _wanted_range(call, version)
            try:
                return await self._got(call, bucket, version, piece, wanted, key)
            except DiskFault as error:
                fault = error
                now = await self._services.version(bucket.name, call.object_key, call.version_id)
                if now == version:
                    raise
        raise fault

    async def _got(
        self,
        call: Call,
        bucket: Bucket,
        version: ObjectVersion,
        piece: Piece | None,
        wanted: ByteRange | None,
        key: ObjectKey | None,
    ) -> Answer:
        services = self._services
        whole = ByteRange(offset_bytes=0, length_bytes=version.facts.content_bytes)
        sent = whole if wanted is None else wanted
        headers = await self._headers(call, bucket, version, wanted, key)
        status = _status(headers)
        if sent.length_bytes == 0:
            services.reads.note(version.version_uid)
            return Answer(status=status, headers=headers)
        content = await self._content(version, piece, sent, key)
        if isinstance(content, bytes):
            services.reads.note(version.version_uid)
            return Answer(status=status, headers=headers, body=content)
        stream = RunStream(
            content,
            clock=services.clock,
            pace=services.pace,
            on_damage=lambda error: services.damaged(version, error),
        )
        try:
            await stream.prepare()
        except BytesDamaged:
            raise ObjectDamaged from None
        services.reads.note(version.version_uid)
        return Answer(status=status, headers=headers, stream=stream)

    async def _content(
        self, version: ObjectVersion, piece: Piece | None, sent: ByteRange, key: ObjectKey | None
    ) -> bytes | Run:
        """Return bytes of a version, as S3 shows them: at once, or as what has them read."""
        services, begin, length_bytes = self._services, sent.offset_bytes, sent.length_bytes
        staging = services.staging
        if key is None:
            if piece is not None:
                segments = [Segment(piece, begin, length_bytes)]
            else:
                segments = await segments_of(services.store, version, begin, length_bytes)
            content = at_hand(staging, segments)
            return PinnedRun(staging, segments) if content is None else content
        try:
            opened = opened_at_hand(
                staging, version, piece, key, offset_bytes=begin, length_bytes=length_bytes
            )
        except BytesDamaged as error:
            await services.damaged(version, error)
            raise ObjectDamaged from None
        if opened is not None:
            return opened
        return await opened_run(
            services.store,
            staging,
            version,
            key,
            offset_bytes=begin,
            length_bytes=length_bytes,
            in_thread=services.object_keys.in_thread,
            piece=piece,
        )

    async def _headers(
        self,
        call: Call,
        bucket: Bucket,
        version: ObjectVersion,
        wanted: ByteRange | None,
        key: ObjectKey | None,
    ) -> dict[str, str]:
        facts = version.facts
        length_bytes = facts.content_bytes if wanted is None else wanted.length_bytes
        headers = {
            **shown_headers(facts),
            **version_header(bucket, version, asked=call.version_id),
            **encryption_headers(facts.encryption),
            **restore_header(version, self._services.now()),
            **await self._services.expiration(bucket, version),
            **shown_lock(await readable_lock(self._services, call, bucket, version)),
            **await self._tag_count(call, bucket, version),
            **await self._copies(version),
            "Content-Length": str(length_bytes),
            **_overridden(call),
        }
        if wanted is not None:
            if length_bytes:
                headers["Content-Range"] = wanted.content_range(facts.content_bytes)
            if wanted.parts_count is not None:
                headers["x-amz-mp-parts-count"] = str(wanted.parts_count)
        if _wants_checksum(call):
            checksum = await self._checksum(version, wanted, key)
            if checksum is not None:
                headers |= checksum_headers(checksum)
        return headers

    async def _tag_count(self, call: Call, bucket: Bucket, version: ObjectVersion) -> Mapping[str, str]:
        """Return how many tags a version has, to who may read them (S3 API Reference, HeadObject)."""
        count = tagging_count(version)
        if not count or await self._services.authority.may_read_tags(call, bucket):
            return count
        return {}

    async def _checksum(
        self, version: ObjectVersion, wanted: ByteRange | None, key: ObjectKey | None
    ) -> Checksum | None:
        """Return the checksum of what is read, where one is known: of the whole object, or of a part that is asked for by number."""
        facts = version.facts
        if wanted is not None and wanted.part_number is not None:
            known = await part_checksums(self._store, version, key, after=wanted.part_number - 1, limit=1)
            return next(iter(known), None)
        is_whole = wanted is None or wanted.length_bytes == facts.content_bytes
        return shown_checksum(facts, key) if is_whole else None

    async def _copies(self, version: ObjectVersion) -> Mapping[str, str]:
        rule = self._services.rules.get(version.facts.storage_class)
        wanted = 0 if rule is None else len(rule.pools)
        if not wanted:
            return {}
        if version.archive_state is ArchiveState.PENDING:
            return {"x-coldstore-copies": f"0/{wanted}"}
        count = await self._store.copy_count(version.version_uid, wanted=wanted)
        return {"x-coldstore-copies": f"{count.verified}/{count.wanted}"} if count.wanted else {}

    # ── deleting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def delete_object(self, call: Call) -> Answer:
        """DeleteObject: succeeds whether or not something is under the key, and says what became of it where versions are kept."""
        bucket = await self._services.bucket(call)
        check_version_id(call.version_id)
        wanted = WantedDeletion(
            key=call.object_key, version_id=call.version_id, if_match=delete_condition(call.headers)
        )
        try:
            bypass = await bypasses(self._services, call, bucket, wanted.key, wanted.version_id)
            (done,) = await self._delete(call, bucket, [wanted], bypass=bypass)
        except ObjectLocked as error:
            raise wanted.locked(error) from None
        headers = {} if call.version_id is None else {"x-amz-version-id": call.version_id}
        if done is not None and done.is_marker:
            headers |= marker_headers(done.facts.version_id)
        return Answer(status=204, headers=headers)

    async def delete_objects(self, call: Call) -> Answer:
        """DeleteObjects: every key for itself; what fails is named and hinders no other."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(
            call, bucket, DELETE_DOCUMENT_MAX_BYTES, requires_digest=True
        )
        wanted, is_quiet = parse_delete(document)
        authority = self._services.authority
        is_free = authority.is_free(call.caller, bucket)
        refused: dict[int, S3Error] = {}
        possible: list[tuple[int, WantedDeletion]] = []
        for index, item in enumerate(wanted):
            try:
                item.check()
                if not is_free:
                    if index % JUDGED_IN_A_TURN == 0:
                        await deferLater(self._services.clock, 0)
                    await authority.require_deletion(call, bucket, item.key, item.version_id)
                    await bypasses(self._services, call, bucket, item.key, item.version_id)
                possible.append((index, item))
            except S3Error as error:
                refused[index] = error
        if not is_free:
            # To judge many keys takes time, and is of no worth for another bucket of the name.
            bucket = await self._services.still(bucket)
        done: dict[int, ObjectVersion | None] = {}
        # Who may not was refused above.
        bypass = wants_bypass(call.headers)
        left = deque(batches(possible, keeps_versions=bucket.versioning is not Versioning.UNSET))
        while left:
            batch = left.popleft()
            indexes, items = zip(*batch, strict=True)
            try:
                done |= zip(indexes, await self._delete(call, bucket, items, bypass=bypass), strict=True)
            except PreconditionFailed as error:
                refused |= dict.fromkeys(indexes, s3_error(error))
            except ObjectLocked as error:
                # None of them is gone: those that may go once more.
                locked_ones = {index: item.locked(error) for index, item in batch if item.reason(error)}
                assert locked_ones, error
                refused |= locked_ones
                free = [pair for pair in batch if pair[0] not in locked_ones]
                if free:
                    left.appendleft(free)
        nodes: list[Node] = []
        for index, item in enumerate(wanted):
            if index in refused:
                nodes.append(item.error_node(refused[index]))
            elif not is_quiet:
                nodes.append(item.deleted_node(done[index]))
        return xml_answer(node("DeleteResult", *nodes))

    async def _delete(
        self, call: Call, bucket: Bucket, wanted: Sequence["WantedDeletion"], *, bypass: bool
    ) -> list[ObjectVersion | None]:
        """
        Carry out deletions that go together; return for each what is gone, or the delete marker that was put there.

        :param bypass: whether retentions of mode GOVERNANCE are bypassed
        :raise PreconditionFailed: the only one has a condition that does not hold
        :raise ObjectLocked: what some of them name is under lock
        """
        for _ in range(MOVED_TRIES):
            try:
                found: list[ObjectVersion | None] = []
                keeps_versions = bucket.versioning is not Versioning.UNSET
                for batch in batches(list(enumerate(wanted)), keeps_versions=keeps_versions):
                    found += await self._delete_batch(
                        call, bucket, [item for _, item in batch], bypass=bypass
                    )
            except Conflict:
                # Since the bucket was looked up it began to keep versions.
                bucket = await self._services.still(bucket)
            else:
                if any(found):
                    self._services.janitor_bell.ring()
                return found
        raise S3Error("OperationAborted")  # the bucket was changed again and again meanwhile

    async def _delete_batch(
        self, call: Call, bucket: Bucket, wanted: Sequence["WantedDeletion"], *, bypass: bool
    ) -> list[ObjectVersion | None]:
        services, if_match = self._services, wanted[0].if_match
        if wanted[0].version_id is not None:
            pairs = [(item.key, item.version_id or "") for item in wanted]
            gone = await self._store.delete_versions(
                bucket.name, pairs, at=services.now(), if_match=if_match, bypass=bypass, who=who(call)
            )
            by_id = {(version.facts.key, version.facts.version_id): version for version in gone}
            return [by_id.get(pair) for pair in pairs]
        keys = [item.key for item in wanted]
        keeps_versions = bucket.versioning is not Versioning.UNSET
        told = await self._store.delete_current(
            bucket.name,
            keys,
            at=services.now(),
            messages={},
            if_match=if_match,
            owner_id=await services.acl_giving.owner_of_marker(call, bucket),
            marker_ids=[services.new_version_id() for _ in keys] if keeps_versions else (),
        )
        by_key = {version.facts.key: version for version in told}
        return [by_key.get(key) for key in keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDeletion:
    """One entry of a DeleteObjects document. ``unknown_condition`` names an element that only directory buckets know."""

    key: bytes
    version_id: str | None
    if_match: str | None
    unknown_condition: str | None = None

    def check(self) -> None:
        """
        Let an entry pass that can be tried.

        :raise S3Error: KeyTooLongError, InvalidArgument, NotImplemented
        """
        if len(self.key) > KEY_LIMIT_BYTES:
            raise key_too_long(self.key)
        check_version_id(self.version_id)
        if self.unknown_condition is not None:
            raise S3Error(
                "NotImplemented", f"ColdStore does not implement this condition: {self.unknown_condition}"
            )

    def goes_with(self, other: "WantedDeletion") -> bool:
        """Whether one step can carry out both."""
        is_free = self.if_match is None and other.if_match is None
        return is_free and (self.version_id is None) == (other.version_id is None)

    def reason(self, error: ObjectLocked) -> str | None:
        """Return what keeps the version that this means; None when nothing does."""
        return next(
            (
                reason
                for (key, version_id), reason in error.reasons.items()
                if key == self.key and self.version_id in (None, version_id)
            ),
            None,
        )

    def locked(self, error: ObjectLocked) -> S3Error:
        """Return the refusal to delete it."""
        return locked(self.reason(error) or str(error))

    def deleted_node(self, done: ObjectVersion | None) -> Node:
        """
        Return the element that says that the key, or the version, is gone.

        :param done: what is gone, or the delete marker that was put there
        """
        is_marker = done is not None and done.is_marker
        return node(
            "Deleted",
            node("Key", self.key.decode("utf-8")),
            self._version_node(),
            node("DeleteMarker", True) if is_marker else None,
            node("DeleteMarkerVersionId", done.facts.version_id) if done is not None and is_marker else None,
        )

    def error_node(self, error: S3Error) -> Node:
        """Return the element that says why it is not."""
        return node(
            "Error",
            node("Key", self.key.decode("utf-8")),
            self._version_node(),
            node("Code", error.code),
            node("Message", error.message),
        )

    def _version_node(self) -> Node | None:
        return None if self.version_id is None else node("VersionId", self.version_id)


def batches(
    wanted: Sequence[tuple[int, WantedDeletion]], *, keeps_versions: bool
) -> Iterator[list[tuple[int, WantedDeletion]]]:
    """Part numbered deletions into runs that one step can carry out, in their order."""
    batch: list[tuple[int, WantedDeletion]] = []
    for index, item in wanted:
        count_max = DELETIONS_MAX if keeps_versions or item.version_id is not None else DELETED_KEYS_MAX
        if batch and not (len(batch) < count_max and item.goes_with(batch[-1][1])):
            yield batch
            batch = []
        batch.append((index, item))
    if batch:
        yield batch


def parse_delete(document: bytes) -> tuple[list[WantedDeletion], bool]:
    """
    Read a DeleteObjects document: what to delete, and whether only failures shall be told.

    :raise MalformedDocument: for anything that is no such document, none or more than a thousand entries among it
    """
    root = read_document(document, "Delete", limit_bytes=DELETE_DOCUMENT_MAX_BYTES)
    entries = root.all("Object")
    if not 1 <= len(entries) <= DELETE_MAX:
        raise MalformedDocument(f"it lists {len(entries)} objects, and may have 1 to {DELETE_MAX}")
    quiet = (root.text_of("Quiet") or "false").strip().lower()
    if quiet not in ("true", "false"):
        raise MalformedDocument("Quiet is neither true nor false")
    return [_deletion(entry) for entry in entries], quiet == "true"


def _deletion(entry: Element) -> WantedDeletion:
    key = entry.text_of("Key")
    if not key:
        raise MalformedDocument("an Object has no Key")
    etag = entry.text_of("ETag")
    unknown = next((name for name in ("LastModifiedTime", "Size") if entry.one(name) is not None), None)
    return WantedDeletion(
        key=key.encode("utf-8"),
        version_id=entry.text_of("VersionId") or None,
        if_match=None if etag is None else unquoted(etag),
        unknown_condition=unknown,
    )


def _overridden(call: Call) -> dict[str, str]:
    """
    Return what a reader wants to be otherwise than it is kept: whoever he is, he has to have signed it (S3 API Reference, GetObject). Else everybody could
    write links to what is public that make a page of a text, in the name of this server.

    :raise S3Error: InvalidRequest, and as ``overridden``
    """
    fields = overridden(call.query)
    if fields and call.caller.is_anonymous:
        raise S3Error(
            "InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests."
        )
    return fields


def _status(headers: Mapping[str, str]) -> int:
    return 206 if "Content-Range" in headers else 200


def _wants_checksum(call: Call) -> bool:
    return (call.headers.get("x-amz-checksum-mode") or "").upper() == "ENABLED"


def _check_conditions(call: Call, version: ObjectVersion) -> None:
    """Let a read pass whose conditions hold."""
    facts, conditions = version.facts, read_conditions(call.headers)
    if conditions is UNCONDITIONAL:
        return
    check_read(
        conditions,
        etag=facts.etag,
        modified_at=facts.created_at,
        shown={"ETag": quoted(facts.etag), "Last-Modified": http_date(facts.created_at)},
    )


def _wanted_range(call: Call, version: ObjectVersion) -> ByteRange | None:
    facts = version.facts
    part, asked = call.query.one("partNumber"), call.headers.get("range")
    if part is not None:
        if asked is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return part_range(part, facts.content_part_sizes, facts.content_bytes)
    validator = call.headers.get("if-range")
    if validator is not None and not matches_validator(
        validator, etag=facts.etag, modified_at=facts.created_at
    ):
        return None
    return header_range(asked, facts.content_bytes)


def facts_of(
    services: Services,
    call: Call,
    described: Description,
    *,
    size_bytes: int,
    etag: str,
    checksum: Checksum | None,
    crc64nvme: int,
    part_sizes: str = "",
    encryption: Encryption | None = None,
) -> VersionFacts:
    """Return the facts of a version that comes into being now."""
    return VersionFacts(
        bucket=call.bucket_name,
        key=call.object_key,
        version_id=services.new_version_id(),
        size_bytes=size_bytes,
        etag=etag,
        storage_class=described.storage_class,
        headers=described.headers,
        user_metadata=described.user_metadata,
        checksum=checksum,
        crc64nvme=crc64nvme,
        part_sizes=part_sizes,
        created_at=services.now(),
        owner_id=described.owner_id,
        encryption=encryption,
    )


async def publish(
    services: Services,
    call: Call,
    bucket: Bucket,
    described: Description,
    arrived: Arrived,
    condition: WriteCondition | None,
    sealing: Sealing | None = None,
) -> ObjectVersion:
    """
    Make arrived bytes the current version of the call's key.

    :param bucket: that of the call, as its caller was found to be allowed to write to it.
    :param sealing: how the bytes were encrypted; None: not at all

    After a definite refusal they are freed; after an unknown outcome they are left alone, since they may well be the
    object's, and looked up later.

    :raise S3Error: PreconditionFailed
    :raise ColdStoreError: as ``IMetadataStore.publish_version``
    """
    facts = facts_of(
        services,
        call,
        described,
        size_bytes=arrived.length_bytes,
        etag=arrived.etag,
        checksum=arrived.checksum if sealing is None else sealing.sealed_checksum(arrived.checksum),
        crc64nvme=arrived.crc64nvme,
        encryption=None
        if sealing is None
        else sealing.recorded(
            call.bucket_name,
            call.object_key,
            sealing.encryption._replace(size_bytes=arrived.content_bytes),
            etag=arrived.etag,
        ),
    )
    wants_tape = services.wants_tape(described.storage_class)
    pieces = [arrived.piece(1, facts.created_at)] if arrived.length_bytes else []
    try:
        version = await services.store.publish_version(
            facts,
            layout_id=services.new_layout_id(),
            pieces=pieces,
            wants_tape=wants_tape,
            condition=condition,
            messages=[],
            bucket_uid=bucket.bucket_uid,
            lock=described.lock,
        )
    except ColdStoreError as error:
        await services.not_recorded([piece.address for piece in pieces], error)
        raise explained(error, condition) from None
    ring_after_publishing(services, wants_tape)
    return version


def explained(error: ColdStoreError, condition: WriteCondition | None) -> Exception:
    """Return a refusal to publish with the name of the condition that did not hold."""
    if isinstance(error, PreconditionFailed) and condition is not None:
        return precondition_failed("If-Match" if condition.if_none_match is None else "If-None-Match")
    return error


def ring_after_publishing(services: Services, wants_tape: bool) -> None:
    """Wake who works on new versions, and on the bytes of those they replaced."""
    if wants_tape:
        services.archive_bell.ring()
    services.janitor_bell.ring()

"""Operations on single objects and on sets of them: PutObject, HeadObject, GetObject, DeleteObject, DeleteObjects."""

from collections.abc import Mapping
from dataclasses import dataclass

from coldstore.interfaces.metadata import BATCH_MAX, WriteCondition
from coldstore.interfaces.staging import BytesDamaged, DiskFault
from coldstore.model.errors import (
    ColdStoreError,
    ObjectDamaged,
    ObjectIsCold,
    PreconditionFailed,
)
from coldstore.model.objects import ArchiveState, Bucket, Checksum, ObjectVersion, Piece, VersionFacts
from coldstore.plan.restore import check_readable
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.conditions import (
    check_read,
    delete_condition,
    matches_validator,
    precondition_failed,
    read_conditions,
    unquoted,
    write_condition,
)
from coldstore.s3.errors import S3Error, s3_error
from coldstore.s3.integrity import checksum_headers
from coldstore.s3.paths import KEY_LIMIT_BYTES
from coldstore.s3.pieces import PinnedRun, Segment, at_hand, segments_of
from coldstore.s3.ranges import ByteRange, header_range, part_range
from coldstore.s3.receiving import Arrived, check_size, receive
from coldstore.s3.sending import RunStream
from coldstore.s3.services import CURRENT_VERSION_ID, Services, check_version_id
from coldstore.s3.stored import (
    Description,
    description,
    http_date,
    overridden,
    quoted,
    restore_header,
    shown_headers,
)
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

DELETE_MAX = 1000
DELETE_DOCUMENT_MAX_BYTES = 8 * 1024 * 1024
"""A thousand keys of 1,024 bytes, every one of them escaped."""
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
        described = description(call.headers, bucket, services.rules)
        condition = write_condition(call.headers)
        plan = call.body.object_plan()
        size_bytes = check_size(call.body)
        await services.check_write(bucket.name, call.object_key, condition)
        with await services.admission.admit(
            caller=call.caller, bucket=bucket, size_bytes=size_bytes, storage_class=described.storage_class
        ) as admitted:
            arrived = await receive(services.staging, call.body, plan, admitted)
            version = await publish(services, call, bucket, described, arrived, condition)
        return Answer(headers={"ETag": quoted(version.facts.etag), **checksum_headers(arrived.checksum)})

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def head_object(self, call: Call) -> Answer:
        """HeadObject: answers for cold objects as for others."""
        bucket = await self._bucket(call)
        version = await self._services.current(bucket.name, call.object_key)
        _check_conditions(call, version)
        headers = await self._headers(call, version, _wanted_range(call, version))
        return Answer(status=_status(headers), headers=headers)

    async def get_object(self, call: Call) -> Answer:
        """GetObject."""
        bucket = await self._bucket(call)
        for _ in range(MOVED_TRIES):
            version, piece = await self._services.current_content(bucket.name, call.object_key)
            _check_conditions(call, version)
            self._check_readable(version)
            wanted = _wanted_range(call, version)
            try:
                return await self._got(call, version, piece, wanted)
            except DiskFault as error:
                fault = error
                if (await self._services.current(call.bucket_name, call.object_key)) == version:
                    raise
        raise fault

    async def _got(
        self, call: Call, version: ObjectVersion, piece: Piece | None, wanted: ByteRange | None
    ) -> Answer:
        services = self._services
        whole = ByteRange(offset_bytes=0, length_bytes=version.facts.size_bytes)
        sent = whole if wanted is None else wanted
        headers = await self._headers(call, version, wanted)
        status = _status(headers)
        if sent.length_bytes == 0:
            services.reads.note(version.version_uid)
            return Answer(status=status, headers=headers)
        if piece is not None:
            segments = [Segment(piece, sent.offset_bytes, sent.length_bytes)]
        else:
            segments = await segments_of(services.store, version, sent.offset_bytes, sent.length_bytes)
        content = at_hand(services.staging, segments)
        if content is not None:
            services.reads.note(version.version_uid)
            return Answer(status=status, headers=headers, body=content)
        stream = RunStream(
            PinnedRun(services.staging, segments),
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

    async def _bucket(self, call: Call) -> Bucket:
        """Return the bucket of a call that means the current version of a key."""
        bucket = await self._services.bucket(call)
        check_version_id(call.version_id)
        return bucket

    def _check_readable(self, version: ObjectVersion) -> None:
        services, facts = self._services, version.facts
        try:
            check_readable(version, services.now(), needs_restore=services.needs_restore(facts.storage_class))
        except ObjectIsCold:
            raise S3Error("InvalidObjectState", details={"StorageClass": facts.storage_class.value}) from None
        if facts.size_bytes and not version.on_disk:
            raise S3Error(
                "ServiceUnavailable",
                "The bytes of this object are not on disk at the moment. Please try again later.",
                headers={"Retry-After": "60"},
            )

    async def _headers(self, call: Call, version: ObjectVersion, wanted: ByteRange | None) -> dict[str, str]:
        facts = version.facts
        length_bytes = facts.size_bytes if wanted is None else wanted.length_bytes
        headers = {
            **shown_headers(facts),
            **restore_header(version, self._services.now()),
            **await self._copies(version),
            "Content-Length": str(length_bytes),
            **overridden(call.query),
        }
        if wanted is not None:
            if length_bytes:
                headers["Content-Range"] = wanted.content_range(facts.size_bytes)
            if wanted.parts_count is not None:
                headers["x-amz-mp-parts-count"] = str(wanted.parts_count)
        wants_checksum = (call.headers.get("x-amz-checksum-mode") or "").upper() == "ENABLED"
        if wants_checksum and facts.checksum is not None and length_bytes == facts.size_bytes:
            headers |= checksum_headers(facts.checksum)
        return headers

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
        """DeleteObject: succeeds whether or not something is under the key."""
        bucket = await self._services.bucket(call)
        check_version_id(call.version_id)
        await self._delete(bucket.name, [call.object_key], delete_condition(call.headers))
        return Answer(status=204)

    async def delete_objects(self, call: Call) -> Answer:
        """DeleteObjects: every key for itself; what fails is named and hinders no other."""
        bucket = await self._services.bucket(call)
        document = await call.body.read_document(DELETE_DOCUMENT_MAX_BYTES, requires_digest=True)
        wanted, is_quiet = parse_delete(document)
        refused: dict[int, S3Error] = {}
        plain: list[bytes] = []
        for index, item in enumerate(wanted):
            try:
                item.check()
                if item.if_match is None:
                    plain.append(item.key)
                else:
                    await self._delete(bucket.name, [item.key], item.if_match)
            except S3Error as error:
                refused[index] = error
            except PreconditionFailed as error:
                refused[index] = s3_error(error)
        for begin in range(0, len(plain), BATCH_MAX):
            await self._delete(bucket.name, plain[begin : begin + BATCH_MAX], None)
        nodes: list[Node] = []
        for index, item in enumerate(wanted):
            if index in refused:
                nodes.append(item.error_node(refused[index]))
            elif not is_quiet:
                nodes.append(item.deleted_node())
        return xml_answer(node("DeleteResult", *nodes))

    async def _delete(self, bucket: str, keys: list[bytes], if_match: str | None) -> None:
        gone = await self._store.delete_current(
            bucket, keys, at=self._services.now(), messages={}, if_match=if_match
        )
        if gone:
            self._services.janitor_bell.ring()


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

        :raise S3Error: KeyTooLongError, InvalidArgument, NoSuchVersion, NotImplemented
        """
        if len(self.key) > KEY_LIMIT_BYTES:
            raise S3Error("KeyTooLongError")
        check_version_id(self.version_id)
        if self.unknown_condition is not None:
            raise S3Error(
                "NotImplemented", f"ColdStore does not implement this condition: {self.unknown_condition}"
            )

    def deleted_node(self) -> Node:
        """Return the element that says that the key is gone."""
        return node("Deleted", node("Key", self.key.decode("utf-8")), self._version_node())

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


def parse_delete(document: bytes) -> tuple[list[WantedDeletion], bool]:
    """
    Read a DeleteObjects document: what to delete, and whether only failures shall be told.

    :raise S3Error: MalformedXML for none or more than a thousand entries
    :raise MalformedDocument: for anything else that is no such document
    """
    root = read_document(document, "Delete", limit_bytes=DELETE_DOCUMENT_MAX_BYTES)
    entries = root.all("Object")
    if not 1 <= len(entries) <= DELETE_MAX:
        raise S3Error("MalformedXML")
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


def _status(headers: Mapping[str, str]) -> int:
    return 206 if "Content-Range" in headers else 200


def _check_conditions(call: Call, version: ObjectVersion) -> None:
    """Let a read pass whose conditions hold."""
    facts = version.facts
    check_read(
        read_conditions(call.headers),
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
        return part_range(part, facts.part_sizes, facts.size_bytes)
    validator = call.headers.get("if-range")
    if validator is not None and not matches_validator(
        validator, etag=facts.etag, modified_at=facts.created_at
    ):
        return None
    return header_range(asked, facts.size_bytes)


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
) -> VersionFacts:
    """Return the facts of a version that comes into being now."""
    return VersionFacts(
        bucket=call.bucket_name,
        key=call.object_key,
        version_id=CURRENT_VERSION_ID,
        size_bytes=size_bytes,
        etag=etag,
        storage_class=described.storage_class,
        headers=described.headers,
        user_metadata=described.user_metadata,
        checksum=checksum,
        crc64nvme=crc64nvme,
        part_sizes=part_sizes,
        created_at=services.now(),
        owner_id=call.caller.user_id,
    )


async def publish(
    services: Services,
    call: Call,
    bucket: Bucket,
    described: Description,
    arrived: Arrived,
    condition: WriteCondition | None,
) -> ObjectVersion:
    """
    Make arrived bytes the current version of the call's key.

    :param bucket: that of the call, as its caller was found to be allowed to write to it.

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
        checksum=arrived.checksum,
        crc64nvme=arrived.crc64nvme,
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
        )
    except ColdStoreError as error:
        await services.not_recorded([piece.address for piece in pieces], error)
        raise explained(error, condition) from None
    ring_after_publishing(services, wants_tape)
    return version


def explained(error: ColdStoreError, condition: WriteCondition | None) -> Exception:
    """Return a refusal to publish with the name of the condition that did not hold."""
    if isinstance(error, PreconditionFailed) and condition is not None:
        return precondition_failed("If-None-Match" if condition.if_none_match else "If-Match")
    return error


def ring_after_publishing(services: Services, wants_tape: bool) -> None:
    """Wake who works on new versions, and on the bytes of those they replaced."""
    if wants_tape:
        services.archive_bell.ring()
    services.janitor_bell.ring()

"""Operations on multipart uploads; the rules of completing one are in ``multipart_plan``."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from coldstore.interfaces.metadata import Conflict, WriteCondition
from coldstore.model.errors import ColdStoreError, NoSuchUpload
from coldstore.model.locks import UNLOCKED
from coldstore.model.objects import Bucket, Checksum, ChecksumKind, ObjectVersion, Piece, Upload
from coldstore.model.precedence import Precedence
from coldstore.plan.listing import ListingPlan
from coldstore.plan.messages import iso_time
from coldstore.s3.admission import Admitted
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.attributes import checksum_nodes
from coldstore.s3.call import Call
from coldstore.s3.conditions import write_condition
from coldstore.s3.copying import CopySource
from coldstore.s3.encryption import Sealing, encryption_headers, shown_checksum
from coldstore.s3.encryption_pieces import plain_bytes
from coldstore.s3.errors import S3Error, s3_error, shown
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX
from coldstore.s3.integrity import checksum_headers, object_checksum
from coldstore.s3.lifecycle_headers import abort_headers
from coldstore.s3.listing import ListingRequest, bounded, prefix_nodes
from coldstore.s3.locking import check_written
from coldstore.s3.locks import missing_digest
from coldstore.s3.multipart_plan import (
    COMPLETE_DOCUMENT_MAX_BYTES,
    DEFAULT_ALGORITHM,
    Claims,
    ListedPart,
    checksum_choice,
    checksum_kind,
    crc64nvme_checksum,
    parse_complete,
    plan_completion,
)
from coldstore.s3.objects import explained, facts_of, ring_after_publishing
from coldstore.s3.owners import Owners, owners_of
from coldstore.s3.ranges import PART_NUMBER_MAX, copy_range, part_number
from coldstore.s3.receiving import SINGLE_PUT_MAX_BYTES, Arrived, check_size, receive
from coldstore.s3.services import Services, made_header
from coldstore.s3.stored import Description, description, quoted
from coldstore.s3.xml import MalformedDocument, Node, node

PARTS_PAGE = 1000
COMPLETE_TRIES = 5
"""How often completing starts again because parts came in meanwhile."""
_UPLOAD_ID = re.compile(r"[!-~]*")
"""Wider than what is given out, so that a client may mark the place behind all of a key's uploads."""


class MultipartOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def create(self, call: Call) -> Answer:
        """CreateMultipartUpload: class, headers, metadata and checksum are fixed here."""
        services = self._services
        bucket = await services.bucket(call)
        owned = await services.acl_giving.of_new(call, bucket)
        described = description(call.headers, bucket, services.rules, owned, now=services.now())
        check_written(described, bucket, None)
        algorithm, kind = checksum_choice(
            call.headers.get("x-amz-checksum-algorithm"), call.headers.get("x-amz-checksum-type")
        )
        sealing = await services.object_keys.of_writer(call, bucket)
        upload = Upload(
            upload_id=services.new_id(),
            bucket=bucket.name,
            key=call.object_key,
            owner_id=described.owner_id,
            initiator_id="" if described.owner_id == call.caller.user_id else call.caller.user_id,
            storage_class=described.storage_class,
            headers=described.headers,
            user_metadata=described.user_metadata,
            checksum_algorithm=algorithm,
            checksum_kind=kind,
            created_at=services.now(),
            encryption=None
            if sealing is None
            else sealing.recorded(bucket.name, call.object_key, sealing.encryption),
            lock=described.lock,
        )
        # What could not be completed is refused before its parts are sent.
        with await services.reserve_version(call, bucket, upload.owner_id, content_bytes=0):
            await self._store.create_upload(upload)
        headers = {**encryption_headers(upload.encryption), **await self._abortion(bucket, upload)}
        if kind is not None:
            headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind.value}
        return xml_answer(
            node(
                "InitiateMultipartUploadResult",
                node("Bucket", bucket.name),
                node("Key", call.object_key.decode("utf-8")),
                node("UploadId", upload.upload_id),
            ),
            headers=headers,
        )

    async def upload_part(self, call: Call) -> Answer:
        """UploadPart."""
        bucket = await self._services.bucket(call)
        number = part_number(call.query.one("partNumber"))
        upload = await self._upload(call)
        sealing = await self._services.object_keys.of_part(call, upload, number)
        plan = call.body.object_plan(
            default_algorithm=(upload.checksum_algorithm or DEFAULT_ALGORITHM).lower()
        )
        content_bytes = check_size(call.body)
        if upload.lock is not UNLOCKED and not plan.has_client_digest:
            raise missing_digest()
        if upload.checksum_algorithm not in ("", (plan.algorithm or "").upper()):
            raise S3Error(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {upload.checksum_algorithm.lower()}, "
                f"actual checksum Type: {plan.algorithm}",
            )
        size_bytes = content_bytes if sealing is None else sealing.stored_bytes(content_bytes)
        with (
            await self._services.reserve_version(
                call, bucket, upload.owner_id, content_bytes=content_bytes, objects=0
            ),
            await self._admitted(call, bucket, upload, size_bytes) as admitted,
        ):
            arrived = await receive(self._services.staging, call.body, plan, admitted, sealing)
            piece = await self._record(upload, number, arrived, sealing)
        return Answer(
            headers={
                "ETag": quoted(piece.etag),
                **checksum_headers(arrived.checksum),
                **encryption_headers(upload.encryption),
            }
        )

    async def upload_part_copy(self, call: Call) -> Answer:
        """UploadPartCopy: the bytes come from an object that can be read."""
        services = self._services
        bucket = await services.bucket(call)
        number = part_number(call.query.one("partNumber"))
        upload = await self._upload(call)
        sealing = await services.object_keys.of_part(call, upload, number)
        source = await CopySource.of(services, call)
        wanted = copy_range(call.headers.get("x-amz-copy-source-range"), source.version.facts.content_bytes)
        if wanted.length_bytes > SINGLE_PUT_MAX_BYTES:
            raise S3Error(
                "EntityTooLarge",
                f"The part would have {wanted.length_bytes} bytes, and may have {SINGLE_PUT_MAX_BYTES}: copy a range of it "
                "(x-amz-copy-source-range).",
                details={
                    "ProposedSize": str(wanted.length_bytes),
                    "MaxSizeAllowed": str(SINGLE_PUT_MAX_BYTES),
                },
            )
        algorithm = upload.checksum_algorithm or DEFAULT_ALGORITHM
        size_bytes = wanted.length_bytes if sealing is None else sealing.stored_bytes(wanted.length_bytes)
        with (
            await services.reserve_version(
                call, bucket, upload.owner_id, content_bytes=wanted.length_bytes, objects=0
            ),
            await self._admitted(call, bucket, upload, size_bytes) as admitted,
        ):
            arrived = await source.copy(
                wanted.offset_bytes, wanted.length_bytes, algorithm, admitted, sealing
            )
            piece = await self._record(upload, number, arrived, sealing)
        return xml_answer(
            node(
                "CopyPartResult",
                node("LastModified", iso_time(piece.created_at)),
                node("ETag", quoted(piece.etag)),
                node(f"Checksum{arrived.checksum.algorithm}", arrived.checksum.value),
            ),
            headers={**source.headers, **encryption_headers(upload.encryption)},
        )

    async def _admitted(self, call: Call, bucket: Bucket, upload: Upload, size_bytes: int) -> Admitted:
        """Admit a part; what an upload has begun comes before what others begin: it holds room until it is complete."""
        return await self._services.admission.admit(
            caller=await self._services.payer(call, upload.owner_id),
            bucket=bucket,
            size_bytes=size_bytes,
            storage_class=upload.storage_class,
            precedence=Precedence.BEGUN_UPLOAD if upload.revision else Precedence.NEW_UPLOAD,
        )

    async def _record(self, upload: Upload, number: int, arrived: Arrived, sealing: Sealing | None) -> Piece:
        services = self._services
        piece = arrived.piece(number, services.now())
        if sealing is not None:
            checksum = arrived.checksum
            if not upload.checksum_algorithm:
                # What the object gets is made of those of the parts, and the disk's is of other bytes.
                checksum = crc64nvme_checksum(arrived.content_crc64nvme)
            piece = piece._replace(checksum=sealing.sealed_checksum(checksum))
        if not piece.address:
            # Every piece has an address of its own; one without bytes has one that no disk knows.
            piece = Piece(
                ordinal=number,
                address=f"empty-{services.new_id()}",
                length_bytes=0,
                crc64nvme=0,
                etag=piece.etag,
                checksum=piece.checksum,
                created_at=piece.created_at,
            )
        try:
            await self._store.put_part(upload.upload_id, piece)
        except ColdStoreError as error:
            await services.not_recorded([arrived.address] if arrived.address else [], error)
            raise
        services.janitor_bell.ring()
        return piece

    async def _upload(self, call: Call) -> Upload:
        return await self._store.upload(call.bucket_name, call.object_key, _upload_id(call))

    # ── ending an upload ────────────────────────────────────────────────────────────────────────────────────────────

    async def complete(self, call: Call) -> Answer:
        """CompleteMultipartUpload; asked for again after it succeeded, it answers the same again."""
        bucket = await self._services.bucket(call)
        upload_id = _upload_id(call)
        condition = write_condition(call.headers)
        claims = Claims(
            size_bytes=_claimed_size(call.headers.get("x-amz-mp-object-size")),
            checksum=object_checksum(call.headers),
            kind=_claimed_kind(call.headers.get("x-amz-checksum-type")),
        )
        if call.body.length_bytes == 0:
            raise MalformedDocument("it is empty, and should be a CompleteMultipartUpload")
        document = await call.body.read_document(COMPLETE_DOCUMENT_MAX_BYTES, checksum_is_of_object=True)
        listed = parse_complete(document)
        for attempt in range(COMPLETE_TRIES):
            try:
                version, checksum = await self._complete(call, bucket, upload_id, listed, claims, condition)
                break
            except NoSuchUpload:
                completed = await self._store.completed_upload(call.bucket_name, call.object_key, upload_id)
                if completed is None:
                    raise
                version, checksum = completed, self._shown_checksum(call, completed)
                break
            except Conflict:
                if attempt == COMPLETE_TRIES - 1:
                    raise S3Error("OperationAborted") from None
        return _completed(call, version, checksum, await self._services.expiration(bucket, version))

    def _shown_checksum(self, call: Call, version: ObjectVersion) -> Checksum | None:
        """Return the checksum of an object that was completed before; of one under a customer's key only to who brings that."""
        facts = version.facts
        if facts.encryption is None or facts.checksum is None:
            return facts.checksum
        if not (facts.encryption.is_by_server or call.headers.names_key(CUSTOMER_KEY_PREFIX)):
            return None
        key = self._services.object_keys.of_reader(call, version)
        return shown_checksum(facts, key)

    async def _complete(
        self,
        call: Call,
        bucket: Bucket,
        upload_id: str,
        listed: list[ListedPart],
        claims: Claims,
        condition: WriteCondition | None,
    ) -> tuple[ObjectVersion, Checksum | None]:
        """Complete; return the version, and the checksum that is shown of it."""
        services = self._services
        upload = await self._upload(call)
        if upload.checksum_algorithm:
            # Checksums of encrypted parts are encrypted, and that of the object is made of them.
            sealing = await services.object_keys.of_part(call, upload)
        else:
            sealing = await services.object_keys.of_completion(call, upload)
        uploaded = {
            piece.ordinal: _opened(piece, upload, sealing)
            for piece in await self._parts(upload_id, 0, PART_NUMBER_MAX)
        }
        completion = plan_completion(
            listed,
            uploaded,
            upload_id=upload_id,
            algorithm=upload.checksum_algorithm,
            kind=upload.checksum_kind,
            claims=claims,
            encryption=upload.encryption,
        )
        facts = facts_of(
            services,
            call,
            Description(
                owner_id=upload.owner_id,
                storage_class=upload.storage_class,
                headers=upload.headers,
                user_metadata=upload.user_metadata,
            ),
            size_bytes=completion.size_bytes,
            etag=completion.etag,
            checksum=completion.checksum
            if sealing is None or completion.checksum is None
            else sealing.sealed_checksum(completion.checksum),
            crc64nvme=completion.crc64nvme,
            part_sizes=completion.part_sizes,
            encryption=completion.encryption
            if sealing is None or completion.encryption is None
            else sealing.recorded(upload.bucket, upload.key, completion.encryption, etag=completion.etag),
        )
        wants_tape = services.wants_tape(upload.storage_class)
        try:
            with await services.reserve_version(
                call, bucket, facts.owner_id, content_bytes=facts.content_bytes
            ):
                version = await self._store.complete_upload(
                    upload_id,
                    facts,
                    listed=completion.numbers,
                    wants_tape=wants_tape,
                    condition=condition,
                    messages=[],
                    revision=upload.revision,
                    part_digests=b"".join(completion.part_digests)
                    if sealing is None
                    else sealing.sealed_digests(completion.part_digests),
                )
        except NoSuchUpload:
            raise
        except ColdStoreError as error:
            raise explained(error, condition) from None
        ring_after_publishing(services, wants_tape)
        return version, completion.checksum

    async def abort(self, call: Call) -> Answer:
        """AbortMultipartUpload."""
        await self._services.bucket(call)
        await self._store.abort_upload(call.bucket_name, call.object_key, _upload_id(call))
        self._services.janitor_bell.ring()
        return Answer(status=204)

    # ── looking at uploads ──────────────────────────────────────────────────────────────────────────────────────────

    async def _parts(self, upload_id: str, after: int, limit: int) -> list[Piece]:
        found: list[Piece] = []
        while len(found) < limit:
            wanted = min(PARTS_PAGE, limit - len(found))
            page = await self._store.parts(upload_id, after_ordinal=after, limit=wanted)
            found += page
            if len(page) < wanted:
                break
            after = page[-1].ordinal
        return found

    async def _owners(self, call: Call, bucket: Bucket, uploads: Iterable[Upload]) -> Owners:
        shown = {user_id for upload in uploads for user_id in (upload.owner_id, _initiator(upload))}
        return await owners_of(self._services, call, bucket, shown)

    async def list_parts(self, call: Call) -> Answer:
        """ListParts."""
        bucket = await self._services.bucket(call)
        upload = await self._upload(call)
        sealing = await self._services.object_keys.of_completion(call, upload)
        most = bounded(call.query.one("max-parts"), "max-parts", PARTS_PAGE)
        marker = bounded(call.query.one("part-number-marker") or "0", "part-number-marker", PART_NUMBER_MAX)
        found = await self._parts(upload.upload_id, marker, most + 1) if most else []
        shown = found[:most]
        owners = await self._owners(call, bucket, [upload])
        return xml_answer(
            node(
                "ListPartsResult",
                node("Bucket", call.bucket_name),
                node("Key", upload.key.decode("utf-8")),
                node("UploadId", upload.upload_id),
                owners.user("Initiator", _initiator(upload)),
                owners.owner(upload.owner_id),
                node("StorageClass", upload.storage_class.value),
                node("ChecksumAlgorithm", upload.checksum_algorithm) if upload.checksum_algorithm else None,
                None if upload.checksum_kind is None else node("ChecksumType", upload.checksum_kind.value),
                node("PartNumberMarker", marker),
                node("NextPartNumberMarker", shown[-1].ordinal if shown else 0),
                node("MaxParts", most),
                node("IsTruncated", len(found) > most),
                *(_part_node(_opened(piece, upload, sealing), upload) for piece in shown),
            ),
            headers=await self._abortion(bucket, upload),
        )

    async def _abortion(self, bucket: Bucket, upload: Upload) -> dict[str, str]:
        """Return the fields that say when an upload is aborted by a rule of its bucket."""
        rules = await self._services.lifecycle(bucket)
        return {} if rules is None else abort_headers(rules.abortion(upload.key, upload.created_at))

    async def list_uploads(self, call: Call) -> Answer:
        """ListMultipartUploads: by key, and by upload id within a key."""
        bucket = await self._services.bucket(call)
        asked = ListingRequest.of(call.query, "max-uploads")
        key_marker = call.query.one("key-marker") or ""
        # Without a key there is nothing that an upload id could mark (S3 API).
        id_marker = _upload_id_marker(call.query.one("upload-id-marker") or "") if key_marker else ""
        plan: ListingPlan[Upload] = ListingPlan(
            prefix=asked.prefix.encode("utf-8"),
            delimiter=asked.delimiter.encode("utf-8"),
            after=key_marker.encode("utf-8"),
            max_entries=asked.max_entries,
            key_of=lambda upload: upload.key,
        )
        after_id = id_marker
        while (fetch := plan.next_fetch()) is not None:
            rows = await self._store.uploads(
                call.bucket_name,
                prefix=fetch.from_key,
                after_key=fetch.after_key,
                after_upload_id=after_id if fetch.after_key else "",
                limit=fetch.limit,
            )
            plan.take(fetch, rows)
            after_id = "" if plan.after_row is None else plan.after_row.upload_id
        shown = asked.shown
        last = plan.last_row
        owners = await self._owners(call, bucket, plan.rows)
        return xml_answer(
            node(
                "ListMultipartUploadsResult",
                node("Bucket", call.bucket_name),
                node("KeyMarker", shown(key_marker)),
                node("UploadIdMarker", id_marker),
                node("NextKeyMarker", shown(plan.last)) if plan.is_truncated else None,
                node("NextUploadIdMarker", "" if last is None else last.upload_id)
                if plan.is_truncated
                else None,
                node("Prefix", shown(asked.prefix)),
                node("Delimiter", shown(asked.delimiter)) if asked.delimiter else None,
                node("EncodingType", "url") if asked.is_url_encoded else None,
                node("MaxUploads", asked.max_entries),
                node("IsTruncated", plan.is_truncated),
                *(
                    node(
                        "Upload",
                        node("Key", shown(upload.key)),
                        node("UploadId", upload.upload_id),
                        owners.user("Initiator", _initiator(upload)),
                        owners.owner(upload.owner_id),
                        node("StorageClass", upload.storage_class.value),
                        node("Initiated", iso_time(upload.created_at)),
                        node("ChecksumAlgorithm", upload.checksum_algorithm)
                        if upload.checksum_algorithm
                        else None,
                        None
                        if upload.checksum_kind is None
                        else node("ChecksumType", upload.checksum_kind.value),
                    )
                    for upload in plan.rows
                ),
                *prefix_nodes(plan.prefixes, shown),
            )
        )


def _upload_id(call: Call) -> str:
    upload_id = call.query.one("uploadId")
    if not upload_id:
        raise s3_error(NoSuchUpload(""))
    return upload_id


def _initiator(upload: Upload) -> str:
    return upload.initiator_id or upload.owner_id


def _upload_id_marker(value: str) -> str:
    """
    Return where a listing goes on within a key.

    :raise S3Error: InvalidArgument for what no upload can be called
    """
    if not _UPLOAD_ID.fullmatch(value):
        raise S3Error(
            "InvalidArgument",
            f"Invalid uploadId marker: {shown(value)}",
            details={"ArgumentName": "upload-id-marker", "ArgumentValue": value},
        )
    return value


def _claimed_size(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise S3Error(
            "InvalidRequest",
            f"Value for x-amz-mp-object-size header is invalid: {shown(value)} is no number of bytes.",
        )
    return int(value)


def _claimed_kind(value: str | None) -> ChecksumKind | None:
    return None if value is None else checksum_kind(value)


def _opened(piece: Piece, upload: Upload, sealing: Sealing | None) -> Piece:
    """Return a part with its checksum as its client knows it; without one where nobody brought its key."""
    if upload.encryption is None or piece.checksum is None:
        return piece
    return piece._replace(checksum=None if sealing is None else sealing.key.opened_checksum(piece.checksum))


def _completed(
    call: Call, version: ObjectVersion, checksum: Checksum | None, expiration: Mapping[str, str]
) -> Answer:
    facts = version.facts
    scheme = "https" if call.is_secure else "http"
    host = call.headers.get("host") or "localhost"
    return xml_answer(
        node(
            "CompleteMultipartUploadResult",
            node("Location", f"{scheme}://{host}/{facts.bucket}/{quote(facts.key)}"),
            node("Bucket", facts.bucket),
            node("Key", facts.key.decode("utf-8")),
            node("ETag", quoted(facts.etag)),
            *checksum_nodes(checksum),
        ),
        headers={**made_header(version), **encryption_headers(facts.encryption), **expiration},
    )


def _part_node(piece: Piece, upload: Upload) -> Node:
    checksum, encryption = piece.checksum, upload.encryption
    size_bytes = (
        piece.length_bytes if encryption is None else plain_bytes(piece.length_bytes, encryption.chunk_bytes)
    )
    return node(
        "Part",
        node("PartNumber", piece.ordinal),
        node("LastModified", iso_time(piece.created_at)),
        node("ETag", quoted(piece.etag)),
        node("Size", size_bytes),
        None if checksum is None else node(f"Checksum{checksum.algorithm}", checksum.value),
    )

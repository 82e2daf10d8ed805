"""CopyObject, and the reading of a source for it and for UploadPartCopy: bytes go through staging and are verified twice."""

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from coldstore.interfaces.staging import BytesDamaged
from coldstore.model.errors import ObjectDamaged
from coldstore.model.objects import Bucket, Checksum, Encryption, ObjectVersion, Pairs
from coldstore.model.tags import tags_of
from coldstore.plan.messages import iso_time
from coldstore.s3.acl_fields import Owned, with_grants
from coldstore.s3.admission import Admitted
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.body import BodySink
from coldstore.s3.call import Call
from coldstore.s3.cold import require_bytes
from coldstore.s3.conditions import COPY_SOURCE, check_copy_source, read_conditions, write_condition
from coldstore.s3.encryption import ObjectKey, Sealing, encryption_headers
from coldstore.s3.encryption_reading import opened_run
from coldstore.s3.encryption_receiving import SealingSink
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import SERVER_SIDE_ENCRYPTION
from coldstore.s3.locking import check_written
from coldstore.s3.locks import written_lock
from coldstore.s3.multipart_plan import DEFAULT_ALGORITHM, checksum_choice
from coldstore.s3.names import is_bucket_name
from coldstore.s3.objects import publish
from coldstore.s3.pieces import Run, pinned_run
from coldstore.s3.receiving import SINGLE_PUT_MAX_BYTES, Arrived, discard, stored_algorithms
from coldstore.s3.services import Services, made_header, version_header
from coldstore.s3.stored import Description, quoted, storage_class, stored_headers, user_metadata
from coldstore.s3.tags import header_tags, with_tags
from coldstore.s3.xml import node
from coldstore.util.checksums import new_digest
from coldstore.util.gate import Gate

DIRECTIVES = ("COPY", "REPLACE")
COPY_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceName:
    """What ``x-amz-copy-source`` names."""

    bucket: str
    key: bytes
    version_id: str | None


def source_name(value: str) -> SourceName:
    """
    Read ``[/]bucket/key[?versionId=id]``, percent-encoded once; ``+`` is a plus.

    :raise S3Error: InvalidArgument
    """
    path, mark, version_id = value.partition("?versionId=")
    decoded = unquote_to_bytes(path).removeprefix(b"/")
    raw_bucket, _, key = decoded.partition(b"/")
    try:
        bucket = raw_bucket.decode("ascii")
        key.decode("utf-8")
    except UnicodeDecodeError:
        bucket = ""
    if not is_bucket_name(bucket) or not key:
        raise S3Error(
            "InvalidArgument",
            f"Copy Source must mention the source bucket and key: sourcebucket/sourcekey, and not {shown(value)}",
            details={"ArgumentName": "x-amz-copy-source", "ArgumentValue": value},
        )
    return SourceName(bucket=bucket, key=key, version_id=version_id if mark else None)


class CopySource:
    """An object that may be copied by the caller, and can be."""

    def __init__(
        self,
        services: Services,
        version: ObjectVersion,
        *,
        name: SourceName,
        bucket: Bucket,
        key: ObjectKey | None,
    ) -> None:
        """:param key: of an encrypted source"""
        self._services = services
        self._key = key
        self.name = name
        self.bucket = bucket
        self.version = version
        self.headers = version_header(
            bucket, version, name="x-amz-copy-source-version-id", asked=name.version_id
        )
        """Fields of the answer to a copy that say which version was its source."""

    @classmethod
    async def of(cls, services: Services, call: Call) -> "CopySource":
        """
        Find the source of a call.

        :raise S3Error: InvalidArgument, NoSuchBucket, AccessDenied, NoSuchKey, NoSuchVersion, PreconditionFailed,
            InvalidRequest for a delete marker, InvalidObjectState for a cold source, ServiceUnavailable while its bytes are not
            on disk; as ``ObjectKeys.of_source``
        """
        name = source_name(call.headers.get("x-amz-copy-source") or "")
        bucket = await services.store.bucket(name.bucket)
        await services.authority.require_source(call, bucket, name.key, name.version_id)
        try:
            version = await services.version(name.bucket, name.key, name.version_id)
        except S3Error as error:
            if error.code != "MethodNotAllowed":
                raise await services.authority.told(call, error, bucket) from None
            raise S3Error(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            ) from None
        await services.authority.require_source(call, bucket, name.key, name.version_id, version)
        facts = version.facts
        key = services.object_keys.of_source(call, version)
        check_copy_source(
            read_conditions(call.headers, COPY_SOURCE), etag=facts.etag, modified_at=facts.created_at
        )
        require_bytes(services, version, "Operation is not valid for the source object's")
        return cls(services, version, name=name, bucket=bucket, key=key)

    async def copy(
        self,
        offset_bytes: int,
        length_bytes: int,
        algorithm: str,
        admitted: Admitted,
        sealing: Sealing | None = None,
    ) -> Arrived:
        """
        Write a run of the source's bytes once more.

        :param algorithm: of the checksum that the copy shall have, upper case
        :param admitted: for the length of the run, as it will be stored
        :param sealing: how the copy is to be encrypted; None: not at all
        :raise ObjectDamaged: the source's bytes are not what was written; nothing is kept
        :raise StagingFull: there is no room
        :raise DiskFault: the disk failed
        """
        name = algorithm.lower()
        if length_bytes == 0:
            empty = {each: new_digest(each).digest() for each in ("md5", name)}
            return Arrived("", 0, 0, 0, 0, empty["md5"].hex(), _checksum(algorithm, empty[name]))
        services, facts = self._services, self.version.facts
        wanted = frozenset({name, "md5"})
        incoming = admitted.receive(wanted if sealing is None else stored_algorithms(sealing))
        sealed = None if sealing is None else SealingSink(incoming, sealing, wanted | {"crc64nvme"})
        try:
            run = await self._run(offset_bytes, length_bytes)
            sink: BodySink = incoming if sealed is None else sealed
            gate = Gate()
            sink.on_pressure(gate.close, gate.open)
            try:
                while (step := run.next_step(COPY_READ_BYTES)) is not None:
                    sink.write(await run.read(step))
                    await gate.passage()
            finally:
                run.close()
            plain_digests = None if sealed is None else await sealed.finish()
            kept = await incoming.finish()
        except Exception as error:
            await incoming.abandon()
            if isinstance(error, BytesDamaged):
                await services.damaged(self.version, error)
                raise ObjectDamaged from None
            raise
        crc64nvme = kept.crc64nvme
        if plain_digests is not None:
            crc64nvme = int.from_bytes(plain_digests["crc64nvme"], "big")
        # Of an encrypted source it is the checksum of other bytes; those that were decrypted have proved what they are.
        if self._key is None and length_bytes == facts.size_bytes and crc64nvme != facts.crc64nvme:
            await discard(services.staging, kept.address)
            await services.damaged(self.version, BytesDamaged(f"layout {self.version.layout_id}", 0))
            raise ObjectDamaged
        digests = kept.digests if plain_digests is None else plain_digests
        md5 = (digests if sealing is None or sealing.shows_md5 else kept.digests)["md5"]
        return Arrived(
            address=kept.address,
            length_bytes=kept.length_bytes,
            content_bytes=length_bytes,
            crc64nvme=kept.crc64nvme,
            content_crc64nvme=crc64nvme,
            etag=md5.hex(),
            checksum=_checksum(algorithm, digests[name]),
        )

    async def _run(self, offset_bytes: int, length_bytes: int) -> Run:
        services = self._services
        if self._key is None:
            return await pinned_run(
                services.store, services.staging, self.version, offset_bytes, length_bytes
            )
        return await opened_run(
            services.store,
            services.staging,
            self.version,
            self._key,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
            in_thread=services.object_keys.in_thread,
        )


class CopyOperations:
    """The operation of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def copy_object(self, call: Call) -> Answer:
        """CopyObject: class and metadata are the copy's own; the bytes are written again."""
        services = self._services
        bucket = await services.bucket(call)
        condition = write_condition(call.headers)
        replaces = _directive(call, "x-amz-metadata-directive") == "REPLACE"
        replaces_tags = _directive(call, "x-amz-tagging-directive") == "REPLACE"
        given = header_tags(call.headers) if replaces_tags else None
        sealing = await services.object_keys.of_writer(call, bucket)
        source = await CopySource.of(services, call)
        facts = source.version.facts
        copied = () if replaces_tags else tags_of(source.version)
        if copied:
            await services.authority.require_copied_tags(
                call,
                source=source.bucket,
                key=source.name.key,
                version_id=source.name.version_id,
                target=bucket,
                tags=copied,
            )
        owned = await services.acl_giving.of_new(call, bucket)
        described = _description(call, bucket, source.version, services, replaces, given, owned)
        check_written(described, bucket, None)
        if facts.content_bytes > SINGLE_PUT_MAX_BYTES:
            raise S3Error(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy source: "
                f"{SINGLE_PUT_MAX_BYTES}. Its {facts.content_bytes} bytes can be copied in parts (UploadPartCopy).",
            )
        # An older version that is copied onto its key becomes current again.
        is_itself = source.name == SourceName(bucket=bucket.name, key=call.object_key, version_id=None)
        changes_encryption = _changes_encryption(call, facts.encryption, sealing)
        if (
            is_itself
            and not (replaces or changes_encryption)
            and described.storage_class is facts.storage_class
        ):
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        algorithm, _ = checksum_choice(call.headers.get("x-amz-checksum-algorithm"), None)
        if not algorithm:
            algorithm = DEFAULT_ALGORITHM if facts.checksum is None else facts.checksum.algorithm
        await services.check_write(bucket.name, call.object_key, condition)
        with (
            await services.reserve_version(
                call, bucket, described.owner_id, content_bytes=facts.content_bytes
            ),
            await services.admission.admit(
                caller=await services.payer(call, described.owner_id),
                bucket=bucket,
                size_bytes=facts.content_bytes
                if sealing is None
                else sealing.stored_bytes(facts.content_bytes),
                storage_class=described.storage_class,
            ) as admitted,
        ):
            arrived = await source.copy(0, facts.content_bytes, algorithm, admitted, sealing)
            version = await publish(services, call, bucket, described, arrived, condition, sealing)
        return xml_answer(
            node(
                "CopyObjectResult",
                node("LastModified", iso_time(version.facts.created_at)),
                node("ETag", quoted(version.facts.etag)),
                node("ChecksumType", arrived.checksum.kind.value),
                node(f"Checksum{arrived.checksum.algorithm}", arrived.checksum.value),
            ),
            headers={
                **source.headers,
                **made_header(version),
                **encryption_headers(version.facts.encryption),
                **await services.expiration(bucket, version),
            },
        )


def _description(
    call: Call,
    bucket: Bucket,
    source: ObjectVersion,
    services: Services,
    replaces: bool,
    tags: Pairs | None,
    owned: Owned,
) -> Description:
    """Return what is kept of the copy; without ``tags`` it has those that the source has now."""
    headers = stored_headers(call.headers) if replaces else source.facts.headers
    return Description(
        owner_id=owned.owner_id,
        storage_class=storage_class(call.headers, bucket, services.rules),
        headers=with_grants(with_tags(headers, tags_of(source) if tags is None else tags), owned.fields),
        user_metadata=user_metadata(call.headers) if replaces else source.facts.user_metadata,
        lock=written_lock(call.headers, now=services.now()),
    )


def _changes_encryption(call: Call, before: Encryption | None, sealing: Sealing | None) -> bool:
    """Whether a copy of an object onto itself would be encrypted otherwise, or is asked to be encrypted."""
    if SERVER_SIDE_ENCRYPTION in call.headers:
        return True
    if sealing is None or not sealing.shows_md5:
        return sealing is not None or before is not None
    return before is None or not before.is_by_server


def _directive(call: Call, name: str) -> str:
    value = call.headers.get(name)
    if value is None:
        return "COPY"
    if value not in DIRECTIVES:
        raise S3Error(
            "InvalidArgument",
            f"Unknown {name.removeprefix('x-amz-').replace('-', ' ')}: {shown(value)}; there are {', '.join(DIRECTIVES)}",
            details={"ArgumentName": name, "ArgumentValue": value},
        )
    return value


def _checksum(algorithm: str, digest: bytes) -> Checksum:
    return Checksum(algorithm=algorithm, value=b64encode(digest).decode("ascii"))

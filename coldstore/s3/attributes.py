"""GetObjectAttributes, and what is shown of the parts of an object that was uploaded in parts."""

from base64 import b64encode

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.objects import Checksum, ObjectVersion
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.encryption import SEALED_MORE_BYTES, ObjectKey, shown_checksum
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.integrity import DIGEST_BYTES
from coldstore.s3.listing import bounded
from coldstore.s3.part_sizes import part_count, part_sizes_after
from coldstore.s3.ranges import PART_NUMBER_MAX
from coldstore.s3.services import Services, version_header
from coldstore.s3.stored import http_date
from coldstore.s3.xml import Node, node

ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
PARTS_PAGE = 1000
_WANTED, _MAX_PARTS, _MARKER = "x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker"


def wanted_attributes(headers: HeaderFields) -> frozenset[str]:
    """
    Return which attributes are asked for.

    :raise S3Error: InvalidRequest for none, InvalidArgument for one that there is not
    """
    names = [name.strip() for name in (headers.get(_WANTED) or "").split(",") if name.strip()]
    if not names:
        raise S3Error(
            "InvalidRequest",
            f"The {_WANTED} header specifying the attributes to be retrieved is either missing or empty",
        )
    for name in names:
        if name not in ATTRIBUTES:
            raise S3Error(
                "InvalidArgument",
                f"Invalid attribute name specified; there are {', '.join(ATTRIBUTES)}",
                details={"ArgumentName": _WANTED, "ArgumentValue": name},
            )
    return frozenset(names)


class AttributesOperations:
    """The operation of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def get_object_attributes(self, call: Call) -> Answer:
        """GetObjectAttributes: of cold objects as of others."""
        bucket = await self._services.bucket(call)
        wanted = wanted_attributes(call.headers)
        most = bounded(call.headers.get(_MAX_PARTS), _MAX_PARTS, PARTS_PAGE)
        marker = bounded(call.headers.get(_MARKER) or "0", _MARKER, PART_NUMBER_MAX)
        version = await self._services.version(bucket.name, call.object_key, call.version_id)
        await self._services.authority.require_version(call, bucket, version)
        facts = version.facts
        key = self._services.object_keys.of_reader(
            call, version, needs_key=not wanted.isdisjoint(("Checksum", "ObjectParts"))
        )
        checksum = shown_checksum(facts, key) if "Checksum" in wanted else None
        shown = {
            "ETag": node("ETag", facts.etag),
            "Checksum": None if checksum is None else node("Checksum", *checksum_nodes(checksum)),
            "ObjectParts": await self._parts(version, key, marker, most) if "ObjectParts" in wanted else None,
            "StorageClass": node("StorageClass", facts.storage_class.value),
            "ObjectSize": node("ObjectSize", facts.content_bytes),
        }
        return xml_answer(
            node("GetObjectAttributesResponse", *(shown[name] for name in ATTRIBUTES if name in wanted)),
            headers={
                "Last-Modified": http_date(facts.created_at),
                **version_header(bucket, version, asked=call.version_id),
            },
        )

    async def _parts(
        self, version: ObjectVersion, key: ObjectKey | None, marker: int, most: int
    ) -> Node | None:
        """Return the element of the parts behind ``marker``; nothing for an object that was not uploaded in parts."""
        text = version.facts.content_part_sizes
        if not text:
            return None
        count = part_count(text)
        sizes = part_sizes_after(text, marker, most)
        checksums = await part_checksums(self._services.store, version, key, after=marker, limit=len(sizes))
        last = marker + len(sizes)
        return node(
            "ObjectParts",
            node("PartsCount", count),
            node("PartNumberMarker", marker),
            node("NextPartNumberMarker", last if sizes else 0),
            node("MaxParts", most),
            node("IsTruncated", bool(sizes) and last < count),
            *(
                node(
                    "Part",
                    node("PartNumber", marker + place + 1),
                    node("Size", size),
                    node(f"Checksum{checksums[place].algorithm}", checksums[place].value)
                    if place < len(checksums)
                    else None,
                )
                for place, size in enumerate(sizes)
            ),
        )


def checksum_nodes(checksum: Checksum | None) -> list[Node]:
    """Return the elements that show a checksum."""
    if checksum is None:
        return []
    return [
        node(f"Checksum{checksum.algorithm}", checksum.value),
        node("ChecksumType", checksum.kind.value),
    ]


async def part_checksums(
    store: IMetadataStore, version: ObjectVersion, key: ObjectKey | None, *, after: int, limit: int
) -> list[Checksum]:
    """
    Return the checksums of a version's parts, in order, of the same algorithm and kind as that of the version.

    Parts are numbered from 1 in the order of the object; of uploads that were completed before these were kept there are none.

    :param key: of an encrypted object
    """
    checksum = version.facts.checksum
    if checksum is None or not version.facts.part_sizes or limit == 0:
        return []
    width = DIGEST_BYTES[checksum.algorithm.lower()]
    stored_width = width + (0 if key is None else SEALED_MORE_BYTES)
    content = await store.part_digests(
        version.version_uid, offset_bytes=after * stored_width, length_bytes=limit * stored_width
    )
    if key is not None:
        content = key.opened_digests(content, width, first=after)
    return [
        Checksum(
            algorithm=checksum.algorithm,
            value=b64encode(content[begin : begin + width]).decode("ascii"),
            kind=checksum.kind,
        )
        for begin in range(0, len(content), width)
    ]

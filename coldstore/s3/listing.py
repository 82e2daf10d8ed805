"""ListObjects in both versions, and ListObjectVersions: a page of what is in a bucket."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coldstore.model.objects import Bucket, ListedObject, ListedPage
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.contents import OWNER, contents, versions
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import Query
from coldstore.s3.owners import Owners, owners_of
from coldstore.s3.services import Services, check_version_id
from coldstore.s3.tokens import position_of, token_of
from coldstore.s3.xml import Node, Written, element, node, url_encoded

KEYS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingRequest:
    """What both versions, and the listing of uploads, are asked with. Texts are as sent."""

    prefix: str
    delimiter: str
    max_entries: int
    is_url_encoded: bool

    @classmethod
    def of(cls, query: Query, max_name: str) -> "ListingRequest":
        """
        Read the query.

        :param max_name: name of the parameter that bounds the page
        :raise S3Error: InvalidArgument
        """
        encoding = query.one("encoding-type")
        if encoding not in (None, "", "url"):
            raise S3Error(
                "InvalidArgument",
                f"Invalid Encoding Method specified in Request: {shown(encoding or '')}; there is 'url'",
                details={"ArgumentName": "encoding-type", "ArgumentValue": encoding or ""},
            )
        return cls(
            prefix=query.one("prefix") or "",
            delimiter=query.one("delimiter") or "",
            max_entries=bounded(query.one(max_name), max_name, KEYS_MAX),
            is_url_encoded=encoding == "url",
        )

    @property
    def shown(self) -> Callable[[str | bytes], str]:
        """How keys and prefixes are written in the answer."""
        return url_encoded if self.is_url_encoded else _plain


class ListingOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_objects(self, call: Call) -> Answer:
        """ListObjects, version 1: pages by ``marker``."""
        bucket = await self._services.bucket(call)
        asked = ListingRequest.of(call.query, "max-keys")
        wants_restore = wants_restore_status(call)
        marker = call.query.one("marker") or ""
        page = await self._page(call, asked, after=marker.encode("utf-8"))
        shown = asked.shown
        has_next = page.is_truncated and bool(asked.delimiter)
        owners = await self._owners(call, bucket, page.rows)
        return xml_answer(
            node(
                "ListBucketResult",
                node("Name", call.bucket_name),
                # Never encoded: clients decode it in answers of version 2 only.
                node("Prefix", asked.prefix),
                node("Marker", shown(marker)),
                node("NextMarker", shown(page.last)) if has_next else None,
                node("MaxKeys", asked.max_entries),
                *_common(asked, is_truncated=page.is_truncated),
                self._contents(page, asked, owners=owners, with_restore=wants_restore),
                *prefix_nodes(page.prefixes, shown),
            )
        )

    async def list_objects_v2(self, call: Call) -> Answer:
        """ListObjectsV2: pages by ``continuation-token``, which wins over ``start-after``."""
        bucket = await self._services.bucket(call)
        asked = ListingRequest.of(call.query, "max-keys")
        wants_restore = wants_restore_status(call)
        start_after, token = call.query.one("start-after"), call.query.one("continuation-token")
        after = _position(token) if token else (start_after or "").encode("utf-8")
        page = await self._page(call, asked, after=after)
        shown = asked.shown
        with_owner = (call.query.one("fetch-owner") or "").lower() == "true"
        owners = await self._owners(call, bucket, page.rows) if with_owner else None
        return xml_answer(
            node(
                "ListBucketResult",
                node("Name", call.bucket_name),
                node("Prefix", shown(asked.prefix)),
                node("StartAfter", shown(start_after)) if start_after else None,
                node("ContinuationToken", token) if token is not None else None,
                node("NextContinuationToken", token_of(page.last)) if page.is_truncated else None,
                node("KeyCount", page.entry_count),
                node("MaxKeys", asked.max_entries),
                *_common(asked, is_truncated=page.is_truncated),
                self._contents(page, asked, owners=owners, with_restore=wants_restore),
                *prefix_nodes(page.prefixes, shown),
            )
        )

    async def list_object_versions(self, call: Call) -> Answer:
        """ListObjectVersions: all versions and delete markers, of each key the newest first; pages by ``key-marker``."""
        bucket = await self._services.bucket(call)
        asked = ListingRequest.of(call.query, "max-keys")
        wants_restore = wants_restore_status(call)
        key_marker = call.query.one("key-marker") or ""
        id_marker = call.query.one("version-id-marker") or ""
        if id_marker and not key_marker:
            raise S3Error(
                "InvalidArgument",
                "A version-id marker cannot be specified without a key marker.",
                details={"ArgumentName": "version-id-marker", "ArgumentValue": id_marker},
            )
        check_version_id(id_marker or None)
        page = await self._services.store.list_versions(
            call.bucket_name,
            prefix=asked.prefix.encode("utf-8"),
            delimiter=asked.delimiter.encode("utf-8"),
            after_key=key_marker.encode("utf-8"),
            after_version_id=id_marker,
            max_entries=asked.max_entries,
        )
        shown = asked.shown
        next_id = page.last_version_id if page.is_truncated else ""
        owners = await self._owners(call, bucket, [row.shown for row in page.rows])
        return xml_answer(
            node(
                "ListVersionsResult",
                node("Name", call.bucket_name),
                node("Prefix", shown(asked.prefix)),
                node("KeyMarker", shown(key_marker)),
                node("VersionIdMarker", id_marker),
                node("NextKeyMarker", shown(page.last_key)) if page.is_truncated else None,
                node("NextVersionIdMarker", next_id) if next_id else None,
                node("MaxKeys", asked.max_entries),
                *_common(asked, is_truncated=page.is_truncated),
                versions(
                    page.rows,
                    is_url_encoded=asked.is_url_encoded,
                    owner=lambda user_id: element(owners.owner(user_id)),
                    restores_at=self._services.now() if wants_restore else None,
                ),
                *prefix_nodes(page.prefixes, shown),
            )
        )

    async def _owners(self, call: Call, bucket: Bucket, rows: Iterable[ListedObject]) -> Owners:
        return await owners_of(self._services, call, bucket, {row[OWNER] for row in rows})

    async def _page(self, call: Call, asked: ListingRequest, *, after: bytes) -> ListedPage:
        return await self._services.store.list_page(
            call.bucket_name,
            prefix=asked.prefix.encode("utf-8"),
            delimiter=asked.delimiter.encode("utf-8"),
            after=after,
            max_entries=asked.max_entries,
        )

    def _contents(
        self,
        page: ListedPage,
        asked: ListingRequest,
        *,
        owners: Owners | None,
        with_restore: bool,
    ) -> Written:
        return contents(
            page.rows,
            is_url_encoded=asked.is_url_encoded,
            owner=None if owners is None else lambda user_id: element(owners.owner(user_id)),
            restores_at=self._services.now() if with_restore else None,
        )


def wants_restore_status(call: Call) -> bool:
    """
    Whether ``x-amz-optional-object-attributes`` asks for the state of restores.

    :raise S3Error: InvalidArgument for any other attribute
    """
    value = call.headers.get("x-amz-optional-object-attributes")
    if value is None:
        return False
    names = {name.strip() for name in value.split(",")}
    if names != {"RestoreStatus"}:
        raise S3Error(
            "InvalidArgument",
            f"Invalid attribute name specified: {shown(value)}; there is RestoreStatus",
            details={"ArgumentName": "x-amz-optional-object-attributes", "ArgumentValue": value},
        )
    return True


def bounded(value: str | None, name: str, most: int) -> int:
    """
    Return how many entries a page may have: 0 to ``most``, larger numbers are cut to that.

    :raise S3Error: InvalidArgument for anything but a number from 0 to 2^31-1
    """
    if value is None or value == "":
        return most
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) < 2**31):
        raise S3Error(
            "InvalidArgument",
            f"Provided {name} not an integer or within integer range: {shown(value)}",
            details={"ArgumentName": name, "ArgumentValue": value},
        )
    return min(int(value), most)


def prefix_nodes(prefixes: list[bytes], shown: Callable[[str | bytes], str]) -> list[Node]:
    """Return the elements of common prefixes."""
    return [node("CommonPrefixes", node("Prefix", shown(prefix))) for prefix in prefixes]


def _common(asked: ListingRequest, *, is_truncated: bool) -> list[Node]:
    nodes = [node("Delimiter", asked.shown(asked.delimiter))] if asked.delimiter else []
    if asked.is_url_encoded:
        nodes.append(node("EncodingType", "url"))
    return [*nodes, node("IsTruncated", is_truncated)]


def _plain(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8")


def _position(token: str) -> bytes:
    try:
        return position_of(token)
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            f"The continuation token provided is incorrect: {shown(token)}",
            details={"ArgumentName": "continuation-token", "ArgumentValue": token},
        ) from None

"""
A valid request of every operation there is, chosen by chance.

``@BUCKET@`` has the objects ``kept``, ``other`` and ``a b/ü``, the cold ``cold``, and an open upload of ``rising`` with two parts.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from coldstore.s3.api import BUILT, UNBUILT, Target
from tests.fuzzing.case import Asked, Fields, Framing, Signed

PART_BYTES = 5 * 1024 * 1024
KEYS = (b"kept", b"other", b"a%20b/%C3%BC", b"cold", b"none", b"rising", b"new/%F4%8F%BF%BF", b"%01%7F")
CUSTOMER_KEY: Fields = (
    (b"x-amz-server-side-encryption-customer-algorithm", b"AES256"),
    (b"x-amz-server-side-encryption-customer-key", b64encode(bytes(range(32)))),
    (b"x-amz-server-side-encryption-customer-key-md5", b64encode(hashlib.md5(bytes(range(32))).digest())),
)
CLASSES = (b"STANDARD", b"GLACIER", b"DEEP_ARCHIVE")
BOUNDARY = b"----fuzz"
XMLNS = b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

CONFIGURATIONS: Mapping[str, bytes] = {
    "abac": b"<AbacStatus><Status>Disabled</Status></AbacStatus>",
    "acl": b"<AccessControlPolicy><Owner><ID>@OWNER@</ID></Owner><AccessControlList/></AccessControlPolicy>",
    "encryption": b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    b"</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled><BlockedEncryptionTypes><EncryptionType>NONE"
    b"</EncryptionType></BlockedEncryptionTypes></Rule></ServerSideEncryptionConfiguration>",
    "logging": b"<BucketLoggingStatus/>",
    "notification": b"<NotificationConfiguration/>",
    "policy": b'{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Deny","Principal":"*","Action":["s3:GetBucketWebsite"],'
    b'"Resource":"arn:aws:s3:::@BUCKET@","Condition":{"StringLike":{"aws:Referer":["http://a/*","${aws:username}"]}}}]}',
    "publicAccessBlock": b"<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>",
    "ownershipControls": b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
    "requestPayment": b"<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
}
"""Documents that say what holds anyway, or allow nothing more."""

Make = Callable[[Random], Asked]


def _path(key: bytes, query: bytes = b"") -> bytes:
    return b"/@BUCKET@/" + key + (b"?" + query if query else b"")


def _bucket(query: bytes = b"") -> bytes:
    return b"/@BUCKET@" + (b"?" + query if query else b"")


def _key(random: Random) -> bytes:
    return random.choice(KEYS)


def _some(random: Random, *fields: tuple[bytes, bytes]) -> Fields:
    return tuple(field for field in fields if random.random() < 0.3)


def _query(random: Random, *names: tuple[bytes, tuple[bytes, ...]]) -> bytes:
    return b"&".join(name + b"=" + random.choice(values) for name, values in names if random.random() < 0.5)


def _document(root: bytes, content: bytes, random: Random) -> bytes:
    declared = random.choice((b"", b'<?xml version="1.0" encoding="UTF-8"?>\n'))
    return declared + b"<" + root + random.choice((b"", XMLNS)) + b">" + content + b"</" + root + b">"


def _tagging(random: Random) -> bytes:
    tags = b"".join(
        b"<Tag><Key>k%d</Key><Value>v</Value></Tag>" % number for number in range(random.randrange(4))
    )
    return _document(b"Tagging", b"<TagSet>" + tags + b"</TagSet>", random)


def _proof(random: Random) -> Framing:
    """Return how a document is sent that must prove itself: mostly with a checksum behind it."""
    return random.choice((Framing.UNSIGNED_CHUNKS_TRAILER, Framing.UNSIGNED_CHUNKS_TRAILER, Framing.HASH))


def _content(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 40, 1000, 9000, 40_000)))


def _listing(name: bytes, *more: tuple[bytes, tuple[bytes, ...]]) -> Make:
    usual = (
        (b"prefix", (b"", b"a", b"a+b/", b"%F4%8F%BF%BF", b"ke")),
        (b"delimiter", (b"/", b"", b"e", b"ep", b"%C3%BC")),
        (b"encoding-type", (b"url",)),
    )

    def make(random: Random) -> Asked:
        query = b"&".join(filter(None, [name, _query(random, *usual, *more)]))
        headers = _some(random, (b"x-amz-optional-object-attributes", b"RestoreStatus"))
        return Asked(operation="list " + name.decode(), method=b"GET", target=_bucket(query), headers=headers)

    return make


def _put(random: Random) -> Asked:
    content = _content(random)
    headers = _some(
        random,
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-md5", b64encode(hashlib.md5(content).digest())),
        (b"x-amz-meta-Name", "wärt".encode()),
        (b"x-amz-storage-class", random.choice(CLASSES)),
        (b"x-amz-server-side-encryption", b"AES256"),
        (b"x-amz-tagging", b"a=b&c=%20"),
        (b"cache-control", b"no-cache"),
        (b"content-disposition", b"attachment"),
        (b"expires", b"Thu, 01 Dec 2094 16:00:00 GMT"),
        (b"x-amz-checksum-sha256", b64encode(hashlib.sha256(content).digest())),
        (b"if-none-match", b"*"),
        (b"if-match", b"@ETAG@"),
        (b"expect", b"100-continue"),
        (b"x-amz-acl", b"private"),
    )
    return Asked(
        operation="put",
        method=b"PUT",
        target=_path(_key(random)),
        headers=headers,
        body=content,
        framing=random.choice((Framing.HASH, Framing.HASH, Framing.UNSIGNED)),
        transfer_chunks=random.random() < 0.1,
    )


def _put_chunks(random: Random) -> Asked:
    return Asked(
        operation="put in chunks",
        method=b"PUT",
        target=_path(_key(random)),
        headers=_some(random, (b"expect", b"100-continue"), (b"x-amz-meta-a", b"b")),
        body=random.randbytes(random.choice((0, 1, 8192, 8193, 20_000, 70_000))),
        framing=random.choice((*(each for each in Framing if each.value.startswith("STREAMING")),)),
        chunk_bytes=random.choice((8192, 8193, 65536)),
        checksum=random.choice(("crc32", "sha1", "sha256", "crc32c")),
        transfer_chunks=random.random() < 0.1,
    )


def _put_encrypted(random: Random) -> Asked:
    method, body = random.choice(((b"PUT", b"secret"), (b"GET", b""), (b"HEAD", b"")))
    return Asked(
        operation="customer key", method=method, target=_path(b"sealed"), headers=CUSTOMER_KEY, body=body
    )


def _get(random: Random) -> Asked:
    headers = _some(
        random,
        (
            b"range",
            random.choice((b"bytes=0-3", b"bytes=-2", b"bytes=1-", b"bytes=99999-", b"bytes=0-0,2-3")),
        ),
        (b"if-match", b"@ETAG@"),
        (b"if-none-match", b'"x", @ETAG@'),
        (b"if-modified-since", b"Thu, 01 Dec 1994 16:00:00 GMT"),
        (b"if-unmodified-since", b"Thu, 01 Dec 2094 16:00:00 GMT"),
        (b"x-amz-checksum-mode", b"ENABLED"),
    )
    query = _query(
        random,
        (b"versionId", (b"@VERSION@", b"null")),
        (b"partNumber", (b"1", b"2")),
        (b"response-content-type", (b"text%2Fplain",)),
        (b"response-expires", (b"Thu%2C%2001%20Dec%202094%2016%3A00%3A00%20GMT",)),
    )
    method = random.choice((b"GET", b"GET", b"HEAD"))
    return Asked(operation="get", method=method, target=_path(_key(random), query), headers=headers)


def _attributes(random: Random) -> Asked:
    headers = ((b"x-amz-object-attributes", b"ETag,Checksum,ObjectParts,StorageClass,ObjectSize"),)
    more = _some(random, (b"x-amz-max-parts", b"1"), (b"x-amz-part-number-marker", b"1"))
    return Asked(
        operation="attributes",
        method=b"GET",
        target=_path(_key(random), b"attributes"),
        headers=headers + more,
    )


def _delete(random: Random) -> Asked:
    query = _query(random, (b"versionId", (b"@VERSION@", b"null")))
    key = random.choice((b"none", b"locked", b"new/%F4%8F%BF%BF", b"%01%7F"))
    headers = _some(random, (b"x-amz-bypass-governance-retention", b"true"))
    return Asked(operation="delete", method=b"DELETE", target=_path(key, query), headers=headers)


def _delete_many(random: Random) -> Asked:
    objects = b"".join(
        b"<Object><Key>none%d</Key>%s</Object>"
        % (number, random.choice((b"", b"<VersionId>null</VersionId>")))
        for number in range(random.randrange(1, 5))
    )
    body = _document(b"Delete", random.choice((b"", b"<Quiet>true</Quiet>")) + objects, random)
    headers = ((b"content-md5", b64encode(hashlib.md5(body).digest())),)
    return Asked(
        operation="delete many", method=b"POST", target=_bucket(b"delete"), headers=headers, body=body
    )


def _copy(random: Random) -> Asked:
    source = random.choice(
        (b"/@BUCKET@/kept", b"@BUCKET@/a%20b/%C3%BC", b"@BUCKET@/kept?versionId=@VERSION@", b"/@BUCKET@/cold")
    )
    headers = (
        (b"x-amz-copy-source", source),
        *_some(
            random,
            (b"x-amz-metadata-directive", b"REPLACE"),
            (b"x-amz-tagging-directive", b"COPY"),
            (b"x-amz-copy-source-if-match", b"@ETAG@"),
            (b"x-amz-copy-source-if-modified-since", b"Thu, 01 Dec 1994 16:00:00 GMT"),
            (b"x-amz-storage-class", random.choice(CLASSES)),
            (b"x-amz-server-side-encryption", b"AES256"),
            (b"x-amz-checksum-algorithm", b"SHA256"),
        ),
    )
    return Asked(operation="copy", method=b"PUT", target=_path(b"none"), headers=headers)


def _begin_upload(random: Random) -> Asked:
    headers = _some(
        random,
        (b"x-amz-storage-class", random.choice(CLASSES)),
        (b"x-amz-server-side-encryption", b"AES256"),
        (b"x-amz-checksum-algorithm", random.choice((b"CRC32", b"SHA256"))),
        (b"x-amz-checksum-type", random.choice((b"COMPOSITE", b"FULL_OBJECT"))),
        (b"x-amz-tagging", b"a=b"),
    )
    return Asked(operation="begin upload", method=b"POST", target=_path(b"none", b"uploads"), headers=headers)


def _put_part(random: Random) -> Asked:
    query = b"partNumber=%d&uploadId=@UPLOAD@" % random.choice((3, 4, 9999, 10_000))
    framing = random.choice((Framing.HASH, Framing.UNSIGNED, Framing.UNSIGNED_CHUNKS_TRAILER))
    return Asked(
        operation="put part",
        method=b"PUT",
        target=_path(b"rising", query),
        body=_content(random),
        framing=framing,
    )


def _copy_part(random: Random) -> Asked:
    query = b"partNumber=%d&uploadId=@UPLOAD@" % random.choice((5, 6))
    headers = (
        (b"x-amz-copy-source", b"/@BUCKET@/kept"),
        *_some(random, (b"x-amz-copy-source-range", b"bytes=0-1")),
    )
    return Asked(operation="copy part", method=b"PUT", target=_path(b"rising", query), headers=headers)


def _list_parts(random: Random) -> Asked:
    more = _query(
        random,
        (b"max-parts", (b"1", b"0", b"1000")),
        (b"part-number-marker", (b"0", b"1", b"7")),
        (b"encoding-type", (b"url",)),
    )
    query = b"&".join(filter(None, [b"uploadId=@UPLOAD@", more]))
    return Asked(operation="list parts", method=b"GET", target=_path(b"rising", query))


def _complete(random: Random) -> Asked:
    parts = [
        b"<Part><PartNumber>%d</PartNumber><ETag>@PART%d@</ETag></Part>" % (number, number)
        for number in (1, 2)
    ]
    if random.random() < 0.9:
        # Most are to fail, so that there is an upload for the others.
        parts = random.choice(
            ([*reversed(parts)], [], [parts[0].replace(b"@PART1@", b"&quot;0&quot;")], parts * 2)
        )
    body = _document(b"CompleteMultipartUpload", b"".join(parts), random)
    headers = _some(random, (b"if-none-match", b"*"), (b"x-amz-mp-object-size", b"1"))
    return Asked(
        operation="complete",
        method=b"POST",
        target=_path(b"rising", b"uploadId=@UPLOAD@"),
        headers=headers,
        body=body,
    )


def _abort(random: Random) -> Asked:
    upload = random.choice((b"none", b"none", b"none", b"@UPLOAD@"))
    return Asked(operation="abort", method=b"DELETE", target=_path(b"rising", b"uploadId=" + upload))


def _restore(random: Random) -> Asked:
    tier = random.choice(
        (b"", b"<GlacierJobParameters><Tier>Standard</Tier></GlacierJobParameters>", b"<Tier>Bulk</Tier>")
    )
    body = _document(b"RestoreRequest", b"<Days>%d</Days>" % random.randrange(1, 4) + tier, random)
    key = random.choice((b"cold", b"cold", b"kept"))
    return Asked(operation="restore", method=b"POST", target=_path(key, b"restore"), body=body)


def _object_tags(random: Random) -> Asked:
    query = b"&".join(filter(None, [b"tagging", _query(random, (b"versionId", (b"@VERSION@", b"null")))]))
    method = random.choice((b"GET", b"PUT", b"DELETE"))
    body = _tagging(random) if method == b"PUT" else b""
    return Asked(
        operation="tags of an object",
        method=method,
        target=_path(random.choice((b"kept", b"none")), query),
        body=body,
        framing=_proof(random) if body else Framing.HASH,
    )


def _bucket_tags(random: Random) -> Asked:
    method = random.choice((b"GET", b"PUT", b"DELETE"))
    body = _tagging(random) if method == b"PUT" else b""
    framing = _proof(random) if body else Framing.HASH
    return Asked(
        operation="tags of a bucket", method=method, target=_bucket(b"tagging"), body=body, framing=framing
    )


FILTERS = (
    b"<Filter/>",
    b"<Prefix>logs/</Prefix>",
    b"<Filter><Prefix>a b/</Prefix></Filter>",
    b"<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
    b"<Filter><ObjectSizeGreaterThan>100</ObjectSizeGreaterThan></Filter>",
    b"<Filter><And><Prefix>k</Prefix><Tag><Key>k</Key><Value/></Tag><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>",
)
ACTIONS = (
    b"<Expiration><Days>%d</Days></Expiration>",
    b"<Expiration><Date>2099-12-%02dT00:00:00Z</Date></Expiration>",
    b"<Transition><Days>%d</Days><StorageClass>GLACIER</StorageClass></Transition>",
    b"<NoncurrentVersionTransition><NoncurrentDays>%d</NoncurrentDays><StorageClass>DEEP_ARCHIVE</StorageClass></NoncurrentVersionTransition>",
    b"<NoncurrentVersionExpiration><NoncurrentDays>%d</NoncurrentDays></NoncurrentVersionExpiration>",
)


def _lifecycle(random: Random) -> Asked:
    """Set rules of which none does anything while a fuzz runs, look at them, or take them away."""
    method = random.choice((b"GET", b"PUT", b"PUT", b"PUT", b"DELETE"))
    body = b""
    if method == b"PUT":
        rules = b"".join(
            b"<Rule>%s<Status>%s</Status>%s%s</Rule>"
            % (
                random.choice((b"", b"<ID>r%d</ID>" % number)),
                random.choice((b"Enabled", b"Disabled")),
                random.choice(FILTERS),
                random.choice(ACTIONS) % random.randrange(10, 29),
            )
            for number in range(random.randrange(1, 4))
        )
        body = _document(b"LifecycleConfiguration", rules, random)
    return Asked(
        operation="lifecycle",
        method=method,
        target=_bucket(b"lifecycle"),
        headers=_some(random, (b"x-amz-transition-default-minimum-object-size", b"all_storage_classes_128K")),
        body=body,
        framing=_proof(random) if body else Framing.HASH,
    )


LOCK_HEADERS: Fields = (
    (b"x-amz-object-lock-mode", b"GOVERNANCE"),
    (b"x-amz-object-lock-retain-until-date", b"2094-12-01T16:00:00Z"),
    (b"x-amz-object-lock-legal-hold", b"OFF"),
)


def _put_locked(random: Random) -> Asked:
    method, query = random.choice(((b"PUT", b""), (b"PUT", b""), (b"POST", b"uploads")))
    body = _content(random) if method == b"PUT" else b""
    return Asked(
        operation="put locked",
        method=method,
        target=_path(random.choice((b"none", b"locked")), query),
        headers=LOCK_HEADERS,
        body=body,
        framing=_proof(random) if body else Framing.HASH,
    )


def _lock(random: Random) -> Asked:
    """The lock of an object, or what its bucket gives."""
    mode = random.choice((b"GOVERNANCE", b"COMPLIANCE"))
    name, root, content = random.choice(
        (
            (
                b"retention",
                b"Retention",
                b"<Mode>%s</Mode><RetainUntilDate>2094-12-01T16:00:00.5Z</RetainUntilDate>",
            ),
            (b"retention", b"Retention", b""),
            (b"legal-hold", b"LegalHold", b"<Status>ON</Status>"),
            (b"object-lock", b"ObjectLockConfiguration", b"<ObjectLockEnabled>Enabled</ObjectLockEnabled>"),
            (
                b"object-lock",
                b"ObjectLockConfiguration",
                b"<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>%s</Mode><Days>1</Days></DefaultRetention></Rule>",
            ),
        )
    )
    method = random.choice((b"GET", b"PUT"))
    body = _document(root, content.replace(b"%s", mode), random) if method == b"PUT" else b""
    of_version = _query(random, (b"versionId", (b"@VERSION@", b"null")))
    query = b"&".join(filter(None, [name, of_version]))
    key = random.choice((b"kept", b"locked", b"none"))
    return Asked(
        operation="lock",
        method=method,
        target=_bucket(name) if name == b"object-lock" else _path(key, query),
        headers=_some(random, (b"x-amz-bypass-governance-retention", b"true")),
        body=body,
        framing=_proof(random) if body else Framing.HASH,
    )


def _versioning(random: Random) -> Asked:
    if random.random() < 0.5:
        return Asked(operation="versioning", method=b"GET", target=_bucket(b"versioning"))
    body = _document(b"VersioningConfiguration", b"<Status>Enabled</Status>", random)
    return Asked(operation="versioning", method=b"PUT", target=_bucket(b"versioning"), body=body)


def _default_class(random: Random) -> Asked:
    if random.random() < 0.5:
        return Asked(operation="default class", method=b"GET", target=_bucket(b"x-coldstore-default-class"))
    body = _document(
        b"DefaultClassConfiguration", b"<StorageClass>" + random.choice(CLASSES) + b"</StorageClass>", random
    )
    return Asked(
        operation="default class", method=b"PUT", target=_bucket(b"x-coldstore-default-class"), body=body
    )


def _bucket_itself(random: Random) -> Asked:
    """Make one, which is there; look at it; remove it, which is not empty."""
    method = random.choice((b"PUT", b"HEAD", b"DELETE"))
    body = b""
    if method == b"PUT" and random.random() < 0.5:
        body = _document(
            b"CreateBucketConfiguration", b"<LocationConstraint>us-east-1</LocationConstraint>", random
        )
    return Asked(operation="bucket", method=method, target=_bucket(), body=body)


def _configuration(random: Random) -> Asked:
    """Ask for one of all the settings that S3 knows of a bucket or an object, those that are not built among them."""
    target = random.choice((Target.BUCKET, Target.BUCKET, Target.BUCKET, Target.OBJECT))
    built, unbuilt = BUILT[target].subresources, UNBUILT[target]
    name = random.choice(sorted({*built, *unbuilt}))
    method = random.choice(sorted({*built.get(name, ()), *unbuilt.get(name, ())}))
    query = name.encode() + random.choice((b"", b"&id=a"))
    body = CONFIGURATIONS.get(name, b"<Configuration/>") if method == "PUT" else b""
    path = _bucket(query) if target is Target.BUCKET else _path(b"kept", query)
    return Asked(operation="configuration", method=method.encode(), target=path, body=body)


def _acl(random: Random) -> Asked:
    """
    Read or give a list, of the bucket or of an object: by a name, by grants, or by a document.

    None is public: the public access block of a new bucket would deny that before anything else of it is looked at.
    """
    path = random.choice(
        (_bucket(b"acl"), _path(b"kept", b"acl"), _path(b"kept", b"acl&versionId=@VERSION@"))
    )
    if random.random() < 0.3:
        return Asked(operation="acl", method=b"GET", target=path)
    headers: Fields = ()
    body = b""
    group = b"http://acs.amazonaws.com/groups/s3/LogDelivery"
    match random.randrange(3):
        case 0:
            headers = ((b"x-amz-acl", random.choice((b"private", b"aws-exec-read", b"bucket-owner-read"))),)
        case 1:
            headers = ((b"x-amz-grant-read", b'uri="' + group + b'"'), (b"x-amz-grant-full-control", b"id=a"))
        case _:
            grant = (
                b"<Grant><Grantee><URI>" + group + b"</URI></Grantee><Permission>READ</Permission></Grant>"
            )
            body = _document(
                b"AccessControlPolicy",
                b"<Owner><ID>@OWNER@</ID></Owner><AccessControlList>" + grant + b"</AccessControlList>",
                random,
            )
    return Asked(operation="acl", method=b"PUT", target=path, headers=headers, body=body)


def _ownership(random: Random) -> Asked:
    method = random.choice((b"GET", b"PUT", b"PUT", b"DELETE"))
    body = b""
    if method == b"PUT":
        name = random.choice((b"BucketOwnerEnforced", b"BucketOwnerPreferred", b"ObjectWriter"))
        rule = b"<Rule><ObjectOwnership>" + name + b"</ObjectOwnership></Rule>"
        body = _document(b"OwnershipControls", rule, random)
    return Asked(operation="ownership", method=method, target=_bucket(b"ownershipControls"), body=body)


def _cors(random: Random) -> Asked:
    """Set rules for pages, look at them, or take them away."""
    method = random.choice((b"GET", b"PUT", b"PUT", b"PUT", b"DELETE"))
    body = b""
    if method == b"PUT":
        rules = b"".join(
            b"<CORSRule>%s<AllowedOrigin>%s</AllowedOrigin><AllowedMethod>%s</AllowedMethod>%s</CORSRule>"
            % (
                random.choice((b"", b"<ID>r%d</ID>" % number)),
                random.choice((b"*", b"https://*.example.com", b"null")),
                random.choice((b"GET", b"PUT")),
                random.choice(
                    (
                        b"",
                        b"<AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>content-type</AllowedHeader>",
                        b"<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds>",
                    )
                ),
            )
            for number in range(random.randrange(1, 4))
        )
        body = _document(b"CORSConfiguration", rules, random)
    return Asked(
        operation="cors",
        method=method,
        target=_bucket(b"cors"),
        body=body,
        framing=_proof(random) if body else Framing.HASH,
    )


def _preflight(random: Random) -> Asked:
    headers = (
        (b"origin", random.choice((b"https://www.example.com", b"null", b"https://other.test"))),
        (b"access-control-request-method", random.choice((b"GET", b"PUT"))),
        *_some(random, (b"access-control-request-headers", b"x-amz-date, content-type")),
    )
    target = random.choice((_bucket(), _path(b"kept"), _path(b"kept", b"tagging")))
    return Asked(operation="preflight", method=b"OPTIONS", target=target, headers=headers, signed=Signed.NOT)


def _service(random: Random) -> Asked:
    query = _query(
        random,
        (b"max-buckets", (b"1", b"1000")),
        (b"prefix", (b"f", b"zz")),
        (b"continuation-token", (b"a",)),
    )
    method = random.choice((b"GET", b"GET", b"OPTIONS", b"POST"))
    return Asked(operation="service", method=method, target=b"/" + (b"?" + query if query else b""))


def _form(random: Random) -> Asked:
    fields: dict[bytes, bytes] = {
        b"key": random.choice((b"form/${filename}", b"none")),
        b"policy": b"@POLICY@",
        b"x-amz-algorithm": b"AWS4-HMAC-SHA256",
        b"x-amz-credential": b"@CREDENTIAL@",
        b"x-amz-date": b"@DATE@",
        b"x-amz-signature": b"@SIGNATURE@",
    }
    for name, value in (
        (b"success_action_status", random.choice((b"200", b"201", b"204"))),
        (b"success_action_redirect", b"http://example.com/a?b=c"),
        (b"Content-Type", b"text/plain"),
        (b"x-amz-meta-a", "ä".encode()),
        (b"tagging", b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
        (b"acl", b"private"),
        (b"x-amz-storage-class", b"GLACIER"),
    ):
        if random.random() < 0.3:
            fields[name] = value
    conditions = [b'{"bucket":"@BUCKET@"}', b'["content-length-range",0,100000]']
    conditions += [
        b'["starts-with","$%s",""]' % name for name in fields if name not in (b"policy", b"x-amz-signature")
    ]
    policy = b'{"expiration":"2099-01-01T00:00:00.000Z","conditions":[' + b",".join(conditions) + b"]}"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (BOUNDARY, name, value)
        for name, value in fields.items()
    ]
    parts.append(
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a\xc3\xa4.txt"\r\nContent-Type: text/plain\r\n\r\n'
        % BOUNDARY
    )
    body = b"".join(parts) + b"content of a file" * random.randrange(20) + b"\r\n--" + BOUNDARY + b"--\r\n"
    return Asked(
        operation="form",
        method=b"POST",
        target=_bucket(random.choice((b"", b"", b"", b"x-id=PostObject"))),
        headers=((b"content-type", b"multipart/form-data; boundary=" + BOUNDARY),),
        body=body,
        signed=Signed.NOT,
        framing=Framing.UNSIGNED,
        policy=policy,
    )


OPERATIONS: Mapping[str, tuple[Make, float]] = {
    "put": (_put, 3),
    "put in chunks": (_put_chunks, 3),
    "customer key": (_put_encrypted, 1),
    "get": (_get, 3),
    "attributes": (_attributes, 1),
    "delete": (_delete, 1),
    "delete many": (_delete_many, 1),
    "copy": (_copy, 2),
    "begin upload": (_begin_upload, 0.5),
    "put part": (_put_part, 1.5),
    "copy part": (_copy_part, 1),
    "list parts": (_list_parts, 1),
    "complete": (_complete, 1.5),
    "abort": (_abort, 0.5),
    "restore": (_restore, 1),
    "tags of an object": (_object_tags, 1.5),
    "tags of a bucket": (_bucket_tags, 1),
    "lifecycle": (_lifecycle, 1.5),
    "put locked": (_put_locked, 1),
    "lock": (_lock, 1.5),
    "versioning": (_versioning, 0.7),
    "default class": (_default_class, 0.7),
    "bucket": (_bucket_itself, 1),
    "configuration": (_configuration, 1.5),
    "acl": (_acl, 1),
    "ownership": (_ownership, 0.7),
    "service": (_service, 0.7),
    "cors": (_cors, 1),
    "preflight": (_preflight, 0.7),
    "form": (_form, 3),
    "list 1": (_listing(b"", (b"marker", (b"a", b"kept")), (b"max-keys", (b"0", b"1", b"2", b"5000"))), 1),
    "list 2": (
        _listing(
            b"list-type=2",
            (b"start-after", (b"a", b"kept")),
            (b"max-keys", (b"0", b"1", b"2")),
            (b"fetch-owner", (b"true",)),
            (b"continuation-token", (b"AAAA", b"")),
        ),
        1.5,
    ),
    "list versions": (
        _listing(
            b"versions",
            (b"key-marker", (b"a", b"kept")),
            (b"version-id-marker", (b"@VERSION@", b"null", b"")),
            (b"max-keys", (b"1", b"2")),
        ),
        1.5,
    ),
    "list uploads": (
        _listing(
            b"uploads",
            (b"key-marker", (b"a", b"rising")),
            (b"upload-id-marker", (b"@UPLOAD@", b"")),
            (b"max-uploads", (b"1",)),
        ),
        1.5,
    ),
}
"""How each is made, and how often."""


def valid(random: Random) -> Asked:
    """Return a valid request, signed in one of the ways there are."""
    makers = list(OPERATIONS.values())
    ((make, _),) = random.choices(makers, [weight for _, weight in makers])
    asked = make(random)
    if asked.signed is Signed.NOT or asked.framing.value.startswith("STREAMING-AWS4"):
        return asked
    ways = (Signed.HEADER, Signed.URL, Signed.HEADER_V2, Signed.URL_V2, Signed.NOT)
    (signed,) = random.choices(ways, (8, 2, 1, 1, 0.3))
    return replace(asked, signed=signed)

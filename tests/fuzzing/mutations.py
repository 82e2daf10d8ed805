"""What is spoilt of a valid request, by chance: its parts before it is signed, its bytes after, and how they are sent."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.fuzzing.case import Asked, Case, Delivery, Edit, Ending, Framing, Place, Signed
from tests.fuzzing.operations import valid

METHODS = (
    b"GET",
    b"HEAD",
    b"PUT",
    b"POST",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"PROPFIND",
    b"X" * 40,
    b"!#$",
)
BYTES = (
    b"\0", b"%00", b"%", b"%2", b"%zz", b"%2F", b"%25", b"%0D%0A", b"\r", b"\n", b"\r\n", b"\t", b" ", b"+", b"\x7f", b"\x1f", b"%1f", b"%7F", b"\xff",
    b"%FF", b"%C0%80", b"%ED%A0%80", b"%F4%8F%BF%BF", b"%EF%BF%BF", b"\xc3\xa4", b"%C3%A4", b"\xe2\x80\xa8", b"%E2%80%A8", b"\xc2\x85", b"//", b"/", b"..", b"/../", b"?", b"&", b"&&", b"=", b"==", b"#", b";",
    b":", b",", b"'", b'"', b"<", b">", b"&amp;", b"{", b"}", b"\\", b"$", b"${filename}", b"@", b"@UPLOAD@", b"@VERSION@", b"@BUCKET@", b"@OTHER@",
)  # fmt: skip
WORDS = (
    b"", b"%00", b"a%00b", b"%EF%BF%BF", b"0", b"-1", b"-0", b"+1", b"1.5", b"1e3", b"0x10", b" 1", b"1 ", b"\xd9\xa1", b"%D9%A1", b"2147483647", b"2147483648", b"9223372036854775807",
    b"9223372036854775808", b"18446744073709551616", b"9" * 30, b"9" * 5000, b"00001", b"null", b"None", b"true", b"*", b"NaN", b"url", b"x" * 300, b"x" * 3000, b"x" * 60_000,
    b"\xf0\x9f\xa7\x8a", b"%F0%9F%A7%8A", b"AES256", b"aws:kms", b"bytes=0-", b"bytes=" + b"1-2," * 200, b'"', b'""', b'W/"a"', b"Thu, 32 Foo 2094 99:99:99 GMT",
    b"Thu, 01 Dec 0000 16:00:00 GMT", b"Thu, 01 Dec 99999 16:00:00 +9999", b"20260101T000000Z", b"0 0 0 0", b"0", b"====", b"AAAA", b"A" * 44,
)  # fmt: skip
AUTHORIZATIONS = (
    b"AWS4-HMAC-SHA256 Credential=@CREDENTIAL@, SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64,
    b"AWS4-HMAC-SHA256 Signature=0,SignedHeaders=host,Credential=@CREDENTIAL@",
    b"AWS4-ECDSA-P256-SHA256 Credential=a, SignedHeaders=host, Signature=0",
    b"AWS a:AAAA",
    b"Basic YTpi",
    b"Bearer a",
)
PRESIGNATURES = (
    b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=@CREDENTIAL@&X-Amz-Date=@DATE@&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
    b"AWSAccessKeyId=a&Expires=4000000000&Signature=AAAA",
)
PARAMETERS = (
    b"uploads", b"uploadId", b"versionId", b"versions", b"partNumber", b"tagging", b"lifecycle", b"restore", b"delete", b"acl", b"policy", b"location", b"versioning",
    b"list-type", b"prefix", b"delimiter", b"marker", b"max-keys", b"key-marker", b"version-id-marker", b"upload-id-marker", b"continuation-token",
    b"start-after", b"encoding-type", b"attributes", b"max-parts", b"part-number-marker", b"max-uploads", b"x-id", b"torrent", b"select", b"append",
    b"x-coldstore-default-class", b"response-content-type", b"response-expires", b"response-cache-control", b"response-content-encoding", b"max-buckets", b"bucket-region", b"AWSAccessKeyId", b"Signature", b"Expires",
    b"X-Amz-Signature", b"X-Amz-Algorithm", b"x-amz-copy-source", b"x-amz-meta-a", b"content-type", b"x-amz-storage-class", b"x-amz-tagging", b"x-amz-content-sha256",
)  # fmt: skip
HEADERS = (
    b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"content-type", b"content-md5", b"content-encoding",
    b"content-length", b"transfer-encoding", b"expect", b"connection", b"host", b"date", b"x-amz-date", b"x-amz-content-sha256", b"x-amz-meta-a",
    b"x-amz-meta-\xc3\xa4", b"x-amz-meta-", b"x-amz-storage-class", b"x-amz-tagging", b"x-amz-copy-source", b"x-amz-copy-source-range",
    b"x-amz-copy-source-if-match", b"x-amz-metadata-directive", b"x-amz-tagging-directive", b"x-amz-checksum-crc32", b"x-amz-checksum-sha256",
    b"x-amz-checksum-md5", b"x-amz-checksum-algorithm", b"x-amz-checksum-type", b"x-amz-sdk-checksum-algorithm", b"x-amz-trailer", b"x-amz-decoded-content-length", b"x-amz-acl", b"x-amz-grant-read", b"x-amz-mp-object-size",
    b"x-amz-security-token", b"x-amz-object-attributes", b"x-amz-max-parts", b"x-amz-part-number-marker", b"x-amz-optional-object-attributes", b"x-amz-expected-bucket-owner",
    b"x-amz-source-expected-bucket-owner", b"x-amz-request-payer", b"x-amz-bypass-governance-retention", b"x-amz-server-side-encryption", b"x-amz-server-side-encryption-customer-key", b"x-amz-server-side-encryption-customer-algorithm",
    b"x-amz-server-side-encryption-customer-key-md5", b"x-amz-copy-source-server-side-encryption-customer-key", b"x-amz-object-lock-mode", b"x-amz-website-redirect-location", b"x-amz-write-offset-bytes", b"authorization", b"cookie", b"origin",
    b"x-forwarded-for", b"cache-control", b"content-disposition", b"content-language", b"expires", b"upgrade", b"te", b"trailer",
)  # fmt: skip
XML = (
    b"<", b">", b"</", b"/>", b"&", b"&amp;", b"&lt;", b"&#0;", b"&#x1;", b"&#xffff;", b"&#x110000;", b"&x;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?xml?>", b"<?a b?>",
    b'<!DOCTYPE a [<!ENTITY x "y">]>', b'<?xml version="1.0" encoding="UTF-16"?>', b'<?xml version="1.0" encoding="latin-1"?>', b'<?xml version="1.1"?>', b"<a>" * 20, b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"<Key></Key>", b"<Key>\x01</Key>", b"<VersionId>a</VersionId>", b"<VersionId>&#0;</VersionId>", b"<Days>9</Days>", b"<Days>99999999999999999999</Days>", b"<PartNumber>1</PartNumber>", b"<ChecksumCRC32>a</ChecksumCRC32>", b"<ETag></ETag>", b"<Status>Suspended</Status>", b"<MfaDelete>Enabled</MfaDelete>",
    b"<Size>0</Size>", b"<Size>x</Size>", b"<LastModifiedTime>x</LastModifiedTime>", b"<Type>SELECT</Type>", b"<Tag><Key>a</Key><Value>b</Value></Tag>", b"<Tag/>", b"<Object/>", b"<Object><Key>a</Key></Object>",
)  # fmt: skip
CHUNKS = (
    b"\r\n", b"\n", b"\r", b"0\r\n", b"0\r\n\r\n", b";chunk-signature=", b";chunk-signature=" + b"0" * 64, b"x-amz-checksum-crc32:AAAA\r\n", b"x-amz-trailer-signature:0\r\n", b"ffffffffffffffff\r\n",
    b"fffffffffffffffff\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b":", b"\r\n\r\n", b"--", b"------fuzz", b"------fuzz--\r\n", b"\r\n------fuzz\r\n", b'Content-Disposition: form-data; name="a"\r\n\r\n', b"Content-Transfer-Encoding: base64\r\n",
    b'Content-Disposition: form-data; name="key"\r\n\r\nb\r\n', b'name="', b"filename*=utf-8''%00", b"Content-Type: multipart/mixed\r\n",
)  # fmt: skip


def case_of(seed: int, number: int) -> Case:
    """Return the case of a number: a pure function."""
    random = Random(f"{seed}/{number}")
    asked = valid(random)
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3))):
        asked = random.choice(_BEFORE_SIGNING)(asked, random)
    edits: tuple[Edit, ...] = ()
    if random.random() < 0.3:
        edits = tuple(_edit(asked, random) for _ in range(random.choice((1, 1, 2))))
    requests = [asked]
    if random.random() < 0.07:
        requests += [valid(random) for _ in range(random.randrange(1, 5))]
    return Case(asked=tuple(requests), edits=edits, delivery=_delivery(random))


# -- before the signature --------------------------------------------------------------------------------------------


def _method(asked: Asked, random: Random) -> Asked:
    return replace(asked, method=random.choice(METHODS))


def _other_signature(asked: Asked, random: Random) -> Asked:
    return replace(asked, signed=random.choice(list(Signed)))


def _other_framing(asked: Asked, random: Random) -> Asked:
    return replace(
        asked,
        framing=random.choice(list(Framing)),
        chunk_bytes=random.choice((1, 100, 8191, 8192, 100_000)),
        checksum=random.choice(("crc32", "sha1", "crc64nvme", "md5", "none")),
        transfer_chunks=random.random() < 0.3,
    )


def _target(asked: Asked, random: Random) -> Asked:
    return replace(asked, target=spoilt(asked.target, random, BYTES))


def _key(asked: Asked, random: Random) -> Asked:
    path, mark, query = asked.target.partition(b"?")
    bucket = random.choice(
        (
            b"/@BUCKET@",
            b"/@BUCKET@",
            b"/@OTHER@",
            b"/no-such-bucket",
            b"/" + random.choice(BYTES),
            b"/a%00b",
            b"/" + b"x" * 64,
            b"",
        )
    )
    key = random.choice(
        (
            b"",
            b"/",
            b"/kept",
            b"/kept/",
            b"/" + random.choice(BYTES) * random.randrange(1, 4),
            b"/" + b"%C3%A4" * 512,
            b"/" + b"k" * 1025,
            b"/" + b"k" * 9000,
        )
    )
    del path
    return replace(asked, target=(bucket + key or b"/") + mark + query)


def _absolute(asked: Asked, random: Random) -> Asked:
    return replace(
        asked,
        target=random.choice((b"http://", b"HTTPS://", b"http://a:b@", b"//", b"*"))
        + random.choice((b"@HOST@", b"", b"[::1]"))
        + asked.target,
    )


def _parameter(asked: Asked, random: Random) -> Asked:
    path, _, query = asked.target.partition(b"?")
    items = [item for item in query.split(b"&") if item]
    choice = random.random()
    if items and choice < 0.5:
        at = random.randrange(len(items))
        name, _, value = items[at].partition(b"=")
        items[at] = name + b"=" + random.choice((random.choice(WORDS), spoilt(value, random, BYTES)))
    elif items and choice < 0.6:
        items.append(random.choice(items))
    elif items and choice < 0.7:
        items.remove(random.choice(items))
    else:
        name = random.choice(PARAMETERS)
        value = random.choice((b"", b"=" + random.choice(WORDS), b"=" + random.choice(BYTES)))
        items.insert(random.randrange(len(items) + 1), name + value)
    return replace(asked, target=path + b"?" + b"&".join(items))


def _header(asked: Asked, random: Random) -> Asked:
    headers = list(asked.headers)
    choice = random.random()
    if headers and choice < 0.35:
        at = random.randrange(len(headers))
        name, value = headers[at]
        headers[at] = (name, random.choice((random.choice(WORDS), spoilt(value, random, BYTES))))
    elif headers and choice < 0.45:
        headers.append(random.choice(headers))
    elif headers and choice < 0.55:
        headers.remove(random.choice(headers))
    elif choice < 0.6:
        headers += [(b"x-amz-meta-%d" % number, b"v" * 100) for number in range(random.choice((10, 30, 500)))]
    else:
        value = random.choice(
            (random.choice(WORDS), random.choice(BYTES), b"@ETAG@", b"@BUCKET@/kept", b"/@BUCKET@/none%00")
        )
        headers.append((random.choice(HEADERS), value))
    return replace(asked, headers=tuple(headers))


def _body(asked: Asked, random: Random) -> Asked:
    tokens = XML + CHUNKS if asked.body[:1] in (b"<", b"-") else BYTES
    return replace(asked, body=spoilt(asked.body, random, tokens))


def _other_body(asked: Asked, random: Random) -> Asked:
    big = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>"
    deep = b"<Tagging>" * 3000
    return replace(
        asked,
        body=random.choice(
            (b"", b"x", b"<a/>", big, deep, b"\0" * 100, b"<Tagging>" + b"a" * 1_100_000, valid(random).body)
        ),
    )


def _policy(asked: Asked, random: Random) -> Asked:
    if not asked.policy:
        return _body(asked, random)
    tokens = (
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"null",
        b"1e999",
        b"NaN",
        b"9" * 5000,
        b"[" * 2000,
        b",",
        b":",
        b"\xff",
        b'"eq"',
        b'"$key"',
        b"-1",
        b"[[]]",
        b"{}",
    )
    return replace(asked, policy=spoilt(asked.policy, random, tokens))


def _own_signature(asked: Asked, random: Random) -> Asked:
    """Claim something of a signature: what is read before it turns out to be none."""
    if random.random() < 0.5:
        claim = spoilt(random.choice(AUTHORIZATIONS), random, BYTES + WORDS)
        more = ((b"authorization", claim), (b"x-amz-date", random.choice((b"@DATE@", random.choice(WORDS)))))
        return replace(asked, signed=Signed.NOT, headers=asked.headers + more)
    joint = b"&" if b"?" in asked.target else b"?"
    claim = spoilt(random.choice(PRESIGNATURES), random, BYTES + WORDS)
    return replace(asked, signed=Signed.NOT, target=asked.target + joint + claim)


_BEFORE_SIGNING: tuple[Callable[[Asked, Random], Asked], ...] = (
    _method,
    _other_signature,
    _own_signature,
    _other_framing,
    _target,
    _key,
    _absolute,
    _parameter,
    _parameter,
    _parameter,
    _header,
    _header,
    _header,
    _header,
    _body,
    _body,
    _body,
    _other_body,
    _policy,
)


def spoilt(text: bytes, random: Random, tokens: tuple[bytes, ...]) -> bytes:
    """Return bytes with a change somewhere."""
    at = random.randrange(len(text) + 1)
    length = random.choice((0, 1, 1, 2, 5, 30))
    match random.randrange(6):
        case 0:
            return text[:at] + random.choice(tokens) + text[at:]
        case 1:
            return text[:at] + random.choice(tokens) + text[at + length :]
        case 2:
            return text[:at] + text[at + length :]
        case 3:
            return text[:at] + text[at : at + length] * random.choice((2, 3, 200)) + text[at + length :]
        case 4:
            return text[:at] + bytes([random.randrange(256)]) + text[at + 1 :]
        case _:
            return text[:at] if random.random() < 0.5 else text[at:]


# -- after it --------------------------------------------------------------------------------------------------------


def _edit(asked: Asked, random: Random) -> Edit:
    place = random.choice((Place.HEAD, Place.BODY)) if asked.body else Place.HEAD
    tokens = BYTES + WORDS if place is Place.HEAD else XML + CHUNKS + BYTES
    # Most chunks' lines and forms' fields are near one of the ends.
    at = random.choice((random.random(), random.random() * 0.02, 1 - random.random() * 0.02, 0.0, 1.0))
    kind = random.random()
    if kind < 0.4:
        return Edit(place=place, at=at, added=random.choice(tokens))
    if kind < 0.6:
        return Edit(place=place, at=at, removed=random.choice((1, 2, 64, 10_000)))
    return Edit(place=place, at=at, removed=1, added=bytes([random.randrange(256)]))


def _delivery(random: Random) -> Delivery:
    kind = random.random()
    if kind < 0.6:
        return Delivery()
    if kind < 0.8:
        count = random.choice((1, 2, 5, 30))
        cuts = tuple(sorted(round(random.random(), 4) for _ in range(count)))
        return Delivery(cuts=cuts, pause_seconds=random.choice((0.0, 0.0, 0.002)))
    if kind < 0.85:
        return Delivery(cuts=tuple(number / 1500 for number in range(1, 1500)))
    sent = round(random.random(), 4)
    ending = random.choice(
        (Ending.CLOSES, Ending.CLOSES, Ending.CLOSES, Ending.RESETS, Ending.RESETS, Ending.WAITS)
    )
    return Delivery(sent=sent, ending=ending, cuts=random.choice(((), (0.5,))))

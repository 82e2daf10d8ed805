"""PostObject: an upload from a browser's form, within the policy that its signer wrote."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from coldstore.s3.answers import Answer
from coldstore.s3.call import Call, FormUpload
from coldstore.s3.encryption import encryption_headers
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import AMZ_PREFIX, HeaderFields
from coldstore.s3.forms import FORM_TYPE, Form
from coldstore.s3.integrity import checksum_headers
from coldstore.s3.locking import check_written
from coldstore.s3.objects import publish
from coldstore.s3.paths import KEY_LIMIT_BYTES, key_too_long
from coldstore.s3.post_policy import parse_policy
from coldstore.s3.receiving import SINGLE_PUT_MAX_BYTES, receive
from coldstore.s3.services import Services, made_header
from coldstore.s3.stored import STORED_HEADERS, description, quoted
from coldstore.s3.tags import parse_tagging, with_tags
from coldstore.s3.xml import document, node

_OF_SIGNATURE = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"})
_STATUSES = frozenset({"200", "201", "204"})
_USUAL_STATUS = "204"


def headers_of(form: Form) -> HeaderFields:
    """Return what a form says of its object, as the header fields that say the same of a PUT."""
    kept = {
        name: value
        for name, value in form.fields.items()
        if name in STORED_HEADERS or (name.startswith(AMZ_PREFIX) and name not in _OF_SIGNATURE)
    }
    if "acl" in form.fields:
        kept["x-amz-acl"] = form.fields["acl"]
    return HeaderFields.of({name: [value.encode("utf-8")] for name, value in kept.items()})


def key_of(form: Form) -> bytes:
    """
    Return the key that a form names, with the file's name where it asks for it.

    :raise S3Error: InvalidArgument, KeyTooLongError
    """
    key = form.fields.get("key", "").replace("${filename}", form.file_name).encode("utf-8")
    if not key:
        raise S3Error(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
            details={"ArgumentName": "key", "ArgumentValue": ""},
        )
    if len(key) > KEY_LIMIT_BYTES:
        raise key_too_long(key)
    return key


class PostOperations:
    """The operation of browsers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def post_object(self, call: Call) -> Answer:
        """PostObject: the policy is judged before the file is asked for, the file's length as it comes."""
        services, upload = self._services, call.upload
        bucket = await services.bucket(call)
        if upload is None:
            raise S3Error(
                "PreconditionFailed",
                f"Bucket POST must be of the enclosure-type {FORM_TYPE}",
                details={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
            )
        fields, body = upload.form.fields, upload.body
        key = call.object_key.decode("utf-8")
        least_bytes, most_bytes = 0, SINGLE_PUT_MAX_BYTES
        if not call.caller.is_anonymous:
            policy = parse_policy(fields["policy"])
            policy.check_fields({**fields, "key": key}, bucket=bucket.name, now=services.now())
            least_bytes, most_bytes = policy.least_bytes, min(policy.most_bytes, SINGLE_PUT_MAX_BYTES)
        owned = await services.acl_giving.of_new(call, bucket)
        described = description(call.headers, bucket, services.rules, owned, now=services.now())
        if "tagging" in fields:
            tags = parse_tagging(fields["tagging"].encode("utf-8"))
            described = described._replace(headers=with_tags(described.headers, tags))
        sealing = await services.object_keys.of_writer(call, bucket)
        plan = body.object_plan(call.headers)
        check_written(described, bucket, None)
        body.limit(least_bytes, most_bytes)
        # No room is asked for bytes that are refused when they come.
        size_bytes = min(body.length_bytes, most_bytes)
        with (
            await services.reserve_version(call, bucket, described.owner_id, content_bytes=size_bytes),
            await services.admission.admit(
                caller=await services.payer(call, described.owner_id),
                bucket=bucket,
                size_bytes=size_bytes if sealing is None else sealing.stored_bytes(size_bytes),
                storage_class=described.storage_class,
            ) as admitted,
        ):
            arrived = await receive(services.staging, body, plan, admitted, sealing)
            version = await publish(services, call, bucket, described, arrived, None, sealing)
        etag = quoted(version.facts.etag)
        told = {**checksum_headers(arrived.checksum), **encryption_headers(version.facts.encryption)}
        answer = _answer(upload, bucket.name, key, etag, told)
        of_version = {**made_header(version), **await services.expiration(bucket, version)}
        return answer._replace(headers={**answer.headers, **of_version})


def _answer(upload: FormUpload, bucket: str, key: str, etag: str, told: Mapping[str, str]) -> Answer:
    fields = upload.form.fields
    redirect = redirected(fields.get("success_action_redirect") or fields.get("redirect"), bucket, key, etag)
    if redirect is not None:
        return Answer(status=303, headers={"ETag": etag, "Location": redirect})
    location = f"{upload.base_url}/{quote(bucket)}/{quote(key, safe='/~')}"
    headers = {"ETag": etag, "Location": location, **told}
    status = fields.get("success_action_status", _USUAL_STATUS)
    if status != "201":
        return Answer(status=int(status if status in _STATUSES else _USUAL_STATUS), headers=headers)
    root = node(
        "PostResponse",
        node("Location", location),
        node("Bucket", bucket),
        node("Key", key),
        node("ETag", etag),
    )
    # Unlike all other documents this one is in no namespace.
    body = document(root, namespace=None)
    return Answer(status=201, headers={**headers, "Content-Type": "application/xml"}, body=body)


def redirected(address: str | None, bucket: str, key: str, etag: str) -> str | None:
    """
    Return where a browser is sent after its upload: to an address of the web, with what was stored in its query.

    None without an address, and for what is none: S3 then answers as if it had not been given.
    """
    if address is None or not (address.isascii() and address.isprintable()) or " " in address:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    told = "&".join(
        f"{name}={quote(value, safe='~')}"
        for name, value in (("bucket", bucket), ("key", key), ("etag", etag))
    )
    return parts._replace(query=f"{parts.query}&{told}" if parts.query else told).geturl()

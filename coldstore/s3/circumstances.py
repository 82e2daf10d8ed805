"""
What a request has under the condition keys of policies.

Source: Service Authorization Reference, "Condition keys for Amazon S3"; IAM User Guide, "AWS global condition context keys"; Amazon S3 API Reference,
"Amazon S3 Signature Version 4 Authentication Specific Policy Keys".
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from coldstore.model.locks import Lock
from coldstore.model.objects import Pairs
from coldstore.plan.policy.conditions import EXISTING_TAG, REQUEST_TAG, REQUEST_TAG_KEYS
from coldstore.plan.policy.principals import user_arn
from coldstore.s3.actions import gives_tags
from coldstore.s3.api import Operation
from coldstore.s3.call import Call
from coldstore.s3.fields import HeaderFields
from coldstore.s3.locks import LEGAL_HOLD, LOCK_HEADERS, MODE, UNTIL, shown_lock
from coldstore.s3.signing import ALGORITHM
from coldstore.s3.tags import header_tags, parse_tagging
from coldstore.s3.validity import unix_seconds

_OF_LISTINGS = {"s3:prefix": "prefix", "s3:delimiter": "delimiter", "s3:max-keys": "max-keys"}
_OF_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        **{
            f"s3:{name}": name
            for name in (
                "x-amz-acl",
                "x-amz-content-sha256",
                "x-amz-grant-full-control",
                "x-amz-grant-read",
                "x-amz-grant-read-acp",
                "x-amz-grant-write",
                "x-amz-grant-write-acp",
                "x-amz-metadata-directive",
                "x-amz-object-ownership",
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-customer-algorithm",
                "x-amz-storage-class",
                "x-amz-website-redirect-location",
                "if-match",
                "if-none-match",
            )
        },
        "s3:object-lock-mode": MODE,
        "s3:object-lock-retain-until-date": UNTIL,
        "s3:object-lock-legal-hold": LEGAL_HOLD,
    }
)
"""Header fields whose value a key has, where the request has them."""
_CREATES: Mapping[Operation, bool] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                Operation.PUT_OBJECT,
                Operation.POST_OBJECT,
                Operation.COPY_OBJECT,
                Operation.COMPLETE_MULTIPART_UPLOAD,
            ),
            True,
        ),
        **dict.fromkeys(
            (Operation.CREATE_MULTIPART_UPLOAD, Operation.UPLOAD_PART, Operation.UPLOAD_PART_COPY), False
        ),
    }
)
"""Whether there is a new object after it: of all that needs to be allowed ``s3:PutObject``."""


class RequestCircumstances(NamedTuple):
    """
    One request about one object or bucket.

    :ivar owner_id: of the bucket, or who asks where there is none
    :ivar version_id: the version that is asked for
    :ivar existing_tags: of the object, where a policy asks for them
    :ivar request_tags: those that its document brings; None: what its headers say
    :ivar lock: likewise
    """

    call: Call
    owner_id: str
    version_id: str | None = None
    existing_tags: Pairs = ()
    request_tags: Pairs | None = None
    lock: Lock | None = None

    def values(self, key: str) -> tuple[str, ...]:
        """See ``Circumstances``."""
        if key.startswith(EXISTING_TAG):
            return _of_tag(self.existing_tags, key.removeprefix(EXISTING_TAG))
        if key.startswith(REQUEST_TAG):
            return _of_tag(self._tags(), key.removeprefix(REQUEST_TAG))
        if key == REQUEST_TAG_KEYS:
            return tuple(name for name, _ in self._tags())
        header = _OF_HEADERS.get(key)
        if header is not None:
            value = self.field(header)
        elif key in _OF_LISTINGS:
            # Of a request about an object these words mean nothing, whatever they say.
            value = self.call.query.one(_OF_LISTINGS[key]) if self.call.key is None else None
        else:
            ask = _ASKED.get(key)
            value = None if ask is None else ask(self)
        return () if value is None else (value,)

    def field(self, name: str) -> str | None:
        """Return what the request says in a header field, or in its document in the place of that."""
        if self.lock is not None and name in LOCK_HEADERS:
            return shown_lock(self.lock).get(name)
        return self.call.headers.get(name)

    def _tags(self) -> Pairs:
        if self.request_tags is not None:
            return self.request_tags
        if not gives_tags(self.call):
            return ()
        upload = self.call.upload
        if upload is not None and "tagging" in upload.form.fields:
            return parse_tagging(upload.form.fields["tagging"].encode("utf-8"))
        return header_tags(self.call.headers)

    @property
    def sent(self) -> HeaderFields:
        """The header fields of the request itself, which those of a form are not."""
        return self.call.headers if self.call.upload is None else self.call.upload.sent


def _of_tag(tags: Pairs, name: str) -> tuple[str, ...]:
    return tuple(value for key, value in tags if key == name)


def _source_ip(asked: RequestCircumstances) -> str | None:
    """Return the client's address; of one that speaks IPv4 to a socket of IPv6 the former."""
    try:
        address = ip_address(asked.call.remote_address)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _current_time(asked: RequestCircumstances) -> str:
    return datetime.fromtimestamp(int(asked.call.received_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signer(text: Callable[[Call], str]) -> Callable[[RequestCircumstances], str | None]:
    """Make what answers with something of who signed, where somebody did."""
    return lambda asked: None if asked.call.caller.is_anonymous else text(asked.call)


def _auth_type(call: Call) -> str:
    if call.upload is not None:
        return "POST"
    return "REST-QUERY-STRING" if call.is_presigned else "REST-HEADER"


def _is_version_4(call: Call) -> bool:
    if call.upload is not None:
        return "x-amz-algorithm" in call.upload.form.fields
    return "X-Amz-Algorithm" in call.query or (call.headers.get("authorization") or "").startswith(ALGORITHM)


def _signature_age(asked: RequestCircumstances) -> str | None:
    """Return how long ago it was signed in milliseconds, of what Version 4 has signed."""
    call = asked.call
    if call.caller.is_anonymous or not _is_version_4(call):
        return None
    if call.upload is not None:
        signed = call.upload.form.fields.get("x-amz-date")
    else:
        signed = call.query.one("X-Amz-Date") or call.headers.get("x-amz-date")
    signed_at = unix_seconds(signed or "")
    return None if signed_at is None else str(max(0, int((call.received_at - signed_at) * 1000)))


def _copy_source(asked: RequestCircumstances) -> str | None:
    """Return the source of a copy as ``bucket/key``, decoded."""
    source = asked.call.headers.get("x-amz-copy-source")
    return None if source is None else unquote(source).removeprefix("/")


def _creates(asked: RequestCircumstances) -> str | None:
    creates = _CREATES.get(asked.call.operation)
    return None if creates is None else str(creates).lower()


def _retention_days(asked: RequestCircumstances) -> str | None:
    """Return for how many days a new object is to be kept."""
    until = asked.field(UNTIL)
    if until is None:
        return None
    try:
        ends = datetime.fromisoformat(until)
    except ValueError:
        return None
    ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return str(int((ends.timestamp() - asked.call.received_at) // 86_400))


_ASKED: Mapping[str, Callable[[RequestCircumstances], str | None]] = MappingProxyType(
    {
        "aws:sourceip": _source_ip,
        "aws:securetransport": lambda asked: "true" if asked.call.is_secure else "false",
        "aws:currenttime": _current_time,
        "aws:epochtime": lambda asked: str(int(asked.call.received_at)),
        "aws:useragent": lambda asked: asked.sent.get("user-agent"),
        "aws:referer": lambda asked: asked.sent.get("referer"),
        "aws:username": _signer(lambda call: call.caller.name),
        "aws:userid": _signer(lambda call: call.caller.user_id),
        "aws:principalarn": _signer(lambda call: user_arn(call.caller.user_id, call.caller.name)),
        "aws:principalaccount": _signer(lambda call: call.caller.user_id),
        "aws:principaltype": lambda asked: "Anonymous" if asked.call.caller.is_anonymous else "User",
        # Neither is ever so here, and AWS says so in every request: denials are written that begin with it.
        "aws:principalisawsservice": _signer(lambda _: "false"),
        "aws:viaawsservice": lambda _: "false",
        "aws:resourceaccount": lambda asked: asked.owner_id,
        "s3:resourceaccount": lambda asked: asked.owner_id,
        "s3:authtype": _signer(_auth_type),
        "s3:signatureversion": _signer(lambda call: ALGORITHM if _is_version_4(call) else "AWS"),
        "s3:signatureage": _signature_age,
        "s3:versionid": lambda asked: asked.version_id,
        "s3:x-amz-copy-source": _copy_source,
        "s3:objectcreationoperation": _creates,
        "s3:object-lock-remaining-retention-days": _retention_days,
    }
)

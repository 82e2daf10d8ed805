"""
S3's errors: the one table of codes, what each of our refusals is called in S3, and the document that says so.

Source of codes, statuses and messages: Amazon S3 API Reference, "Error responses"; elements beside Code and Message
from the same page and the API model's error shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from coldstore.model import errors as refusals
from coldstore.s3.xml import Node, document, node, readable

CODES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
        "AccessDenied": (403, "Access Denied"),
        "AccessForbidden": (403, "Access forbidden"),
        "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
        "AuthorizationQueryParametersError": (400, "The authorization query parameters are not valid."),
        "BadDigest": (400, "The digest or checksum you specified did not match what we received."),
        "BadRequest": (400, "Bad Request"),
        "BucketAlreadyExists": (409, "The requested bucket name is not available."),
        "BucketAlreadyOwnedByYou": (
            409,
            "The bucket that you tried to create already exists, and you own it.",
        ),
        "BucketNotEmpty": (409, "The bucket that you tried to delete is not empty."),
        "ConditionalRequestConflict": (409, "A conflicting operation occurred during a conditional write."),
        "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
        "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed object size."),
        "GlacierExpeditedRetrievalNotAvailable": (
            503,
            "Glacier expedited retrievals are currently not available, please try again later.",
        ),
        "IllegalVersioningConfigurationException": (
            400,
            "The versioning configuration specified in the request is invalid: its Status must be Enabled or Suspended.",
        ),
        "IllegalLocationConstraintException": (
            400,
            "The location constraint is not valid for this endpoint.",
        ),
        "IncompleteBody": (
            400,
            "The request body does not have the number of bytes that its headers promise.",
        ),
        "InternalError": (
            500,
            "We encountered an internal error. Please try again. "
            "The appliance's log names it by the request id of this answer.",
        ),
        "InvalidAccessKeyId": (403, "The access key ID that you provided does not exist in our records."),
        "InvalidArgument": (400, "Invalid Argument"),
        "InvalidBucketAclWithBlockPublicAccessError": (
            400,
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        ),
        "InvalidBucketAclWithObjectOwnership": (
            400,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        ),
        "InvalidBucketName": (400, "The specified bucket is not valid."),
        "InvalidBucketState": (409, "The request is not valid for the current state of the bucket."),
        "InvalidChunkSizeError": (400, "Only the last chunk is allowed to have a size less than 8192 bytes"),
        "InvalidEncryptionAlgorithmError": (
            400,
            "The Encryption request you specified is not valid. Supported value: AES256.",
        ),
        "InvalidDigest": (400, "The Content-MD5 or checksum value that you specified is not valid."),
        "InvalidLocationConstraint": (400, "The specified location constraint is not valid."),
        "InvalidObjectState": (403, "The operation is not valid for the object's storage class"),
        "InvalidPart": (400, "One or more of the specified parts could not be found."),
        "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
        "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
        "InvalidPolicyDocument": (400, "The content of the form does not meet the conditions of the policy."),
        "InvalidRange": (416, "The requested range is not satisfiable"),
        "InvalidRequest": (400, "Invalid Request"),
        "InvalidStorageClass": (400, "The storage class you specified is not valid"),
        "InvalidTag": (400, "The tag that you provided is not valid."),
        "InvalidToken": (
            400,
            "The provided token is malformed or otherwise not valid: ColdStore has no session tokens. Leave out "
            "x-amz-security-token, which tools send when AWS_SESSION_TOKEN is set.",
        ),
        "InvalidURI": (400, "Couldn't parse the specified URI."),
        "KeyTooLongError": (400, "Your key is too long."),
        "MalformedACLError": (400, "The ACL that you provided is not well formed."),
        "MalformedPOSTRequest": (
            400,
            "The body of your POST request is not well-formed multipart/form-data.",
        ),
        "MalformedPolicy": (400, "The policy is not valid."),
        "MalformedTrailerError": (400, "The request contained trailing data that was not well-formed."),
        "MalformedXML": (400, "The XML that you provided was not well formed or did not match our schema."),
        "MaxMessageLengthExceeded": (400, "Your request was too large."),
        "MaxPostPreDataLengthExceededError": (
            400,
            "Your POST request fields preceding the upload file were too large.",
        ),
        "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size."),
        "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
        "MissingContentLength": (
            411,
            "You must provide the Content-Length HTTP header, or x-amz-decoded-content-length for a body in chunks.",
        ),
        "MissingRequestBodyError": (400, "Request body is empty."),
        "MissingSecurityHeader": (400, "Your request is missing a required header."),
        "MetadataConfigurationNotFound": (404, "The bucket has no metadata configuration"),
        "NoSuchBucket": (404, "The specified bucket does not exist"),
        "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
        "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
        "NoSuchConfiguration": (404, "The bucket has no configuration of this kind and id"),
        "NoSuchKey": (404, "The specified key does not exist."),
        "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
        "NoSuchObjectLockConfiguration": (
            404,
            "The specified object does not have a ObjectLock configuration",
        ),
        "NoSuchPublicAccessBlockConfiguration": (404, "The public access block configuration was not found"),
        "NoSuchTagSet": (404, "The TagSet does not exist"),
        "NoSuchUpload": (
            404,
            "The specified multipart upload does not exist. "
            "The upload ID might not be valid, or the upload might have been aborted or completed.",
        ),
        "NoSuchVersion": (404, "The specified version does not exist."),
        "NoSuchWebsiteConfiguration": (404, "The specified bucket does not have a website configuration"),
        "NotImplemented": (501, "A header or operation that you asked for is not implemented."),
        "NotModified": (304, "Not Modified"),
        "ObjectLockConfigurationNotFoundError": (
            404,
            "Object Lock configuration does not exist for this bucket",
        ),
        "OperationAborted": (409, "A conflicting operation is in progress against this resource. Try again."),
        "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
        "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
        "QuotaExceeded": (403, "A quota is exceeded."),
        "ReplicationConfigurationNotFoundError": (404, "The replication configuration was not found"),
        "RequestHeaderSectionTooLarge": (
            400,
            "Your request header and query parameters used to make the request exceed the maximum allowed size.",
        ),
        "RequestTimeTooSkewed": (
            403,
            "The difference between the request time and the current time is too large.",
        ),
        "RequestTimeout": (
            400,
            "Your socket connection to the server was not read from or written to within the timeout period.",
        ),
        "RestoreAlreadyInProgress": (409, "Object restore is already in progress"),
        "ServerSideEncryptionConfigurationNotFoundError": (
            404,
            "The server side encryption configuration was not found",
        ),
        "ServiceUnavailable": (
            503,
            "Service is unable to handle request: the staging disk failed. Please try again later. "
            "The appliance's log names it by the request id of this answer.",
        ),
        "SignatureDoesNotMatch": (
            403,
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        ),
        "SlowDown": (503, "Please reduce your request rate."),
        "UnexpectedContent": (400, "This request does not support content"),
        "UnresolvableGrantByEmailAddress": (
            400,
            "The email address you provided does not match any account on record.",
        ),
        "XAmzContentSHA256Mismatch": (
            400,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
    }
)
"""Every code that ColdStore answers with: its HTTP status and its usual message."""


SHOWN_MAX = 100
"""Characters of a client's value that a message repeats at most."""


def shown(value: str | bytes) -> str:
    """Return a value as messages repeat it: in quotes, on one line, and not all of it when it is long."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return repr(text) if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]!r}..."


class S3Error(Exception):
    """
    An answer that refuses: a code of ``CODES``, a message, and elements that some codes carry besides.

    :ivar status: HTTP status
    :ivar details: further elements of the document, in order (``StorageClass``, ``Key``, ``ArgumentName`` ...)
    :ivar headers: header fields to send with it (``Allow``, ``Retry-After``, ``x-amz-delete-marker`` ...)
    :ivar resource: what the ``Resource`` element names; None leaves it to the path of the request
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        details: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        resource: str | None = None,
    ) -> None:
        """:raise KeyError: for a code that is not in ``CODES``"""
        self.status, usual = CODES[code]
        self.code = code
        self.message = usual if message is None else message
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.resource = resource
        super().__init__(f"{code}: {self.message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    How S3 says one of our refusals: ``message`` and ``headers`` besides the usual ones of ``code``.

    ``{}`` in the message stands for what the refusal itself says, which is the name of what it is about.
    """

    code: str
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


ANSWERS: Mapping[type[refusals.ColdStoreError], Refusal] = MappingProxyType(
    {
        refusals.NoSuchBucket: Refusal(
            code="NoSuchBucket", message="The specified bucket does not exist: {}"
        ),
        refusals.BucketExists: Refusal(
            code="BucketAlreadyExists",
            message="The requested bucket name is not available: {} belongs to another user.",
        ),
        refusals.BucketAlreadyOwned: Refusal(
            code="BucketAlreadyOwnedByYou",
            message="The bucket that you tried to create already exists, and you own it: {}",
        ),
        refusals.BucketNotEmpty: Refusal(
            code="BucketNotEmpty",
            message="The bucket that you tried to delete is not empty: {} has objects, or older versions or delete "
            "markers, which ListObjectVersions shows.",
        ),
        refusals.NoSuchKey: Refusal(code="NoSuchKey"),
        refusals.ShowsDeleteMarker: Refusal(code="NoSuchKey", headers={"x-amz-delete-marker": "true"}),
        refusals.NoSuchVersion: Refusal(code="NoSuchVersion"),
        refusals.NoSuchUpload: Refusal(
            code="NoSuchUpload",
            message="The specified multipart upload does not exist: {}. The upload ID might not be valid, or the upload "
            "might have been aborted or completed.",
        ),
        refusals.PreconditionFailed: Refusal(
            code="PreconditionFailed",
            message="At least one of the pre-conditions you specified did not hold: {}",
        ),
        refusals.InvalidBucketState: Refusal(code="InvalidBucketState", message="{}"),
        refusals.BucketTakesNoLocks: Refusal(
            code="InvalidRequest", message="Bucket is missing Object Lock Configuration: {}"
        ),
        refusals.ObjectLocked: Refusal(
            code="AccessDenied", message="Access Denied because object protected by object lock: {}"
        ),
        refusals.ObjectIsCold: Refusal(code="InvalidObjectState"),
        refusals.RestoreInProgress: Refusal(code="RestoreAlreadyInProgress"),
        refusals.RestoreNotAllowed: Refusal(
            code="InvalidObjectState",
            message="Restore is not allowed for the object's current storage class",
        ),
        # S3 knows no "disk full": SDKs wait and repeat on SlowDown, which is what should happen here.
        refusals.StagingFull: Refusal(
            code="SlowDown",
            message="The staging disk cannot take the bytes of this request now. Please try again later.",
            headers={"Retry-After": "30"},
        ),
        refusals.ObjectDamaged: Refusal(
            code="InternalError",
            message="The stored bytes of this object do not match their checksum and no other copy could be read.",
        ),
        # What is said to an operator is no client's business.
        refusals.DataKeyMissing: Refusal(
            code="ServiceUnavailable",
            message="The key that encrypts what you asked for is not available now; the appliance's operator is told so. "
            "Objects that are not encrypted with it are served.",
            headers={"Retry-After": "30"},
        ),
        refusals.MetadataUnavailable: Refusal(
            code="ServiceUnavailable",
            message="The metadata store cannot be reached now. Please try again later.",
            headers={"Retry-After": "5"},
        ),
        refusals.TakenOver: Refusal(
            code="ServiceUnavailable",
            message="Another appliance serves this archive now. Please try again later.",
            headers={"Retry-After": "5"},
        ),
        refusals.MetadataFull: Refusal(
            code="ServiceUnavailable",
            message="The metadata store has no room to record this now. Please try again later.",
            headers={"Retry-After": "30"},
        ),
    }
)
"""What S3 calls each refusal of the model. A test keeps it complete."""


def s3_error(refusal: refusals.ColdStoreError) -> S3Error:
    """
    Return S3's word for a refusal of the model.

    The nearest class of the refusal's own line of ancestors that ``ANSWERS`` names decides.

    :raise KeyError: when no ancestor is in the table
    """
    for kind in type(refusal).__mro__:
        answer = ANSWERS.get(kind)
        if answer is not None:
            message = answer.message
            if message is not None and "{}" in message:
                message = message.format(shown(str(refusal)))
            return S3Error(answer.code, message, headers=answer.headers)
    raise KeyError(type(refusal).__name__)


def error_document(error: S3Error, *, resource: str, request_id: str, host_id: str) -> bytes:
    """
    Return the XML that describes ``error``. The root has no namespace, unlike every other document of S3.

    It can always be read: what it quotes of a request may hold anything.
    """
    children: list[Node] = [node("Code", error.code), node("Message", readable(error.message))]
    children += [node(name, readable(value)) for name, value in error.details.items()]
    if "Resource" not in error.details:
        children.append(node("Resource", readable(resource if error.resource is None else error.resource)))
    children += [node("RequestId", request_id), node("HostId", host_id)]
    return document(node("Error", *children), namespace=None)

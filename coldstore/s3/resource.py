# mypy: disallow-untyped-calls=False
# (twisted.web is annotated in part only)
"""
One request from its headers to its answer: address, signature, route, operation, document; and one log event.

Klein serves a single route that takes everything, since S3's paths are not paths (``coldstore.s3.paths``).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from coldstore.interfaces.staging import BytesDamaged, DiskFault
from coldstore.model.errors import ColdStoreError
from coldstore.model.keys import Signer
from coldstore.s3.answers import Answer
from coldstore.s3.api import PREFLIGHT, Operation
from coldstore.s3.auth import Authenticator, query_fields
from coldstore.s3.body import BodyAborted, BodySource, EmptySource, InThread, RequestBody
from coldstore.s3.call import ANONYMOUS, Call, Caller, FormUpload
from coldstore.s3.crowd import Turns
from coldstore.s3.errors import CODES, S3Error, error_document, s3_error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.forms import FormBody, is_upload_by_form
from coldstore.s3.ids import IdSource, RequestIds
from coldstore.s3.keyuse import NoteUse
from coldstore.s3.origins import ORIGIN
from coldstore.s3.paths import Address, address_of
from coldstore.s3.payload import NO_PAYLOAD
from coldstore.s3.posting import headers_of, key_of
from coldstore.s3.request import S3Request
from coldstore.s3.routes import refuse_post_to_service, route
from coldstore.s3.signed_request import SignedRequest
from coldstore.s3.site import SERVER_NAME
from coldstore.s3.stored import http_date
from coldstore.s3.xml import MalformedDocument

HEADER_SECTION_LIMIT_BYTES = 8 * 1024
"""S3 User Guide, "Working with object metadata": the header section of a PUT."""
_WITHOUT_BODY = frozenset({204, 304})
_NOBODY = ""
"""Stands for the user of a form whose fields have not come, and of what nobody has signed."""
_UNSIGNED = "Access Denied: the request is not signed, and this is not for everybody."
_READING = frozenset({"GET", "HEAD"})

OperationFunction = Callable[[Call], Awaitable[Answer]]
ToldToPage = Callable[[str, str, HeaderFields], Awaitable[Mapping[str, str]]]
"""What an answer to a page of another origin has besides: by bucket, method and header fields."""


async def _tell_no_page(_bucket: str, _method: str, _fields: HeaderFields) -> Mapping[str, str]:
    return {}


@dataclass(slots=True, kw_only=True)
class _Account:
    """What the log says of one request; filled as it becomes known."""

    ids: RequestIds
    began_at: float
    operation: str = "-"
    caller: str = "-"
    bucket: str | None = None
    key: bytes | None = None
    code: str = "-"
    turn_of: str | None = None
    """The user among whose requests this one counts while it is served."""

    @property
    def shown_bucket(self) -> str:
        """The bucket as the log shows it."""
        return "-" if self.bucket is None else quote(self.bucket)

    @property
    def shown_key(self) -> str:
        """The key as the log shows it."""
        return "-" if self.key is None else quote(self.key)


class _Asked(NamedTuple):
    """A request whose signature was verified, or that needs none: by whom, what it says, and the body that is still to come."""

    user: Signer | None
    headers: HeaderFields
    body: RequestBody
    is_presigned: bool
    upload: FormUpload | None = None


class Endpoint:
    """The S3 protocol over a table of operations."""

    log = Logger()

    def __init__(
        self,
        *,
        operations: Mapping[Operation, OperationFunction],
        authenticator: Authenticator,
        ids: IdSource,
        seconds: Callable[[], float],
        in_thread: InThread,
        note_key_use: NoteUse = lambda access_key, at: None,
        told_to_page: ToldToPage = _tell_no_page,
        domains: Sequence[str] = (),
        requests_max: int = 1024,
    ) -> None:
        """
        :param operations: what is built; everything else answers 501
        :param seconds: the clock, unix seconds
        :param in_thread: where signatures of large chunks are computed
        :param note_key_use: is told of every request whose signature is right
        :param told_to_page: is asked about every request that says that it comes from a page, and about no other
        :param domains: host names under which ``bucket.name`` addresses a bucket
        :param requests_max: requests that may be served at once, of which one user leaves some to others
        """
        self._operations = dict(operations)
        self._authenticator = authenticator
        self._ids = ids
        self._seconds = seconds
        self._in_thread = in_thread
        self._note_key_use = note_key_use
        self._told_to_page = told_to_page
        self._domains = tuple(domain.lower() for domain in domains)
        self._turns = Turns(requests_max)

    def resource(self) -> IResource:
        """Return what an ``S3Site`` serves."""
        app = Klein()
        app.route("/")(self._everything)
        return _OneRoute(app)

    def _everything(self, request: S3Request) -> None:
        """
        Serve a request to its end.

        Klein is given nothing to cancel when the client leaves. That must not reach the operation: it may have just
        published an object, and ends by itself when its body breaks off.
        """
        Deferred.fromCoroutine(self._serve(request)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("a request could not be ended", failure)

    async def _serve(self, request: S3Request) -> None:
        account = _Account(ids=self._ids.next(), began_at=self._seconds())
        try:
            await self._serve_in_turn(request, account)
        except Exception:  # noqa: BLE001 - what was to be said could not be: the client must not wait for it for ever
            self._end_anyhow(request, account)
        finally:
            if account.turn_of is not None:
                self._turns.leave(account.turn_of)
        if not request.is_gone:
            request.finish()

    def _end_anyhow(self, request: S3Request, account: _Account) -> None:
        """Tell by status alone that there was an error, or break off an answer that has begun; log the exception that is at hand."""
        self.log.failure(
            "{request_id}: the answer to {operation} could not be given",
            request_id=account.ids.request_id,
            operation=account.operation,
        )
        if request.startedWriting:
            request.abort()
        else:
            status = CODES["InternalError"][0]
            request.begin_answer(
                status, [("x-amz-request-id", account.ids.request_id), ("Content-Length", "0")]
            )
            self._log_request(request, account, status=status, sent_bytes=0)

    async def _serve_in_turn(self, request: S3Request, account: _Account) -> None:
        try:
            answer = await self._answer(request, account)
        except BodyAborted:
            self._log_request(request, account, status=0, sent_bytes=0)
            return
        except Exception as error:  # noqa: BLE001 - every request has an answer; bugs are logged with the request's id
            answer = self._error_answer(request, account, self._explained(error, account))
        if ORIGIN in request.head.headers and request.head.method != PREFLIGHT:
            answer = await self._answer_to_page(request, account, answer)
        sent_bytes = await self._send(request, account, answer)
        self._log_request(request, account, status=answer.status, sent_bytes=sent_bytes)

    async def _answer(self, request: S3Request, account: _Account) -> Answer:
        head = request.head
        if head.section_bytes > HEADER_SECTION_LIMIT_BYTES:
            _refuse_large_header_section(head.headers)
        address = address_of(head.target, head.headers.get("host"), self._domains)
        refuse_post_to_service(head.method, address.target)
        account.bucket, account.key = address.bucket, address.key
        from_query = query_fields(address.query)
        headers = head.headers.joined(from_query) if from_query else head.headers
        if head.method == PREFLIGHT:
            self._begin_turn(account, None)
            asked = _Asked(None, headers, self._no_body(headers), is_presigned=False)
        elif request.body is not None and is_upload_by_form(head.method, address, headers):
            asked = await self._asked_by_form(request, request.body, account)
            headers = asked.headers
        else:
            asked = await self._asked(request, address, headers)
            self._begin_turn(account, asked.user)
        caller = _caller(asked.user)
        try:
            operation = route(head.method, address.target, address.query, headers)
            account.operation = operation.value
            carried_out = self._carried_out_by(operation)
        except S3Error:
            if caller.is_anonymous and head.method != PREFLIGHT:
                raise S3Error("AccessDenied", _UNSIGNED) from None
            raise
        call = Call(
            caller=caller,
            operation=operation,
            method=head.method,
            bucket=address.bucket,
            key=address.key if asked.upload is None else account.key,
            query=address.query,
            headers=headers,
            body=asked.body,
            request_id=account.ids.request_id,
            host_id=account.ids.host_id,
            remote_address=request.remote_address,
            is_secure=request.channel.isSecure(),
            is_presigned=asked.is_presigned,
            received_at=account.began_at,
            upload=asked.upload,
        )
        return await carried_out(call)

    def _carried_out_by(self, operation: Operation) -> OperationFunction:
        try:
            return self._operations[operation]
        except KeyError:
            raise S3Error("NotImplemented", resource=operation.value) from None

    async def _answer_to_page(self, request: S3Request, account: _Account, answer: Answer) -> Answer:
        """Add what a browser must read before it shows an answer to a page of another origin."""
        if account.bucket is None:
            return answer
        head = request.head
        try:
            if account.turn_of is None:
                self._turns.enter(_NOBODY)
                account.turn_of = _NOBODY
            told = await self._told_to_page(account.bucket, head.method, head.headers)
        except S3Error:  # too much is asked that nobody has signed: the page does without
            return answer
        except BaseException:
            if answer.stream is not None:
                answer.stream.abandon()
            raise
        return answer._replace(headers={**answer.headers, **told}) if told else answer

    async def _asked(self, request: S3Request, address: Address, headers: HeaderFields) -> "_Asked":
        """Have the signature of a request verified; nothing of its body is asked for."""
        verified = await self._authenticator.authenticate(
            SignedRequest(
                method=request.head.method,
                address=address,
                headers=headers,
                body_length_bytes=0 if request.body is None else request.body.length_bytes,
            )
        )
        body = RequestBody(
            source=EmptySource() if request.body is None else request.body,
            headers=headers,
            payload=verified.payload,
            chain=verified.chain,
            in_thread=self._in_thread,
        )
        return _Asked(verified.user, headers, body, is_presigned=verified.is_presigned)

    async def _asked_by_form(self, request: S3Request, source: BodySource, account: _Account) -> "_Asked":
        """
        Read the fields of a form, and have their signature verified.

        Until then it is nobody's: those whose fields are still awaited share what may be served of one user.
        """
        sent = request.head.headers
        body = FormBody(source, sent)
        self._turns.enter(_NOBODY)
        try:
            form = await body.read_fields()
        finally:
            self._turns.leave(_NOBODY)
        user = await self._authenticator.authenticate_form(form.fields)
        self._begin_turn(account, user)
        account.key = key_of(form)
        scheme = "https" if request.channel.isSecure() else "http"
        upload = FormUpload(form, body, f"{scheme}://{sent.get('host') or 'localhost'}", sent)
        return _Asked(user, headers_of(form), self._no_body(sent), is_presigned=True, upload=upload)

    def _no_body(self, headers: HeaderFields) -> RequestBody:
        return RequestBody(
            source=EmptySource(), headers=headers, payload=NO_PAYLOAD, chain=None, in_thread=self._in_thread
        )

    def _begin_turn(self, account: _Account, user: Signer | None) -> None:
        """Count a request among those of its user, or of all who do not say who they are."""
        if user is None:
            account.caller, user_id = ANONYMOUS.name, _NOBODY
        else:
            self._note_key_use(user.access_key, account.began_at)
            account.caller, user_id = user.name, user.user_id
        self._turns.enter(user_id)
        account.turn_of = user_id

    def _explained(self, error: Exception, account: _Account) -> S3Error:
        """Return what S3 says of an exception; log those that are not the client's doing."""
        if isinstance(error, S3Error):
            return error
        if isinstance(error, MalformedDocument):
            return S3Error(
                "MalformedXML",
                f"The XML you provided was not well-formed or did not match our schema: {error}",
            )
        if isinstance(error, ColdStoreError):
            return s3_error(error)
        if isinstance(error, DiskFault):
            self.log.error(
                "{request_id}: the disk failed: {why}", request_id=account.ids.request_id, why=str(error)
            )
            return S3Error("ServiceUnavailable", headers={"Retry-After": "30"})
        self.log.failure(
            "{request_id}: {operation} failed in a way that was not foreseen",
            request_id=account.ids.request_id,
            operation=account.operation,
        )
        return S3Error("InternalError")

    def _error_answer(self, request: S3Request, account: _Account, error: S3Error) -> Answer:
        account.code = error.code
        document = error_document(
            error,
            resource=request.head.target.partition(b"?")[0].decode("latin-1"),
            request_id=account.ids.request_id,
            host_id=account.ids.host_id,
        )
        return Answer(
            status=error.status, headers={"Content-Type": "application/xml", **error.headers}, body=document
        )

    async def _send(self, request: S3Request, account: _Account, answer: Answer) -> int:
        """Send an answer; return how many bytes of body were sent."""
        stream = answer.stream
        if request.is_gone:
            if stream is not None:
                stream.abandon()
            return 0
        has_body = answer.status not in _WITHOUT_BODY and request.head.method != "HEAD"
        content = answer.body if has_body else b""
        # What was written is told at once: its client goes on while the others of the same commit are told.
        can_wait = request.head.method in _READING and (stream is None or not has_body)
        fields = self._fields(account, answer, has_body)
        try:
            request.begin_answer(answer.status, fields, content, can_wait=can_wait)
        except BaseException:
            if stream is not None:
                stream.abandon()
            raise
        if stream is None:
            return len(content)
        if not has_body:
            stream.abandon()
            return 0
        try:
            await stream.start(request)
        except Exception as error:  # noqa: BLE001 - the header is out: all that can be said is that the body is not complete
            if not request.is_gone:
                self._tell_of_broken_body(account, error)
                request.abort()
            account.code = "-aborted-"
            return 0
        if request.is_gone:
            account.code = "-client-gone-"
        return int(answer.headers.get("Content-Length", "0"))

    def _tell_of_broken_body(self, account: _Account, error: Exception) -> None:
        what = f"{account.ids.request_id}: the bytes of {account.shown_bucket}/{account.shown_key} could not be sent to their end"
        if isinstance(error, DiskFault | BytesDamaged):
            self.log.error("{what}: {why}", what=what, why=str(error))
        else:
            self.log.failure("{what}", what=what)

    def _fields(self, account: _Account, answer: Answer, has_body: bool) -> Iterable[tuple[str, str]]:
        headers = {
            "Server": SERVER_NAME,
            "Date": http_date(self._seconds()),
            "x-amz-request-id": account.ids.request_id,
            "x-amz-id-2": account.ids.host_id,
            **answer.headers,
        }
        if answer.status in _WITHOUT_BODY:
            return [(name, value) for name, value in headers.items() if name.lower() not in _OF_BODY]
        if has_body and answer.stream is None:
            headers["Content-Length"] = str(len(answer.body))
        return headers.items()

    def _log_request(self, request: S3Request, account: _Account, *, status: int, sent_bytes: int) -> None:
        # The event is made here: ``Logger.info`` takes as long as verifying half a signature, of which there are thousands a second.
        ended_at = self._seconds()
        _requests.observer(
            {
                "log_logger": _requests,
                "log_level": LogLevel.info,
                "log_namespace": _requests.namespace,
                "log_source": self,
                "log_format": _REQUEST_FORMAT,
                "log_time": ended_at,
                "request_id": account.ids.request_id,
                "remote": request.remote_address or "-",
                "caller": account.caller,
                "method": request.head.method,
                "operation": account.operation,
                "bucket": account.shown_bucket,
                "key": account.shown_key,
                "status": status,
                "code": account.code if status else "-client-gone-",
                "received_bytes": 0 if request.body is None else request.body.received_bytes,
                "sent_bytes": sent_bytes,
                "seconds": ended_at - account.began_at,
            }
        )


_OF_BODY = frozenset({"content-length", "content-type"})
_requests = Logger()
_REQUEST_FORMAT = (
    "{request_id} {remote} {caller} {operation} {bucket}/{key}: {status} {code}, {received_bytes} bytes in, "
    "{sent_bytes} out, {seconds:.3f} s"
)


def _caller(user: Signer | None) -> Caller:
    if user is None:
        return ANONYMOUS
    return Caller(user.user_id, user.name, user.access_key, user.quotas, user.policies)


def _refuse_large_header_section(headers: HeaderFields) -> None:
    """
    Refuse a header section over S3's limit, by the more telling name where user metadata is the reason.

    :raise S3Error: MetadataTooLarge or RequestHeaderSectionTooLarge
    """
    size_bytes = sum(len(name) + len(value) + len(b": \r\n") for name, value in headers.lines())
    if size_bytes > HEADER_SECTION_LIMIT_BYTES:
        headers.user_metadata()
        raise S3Error(
            "RequestHeaderSectionTooLarge",
            f"Your request header exceeds the maximum allowed size: it has {size_bytes} bytes, and may have "
            f"{HEADER_SECTION_LIMIT_BYTES}.",
            details={"MaxSizeAllowed": str(HEADER_SECTION_LIMIT_BYTES), "Size": str(size_bytes)},
        )


class _OneRoute(KleinResource):
    """
    Klein's resource for an application whose only route is the endpoint's: calls it without asking Werkzeug which one is meant,
    which takes longer than verifying a signature.
    """

    def render(self, request: Any) -> Any:
        """Answer a request; the endpoint ends it, and the client's departure does not reach it."""
        (endpoint,) = self._app.endpoints
        self._app.execute_endpoint(endpoint, request)
        return NOT_DONE_YET

"""
The body of a browser's upload, ``multipart/form-data`` (RFC 7578): its fields first, then its file as it arrives.

Who sends the form, and where to, stands in its fields: they are read before anything else is known, and their size is bounded.
What follows the file is read to its end and counts for nothing (Amazon S3 API Reference, "POST Object").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from coldstore.s3.api import Target
from coldstore.s3.body import BodySink, BodySource
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.s3.integrity import IntegrityPlan, ReceivedBody, object_plan
from coldstore.s3.paths import Address
from coldstore.s3.payload import Payload, PayloadKind
from coldstore.s3.routes import names_subresource
from coldstore.s3.signed_request import is_signed

FORM_TYPE = "multipart/form-data"
FIELDS_LIMIT_BYTES = 20 * 1024
"""Names and values of all fields before the file."""
BEFORE_FILE_LIMIT_BYTES = 128 * 1024
"""The same with everything around them."""
FIELD_COUNT_LIMIT = 500
BOUNDARY_LIMIT_BYTES = 70
"""RFC 2046, section 5.1.1."""


def is_upload_by_form(method: str, address: Address, headers: HeaderFields) -> bool:
    """Tell whether a request is a browser's upload, so that who sends it stands in its body."""
    return (
        method == "POST"
        and address.target is Target.BUCKET
        and not is_signed(address.query)
        and not names_subresource(address.target, address.query)
        and "authorization" not in headers
        and parse_options_header(headers.get("content-type") or "")[0] == FORM_TYPE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    What a form says before its file.

    :ivar fields: by lower-case name; each name is there once
    :ivar file_name: what the file was called where it came from, without folders; empty when nobody said
    """

    fields: Mapping[str, str]
    file_name: str


class FormBody:
    """
    A form that arrives. ``read_fields`` comes first, then at most one ``stream_to``; between the two the client is held back.

    Takes the place of ``RequestBody`` for the file: as far as its length is known before it has come, that is an upper bound.
    """

    def __init__(self, source: BodySource, headers: HeaderFields) -> None:
        """
        :param headers: of the request
        :raise S3Error: MissingContentLength, MalformedPOSTRequest
        """
        self._source = source
        length = headers.get("content-length")
        if length is None:
            raise S3Error("MissingContentLength")
        self._coming_bytes = int(length)
        """What of the body has not come yet."""
        self._parser = PushMultipartParser(_boundary(headers), max_segment_count=FIELD_COUNT_LIMIT)
        self._names: dict[str, bytearray] = {}
        self._fields_bytes = 0
        self._before_bytes = 0
        self._current: bytearray | None = None
        """The value of the field that is arriving; None in the file and behind it."""
        self._file: MultipartSegment | None = None
        self._is_in_file = False
        self._early: list[bytes] = []
        self._sink: BodySink | None = None
        self._least_bytes, self._most_bytes = 0, 0
        self._received_bytes = 0
        self._pressed = False
        self._has_ended = False
        self._failure: Failure | None = None
        self._form: Deferred[Form] | None = None
        self._done: Deferred[ReceivedBody] | None = None
        self.length_bytes = 0
        """The most bytes that the file can have; known once the fields are."""

    def read_fields(self) -> "Deferred[Form]":
        """
        Have the client send the form up to where its file begins.

        :return: fails with ``S3Error`` (MalformedPOSTRequest, MaxPostPreDataLengthExceededError, InvalidArgument) or
            ``BodyAborted``
        """
        form: Deferred[Form] = Deferred(lambda _: self._source.discard())
        self._form = form
        self._source.deliver(self._block).addCallbacks(self._ended, self._fail)
        return form

    def object_plan(self, headers: HeaderFields) -> IntegrityPlan:
        """Return what the file must prove; ``headers`` are those of the object."""
        unsigned = PayloadKind.UNSIGNED
        payload = Payload(
            kind=unsigned, signed_as=unsigned.value, sha256=None, length_bytes=None, trailer=None
        )
        return object_plan(headers, payload)

    def limit(self, least_bytes: int, most_bytes: int) -> None:
        """Refuse a file of more bytes as soon as they have come, and one of less when it has ended."""
        self._least_bytes, self._most_bytes = least_bytes, most_bytes

    def stream_to(self, sink: BodySink) -> "Deferred[ReceivedBody]":
        """
        Have the client send the file, and write it to ``sink``; as ``RequestBody.stream_to``.

        :return: fires when the form has ended too. Fails with ``S3Error`` (EntityTooLarge, EntityTooSmall,
            MalformedPOSTRequest, InvalidArgument for a second file) or ``BodyAborted``
        """
        if self._failure is not None:
            return fail(self._failure)
        self._sink = sink
        sink.on_pressure(partial(self._press, True), partial(self._press, False))
        early, self._early = self._early, []
        try:
            for block in early:
                self._take(block)
            if self._has_ended:
                return succeed(self._received())
        except S3Error as error:
            self._fail(error)
            return fail(error)
        done: Deferred[ReceivedBody] = Deferred(lambda _: self._source.discard())
        self._done = done
        if not self._pressed:
            self._source.resume()
        return done

    # -- what arrives ------------------------------------------------------------------------------------------------

    def _block(self, block: bytes) -> None:
        if self._failure is not None or not block:
            return
        self._coming_bytes -= len(block)
        try:
            self._parse(block)
        except MultipartError as error:
            self._fail(_malformed(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever the sink or the parser raises is the form's result
            self._fail(error)

    def _parse(self, block: bytes) -> None:
        if self._file is None:
            self._before_bytes += len(block)
        had_file = self._file is not None
        for event in self._parser.parse(block):
            if isinstance(event, MultipartSegment):
                self._begin(event)
            elif event is None:
                self._current, self._is_in_file = None, False
            elif self._is_in_file:
                self._take(bytes(event))
            elif self._current is not None:
                self._count(len(event))
                self._current += event
        if self._file is None and self._before_bytes > BEFORE_FILE_LIMIT_BYTES:
            raise _too_much_before(BEFORE_FILE_LIMIT_BYTES)
        if self._file is not None and not had_file:
            # The closing delimiter is still to come, and longer than what the parser holds back of the file.
            self.length_bytes = sum(map(len, self._early)) + max(self._coming_bytes, 0)
            self._source.pause()
            self._tell_form(self._file)

    def _begin(self, segment: MultipartSegment) -> None:
        name = (segment.name or "").lower()
        if name == "file":
            if self._file is not None:
                raise _one_file()
            self._file, self._is_in_file = segment, True
        elif self._file is None:
            if name in self._names:
                raise S3Error(
                    "InvalidArgument",
                    f"The form has more than one field named {shown(name)}.",
                    details={"ArgumentName": name},
                )
            self._count(len(name.encode("utf-8")))
            self._current = self._names[name] = bytearray()

    def _count(self, more_bytes: int) -> None:
        self._fields_bytes += more_bytes
        if self._fields_bytes > FIELDS_LIMIT_BYTES:
            raise _too_much_before(FIELDS_LIMIT_BYTES)

    def _take(self, block: bytes) -> None:
        """Take bytes of the file."""
        if self._sink is None:
            self._early.append(block)
            return
        self._received_bytes += len(block)
        if self._received_bytes > self._most_bytes:
            raise S3Error(
                "EntityTooLarge",
                f"Your proposed upload exceeds the maximum allowed object size: the file has {self._received_bytes} bytes or "
                f"more, and may have {self._most_bytes}.",
                details={
                    "ProposedSize": str(self._received_bytes),
                    "MaxSizeAllowed": str(self._most_bytes),
                },
            )
        self._sink.write(block)

    def _tell_form(self, file: MultipartSegment) -> None:
        assert self._form is not None, "fields are read first"
        fields = {}
        for name, value in self._names.items():
            try:
                fields[name] = value.decode("utf-8")
            except UnicodeDecodeError:
                raise S3Error(
                    "InvalidArgument",
                    f"The values of form fields must be encoded in UTF-8: that of {shown(name)} is not.",
                    details={"ArgumentName": name},
                ) from None
        form, self._form = self._form, None
        form.callback(Form(fields=fields, file_name=_without_folders(file.filename or "")))

    def _received(self) -> ReceivedBody:
        if self._received_bytes < self._least_bytes:
            raise S3Error(
                "EntityTooSmall",
                f"Your proposed upload is smaller than the minimum allowed object size: the file has {self._received_bytes} "
                f"bytes, and must have {self._least_bytes}.",
                details={
                    "ProposedSize": str(self._received_bytes),
                    "MinSizeAllowed": str(self._least_bytes),
                },
            )
        return ReceivedBody(length_bytes=self._received_bytes)

    def _press(self, is_pressed: bool) -> None:
        self._pressed = is_pressed
        if self._has_ended or self._failure is not None:
            return
        if is_pressed:
            self._source.pause()
        else:
            self._source.resume()

    def _ended(self, _: None) -> None:
        if self._failure is not None:
            return
        try:
            self._parser.close()
        except MultipartError as error:
            self._fail(_malformed(str(error)))
            return
        if self._file is None:
            self._fail(_one_file())
            return
        if self._done is None:
            self._has_ended = True
            return
        try:
            received = self._received()
        except S3Error as error:
            self._fail(error)
            return
        self._has_ended = True
        done, self._done = self._done, None
        done.callback(received)

    def _fail(self, failure: Failure | Exception) -> None:
        if self._failure is not None:
            return
        self._failure = failure if isinstance(failure, Failure) else Failure(failure)
        self._early.clear()
        self._source.discard()
        for waiting in (self._form, self._done):
            if waiting is not None and not waiting.called:
                waiting.errback(self._failure)
        self._form = self._done = None


def _boundary(headers: HeaderFields) -> str:
    boundary: str = parse_options_header(headers.get("content-type") or "")[1].get("boundary", "")
    if not (0 < len(boundary) <= BOUNDARY_LIMIT_BYTES and boundary.isascii() and boundary.isprintable()):
        raise _malformed("Content-Type has no valid boundary")
    return boundary


def _without_folders(path: str) -> str:
    """Return what follows the last slash, of either kind (Amazon S3 API Reference, "POST Object", ``${filename}``)."""
    return path.replace("\\", "/").rpartition("/")[2]


def _too_much_before(most_bytes: int) -> S3Error:
    return S3Error(
        "MaxPostPreDataLengthExceededError",
        f"Your POST request fields preceding the upload file were too large: they have more than {most_bytes} bytes.",
    )


def _malformed(why: str) -> S3Error:
    return S3Error(
        "MalformedPOSTRequest",
        f"The body of your POST request is not well-formed multipart/form-data: {why}.",
    )


def _one_file() -> S3Error:
    return S3Error(
        "InvalidArgument",
        "POST requires exactly one file upload per request.",
        details={"ArgumentName": "file", "ArgumentValue": "0"},
    )

"""What an operation is given: who calls, what is asked of which bucket and key, and the body, still unread."""

from typing import TYPE_CHECKING, NamedTuple

from coldstore.model.policies import UserPolicy
from coldstore.model.quotas import NO_QUOTAS, Quotas
from coldstore.s3.api import Operation
from coldstore.s3.fields import HeaderFields, Query

if TYPE_CHECKING:
    from coldstore.s3.body import RequestBody
    from coldstore.s3.forms import Form, FormBody


class Caller(NamedTuple):
    """
    The user whose signature was verified. ``user_id`` is the canonical id, ``access_key`` the key that signed,
    ``quotas`` what the user may have, ``policies`` what an operator says he may do. Of a request that nobody has signed the first
    three say so.
    """

    user_id: str
    name: str
    access_key: str
    quotas: Quotas = NO_QUOTAS
    policies: tuple[UserPolicy, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody has signed."""
        return not self.user_id


ANONYMOUS = Caller(user_id="", name="anonymous", access_key="")


class FormUpload(NamedTuple):
    """
    A browser's form, up to its file, and the file; ``base_url`` is how the browser addresses this endpoint, ``sent`` are the header
    fields of the request, which are not those of the object.
    """

    form: "Form"
    body: "FormBody"
    base_url: str
    sent: HeaderFields


class Call(NamedTuple):
    """
    One authenticated and routed request.

    ``key`` is the object's key as bytes of UTF-8, decoded once. ``received_at`` is in unix seconds. ``body`` is taken
    from the socket when asked for. Of a browser's form ``upload`` is set; ``headers`` and ``key`` are then what its
    fields say, and ``body`` is empty.
    """

    caller: Caller
    operation: Operation
    method: str
    bucket: str | None
    key: bytes | None
    query: Query
    headers: HeaderFields
    body: "RequestBody"
    request_id: str
    host_id: str
    remote_address: str
    is_secure: bool
    is_presigned: bool
    received_at: float
    upload: FormUpload | None = None

    @property
    def bucket_name(self) -> str:
        """The bucket's name, for operations that the routes give only to requests that name one."""
        assert self.bucket is not None, self.operation
        return self.bucket

    @property
    def object_key(self) -> bytes:
        """The object's key, for operations that the routes give only to requests that name one."""
        assert self.key is not None, self.operation
        return self.key

    @property
    def version_id(self) -> str | None:
        """The ``versionId`` of the query; None when the current version is meant."""
        return self.query.one("versionId")

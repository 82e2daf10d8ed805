"""
etcd by its JSON gateway: the calls that the store needs, with deadlines, and errors in ColdStore's own words.

Keys and values are bytes here and base64 on the wire. Of the API (etcd 3.4, "etcd API v3" and "gRPC gateway"): 64-bit numbers are
texts, and what is zero, false or empty is left out.
"""

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from coldstore.model.errors import MetadataFull, MetadataUnavailable

_T = TypeVar("_T")

CONNECTIONS = 4
WATCHED_WAITING_MAX = 4
"""Messages of a watch that wait to be taken until no more are read."""
LINE_MAX_BYTES = 64 << 20
"""A message of a watch; etcd sends what is more than its own limit of a request (1.5 MiB) in pieces."""
NEVER_APPLIED = frozenset({3, 5, 7, 9, 11, 12, 16})
"""
gRPC's codes for what was refused before it was carried out: invalid argument, not found, permission denied, failed precondition,
out of range, unimplemented, unauthenticated.
"""
_UNAUTHENTICATED = 16
_LOST = (
    *(CancelledError, RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed),
    *(ConnectionClosed, OSError),
)
_TOKEN_OF_THE_PAST = ("invalid auth token", "revision of auth store is old", "user name is empty")


class Unknown(MetadataUnavailable):
    """Nobody can say whether a call was carried out: the connection was lost under it, or no answer came in time."""


class Refused(MetadataUnavailable):
    """
    etcd has refused a call, and not carried it out.

    :ivar code: gRPC's
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Compacted(Exception):
    """What was asked for is of a revision that etcd does not keep any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """A key as it was put at ``revision``. ``lease`` is 0 for a key that stays."""

    key: bytes
    value: bytes
    revision: int
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """
    Keys in order.

    :ivar revision: of the whole etcd, when they were read
    :ivar is_more: there are more behind them
    :ivar count: of all, those included
    """

    rows: tuple[KeyValue, ...]
    revision: int
    is_more: bool
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A key was put, or (``value`` None) deleted, at ``revision``."""

    key: bytes
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a transaction came to.

    :ivar revision: of the whole etcd behind it: its own, if it wrote
    :ivar ranges: what the ranges among its operations found, in order
    """

    succeeded: bool
    revision: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    A member.

    :ivar quota_bytes: how large its file may become; 0: it does not say (before 3.6)
    :ivar errors: its alarms
    """

    version: tuple[int, ...]
    size_bytes: int
    used_bytes: int
    quota_bytes: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where etcd is, and who we are.

    :ivar endpoints: URLs without a path, ``http://`` or ``https://``, all of one cluster
    :ivar ca_pem: who signs its certificates; empty: whom the machine trusts
    :ivar certificate_pem: ours, with its key; empty: none
    """

    endpoints: Sequence[str]
    user: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = ""
    certificate_pem: str = field(default="", repr=False)


class Time(Protocol):
    """What is needed of a clock."""

    def callLater(self, delay: float, f: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """Call after ``delay`` seconds (``IReactorTime``)."""


def text_of(raw: bytes) -> str:
    """Write bytes as the gateway wants them."""
    return b64encode(raw).decode("ascii")


def mod_revision_is(key: bytes, revision: int) -> dict[str, Any]:
    """Compare: the key was changed last at a revision; 0: there is no such key."""
    return {"key": text_of(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def putting(key: bytes, value: bytes, *, lease: int = 0) -> dict[str, Any]:
    """Operation: set a key, for good or as long as a lease lasts."""
    put = {"key": text_of(key), "value": text_of(value)}
    return {"request_put": {**put, "lease": str(lease)} if lease else put}


def deleting(key: bytes) -> dict[str, Any]:
    """Operation: delete a key."""
    return {"request_delete_range": {"key": text_of(key)}}


def reading(key: bytes) -> dict[str, Any]:
    """Operation: read a key."""
    return {"request_range": {"key": text_of(key)}}


def end_of(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin so."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Gateway:
    """
    A cluster. What only reads goes to the next endpoint when one does not answer; what changes something only when it surely
    never got there.

    Every call may raise ``MetadataUnavailable``: ``Unknown`` or ``Refused`` where it matters which, and ``MetadataFull`` when
    etcd says that its space is exceeded. That is said before the change or, rarely, after it (etcd checks its quota once more
    when it applies a request, and then does what it says it refused): look, before it is believed.
    """

    def __init__(self, address: Address, *, reactor: Any, request_seconds: float) -> None:
        """:raise MetadataUnavailable: a certificate or a key cannot be read"""
        self._address = address
        self._endpoints = deque(address.endpoints)
        self._reactor = reactor
        self._seconds = request_seconds
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = CONNECTIONS
        # A request of ours is no GET: it is not sent again by anybody but us.
        self._pool.retryAutomatically = False
        try:
            policy = _Policy(address.ca_pem, address.certificate_pem)
        except Exception as error:
            raise MetadataUnavailable(
                f"a certificate or key for etcd cannot be read: {error or type(error).__name__}"
            ) from error
        # Agent knows nothing of the proxies of the environment.
        agent = Agent(reactor, policy, connectTimeout=request_seconds, pool=self._pool)
        self._http = HTTPClient(agent)
        self._token = ""

    async def close(self) -> None:
        """Let go of the connections that nobody uses."""
        await self._pool.closeCachedConnections()

    async def range(
        self,
        key: bytes,
        end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        is_backwards: bool = False,
    ) -> Range:
        """
        Read a key, or those from it up to an end, in order.

        :param revision: as they were then; 0: now
        :param is_backwards: the last one first
        :raise Compacted: that is too long ago
        """
        fields: dict[str, Any] = {"key": text_of(key)}
        if end:
            fields["range_end"] = text_of(end)
        if limit:
            fields["limit"] = str(limit)
        if revision:
            fields["revision"] = str(revision)
        if keys_only:
            fields["keys_only"] = True
        if is_backwards:
            fields.update(sort_order="DESCEND", sort_target="KEY")
        try:
            return _range(await self._ask("kv/range", fields))
        except Refused as refusal:
            if "has been compacted" in str(refusal):
                raise Compacted(f"revision {revision}") from None
            raise

    async def txn(
        self,
        compare: Sequence[Mapping[str, Any]],
        success: Sequence[Mapping[str, Any]],
        failure: Sequence[Mapping[str, Any]] = (),
        *,
        is_repeatable: bool = False,
    ) -> Answer:
        """
        Carry out the operations of ``success`` if all comparisons hold, and those of ``failure`` otherwise; all or none.

        :param is_repeatable: whether it may be carried out twice, because it changes nothing
        """
        fields = {"compare": list(compare), "success": list(success), "failure": list(failure)}
        answer = await (self._ask if is_repeatable else self._change)("kv/txn", fields)
        found = [one["response_range"] for one in answer.get("responses", []) if "response_range" in one]
        revision = _revision(answer)
        return Answer(
            succeeded=answer.get("succeeded", False),
            revision=revision,
            ranges=tuple(_range({"header": {"revision": revision}, **one}) for one in found),
        )

    async def grant_lease(self, seconds: int) -> int:
        """Begin a lease; return its number."""
        return int((await self._ask("lease/grant", {"TTL": str(seconds)}))["ID"])

    async def keep_alive(self, lease: int, *, patience_seconds: float) -> int:
        """
        Have a lease begin anew; return for how many seconds, 0 when it has ended.

        :param patience_seconds: for each endpoint, if that is less than for other calls: the lease does not wait for one that hangs
        """

        async def call(endpoint: str) -> Any:
            return await self._call(endpoint, "lease/keepalive", {"ID": str(lease)})

        seconds = min(patience_seconds, self._seconds)
        answer = await self._everywhere(call, is_repeatable=True, seconds=seconds)
        return int(answer["result"].get("TTL", 0))

    async def revoke_lease(self, lease: int) -> None:
        """End a lease, with the keys that it holds."""
        await self._ask("lease/revoke", {"ID": str(lease)})

    async def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        try:
            await self._ask("kv/compaction", {"revision": str(revision)})
        except Refused as refusal:
            if "has been compacted" not in str(refusal):
                raise

    async def status(self) -> Status:
        """Return how the member is that answers."""
        return _status(await self._ask("maintenance/status", {}))

    async def statuses(self) -> dict[str, Status | MetadataUnavailable]:
        """Return how the member at each endpoint is, or why that is not known."""
        found: dict[str, Status | MetadataUnavailable] = {}
        for endpoint in self._address.endpoints:
            try:
                answer = await self._authenticated(
                    endpoint,
                    lambda endpoint: self._call(endpoint, "maintenance/status", {}),
                    partial(self._in_time, seconds=self._seconds),
                )
                found[endpoint] = _status(answer)
            except MetadataUnavailable as fault:
                found[endpoint] = fault
        return found

    async def watch(self, key: bytes, end: bytes, *, from_revision: int) -> "Watch":
        """Follow what happens to the keys of a range, from a revision on that may be past."""
        create = {
            "key": text_of(key), "range_end": text_of(end), "start_revision": str(from_revision), "fragment": True,
        }  # fmt: skip
        watch = Watch(self._reactor, self._seconds)

        async def begin(endpoint: str) -> Any:
            response = await self._post(endpoint, "watch", {"create_request": create})
            if response.code != 200:
                return await self._read(endpoint, response)
            response.deliverBody(watch)
            return None

        await self._everywhere(begin, is_repeatable=True)
        return watch

    async def _ask(self, name: str, fields: Mapping[str, Any]) -> Any:
        """Call what may be called twice."""
        return await self._everywhere(lambda endpoint: self._call(endpoint, name, fields), is_repeatable=True)

    async def _change(self, name: str, fields: Mapping[str, Any]) -> Any:
        """Call what may not."""
        return await self._everywhere(
            lambda endpoint: self._call(endpoint, name, fields), is_repeatable=False
        )

    async def _everywhere(
        self, call: Callable[[str], Awaitable[Any]], *, is_repeatable: bool, seconds: float | None = None
    ) -> Any:
        """Call the endpoint that answered last, then the others in turn, each with the usual deadline unless another is given."""
        in_time = partial(self._in_time, seconds=self._seconds if seconds is None else seconds)
        fault: MetadataUnavailable = MetadataUnavailable("no endpoint of etcd is configured")
        # Twice at least: a connection that was kept may have ended with the server that it was to.
        for _ in range(max(2, len(self._endpoints)) if is_repeatable else len(self._endpoints)):
            endpoint = self._endpoints[0]
            try:
                return await self._authenticated(endpoint, call, in_time)
            except (_NotReached, Unknown) as error:
                self._endpoints.rotate(-1)
                fault = error
                if isinstance(error, Unknown) and not is_repeatable:
                    break
        raise fault

    async def _authenticated(
        self, endpoint: str, call: Callable[[str], Awaitable[Any]], in_time: Callable[..., Awaitable[Any]]
    ) -> Any:
        """Call, with a token if we have a user; get a new one when it is no longer taken."""
        if not self._address.user:
            return await in_time(endpoint, call)
        if not self._token:
            await in_time(endpoint, self._log_in)
        try:
            return await in_time(endpoint, call)
        except Refused as refusal:
            if refusal.code != _UNAUTHENTICATED and not any(
                text in str(refusal) for text in _TOKEN_OF_THE_PAST
            ):
                raise
        self._token = ""
        await in_time(endpoint, self._log_in)
        return await in_time(endpoint, call)

    async def _log_in(self, endpoint: str) -> None:
        fields = {"name": self._address.user, "password": self._address.password}
        self._token = (await self._call(endpoint, "auth/authenticate", fields))["token"]

    async def _in_time(self, endpoint: str, call: Callable[[str], Awaitable[_T]], *, seconds: float) -> _T:
        """Call within the deadline; sort what may happen to a connection."""

        async def called() -> _T:
            return await call(endpoint)

        under_way: Deferred[_T] = Deferred.fromCoroutine(called())
        late = self._reactor.callLater(seconds, under_way.cancel)
        try:
            return await under_way
        except (ConnectError, DNSLookupError) as error:
            raise _NotReached(f"etcd at {endpoint} cannot be reached: {_words(error)}") from error
        except ConnectingCancelledError as error:
            if late.active():
                raise CancelledError from error
            raise _NotReached(f"etcd at {endpoint} cannot be reached within {seconds:g} s") from error
        except _LOST as error:
            if not late.active():
                raise Unknown(f"etcd at {endpoint} has not answered for {seconds:g} s") from error
            if _is_cancelled(error):
                # Whoever asked has left; nobody else is to be asked.
                raise CancelledError from error
            raise Unknown(f"etcd at {endpoint}: the connection was lost: {_words(error)}") from error
        finally:
            if late.active():
                late.cancel()

    async def _call(self, endpoint: str, name: str, fields: Mapping[str, Any]) -> Any:
        return await self._read(endpoint, await self._post(endpoint, name, fields))

    async def _post(self, endpoint: str, name: str, fields: Mapping[str, Any]) -> Any:
        headers = Headers({"Content-Type": ["application/json"]})
        if self._token and name != "auth/authenticate":
            headers.addRawHeader("Authorization", self._token)
        body = json.dumps(fields, separators=(",", ":")).encode("ascii")
        return await self._http.post(
            f"{endpoint}/v3/{name}", data=body, headers=headers, allow_redirects=False, unbuffered=True
        )

    async def _read(self, endpoint: str, response: Any) -> Any:
        """Return what an answer says, or raise what it refuses."""
        reading_it = _Body()
        response.deliverBody(reading_it)
        body = await reading_it.whole
        try:
            said = json.loads(body)
            # A call of a stream has its errors inside.
            error = said.get("error")
            if response.code == 200 and error is None:
                # It is in everything that etcd says.
                said.get("result", said)["header"]
                return said
            if isinstance(error, dict):
                code, message = int(error.get("grpc_code", 2)), str(error.get("message", ""))
            else:
                code, message = int(said["code"]), str(said["message"])
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Unknown(
                f"etcd at {endpoint} answered {response.code}: {body[:200].decode(errors='replace')!r}"
            ) from None
        if "database space exceeded" in message:
            raise MetadataFull(
                f"etcd at {endpoint}: {message}: give it a greater --quota-backend-bytes, or compact and defragment it,"
                " and then run: etcdctl alarm disarm"
            )
        if code in NEVER_APPLIED:
            raise Refused(f"etcd at {endpoint}: {message}", code)
        raise Unknown(f"etcd at {endpoint}: {message}")


class _Body(TwistedProtocol):
    """An answer. Whoever does not wait for it any more closes the connection."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._close())
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is complete, or never will be."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class Watch(TwistedProtocol):
    """What happens to a range, message by message. It reads no more while several wait to be taken."""

    def __init__(self, clock: Time, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._line = bytearray()
        self._waiting: deque[list[Event] | Exception] = deque()
        self._taker: Deferred[None] | None = None
        self._is_paused = False

    async def next(self) -> list[Event]:
        """
        Wait for the next message; return its events, in the order of their revisions.

        Those of one revision may come in several messages.

        :raise Compacted: the beginning is too long ago
        :raise MetadataUnavailable: nothing came in time, or the watch ended
        """
        if not self._waiting:
            self._taker = Deferred(lambda _: None)
            self._taker.addTimeout(self._seconds, self._clock)  # type: ignore[arg-type]
            try:
                await self._taker
            except TimeoutError:
                self.close()
                raise MetadataUnavailable(f"etcd told nothing for {self._seconds:g} s") from None
            finally:
                self._taker = None
        found = self._waiting[0]
        if isinstance(found, Exception):
            raise found
        self._waiting.popleft()
        if self._is_paused and len(self._waiting) < WATCHED_WAITING_MAX:
            self._is_paused = False
            self._transport.resumeProducing()
        return found

    def close(self) -> None:
        """Follow no more. Repeatable."""
        if self.transport is not None:
            self._transport.resumeProducing()
            self._transport.loseConnection()

    @property
    def _transport(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        """Take a message from each line."""
        self._line += data
        *lines, rest = self._line.split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            if line.strip():
                self._heard(bytes(line))
        if len(self._line) > LINE_MAX_BYTES:
            self._tell(MetadataUnavailable("etcd tells more than can be taken"))
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell of the end."""
        self._tell(MetadataUnavailable(f"etcd ended a watch: {reason.getErrorMessage()}"))

    def _heard(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            result = said.get("result", {})
            if "error" in said:
                self._tell(MetadataUnavailable(f"etcd ended a watch: {said['error'].get('message')}"))
            elif int(result.get("compact_revision", 0)):
                self._tell(Compacted(f"only revisions from {result['compact_revision']} on are kept"))
            elif result.get("canceled"):
                self._tell(MetadataUnavailable(f"etcd ended a watch: {result.get('cancel_reason')}"))
            elif events := result.get("events"):
                self._tell([_event(one) for one in events])
        except (ValueError, KeyError, AttributeError) as error:
            self._tell(MetadataUnavailable(f"etcd said what is no event: {error}"))

    def _tell(self, what: list[Event] | Exception) -> None:
        self._waiting.append(what)
        if len(self._waiting) >= WATCHED_WAITING_MAX and not self._is_paused:
            self._is_paused = True
            self._transport.pauseProducing()
        if self._taker is not None and not self._taker.called:
            self._taker.callback(None)


class _NotReached(MetadataUnavailable):
    """An endpoint was not reached: it has not heard of the call."""


@implementer(IPolicyForHTTPS)
class _Policy:
    """Whom to trust, and who we are."""

    def __init__(self, ca_pem: str, certificate_pem: str) -> None:
        self._trusted = (
            trustRootFromCertificates(
                [Certificate.loadPEM(part + _END) for part in ca_pem.split(_END) if "BEGIN" in part]
            )
            if ca_pem
            else platformTrust()
        )
        self._own = PrivateCertificate.loadPEM(certificate_pem) if certificate_pem else None

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """See ``IPolicyForHTTPS``."""
        return optionsForClientTLS(
            hostname.decode("ascii"), trustRoot=self._trusted, clientCertificate=self._own
        )


_END = "-----END CERTIFICATE-----\n"


def _is_cancelled(error: BaseException) -> bool:
    """Whether a call ended because it was cancelled; within an answer, Twisted says so in other words."""
    inner = [reason.value for reason in getattr(error, "reasons", ())]
    return any(isinstance(each, CancelledError) for each in (error, *inner))


def _words(error: BaseException) -> str:
    """Say what happened; an error of Twisted that wraps others has none of its own."""
    reasons = getattr(error, "reasons", None)
    inner = reasons[0].value if reasons else error
    return str(inner) or type(inner).__name__


def _revision(answer: Mapping[str, Any]) -> int:
    return int(answer["header"]["revision"])


def _status(answer: Mapping[str, Any]) -> Status:
    return Status(
        version=tuple(int(part) for part in answer["version"].split("-")[0].split(".")),
        size_bytes=int(answer.get("dbSize", 0)),
        used_bytes=int(answer.get("dbSizeInUse", 0)),
        quota_bytes=int(answer.get("dbSizeQuota", 0)),
        errors=tuple(answer.get("errors", ())),
    )


def _range(answer: Mapping[str, Any]) -> Range:
    return Range(
        rows=tuple(
            KeyValue(
                key=b64decode(row["key"]),
                value=b64decode(row.get("value", "")),
                revision=int(row["mod_revision"]),
                lease=int(row.get("lease", 0)),
            )
            for row in answer.get("kvs", ())
        ),
        revision=_revision(answer),
        is_more=answer.get("more", False),
        count=int(answer.get("count", 0)),
    )


def _event(told: Mapping[str, Any]) -> Event:
    row = told["kv"]
    return Event(
        key=b64decode(row["key"]),
        value=None if told.get("type") == "DELETE" else b64decode(row.get("value", "")),
        revision=int(row["mod_revision"]),
    )

# mypy: disallow-subclassing-any=False, disallow-untyped-calls=False
# (neither txpostgres nor psycopg2 is annotated)
"""
One connection to PostgreSQL. The only module that imports txpostgres and psycopg2.

What these two do by themselves and we don't want, each seen on txpostgres 1.7.0 and psycopg2 2.9:

- the look-up of a host's name blocks, and ``connect_timeout`` does not count: we resolve, give ``hostaddr``, and have a deadline;
- a statement that the server gives up arrives as ``CancelledError``, as if somebody here had cancelled it;
- cancelling opens a second connection and blocks until it is there: never done. Past the deadline the connection is closed, and
  what became of the statement is unknown;
- a COMMIT of a transaction that had failed before is answered without an error: only the status ``COMMIT`` is believed;
- every ``OperationalError`` counts as the end of the connection, a full disk too: ``is_end_of_connection`` tells them apart;
- a connection that is lost while it rests is an error that nobody asked for, in the log with a traceback;
- the socket is watched again after each statement and notice, also when libpq has closed it by then: a ``ValueError``;
- libpq closes its socket whenever it likes, and while it connects opens another, often of the same number. The reactor does not learn
  that: it watches nothing any more under that number, whoever gets it next. So it is given a descriptor of ours for the same socket.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errorcodes, errors
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from txpostgres import txpostgres
from zope.interface import implementer

from coldstore.metadata.sql.database import Duplicate, Row
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred, shielded

Hear = Callable[[str, str], None]
"""Is told of a NOTIFY: its channel, and what was said."""

_PASSING_CLASSES = (
    "08",  # connection exceptions
    "25006",  # it only reads: a standby
    "3F",  # there is no schema, or none that we may use
    "40",  # transaction rollback: deadlock, serialization
    "42501",  # we may not: for whoever administers it
    "53",  # insufficient resources
    "55P03",  # a lock was not to be had in time
    "57",  # operator intervention: shutdown, statement_timeout
    "58",  # system errors: I/O
    "XX",  # internal errors, corrupted data
)
"""SQLSTATEs (PostgreSQL 15, appendix A) that are the server's trouble and not a mistake of ours; by their beginnings."""
_ENDINGS = ("08", "57P01", "57P02", "57P03")
"""SQLSTATEs after which there is no connection any more."""
_TWISTED_ENDS = (ConnectionDone, ConnectionLost)
_HOLDER = """
SELECT a.pid, a.backend_start::text, a.application_name,
    to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = %s AND l.objid = %s
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""Who has an advisory lock on a 64-bit key (PostgreSQL 15, 54.12)."""


class FenceTaken(MetadataUnavailable):
    """Another session has the lock of the one writer. ``holder`` says whose, as far as it has told the server."""

    def __init__(self, where: str, holder: str) -> None:
        super().__init__(f"{where}: another writer has the lock: {holder}")
        self.holder = holder


class Answer(NamedTuple):
    """
    What the last statement of a text came to.

    :ivar rows: none when it answers none; ``bytea`` is ``bytes``
    :ivar touched: how many rows it answered or changed; -1 where that makes no sense
    :ivar status: the server's word, as ``INSERT 0 1``
    """

    rows: list[Row]
    touched: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where a database is, and as who to go there.

    :ivar host: a name, an address, or the folder of a socket
    :ivar password_path: a file that holds the password and maybe an end of line; it is read at each connect
    :ivar tls: libpq's sslmode: disable, allow, prefer, require, verify-ca, verify-full
    :ivar authority_path: the certificates that may vouch for the server's, for verify-ca and verify-full
    :ivar application_name: how the server's own views call us
    """

    host: str
    port: int = 5432
    database: str
    user: str
    password_path: str | None = None
    tls: str = "prefer"
    authority_path: str | None = None
    application_name: str = "coldstore"

    def __str__(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class Backend:
    """The server's process of a connection. Process ids come again: its start time tells two of them apart."""

    pid: int
    started: str


class Connection:
    """
    One connection, from ``connect`` to its end; there is no second life.

    Statements go one after the other, however many are asked for at once. Who asked may cancel; the statement goes on.

    :ivar ended: why it is of no use any more; None while it lives
    """

    def __init__(
        self,
        address: Address,
        *,
        reactor: Any,
        answer_seconds: float,
        hear: Hear = lambda channel, said: None,
        lost: Callable[[MetadataUnavailable], None] = lambda why: None,
    ) -> None:
        """
        :param reactor: IReactorTime, IReactorFDSet, IReactorPluggableNameResolver
        :param answer_seconds: how long one text may take until the connection is given up
        :param hear: is told what this session LISTENs for
        :param lost: is told once that a connection whose session had begun has ended, unless by ``close``
        """
        self.address = address
        self.ended: MetadataUnavailable | None = None
        self._reactor = reactor
        self._answer_seconds = answer_seconds
        self._lost = lost
        self._is_up = False
        self._has_begun = False
        self._wire = _Wire(reactor, hear, self._died)
        self._turn = DeferredLock()

    @returns_deferred
    async def connect(
        self, seconds: float, begun: Callable[["Connection"], Awaitable[object]] | None = None
    ) -> None:
        """
        Connect and begin the session.

        :param seconds: for finding the host, connecting and being let in
        :param begun: what belongs to each session (SET, LISTEN, PREPARE, the fence), done before anything else
        :raise MetadataUnavailable: it cannot be reached, does not let us in, or the session could not begin
        """
        end = self._reactor.seconds() + seconds
        failure = MetadataUnavailable(f"{self.address}: nothing was found under its name")
        for host_address in await self._resolved(seconds):
            left = end - self._reactor.seconds()
            if left <= 0 or self.ended is not None:
                break
            try:
                await self._connected(host_address, left)
                break
            except MetadataUnavailable as one:
                failure = one
        if not self._is_up:
            self.ended = self.ended or failure
            raise failure
        try:
            if begun is not None:
                await begun(self)
        except BaseException as error:
            self._end(MetadataUnavailable(f"{self.address}: the session did not begin: {error}"))
            raise
        self._has_begun = True

    def text(self, statement: str, arguments: Sequence[object] = ()) -> bytes:
        """Return a statement with its arguments (``%s``) in place, to be joined with others by ``;``."""
        with self._in_our_words():
            composed: bytes = self._cursor().mogrify(statement, tuple(arguments))
        return composed

    def run(self, text: str | bytes, arguments: Sequence[object] = ()) -> Deferred[Answer]:
        """
        Send one statement, or several with ``;`` between them, and wait for the answer of the last.

        Without a transaction each text is one; COMMIT is for ``commit``. When one of its statements fails, none has been done and a transaction
        is beyond use.

        :raise MetadataUnavailable: what became of it is unknown
        :raise MetadataFull: nothing was changed
        :raise Duplicate: a unique key is there already
        :raise psycopg2.Error: the statement is wrong, or a constraint does not hold
        """
        return shielded(self._turn.run(self._asked, text, tuple(arguments)))

    @returns_deferred
    async def commit(self, text: bytes = b"") -> None:
        """
        Send COMMIT, behind the last changes of the transaction.

        :raise MetadataUnavailable: it is unknown whether it is committed; or known that it is not, and says so
        :raise MetadataFull, Duplicate, psycopg2.Error: as ``run``; nothing was changed
        """
        answer = await self.run(b";".join([text, b"COMMIT"] if text else [b"COMMIT"]))
        if answer.status != "COMMIT":
            raise MetadataUnavailable(
                f"{self.address} answered COMMIT with {answer.status}: the transaction had failed, nothing was changed"
            )

    @returns_deferred
    async def fence(self, key: int, earlier: Collection[Backend] = (), *, name: str = "") -> Backend:
        """
        Take the lock of the one writer, for as long as this session lasts.

        Whatever an earlier session of the holder had sent has come to its end then: a look-up behind this sees the truth.

        :param key: names the lock within the database, 64 bits with sign
        :param earlier: backends of this process; one that still has the lock is ended
        :param name: who we are, for those who do not get the lock then
        :return: the backend of this session
        :raise FenceTaken: somebody else has it
        """
        # A backend whose client is gone learns that in the middle of its work, too.
        await self.run("SET client_connection_check_interval = '200ms'")
        if name:
            await self.run("SELECT set_config('application_name', %s, false)", (name,))
        mine = await self.run(
            "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )
        for attempt in range(2):
            taken = await self.run("SELECT pg_try_advisory_lock(%s)", (key,))
            if taken.rows[0][0]:
                return Backend(*mine.rows[0])
            holder = await self.run(_HOLDER, (key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF))
            if attempt == 0 and any(Backend(*row[:2]) in earlier for row in holder.rows):
                await self.run("SELECT pg_terminate_backend(%s, 5000)", (holder.rows[0][0],))
        if not holder.rows:
            raise FenceTaken(str(self.address), "a session that is just ending")
        pid, _, who, since = holder.rows[0]
        raise FenceTaken(
            str(self.address), f"{f'{who}, ' if who else ''}process {pid} of the server since {since}"
        )

    def close(self) -> None:
        """End it. Statements under way fail with ``MetadataUnavailable``. Closing again changes nothing."""
        self._has_begun = False
        self._end(MetadataUnavailable(f"{self.address}: the connection was closed"))

    def give_up(self, why: str) -> None:
        """End it as if it had been lost, because of something that leaves it in a state that nobody knows."""
        self._end(MetadataUnavailable(f"{self.address}: {why}"))

    def _cursor(self) -> Any:
        if self.ended is not None:
            raise self.ended
        return self._wire.cursor()

    def _in_our_words(self) -> "_InOurWords":
        return _InOurWords(self)

    async def _asked(self, text: str | bytes, arguments: Row) -> Answer:
        if self.ended is not None:
            raise self.ended
        late = self._reactor.callLater(
            self._answer_seconds,
            self._end,
            MetadataUnavailable(f"{self.address}: no answer within {self._answer_seconds:g} s"),
        )
        try:
            with self._in_our_words():
                cursor = self._cursor()
                try:
                    await cursor.execute(text, arguments or None)
                    rows = cursor.fetchall() if cursor.description else []
                    return Answer([_plain(row) for row in rows], cursor.rowcount, cursor.statusmessage)
                finally:
                    with suppress(psycopg2.Error):
                        cursor.close()
        finally:
            if late.active():
                late.cancel()

    async def _connected(self, host_address: str | None, seconds: float) -> None:
        """Connect to one address of the host."""
        late = self._reactor.callLater(
            seconds,
            self._wire.abandon,
            MetadataUnavailable(f"{self.address}: no connection within {seconds:.3g} s"),
        )
        try:
            # Not to be cancelled: txpostgres would ask the server for that, and block.
            await shielded(self._wire.connect(**self._parameters(host_address)))
        except CancelledError:
            self._end(MetadataUnavailable(f"{self.address}: nobody waited for the connection"))
            raise
        except (psycopg2.Error, ValueError, *_TWISTED_ENDS) as error:
            if isinstance(error, ValueError) and self._wire.has_socket:
                raise
            why = self._wire.abandoned or MetadataUnavailable(f"{self.address}: {_one_line(error)}")
            self._wire.abandon(why)
            self._wire = self._wire.another()
            raise why from error
        finally:
            if late.active():
                late.cancel()
        self._is_up = True

    def _parameters(self, host_address: str | None) -> dict[str, object]:
        """Say all that libpq would otherwise look for in the environment or in files of its own."""
        address = self.address
        parameters: dict[str, object] = {
            "host": address.host,
            "port": address.port,
            "dbname": address.database,
            "user": address.user,
            "sslmode": address.tls,
            "application_name": address.application_name,
            "client_encoding": "UTF8",
            "options": "",
            # It blocks while it speaks to Kerberos.
            "gssencmode": "disable",
            # A host that has gone without a word is noticed while nobody asks it anything, too.
            "keepalives_idle": 20,
            "keepalives_interval": 5,
            "keepalives_count": 4,
        }
        if host_address is not None:
            parameters["hostaddr"] = host_address
        if address.authority_path is not None:
            parameters["sslrootcert"] = address.authority_path
        if address.password_path is not None:
            try:
                parameters["password"] = Path(address.password_path).read_text().rstrip("\r\n")
            except (OSError, UnicodeError) as error:
                raise MetadataUnavailable(f"{self.address}: its password: {error}") from error
        return parameters

    async def _resolved(self, seconds: float) -> list[str | None]:
        """Return the addresses of the host; the folder of a socket and an address stand for themselves."""
        host = self.address.host
        if host.startswith("/"):
            return [None]
        with suppress(ValueError):
            return [str(ip_address(host))]
        receiver = _Found()
        self._reactor.nameResolver.resolveHostName(receiver, host, self.address.port)
        late = self._reactor.callLater(seconds, receiver.resolutionComplete)
        try:
            return [*await receiver.complete]
        finally:
            if late.active():
                late.cancel()

    def _died(self, error: BaseException) -> None:
        """Whoever reads the socket has found its end; one that is not up yet is told by its connect."""
        if self._is_up:
            self._end(MetadataUnavailable(f"{self.address}: the connection was lost: {_one_line(error)}"))

    def _end(self, why: MetadataUnavailable) -> None:
        if self.ended is not None:
            return
        self.ended = why
        self._is_up = False
        # First, so that whoever tries again when his statement has failed does not meet this connection.
        if self._has_begun:
            self._lost(why)
        self._wire.abandon(why)

    def _told_apart(self, error: BaseException) -> BaseException:
        """
        Return what an exception of psycopg2 or txpostgres means; a bug is returned as it is.

        An end of the connection is noted.
        """
        if is_end_of_connection(error, is_closed=self._wire.is_closed):
            self._died(error)
        if self.ended is not None:
            return self.ended
        if isinstance(error, CancelledError):
            # txpostgres makes it of SQLSTATE 57014.
            return MetadataUnavailable(f"{self.address}: the server gave the statement up")
        if isinstance(error, errors.UniqueViolation):
            return Duplicate(_one_line(error))
        code = getattr(error, "pgcode", None)
        if code == errorcodes.DISK_FULL:
            # An answer, so the transaction was rolled back. A disk that is full at the commit itself ends the server instead.
            return MetadataFull(f"{self.address}: {_one_line(error)}")
        if code is not None and code.startswith(_PASSING_CLASSES):
            return MetadataUnavailable(f"{self.address}: {_one_line(error)}")
        return error


def is_end_of_connection(error: BaseException, *, is_closed: bool) -> bool:
    """
    Whether there is no connection any more after an error.

    :param is_closed: what the connection says of itself
    """
    if is_closed or isinstance(error, _TWISTED_ENDS):
        return True
    code = getattr(error, "pgcode", None)
    if code is not None:
        return str(code).startswith(_ENDINGS)
    # What libpq itself says has no code: it is the end of the connection, or nonsense from the other side.
    return isinstance(error, psycopg2.OperationalError) or type(error) is psycopg2.DatabaseError


class _InOurWords:
    """Raises what ``_told_apart`` makes of an exception."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (psycopg2.Error, CancelledError, *_TWISTED_ENDS)):
            told = self._connection._told_apart(error)
            if told is not error:
                raise told from error


class _Cursor(txpostgres.Cursor):
    """txpostgres' cursor, which has the reactor watch what its connection has it watch."""

    def fileno(self) -> int:
        """See ``_Wire``."""
        return int(self._connection.fileno())


class _Wire(txpostgres.Connection):
    """txpostgres' connection, which tells one owner of its end and of notifications, and the log of nothing."""

    cursorFactory = _Cursor

    def __init__(self, reactor: Any, hear: Hear, died: Callable[[BaseException], None]) -> None:
        super().__init__(reactor)
        self._hear = hear
        self._died = died
        self._watched = _NOTHING
        self.abandoned: MetadataUnavailable | None = None

    def another(self) -> "_Wire":
        """Return a fresh one of the same owner."""
        return _Wire(self.reactor, self._hear, self._died)

    @property
    def is_closed(self) -> bool:
        """Whether libpq has given the connection up."""
        return self._connection is None or bool(self._connection.closed)

    def abandon(self, why: MetadataUnavailable) -> None:
        """Close the socket; whoever waits is told."""
        self.abandoned = self.abandoned or why
        if self._connection is not None:
            self._watch(_NOTHING)
            with suppress(psycopg2.Error):
                self.close()
                # One that libpq has given up still has its socket.
                self._connection.close()

    @property
    def has_socket(self) -> bool:
        """Whether there still is one."""
        return self._socket() >= 0

    def fileno(self) -> int:
        """Return what the reactor watches: a descriptor of ours for the socket that libpq has, or had last."""
        number = self._socket()
        if number >= 0 and self.abandoned is None and self._watched.identity != (found := _identity(number)):
            self._watch(_Watched(os.dup(number), found))
        return self._watched.number

    def _watch(self, watched: "_Watched") -> None:
        """Have the reactor forget the descriptor that it watches, and use another from now on."""
        before = self._watched
        if before.number >= 0:
            stands_for_it = _Descriptor(before.number)
            self.reactor.removeReader(stands_for_it)
            self.reactor.removeWriter(stands_for_it)
            os.close(before.number)
        self._watched = watched

    def _socket(self) -> int:
        """Return the descriptor that libpq has; -1 without one."""
        try:
            return -1 if self.is_closed else int(self._connection.fileno())
        except psycopg2.Error:
            return -1

    def doRead(self) -> None:
        """Something arrived; a connection that has ended is told to its owner instead of the log."""
        try:
            with self._watching_again():
                super().doRead()
        except psycopg2.Error as error:
            self._died(error)

    def cursorFinished(self, cursor: Any) -> None:
        """A statement was answered."""
        with self._watching_again():
            super().cursorFinished(cursor)

    @contextmanager
    def _watching_again(self) -> Iterator[None]:
        """Around what has the reactor watch the socket again."""
        try:
            yield
        except ValueError:
            if self.has_socket:
                raise
            self._died(ConnectionLost("libpq has closed it"))

    def doWrite(self) -> None:
        """There is room again; as ``doRead``."""
        try:
            super().doWrite()
        except psycopg2.Error as error:
            self._died(error)

    def connectionLost(self, reason: Any) -> None:
        """The reactor found the socket closed, or we closed it."""
        super().connectionLost(reason)
        if self.abandoned is None:
            self._died(reason.value)

    def checkForNotifies(self) -> None:
        """Tell of notifications at once; there are few."""
        arrived, self._connection.notifies[:] = self._connection.notifies[:], []
        for one in arrived:
            self._hear(one.channel, one.payload)


class _Descriptor(NamedTuple):
    """Stands for what the reactor watches under a number."""

    number: int

    def fileno(self) -> int:
        """See ``IReadDescriptor``."""
        return self.number


class _Watched(NamedTuple):
    """A descriptor, and which socket it is for: device and inode."""

    number: int
    identity: tuple[int, int]


_NOTHING = _Watched(-1, (-1, -1))


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


@implementer(IResolutionReceiver)
class _Found:
    """Collects the addresses of a host."""

    def __init__(self) -> None:
        self._addresses: list[str] = []
        self.complete: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It takes its time."""

    def addressResolved(self, address: IAddress) -> None:
        """One of them."""
        self._addresses.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        """That is all; or the time is over, whichever came first."""
        if not self.complete.called:
            self.complete.callback(list(dict.fromkeys(self._addresses)))


def _plain(row: Row) -> Row:
    """psycopg2 answers bytea as a memoryview."""
    return tuple([bytes(value) if type(value) is memoryview else value for value in row])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""
The appliance's end of a mover: ``IMover`` over a child process.

The child (``coldstore.tape.mover_child``, ``coldstore.tape.raw.child``) is started when it is first needed, inherits the drive's lock, and ends with its standard
input. What it says counts as a sign of life; when it is silent for too long it is killed and reaped, since a system call on a tape
file system can hang for good. A child inside an uninterruptible system call cannot be reaped; until it is, nothing else is asked of the
volume.
"""

import base64
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, fail
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorFromThreads,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    CannotStart,
    CheckFailed,
    DriveBusy,
    FilesystemFault,
    FormatFailed,
    MountFailed,
    NeedsCheck,
    NoMedium,
    NotFormatted,
    NotRecorded,
    SyncFailed,
    WriteProtected,
    WrongVolume,
)
from coldstore.interfaces.mover import (
    BLOCK_BYTES,
    SHA256_ATTRIBUTE,
    Compared,
    DestinationFault,
    EndOfTape,
    FileExistsOnVolume,
    FileRange,
    FileTooLarge,
    IMover,
    Listed,
    Literal,
    MediumFault,
    MoverDied,
    MoverTimeout,
    NoSuchFileOnVolume,
    Piece,
    RangeRead,
    RangeState,
    ReadRange,
    StagedBytesDamaged,
    VolumeGone,
    VolumeSpace,
    Woven,
    Written,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.tape.children import python_environment
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")

Line = dict[str, Any]

STDERR_KEPT_BYTES = 4096
ATTRIBUTE_LIMIT_BYTES = 4096
"""The largest value that LTFS keeps (measured on the reference implementation; more is answered with ENOSPC)."""


class IMoverReactor(IReactorProcess, IReactorTime, IReactorFromThreads):
    """A reactor that starts processes, has a clock and takes answers from threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverLimits:
    """
    How long a mover may be silent.

    ``silence_seconds`` covers one system call on the volume: the drivers' own limits are 2,340 s for a read and 2,940 s for a locate,
    and one call can need both. ``reap_seconds`` is the wait for a killed child.
    """

    silence_seconds: float = 6000.0
    reap_seconds: float = 10.0
    farewell_seconds: float = 5.0


QUIET = frozenset({"space", "get_attributes"})
"""What is answered without the tape: everything else moves it."""

FILESYSTEM_FAULTS: Mapping[str, type[FilesystemFault]] = {
    kind.__name__: kind
    for kind in (
        AlreadyFormatted,
        CannotStart,
        CheckFailed,
        DriveBusy,
        FormatFailed,
        MountFailed,
        NeedsCheck,
        NoMedium,
        NotFormatted,
        NotRecorded,
        SyncFailed,
        WriteProtected,
    )
}
"""Faults of the volume as a whole that a child which serves the drive itself can meet."""


def checked_path(path: str) -> str:
    """
    Return a path relative to the root of a volume, or refuse it.

    :raise ValueError: absolute, empty components, ``.`` or ``..``.
    """
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"not a path within a volume: {path!r}")
    return path


def checked_attribute(name: str) -> str:
    """
    Return the name of an attribute that a file of ours may have, or refuse it.

    :raise ValueError: it is empty, or LTFS has a meaning of its own for it.
    """
    if not name or (name.startswith("ltfs.") and name != SHA256_ATTRIBUTE):
        raise ValueError(f"not an attribute of ours: {name!r}")
    return name


def fault_of(fields: Line) -> Exception:
    """Turn a fault that the child named into the exception that says so."""
    match fields["kind"]:
        case "EndOfTape":
            return EndOfTape(fields["path"], fields["written"])
        case "MediumFault":
            return MediumFault(fields["path"], fields["operation"], fields["errno"], fields["message"])
        case "VolumeGone":
            return VolumeGone(fields["message"])
        case "StagedBytesDamaged":
            return StagedBytesDamaged(fields["ordinal"], fields["path"], fields["reason"])
        case "DestinationFault":
            return DestinationFault(fields["path"], fields["errno"], fields["message"])
        case "FileExistsOnVolume":
            return FileExistsOnVolume(fields["path"])
        case "NoSuchFileOnVolume":
            return NoSuchFileOnVolume(fields["path"])
        case "FileTooLarge":
            return FileTooLarge(fields["message"])
        case "WrongVolume":
            return WrongVolume(
                fields["message"], found_label=fields["found_label"], found_uuid=fields["found_uuid"]
            )
        case kind if kind in FILESYSTEM_FAULTS:
            return FILESYSTEM_FAULTS[kind](fields["message"])
    return MoverDied(f"the mover answered with something unknown: {fields}")


def write_pieces(plan_path: str, pieces: Iterable[Piece]) -> None:
    """Write the plan of a file (its format: ``mover_child.copy_plan``). To be called in a worker thread."""
    with open(plan_path, "wb") as plan:
        for piece in pieces:
            match piece:
                case Literal():
                    plan.write(b"[%d]\n" % len(piece.content))
                    plan.write(piece.content)
                case FileRange():
                    row = [piece.path, piece.offset_bytes, piece.length_bytes, piece.crc64nvme]
                    plan.write(json.dumps(row).encode() + b"\n")
                case Woven():
                    head = {
                        "own": [piece.path, piece.size_bytes, piece.crc64nvme],
                        "sources": piece.sources,
                        "ranges": len(piece.lengths),
                    }
                    plan.write(json.dumps(head).encode() + b"\n")
                    for column in piece.columns:
                        column.tofile(plan)


def write_ranges(plan_path: str, ranges: Sequence[ReadRange]) -> None:
    """Write the plan of a reading (its format: ``mover_child.read_file``). To be called in a worker thread."""
    with open(plan_path, "wb") as plan:
        for ordinal, each in enumerate(ranges):
            row = [
                ordinal,
                each.offset_bytes,
                each.length_bytes,
                each.crc64nvme,
                each.destination,
                each.destination_offset_bytes,
            ]
            plan.write(json.dumps(row).encode() + b"\n")


class MoverProtocol(ProcessProtocol):
    """Lines from one child, and its end."""

    def __init__(self, on_line: Callable[[Line], None], on_end: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._pending: list[bytes] = []
        self._complaint = b""

    def outReceived(self, data: bytes) -> None:
        """Cut what comes into lines."""
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = b"".join([*self._pending, complete[0]])
            self._pending.clear()
            for line in complete:
                self._on_line(json.loads(line))
        if rest:
            self._pending.append(rest)

    def errReceived(self, data: bytes) -> None:
        """Keep the last words."""
        self._complaint = (self._complaint + data)[-STDERR_KEPT_BYTES:]

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended."""
        ending = "exit status 0" if isinstance(reason.value, ProcessDone) else str(reason.value)
        words = self._complaint.decode(errors="replace").strip().splitlines()
        self._on_end(f"{ending}; {words[-1]}" if words else ending)


class Child:
    """One running child: asked one thing at a time, watched for silence, ended for good."""

    def __init__(
        self,
        reactor: IMoverReactor,
        argv: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        limits: MoverLimits,
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._number = 0
        self._answer: Deferred[Line] | None = None
        self._on_event: Callable[[Line], None] = lambda line: None
        self._watch: IDelayedCall | None = None
        self._silence_seconds = limits.silence_seconds
        self._waiting_for_end: list[Deferred[None]] = []
        self._last_words: str | None = None
        self.is_condemned = False
        self._transport: IProcessTransport = reactor.spawnProcess(
            MoverProtocol(self._line_came, self._ended),
            argv[0],
            argv,
            env=dict(environment),
            childFDs={0: "w", 1: "r", 2: "r", **{descriptor: descriptor for descriptor in descriptors}},
        )

    @property
    def is_ended(self) -> bool:
        """Whether it has been reaped."""
        return self._last_words is not None

    def ask(self, command: Line, on_event: Callable[[Line], None], silence_seconds: float) -> Deferred[Line]:
        """
        Send one command.

        :return: fires with the last line; fails with the fault that it names, ``MoverDied`` or ``MoverTimeout``. Cancelling
            kills the child.
        """
        if self._last_words is not None:
            return fail(MoverDied(self._last_words))
        self._number += 1
        self._on_event = on_event
        self._silence_seconds = silence_seconds
        self._answer = Deferred(lambda _: self.kill())
        answer = self._answer
        line = json.dumps({"id": self._number, **command}).encode() + b"\n"
        # A child that has just died has no pipe any more; that it died is then told in a moment.
        with suppress(KeyError):
            self._transport.writeToChild(0, line)
        self._watch = self._reactor.callLater(silence_seconds, self._silent)
        return answer

    def _line_came(self, line: Line) -> None:
        if self._answer is None or line["id"] != self._number:
            return
        if self._watch is not None:
            self._watch.reset(self._silence_seconds)
        if "done" in line:
            self._settle(line["done"])
        elif "fault" in line:
            self._settle(fault_of(line["fault"]))
        else:
            self._on_event(line)

    def _settle(self, result: Line | Exception) -> None:
        answer, self._answer = self._answer, None
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._watch = None
        if answer is not None and not answer.called:
            if isinstance(result, Exception):
                answer.errback(result)
            else:
                answer.callback(result)

    def _silent(self) -> None:
        self.kill()
        message = f"no sign of life for {self._silence_seconds:g} s; killed"
        waiting = self.wait_until_ended(self._limits.reap_seconds)

        def reaped(is_ended: bool) -> None:
            words = message if is_ended else f"{message}, but the kernel has not ended it yet"
            self._settle(MoverTimeout(words))

        waiting.addCallback(reaped)

    def _ended(self, ending: str) -> None:
        self._last_words = f"the mover ended: {ending}"
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for each in waiting:
            each.callback(None)
        self._settle(MoverDied(self._last_words))

    def wait_until_ended(self, timeout_seconds: float) -> "Deferred[bool]":
        """Fire with whether the child has been reaped, at the latest after so long."""
        ended: Deferred[bool] = Deferred()
        if self.is_ended:
            ended.callback(True)
            return ended
        reaped: Deferred[None] = Deferred()
        self._waiting_for_end.append(reaped)

        def gave_up() -> None:
            self._waiting_for_end.remove(reaped)
            ended.callback(False)

        patience = self._reactor.callLater(timeout_seconds, gave_up)

        def came(_: None) -> None:
            patience.cancel()
            ended.callback(True)

        reaped.addCallback(came)
        return ended

    def kill(self) -> None:
        """Send SIGKILL. Harmless when it has ended."""
        self.is_condemned = True
        if not self.is_ended:
            with suppress(ProcessExitedAlready):
                self._transport.signalProcess("KILL")

    def farewell(self) -> None:
        """Close its standard input, so that it ends by itself."""
        self.is_condemned = True
        if not self.is_ended:
            self._transport.closeStdin()


@implementer(IMover)
class MoverProcess:
    """
    Moves bytes of one mounted volume by a child process.

    :param threads: a running pool, for plan files.
    :param program: the module that the child runs, and its arguments.
    :param run_directory: where plan files go; exists.
    :param descriptors: tells the descriptors that the child inherits: the drive's lock.
    :param environment: the child's environment besides ``PYTHONPATH``.
    """

    log = Logger()

    def __init__(
        self,
        *,
        reactor: IMoverReactor,
        threads: ThreadPool,
        program: Sequence[str],
        run_directory: str,
        tenure: ITenure,
        descriptors: Callable[[], Sequence[int]] = tuple,
        limits: MoverLimits | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._run_directory = run_directory
        self._tenure = tenure
        self._descriptors = descriptors
        self._limits = limits or MoverLimits()
        self._argv = [python, "-m", *program]
        self._environment = python_environment(environment or {})
        self._turn = DeferredLock()
        self._child: Child | None = None
        self._plans = 0

    @property
    def process_id(self) -> int | None:
        """The child's process id, for messages and tests; None when none runs."""
        child = self._child
        return None if child is None or child.is_ended else child._transport.pid

    def _in_thread(self, function: Callable[..., _T], *arguments: object) -> "Deferred[_T]":
        return deferToThreadPool(self._reactor, self._threads, function, *arguments)

    def _scratch(self) -> str:
        self._plans += 1
        return os.path.join(self._run_directory, f"mover-{os.getpid()}-{id(self):x}-{self._plans}")

    async def _ready_child(self) -> Child:
        child = self._child
        if child is not None and child.is_condemned and not child.is_ended:
            child.kill()
            if not await child.wait_until_ended(self._limits.reap_seconds):
                raise MoverTimeout("an earlier mover of this volume was killed and has not ended yet")
        if child is None or child.is_ended:
            child = self._child = Child(
                self._reactor, self._argv, self._environment, self._descriptors(), self._limits
            )
        return child

    async def _do(
        self,
        command: Line,
        on_event: Callable[[Line], None] = lambda line: None,
        silence_seconds: float | None = None,
    ) -> Line:
        limit = self._limits.silence_seconds if silence_seconds is None else silence_seconds
        child = await self._ready_child()
        if command["op"] not in QUIET:
            await self._tenure.confirm()
        return await child.ask({"at": self._reactor.seconds(), **command}, on_event, limit)

    async def ask(self, command: Line, silence_seconds: float | None = None) -> Line:
        """
        Have one command carried out when it is its turn; for what only one kind of volume has.

        :return: the child's last line.
        """
        await self._turn.acquire()
        try:
            return await self._do(command, silence_seconds=silence_seconds)
        finally:
            self._turn.release()

    async def _with_plan(
        self,
        command: Line,
        write_plan: Callable[[str], None],
        on_event: Callable[[Line], None],
    ) -> Line:
        await self._turn.acquire()
        plan = self._scratch()
        try:
            try:
                await self._in_thread(write_plan, plan)
            except OSError as fault:
                raise DestinationFault(plan, fault.errno or 0, fault.strerror or str(fault)) from fault
            return await self._do({**command, "plan": plan}, on_event)
        finally:
            self._turn.release()
            self._threads.callInThread(_discard, plan)

    @returns_deferred
    async def write(
        self,
        *,
        path: str,
        pieces: Iterable[Piece],
        attributes: Mapping[str, bytes],
        on_progress: Callable[[int], None],
        replace_stump: bool = False,
    ) -> Written:
        """See ``IMover``."""
        command: Line = {
            "op": "write",
            "path": checked_path(path),
            "attributes": {
                checked_attribute(name): _encoded(name, value) for name, value in attributes.items()
            },
            "replace": replace_stump,
        }
        answer = await self._with_plan(
            command, lambda plan: write_pieces(plan, pieces), lambda line: on_progress(line["progress"])
        )
        return Written(size_bytes=answer["size"], sha256=answer["sha256"], seconds=answer["seconds"])

    @returns_deferred
    async def verify(
        self, *, path: str, size_bytes: int, sha256: str, on_progress: Callable[[int], None]
    ) -> Compared:
        """See ``IMover``."""
        await self._turn.acquire()
        try:
            command = {"op": "verify", "path": checked_path(path)}
            answer = await self._do(command, lambda line: on_progress(line["progress"]))
        finally:
            self._turn.release()
        return Compared(
            is_identical=answer["size"] == size_bytes and answer["sha256"] == sha256,
            size_bytes=answer["size"],
            sha256=answer["sha256"],
            seconds=answer["seconds"],
        )

    @returns_deferred
    async def read(
        self,
        *,
        path: str,
        ranges: Sequence[ReadRange],
        on_range_done: Callable[[RangeRead], None],
        block_bytes: int = BLOCK_BYTES,
    ) -> Sequence[RangeRead]:
        """See ``IMover``."""
        outcomes: dict[int, RangeRead] = {}

        def event(line: Line) -> None:
            if "range" not in line:
                return
            told = line["range"]
            outcome = RangeRead(
                ordinal=told["ordinal"],
                state=RangeState(told["state"]),
                block_crcs=tuple(told["blocks"]),
                detail=told["detail"],
            )
            outcomes[outcome.ordinal] = outcome
            on_range_done(outcome)

        command = {"op": "read", "path": checked_path(path), "block_bytes": block_bytes}
        await self._with_plan(command, lambda plan: write_ranges(plan, ranges), event)
        return tuple(outcomes[ordinal] for ordinal in range(len(ranges)))

    @returns_deferred
    async def put_file(self, *, path: str, content: bytes) -> None:
        """See ``IMover``."""
        pieces = [Literal(content=content)]
        command = {"op": "put_file", "path": checked_path(path)}
        await self._with_plan(command, lambda plan: write_pieces(plan, pieces), lambda line: None)

    @returns_deferred
    async def get_file(self, *, path: str, limit_bytes: int) -> bytes:
        """See ``IMover``."""
        destination = self._scratch()
        try:
            await self.ask(
                {
                    "op": "get_file",
                    "path": checked_path(path),
                    "limit": limit_bytes,
                    "destination": destination,
                }
            )
            return await self._in_thread(_content, destination)
        finally:
            self._threads.callInThread(_discard, destination)

    @returns_deferred
    async def list(self, *, path: str) -> Sequence[Listed]:
        """See ``IMover``."""
        found: list[Listed] = []

        def event(line: Line) -> None:
            found.extend(
                Listed(name=name, is_directory=is_directory, size_bytes=size)
                for name, is_directory, size in line["entries"]
            )

        await self._turn.acquire()
        try:
            await self._do({"op": "list", "path": path and checked_path(path)}, event)
        finally:
            self._turn.release()
        return tuple(found)

    @returns_deferred
    async def unlink(self, *, path: str) -> None:
        """See ``IMover``."""
        await self.ask({"op": "unlink", "path": checked_path(path)})

    @returns_deferred
    async def get_attributes(self, *, path: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """See ``IMover``."""
        wanted = [checked_attribute(name) for name in names]
        answer = await self.ask({"op": "get_attributes", "path": checked_path(path), "names": wanted})
        return {name: base64.b64decode(value) for name, value in answer["values"].items()}

    @returns_deferred
    async def space(self) -> VolumeSpace:
        """See ``IMover``."""
        answer = await self.ask({"op": "space"})
        return VolumeSpace(total_bytes=answer["total"], free_bytes=answer["free"])

    @returns_deferred
    async def close(self) -> None:
        """See ``IMover``."""
        child = self._child
        if child is None or child.is_ended:
            return
        child.farewell()
        if await child.wait_until_ended(self._limits.farewell_seconds):
            return
        child.kill()
        if not await child.wait_until_ended(self._limits.reap_seconds):
            raise MoverTimeout("the mover was killed and has not ended yet")


def _encoded(name: str, value: bytes) -> str:
    if len(value) > ATTRIBUTE_LIMIT_BYTES:
        raise ValueError(f"attribute {name} has {len(value)} bytes, more than {ATTRIBUTE_LIMIT_BYTES}")
    return base64.b64encode(value).decode()


def _content(path: str) -> bytes:
    with open(path, "rb") as scratch:
        return scratch.read()


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


__all__ = ["MoverLimits", "MoverProcess", "checked_path"]

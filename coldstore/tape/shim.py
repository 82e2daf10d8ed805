"""
The shim: a small program that runs one ``ltfs`` to its end and writes down how it ended.

``python -m coldstore.tape.shim MOUNT_FOLDER`` takes the wish in that folder (``coldstore.tape.mountrecord``). It stands between the service
and ``ltfs`` for four reasons. A restarted service is not the parent of ``ltfs`` and could not learn its exit status. ``ltfs`` must not write to a
pipe: when the reader dies, SIGPIPE kills it at unmount before it writes the index. The tape device must be held open as long as ``ltfs`` uses the
drive, so that no other program opens it and rewinds the tape under it. And a log that grows without end must be cut.

``ltfs`` is written down by the process that becomes it, before it does: however early the shim is killed, no ``ltfs`` runs that nobody knows. It
inherits the open tape device and the mount lock, so both hold even if the shim is killed. Signals are not passed on: a second SIGTERM, or
SIGTERM with SIGCONT, makes ``ltfs`` lose its index; the shim itself ignores them and waits.
"""

import errno
import fcntl
import os
import re
import select
import signal
import subprocess  # noqa: TID251 (a stand-alone program: there is no reactor here)
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

from coldstore.tape.ltfs import NOTABLE_CODES, message_of
from coldstore.tape.mountrecord import HEAD_BYTES, TAIL_BYTES, Ended, Launch, MountFolder, ProcessMark
from coldstore.tape.processtable import mark_of
from coldstore.util.fallocate import KEEP_SIZE, PUNCH_HOLE, fallocate

LOOK_MILLISECONDS = 1000
NOTABLE_PER_CODE = 20
CHUNK_BYTES = 1024 * 1024


def _any_of(codes: Iterable[str]) -> re.Pattern[bytes]:
    """Return what finds any of these messages; with none of them it finds nothing."""
    return re.compile(b"LTFS(?:%s)" % ("|".join(sorted(codes)) or "(?!)").encode())


class Log:
    """
    Reads what ``ltfs`` says, keeps the lines that matter, and gives the disk back the middle of a log that is too long.

    The middle is punched out of the file, which keeps its length, so that no line can be lost between a look and the cut.
    """

    def __init__(self, path: str, limit_bytes: int) -> None:
        self._file = open(path, "r+b")  # noqa: SIM115 (it stays open as long as ltfs runs)
        self._limit_bytes = limit_bytes
        self._read_bytes = 0
        self._punched_bytes = HEAD_BYTES
        self._rest = b""
        self._counts = dict.fromkeys(NOTABLE_CODES, 0)
        self._wanted = _any_of(NOTABLE_CODES)
        self.notable: list[str] = []

    def look(self) -> None:
        """Read what is new."""
        while chunk := os.pread(self._file.fileno(), CHUNK_BYTES, self._read_bytes):
            self._read_bytes += len(chunk)
            text = self._rest + chunk
            end = text.rfind(b"\n") + 1
            self._rest = text[end:][-CHUNK_BYTES:]
            self._search(text, end)
            self._cut()
            if len(chunk) < CHUNK_BYTES:
                break

    def _search(self, text: bytes, end: int) -> None:
        """Take the notable lines. What is said a million times a second must not be read line by line, or the disk fills."""
        start = 0
        while found := self._wanted.search(text, start, end):
            start = text.find(b"\n", found.end(), end)
            start = end if start < 0 else start
            self._take(text[text.rfind(b"\n", 0, found.start()) + 1 : start])

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace")
        message = message_of(text)
        if message is None or self._counts.get(message.code, NOTABLE_PER_CODE) >= NOTABLE_PER_CODE:
            return
        self.notable.append(text)
        self._counts[message.code] += 1
        if self._counts[message.code] == NOTABLE_PER_CODE:
            self._wanted = _any_of(code for code, count in self._counts.items() if count < NOTABLE_PER_CODE)

    def _cut(self) -> None:
        keep_from = self._read_bytes - TAIL_BYTES
        if keep_from - self._punched_bytes < self._limit_bytes:
            return
        length_bytes = keep_from - self._punched_bytes
        try:
            fallocate(self._file.fileno(), PUNCH_HOLE | KEEP_SIZE, self._punched_bytes, length_bytes)
        except OSError:
            # A file system that cannot, or a full disk without room to write down what it gets back. How ltfs ends matters more.
            return
        self._punched_bytes = keep_from

    def finish(self) -> None:
        """Read to the end, with or without a last newline."""
        self.look()
        self._take(self._rest)
        self._file.close()


def failed(reason: str, *, is_busy: bool = False) -> Ended:
    """The end of an ``ltfs`` that was never started."""
    return Ended(exit_status=None, signal=None, failure=reason, is_busy=is_busy, notable=())


def own_mark() -> ProcessMark:
    """Tell this process so that it cannot be mistaken; it keeps its mark when it becomes another program."""
    mark = mark_of(os.getpid())
    assert mark is not None
    return mark


def locked(path: str) -> int:
    """
    Take the mount lock.

    :return: its descriptor, to be inherited by ``ltfs``.
    :raise OSError: it is held.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def guarded(path: str | None) -> int | None:
    """
    Open the tape device without waiting for a tape, so that nobody else can (st allows one opener).

    :raise OSError: somebody else has it, or it does not exist.
    """
    return None if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def wait_for(process: "subprocess.Popen[bytes]", log: Log) -> int:
    """Wait until ``ltfs`` has ended, with an eye on its log."""
    ending = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ending, select.POLLIN)
    while not poll.poll(LOOK_MILLISECONDS):
        log.look()
    os.close(ending)
    return process.wait()


def run(folder: MountFolder, launch: Launch) -> Ended:
    """
    Run ``ltfs`` to its end.

    :return: how it ended; guard and lock are released by then, so that the next mount finds them free.
    """
    try:
        lock = locked(launch.lock_path)
    except OSError as error:
        return failed(f"{launch.lock_path}: {error.strerror}", is_busy=error.errno == errno.EWOULDBLOCK)
    try:
        guard = guarded(launch.guard)
    except OSError as error:
        return failed(f"{launch.guard}: {error.strerror}", is_busy=error.errno == errno.EBUSY)
    inherited = [descriptor for descriptor in (lock, guard) if descriptor is not None]
    with open(folder.log_path, "ab") as output:
        try:
            process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=inherited,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"},
                preexec_fn=lambda: folder.write_ltfs(own_mark()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return failed(f"{launch.argv[0]}: {reason}")
    log = Log(folder.log_path, launch.log_limit_bytes)
    status = wait_for(process, log)
    log.finish()
    for descriptor in inherited:
        os.close(descriptor)
    return Ended(
        exit_status=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        failure=None,
        is_busy=False,
        notable=tuple(log.notable),
    )


def main(arguments: Sequence[str]) -> int:
    """
    Take the wish in a mount folder and fulfil it.

    :param arguments: the folder.
    :return: 0, also when ``ltfs`` failed; 1 when there was nothing to do.
    """
    with suppress(PermissionError):
        os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A function, not SIG_IGN: ltfs would inherit that, and could not be ended by a shutdown of the machine.
        signal.signal(number, lambda number, frame: None)
    folder = MountFolder(os.path.abspath(arguments[0]))
    launch = folder.claim(own_mark())
    if launch is None:
        return 1
    folder.write_ended(run(folder, launch))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""
Servers that a test process starts for itself: on loopback ports of their own, as an unprivileged user, gone when it ends.

Plain blocking code, as what it starts are other processes. A server ends with the process that started it, however that ends.
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

from tests.ports import free_port

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
PAUSE_SECONDS = 0.02
STARTS = 5
"""A port that was free may be taken by the time the server wants it."""


class NotRunning(AssertionError):
    """A server did not come up or did not go; shows the end of its log."""

    @property
    def is_of_a_port(self) -> bool:
        """Whether that was because somebody else listens where it wants to."""
        return "address already in use" in str(self).lower()


def program(name: str, *folders: Path) -> str:
    """
    Return the path of a program: on PATH or in one of the folders.

    :raise SkipTest: it is not installed
    """
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise SkipTest(f"there is no {name}")
    return found


def state_of(pid: int) -> tuple[str, int]:
    """Return what a process does (proc(5), /proc/pid/stat: R, S, T ...) and its parent; Z, too, when it has ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def parent_of(pid: int) -> int | None:
    """Return the parent of a running process; None when it has ended."""
    state, parent = state_of(pid)
    return None if state == "Z" else parent


def children_of(pid: int) -> list[int]:
    """Return the running children of a process."""
    return [one for one in map(int, filter(str.isdecimal, os.listdir("/proc"))) if parent_of(one) == pid]


class SmallDisk:
    """A disk of a few MiB, in memory, for as long as the context lasts."""

    def __init__(self, mebibytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cs-disk-"))
        self._mebibytes = mebibytes
        self._ballast = self.folder / "ballast"

    def __enter__(self) -> "SmallDisk":
        """
        Mount it.

        :raise SkipTest: we may not
        """
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._mebibytes}m,mode=755", "tmpfs", self.folder],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.folder.rmdir()
            raise SkipTest(f"no file system can be mounted here: {done.stderr.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away, with all that is on it."""
        subprocess.run(["umount", "-l", self.folder], check=True, capture_output=True)
        self.folder.rmdir()

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError:
                    continue

    def clear(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


class ServerProcess:
    """
    One server: a folder, a port, a log, and now and then a process.

    Whoever derives from it says how it is prepared, which command it is, and when it answers.
    """

    user = ""
    """Whom it runs as where we are root."""
    stop_signal = signal.SIGTERM
    """Has it finish what it does, and end."""

    def __init__(self, *, disk: SmallDisk | None = None) -> None:
        """:param disk: what it keeps lies there, instead of among the temporary files"""
        # A short path: sockets below it may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cs-server-", dir=disk.folder if disk else None))
        self.folder.chmod(0o700)
        self.log_path = self.folder / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)
        try:
            self.own(self.folder)
            self._prepare()
            self._first_start()
        except BaseException:
            self.remove()
            raise

    def _first_start(self) -> None:
        """Start it for the first time."""
        for attempt in range(STARTS):
            try:
                self.start()
                break
            except NotRunning as failure:
                if attempt == STARTS - 1 or not failure.is_of_a_port:
                    raise
                self.port = free_port()

    def _prepare(self) -> None:
        """Lay down what the first start needs."""

    def _command(self) -> Sequence[str]:
        """Return the command of the server, which stays in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    def own(self, path: Path) -> None:
        """Give a file or folder to the user that the server runs as."""
        if os.geteuid() == 0:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def run(self, *words: str) -> None:
        """Run a command as the server's user to its end."""
        done = subprocess.run(
            [*self._as_user(), *words],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """
        Start it and wait until it answers.

        :raise NotRunning: it ended, or did not answer for long
        """
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it; whether it answers is not waited for."""
        assert self._process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user(), *self._command()],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C of whoever runs the tests is not for it.
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """
        Wait until it answers.

        :raise NotRunning: it ended, or did not answer for long; it is ended then
        """
        process = self._process
        assert process is not None, "it was not started"
        try:
            self._wait(
                "it does not answer", READY_SECONDS, lambda: process.poll() is not None or self.is_ready()
            )
            if process.returncode is not None:
                raise NotRunning(f"it ended with status {process.returncode}:\n{self.log()}")
        except NotRunning:
            self.kill()
            raise

    def stop(self) -> None:
        """Have it end in an orderly way, and wait for that. Nothing happens when it does not run."""
        process = self._process
        if process is not None:
            process.send_signal(self.stop_signal)
            self._wait("it does not stop", STOP_SECONDS, lambda: process.poll() is not None)
            self._process = None

    def kill(self) -> None:
        """End it by SIGKILL, at once, and wait until its children are gone as well."""
        process = self._process
        if process is not None:
            children = children_of(process.pid)
            process.kill()
            process.wait()
            # They learn of it by themselves; a new server must not come up beside them.
            self._wait(
                "its children stay", STOP_SECONDS, lambda: all(parent_of(pid) is None for pid in children)
            )
            self._process = None

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it and its children do nothing from now on."""
        self._signal_all(signal.SIGSTOP)
        # The signal takes a moment to reach one that runs.
        self._wait(
            "it goes on",
            STOP_SECONDS,
            lambda: all(state_of(pid)[0] in "TZ" for pid in (self.pid, *children_of(self.pid))),
        )

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        atexit.unregister(self.remove)
        if self._process is not None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return the end of what it printed."""
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else ""

    def _as_user(self) -> list[str]:
        # The signal comes with our end, also by SIGKILL (prctl(2), PR_SET_PDEATHSIG).
        as_user = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            as_user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return [program("setpriv"), *as_user, "--pdeathsig=KILL", "--"]

    def _environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self.pid, *children_of(self.pid)):
            # One of the children may just have ended.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait(self, what: str, seconds: float, claim: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not claim():
            if time.monotonic() > end:
                raise NotRunning(f"{what} for {seconds:.0f} s:\n{self.log()}")
            time.sleep(PAUSE_SECONDS)

"""
A clean Debian 12 below a folder, made by mmdebstrap from the machine's own sources of packages.

It runs in name spaces of its own, its processes, mounts and network among them, and all of that goes with its first process.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.package.building import SYSTEM_PATH, Failed, kept, run

RELEASE = "bookworm"
INCLUDED = ("dbus", "systemd", "systemd-sysv", "udev")
"""What a Debian server has and a minimal tree lacks."""
VIRTUAL_LTFS = "/var/lib/coldstore/vtl/bin/ltfs"
WEEK_SECONDS = 7 * 86400
BOOT_SECONDS = 120.0
INSIDE = ("env", "-i", f"PATH={SYSTEM_PATH}", "LANG=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive")


def sources() -> list[str]:
    """
    Return the lines of the machine's package sources that are of the release, without extras of others.

    :raise SkipTest: it has none
    """
    told = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN) $(COMPONENT) $(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]
    )
    rows = [line.split() for line in told.splitlines()]
    lines = [
        f"deb {row[3]} {row[2]} main"
        for row in rows
        if row[:2] == ["Debian", "main"] and row[2].startswith(RELEASE)
    ]
    if not any(f" {RELEASE} main" in line for line in lines):
        raise SkipTest(
            f"LEVEL SKIPPED: the package sources of this machine (apt) have no Debian 12 ({RELEASE})"
        )
    return list(dict.fromkeys(lines))


def _bootstrapped() -> Path:
    """Return the archive of a clean system; it is made anew when the sources change, and every week."""
    lines = sources()
    week = int(time.time() // WEEK_SECONDS)
    key = sha256("\n".join([*lines, *INCLUDED]).encode()).hexdigest()[:16]

    def make(new: Path) -> None:
        for old in new.parent.glob(f"{RELEASE}-*.tar"):
            old.unlink()
        run(
            ["mmdebstrap", "--mode=root", "--format=tar", "--variant=minbase", f"--include={','.join(INCLUDED)}",
             RELEASE, new, *lines]
        )  # fmt: skip

    return kept(f"{RELEASE}-{key}-{week}.tar", make)


def unpacked(root: Path) -> None:
    """
    Make a clean system in a folder.

    :raise SkipTest: it cannot be had
    """
    if os.geteuid() != 0:
        raise SkipTest("LEVEL SKIPPED: only root can make a clean Debian 12")
    try:
        run(["unshare", "--mount", "--pid", "--net", "--fork", "true"])
        archive = _bootstrapped()
    except Failed as error:
        raise SkipTest(f"LEVEL SKIPPED: a clean Debian 12 cannot be had here: {error}") from None
    root.mkdir()
    run(["tar", "--extract", "--numeric-owner", "--file", archive, "--directory", root])
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # How this machine reaches its package sources, such as by a proxy.
    ways = [line for line in run(["apt-config", "dump"]).splitlines() if line.startswith("Acquire::")]
    (root / "etc/apt/apt.conf.d/90as-outside").write_text(
        "".join(f"{line}\n" for line in ways if line.startswith(("Acquire::http", "Acquire::Check")))
    )
    # What is on it is gone after the test anyhow.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe").write_text("force-unsafe-io\n")
    _make_fuse(root / "dev/fuse")


def _make_fuse(node: Path) -> None:
    """Make the node that FUSE needs, for everybody as udev does it."""
    os.mknod(node, 0o20666, os.makedev(10, 229))
    node.chmod(0o666)


class Machine:
    """A system that runs; ``leader`` is the outer process id of its first process."""

    def __init__(self, root: Path, process: "subprocess.Popen[bytes]") -> None:
        self.root = root
        self.process = process
        self.leader = 0

    def entered(self, *words: str, user: str = "root") -> list[str]:
        """Return the command line that runs a program inside."""
        name_spaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]
        return [
            "nsenter", f"--target={self.leader}", *name_spaces, "--",
            *INSIDE, *(as_user if user != "root" else []), *words,
        ]  # fmt: skip

    def run(
        self, *words: str, seconds: float = 300.0, statuses: Sequence[int] = (0,), user: str = "root"
    ) -> str:
        """Run a program inside; return what it printed. Raises as ``building.run``."""
        return run(self.entered(*words, user=user), seconds=seconds, statuses=statuses)

    def path(self, inside: str) -> Path:
        """Return the outer path of a file."""
        return self.root / inside.lstrip("/")

    def file_systems(self) -> list[str]:
        """Return process id and command line of every ``ltfs`` inside."""
        listed = self.run(
            "sh", "-c", "for p in /proc/[0-9]*; do echo ${p#/proc/} $(tr '\\0' ' ' 2>&- < $p/cmdline); done"
        )
        return sorted(line for line in listed.splitlines() if f"{VIRTUAL_LTFS} " in f"{line} ")

    def _find_leader(self, seconds: float) -> None:
        """Wait for the process below ours that is the first of its name space, and lives in the tree."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"the system ended with status {self.process.returncode}")
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for child in children:
                if self._is_leader(Path("/proc", child)):
                    self.leader = int(child)
                    return
            time.sleep(0.05)
        raise Failed("the system has no first process")

    def _is_leader(self, process: Path) -> bool:
        try:
            numbers = re.search(r"^NSpid:(.*)$", (process / "status").read_text(), re.MULTILINE)
            return (
                numbers is not None
                and numbers[1].split()[1:] == ["1"]
                and os.path.samefile(process / "root", self.root)
            )
        except OSError:
            return False


@contextmanager
def running(root: Path, *, has_network: bool = False) -> Iterator[Machine]:
    """Run a system without a service manager; ``has_network`` gives it the machine's network instead of a loopback of its own."""
    network = [] if has_network else ["--net"]
    script = (
        ("" if has_network else "ip link set lo up\n")
        + 'mount -t proc proc "$0/proc"\n'
        # A first process has to take leave of orphans.
        + 'exec chroot "$0" sh -c "sleep infinity & wait"\n'
    )
    process = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--pid",
            *network,
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            script,
            root,
        ],
        stdin=subprocess.DEVNULL,
        env={"PATH": SYSTEM_PATH},
    )
    machine = Machine(root, process)
    try:
        machine._find_leader(BOOT_SECONDS)
        yield machine
    finally:
        process.kill()
        process.wait()


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """
    Boot a system with its service manager, in a container.

    :raise SkipTest: it does not come up here
    """
    # The container gets a fresh /dev, and its tree's own nodes are then out of reach.
    fuse = root.with_name(f"{root.name}.fuse")
    if not fuse.exists():
        _make_fuse(fuse)
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
    process = subprocess.Popen(
        [
            "systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--register=no", "--keep-unit",
            "--private-network", f"--bind={fuse}:/dev/fuse", "--capability=all", "--console=pipe",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={"PATH": SYSTEM_PATH},
    )  # fmt: skip
    machine = Machine(root, process)
    try:
        try:
            machine._find_leader(BOOT_SECONDS)
            _wait_for_boot(machine)
        except Failed as error:
            log.seek(0)
            said = log.read().decode(errors="replace")[-2000:]
            raise SkipTest(f"A REAL systemd CANNOT BE BOOTED HERE: {error}\n{said}") from None
        yield machine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait_for_boot(machine: Machine) -> None:
    end = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < end:
        if machine.process.poll() is not None:
            raise Failed(f"the container ended with status {machine.process.returncode}")
        state = machine.run("systemctl", "is-system-running", statuses=range(256)).strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise Failed(f"not up after {BOOT_SECONDS:.0f} s: {state}")

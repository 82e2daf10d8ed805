"""Builds the package as the README says, from a copy of the checkout; keeps what was fetched."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
NOT_COPIED = shutil.ignore_patterns(
    ".*cache", ".git", ".venv", "__pycache__", "_trial_temp*", "wheels", "*.egg-info"
)
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the machine's own programs are: the Python of the tests must not be found by what builds packages."""


class Failed(AssertionError):
    """A program failed; shows what it said."""


def run(
    words: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 600.0,
    statuses: Sequence[int] = (0,),
) -> str:
    """
    Run one of the machine's programs; return what it printed.

    :param environment: variables besides PATH, LANG, TMPDIR and those of a proxy
    :raise Failed: it ended with another status
    """
    inherited = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    done = subprocess.run(
        words,
        cwd=cwd,
        env={
            **inherited,
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
    )
    if done.returncode not in statuses:
        said = "\n".join(done.stdout.splitlines()[-60:])
        raise Failed(f"{' '.join(map(str, words))}: exit status {done.returncode}\n{said}")
    return done.stdout


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """
    Return something of the folder that etc/setup uses as well; make it if it is not there.

    :param make: makes it at a path beside it
    """
    base = os.environ.get("COLDSTORE_SETUP_CACHE")
    folder = (
        Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldstore"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            new = folder / f"{name}.new"
            shutil.rmtree(new, ignore_errors=True)
            new.unlink(missing_ok=True)
            make(new)
            new.rename(path)
    return path


def wheels() -> Path:
    """Return the folder of what the package carries, as ``debian/fetch`` gets it."""
    locked = run([CHECKOUT / "debian/locked"])
    as_we_are = {**os.environ, "PATH": SYSTEM_PATH}
    return kept(
        f"wheels-{sha256(locked.encode()).hexdigest()[:16]}",
        lambda new: run([CHECKOUT / "debian/fetch", new], environment=as_we_are) and None,
    )


def build(folder: Path) -> Path:
    """Build the package in a fresh folder; return the ``.changes`` file, beside which the package lies."""
    source = folder / "coldstore"
    shutil.copytree(CHECKOUT, source, symlinks=True, ignore=NOT_COPIED)
    run(
        ["dpkg-buildpackage", "--build=binary", "--no-sign"],
        cwd=source,
        environment={"COLDSTORE_SETUP_WHEELS": str(wheels()), "HOME": str(folder)},
    )
    (changes,) = folder.glob("*.changes")
    return changes

"""
The file with the master key.

It is text: lines that begin with ``#`` are for people, one line ``coldstore-master-key-1 BASE64`` has the 32 bytes. Nobody but its owner
may have any access to it. A key that was changed for another stays beside it, in ``NAME.old-ID``: dumps from before are encrypted
under that. An operator who has lost a key makes an empty file ``NAME.lost``.
"""

import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Protocol

from coldstore.interfaces.keyring import KeyFileFault
from coldstore.keys.sealing import MasterSecret
from coldstore.util.folders import sync_folder

MARK = "coldstore-master-key-1"
TEXT_MAX = 4096
_HEAD = """\
# ColdStore's master key {key_id}. The secrets of access keys are encrypted under it in the metadata and in their dumps.
# Keep a copy of this file where no dumps are: without it no dump gives a single access key back.
"""


class IsKeyFile(Protocol):
    """Where a master key is kept. All block, and raise ``KeyFileFault`` for what keeps them from it."""

    path: str

    def read(self) -> MasterSecret | None:
        """Return the master key; None when there is no file."""

    def write(self, secret: MasterSecret, before: MasterSecret | None = None) -> None:
        """
        Make the file, durably, wholly or not at all; the key that was in it is kept as an old one, and so is ``before``, which was in
        use whatever became of the file.
        """

    def old(self, key_id: str) -> MasterSecret | None:
        """Return a master key from before; None when it is not here."""

    def is_given_up(self) -> bool:
        """Whether an operator says that master keys which are not here are lost, with all that is encrypted under them."""

    def forget_giving_up(self) -> None:
        """Have this be said no more: it was done."""


class KeyFile:
    """See ``IsKeyFile``: on a disk."""

    def __init__(self, path: str) -> None:
        """:param path: absolute; its directory exists by the time it is written"""
        self.path = path

    def read(self) -> MasterSecret | None:
        """See ``IsKeyFile``."""
        return _read(Path(self.path))

    def write(self, secret: MasterSecret, before: MasterSecret | None = None) -> None:
        """See ``IsKeyFile``."""
        earlier = {each.key_id: each for each in (before, self.read()) if each is not None}
        for key_id, each in earlier.items():
            if key_id != secret.key_id:
                _write(self._old(key_id), each)
        _write(Path(self.path), secret)

    def old(self, key_id: str) -> MasterSecret | None:
        """See ``IsKeyFile``."""
        found = _read(self._old(key_id))
        if found is not None and found.key_id != key_id:
            raise KeyFileFault(f"{self._old(key_id)} holds another master key, {found.key_id}")
        return found

    def is_given_up(self) -> bool:
        """See ``IsKeyFile``."""
        return self._lost.exists()

    def forget_giving_up(self) -> None:
        """See ``IsKeyFile``."""
        try:
            self._lost.unlink(missing_ok=True)
        except OSError as error:
            raise KeyFileFault(f"{self._lost} cannot be removed: {error.strerror}") from None

    @property
    def _lost(self) -> Path:
        return Path(f"{self.path}.lost")

    def _old(self, key_id: str) -> Path:
        return Path(f"{self.path}.old-{key_id}")


def _read(path: Path) -> MasterSecret | None:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(TEXT_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileFault(
            f"{path}, with the master key of access keys, cannot be read: {error.strerror}"
        ) from None
    if mode & 0o077:
        raise KeyFileFault(
            f"{path}, with the master key of access keys, is open to others (mode {mode:04o}): run chmod 600 {path}; and if"
            " somebody may have read it, coldstore keys rotate-master once the appliance runs"
        )
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        ((mark, key),) = lines
        if mark != MARK:
            raise ValueError(mark)
        return MasterSecret(b64decode(key, validate=True))
    except ValueError:
        raise KeyFileFault(
            f"{path} is not a file with a master key of ColdStore, or damaged: put back the copy that you keep"
        ) from None


def _write(path: Path, secret: MasterSecret) -> None:
    text = _HEAD.format(key_id=secret.key_id) + f"{MARK} {b64encode(secret.key).decode('ascii')}\n"
    try:
        write_durably(path, text)
    except OSError as error:
        raise KeyFileFault(
            f"{path}, for the master key of access keys, cannot be written: {error.strerror}"
        ) from None


def write_durably(path: Path, text: str) -> None:
    """
    Make a file for its owner alone with this text, wholly or not at all.

    :raise OSError: it cannot be written
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.rename(beside, path)
    sync_folder(path.parent)

"""
The file with the keys of data, and the text of an export: the same lines.

Lines that begin with ``#`` are for people. The others: ``coldstore-data-keys-1``; for each key, the oldest first, ``key ID SINCE STATE BASE64``
(``SINCE`` in unix seconds, ``STATE`` ``retired``, and of the last ``in-use``); and ``sha256`` with that of all lines before it which are not for people.
Nobody but its owner may have any access to the file. No key is ever taken out of it: tapes keep what is encrypted under it.
"""

import hmac
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from coldstore.interfaces.keyring import KeyFileFault
from coldstore.keys.keyfile import write_durably
from coldstore.util.envelopes import KEY_BYTES, unwrapped, wrapped

MARK = "coldstore-data-keys-1"
ID_DIGITS = 16
_CHECK = b"coldstore data key: check value"
_INFO = b"coldstore sse-s3 key 1"
_TEXT_MAX = 1 << 20
_HEAD = """\
# ColdStore's keys of data: what it has encrypted on disk and on tape (SSE-S3) can be read with these alone.
# Old ones are needed for ever, for the tapes. Have `coldstore keys export` write a copy for the safe after each change.
"""
SAFE_HEAD = """\
# Keys of data of a ColdStore appliance, for the safe. Keep this file where neither its disks nor its cartridges are.
# Whoever has it can read every object that the appliance has encrypted (SSE-S3); without these keys nobody can.
#
# To put them back:   coldstore keys import FILE          (beside keys that are there; the last one is in use)
# Without ColdStore:  README.txt of each cartridge says in its section 7 how objects on it are decrypted with this
#                     file, and has the script for that. A key is found there by its ID, the first word behind "key".
# The line that begins with "sha256" has that of all lines before it that do not begin with "#", line feeds included.
"""


class DataKey:
    """
    A key of data. It is not shown, in no log and in no traceback.

    :ivar key_id: the beginning of the HMAC-SHA256 of a fixed text, in hex: the same for the same key, and nothing to find it by
    :ivar since: when it was made, unix seconds
    """

    def __init__(self, secret: bytes, since: float) -> None:
        """:raise ValueError: it does not have 32 bytes"""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key of data has {KEY_BYTES} bytes, and not {len(secret)}")
        self.secret = secret
        self.since = since
        self.key_id = hmac.digest(secret, _CHECK, "sha256").hex()[:ID_DIGITS]

    def __repr__(self) -> str:
        return f"<key of data {self.key_id}>"

    def wrap(self, content_key: bytes, *, salt: bytes, bound: bytes) -> str:
        """Return the key of an object under this one; see ``coldstore.util.envelopes``."""
        return wrapped(self.secret, content_key, salt=salt, info=_INFO, bound=bound)

    def unwrap(self, text: str, *, bound: bytes) -> bytes | None:
        """Undo ``wrap``; None when it is not what was wrapped there."""
        return unwrapped(self.secret, text, info=_INFO, bound=bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKeySet:
    """All keys, the oldest first; the last one is in use."""

    keys: tuple[DataKey, ...]

    def with_new(self, key: DataKey) -> "DataKeySet":
        """Return the same, and one more, which is in use."""
        return replace(self, keys=(*self.keys, key))

    def with_old(self, others: Sequence[DataKey]) -> "DataKeySet":
        """Return the same, and others that are not among them before those, whatever their age: what is in use stays so."""
        known = {key.key_id for key in self.keys}
        return replace(self, keys=(*(key for key in others if key.key_id not in known), *self.keys))


def key_set_text(keys: DataKeySet, *, head: str = _HEAD) -> str:
    """Return the text of a file with these keys, at least one."""
    lines = [MARK]
    for key in keys.keys:
        state = "in-use" if key is keys.keys[-1] else "retired"
        lines.append(f"key {key.key_id} {key.since:.0f} {state} {b64encode(key.secret).decode('ascii')}")
    return head + "".join(f"{line}\n" for line in (*lines, f"sha256 {_sum(lines)}"))


def parse_key_set(text: str) -> DataKeySet:
    """
    Undo ``key_set_text``, whatever the lines for people say.

    :raise ValueError: it is no such text, or not whole, or was altered; says no more, since it may hold keys
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or lines[0] != MARK:
        raise ValueError("it does not hold keys of data")
    if len(lines) < 3 or lines[-1] != f"sha256 {_sum(lines[:-1])}":
        raise ValueError("it is not whole, or was altered: its own checksum is another one")
    keys: list[DataKey] = []
    for number, line in enumerate(lines[1:-1]):
        fields = line.split()
        state = "in-use" if number == len(lines) - 3 else "retired"
        if len(fields) != 5 or fields[0] != "key" or fields[3] != state:
            raise ValueError(f"key {number + 1} in it is not written as one")
        try:
            key = DataKey(b64decode(fields[4], validate=True), float(fields[2]))
        except (Base64Error, ValueError):
            raise ValueError(f"key {number + 1} in it is not written as one") from None
        if key.key_id != fields[1] or key.key_id in {known.key_id for known in keys}:
            raise ValueError(f"key {number + 1} in it is not the one that it is called, or is there twice")
        keys.append(key)
    return DataKeySet(keys=tuple(keys))


def _sum(lines: Sequence[str]) -> str:
    return sha256("".join(f"{line}\n" for line in lines).encode("ascii", "replace")).hexdigest()


class IsDataKeyFile(Protocol):
    """Where keys of data are kept. All block, and raise ``KeyFileFault`` for what keeps them from it."""

    path: str

    def read(self) -> DataKeySet | None:
        """Return the keys; None when there is no file."""

    def write(self, keys: DataKeySet) -> None:
        """Put them there, durably, wholly or not at all."""


class DataKeyFile:
    """See ``IsDataKeyFile``: on a disk."""

    def __init__(self, path: str) -> None:
        """:param path: absolute; its directory exists by the time it is written"""
        self.path = path

    def read(self) -> DataKeySet | None:
        """See ``IsDataKeyFile``."""
        try:
            with Path(self.path).open(encoding="ascii", errors="replace") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                text = file.read(_TEXT_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileFault(
                f"{self.path}, with the keys of data, cannot be read: {error.strerror}"
            ) from None
        if mode & 0o077:
            raise KeyFileFault(
                f"{self.path}, with the keys of data, is open to others (mode {mode:04o}): run chmod 600 {self.path}; and if"
                " somebody may have read it, coldstore keys rotate-data once the appliance runs"
            )
        try:
            return parse_key_set(text)
        except ValueError as error:
            raise KeyFileFault(
                f"{self.path}, which should have the keys of data, is damaged ({error}): put back a copy; or move it away, start, and"
                " give the export that is in the safe to coldstore keys import"
            ) from None

    def write(self, keys: DataKeySet) -> None:
        """See ``IsDataKeyFile``."""
        before = self.read()
        if before is not None:
            lost = {key.key_id for key in before.keys} - {key.key_id for key in keys.keys}
            assert not lost, f"keys of data would be lost: {', '.join(sorted(lost))}"
        try:
            write_durably(Path(self.path), key_set_text(keys))
        except OSError as error:
            raise KeyFileFault(
                f"{self.path}, for the keys of data, cannot be written: {error.strerror}"
            ) from None

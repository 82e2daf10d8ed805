"""
The outside of a dump: lines, hashed and packed by gzip, in a file that is there wholly or not at all.

One stream of gzip and nothing behind it; whoever reads sees to that, and stops at what is too long to be a line.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from coldstore.metadata.portable.lines import DumpDamaged
from coldstore.util.folders import sync_folder

LEVEL = 3
"""Of gzip: 6 takes twice the time for a tenth less."""
CHUNK_BYTES = 1 << 20
PARTIAL = ".partial"
"""Ends the name of a file that is being written, which begins with a dot."""
LINE_MAX_BYTES = 64 << 20
_GZIP = 31
"""zlib's number for the format of gzip with the largest window."""


class PackedFile:
    """
    A file that is being written, readable for its owner alone, under a name that says so; ``publish`` gives it its own.

    Used as a context manager: without ``publish`` nothing is left of it.
    """

    def __init__(self, path: Path) -> None:
        """
        Begin a file.

        :raise OSError: it cannot be made
        """
        self._path = path
        self._partial = path.with_name(f".{path.name}{PARTIAL}")
        # What a killed process left under this name is nobody's.
        self._partial.unlink(missing_ok=True)
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = open(descriptor, "wb", buffering=CHUNK_BYTES)  # noqa: SIM115 - closed by close
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        self._hash = sha256()
        self._is_published = False

    @property
    def sha256(self) -> str:
        """The SHA-256 of all lines up to here, in hex."""
        return self._hash.hexdigest()

    def write(self, lines: bytes) -> None:
        """
        Append lines.

        :raise OSError: the disk does not take them
        """
        self._hash.update(lines)
        with self._named():
            self._file.write(self._packer.compress(lines))

    def publish(self) -> None:
        """
        Have all of it on the disk, under its name; a file that had this name before is replaced.

        :raise OSError: the disk does not take it, or somebody else has begun to write the same file meanwhile
        """
        with self._named():
            self._file.write(self._packer.flush())
            self._file.flush()
            os.fsync(self._file.fileno())
        if not self._is_ours():
            raise FileExistsError(EEXIST, "another dump is being written to the same file", str(self._path))
        os.rename(self._partial, self._path)
        self._is_published = True
        sync_folder(self._path.parent)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Have an error of the disk name the file, which a write does not."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def _is_ours(self) -> bool:
        """Whether what is being written under our name still is what we write, and not another process's beginning."""
        try:
            return os.path.samestat(os.lstat(self._partial), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def __enter__(self) -> "PackedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_published and self._is_ours():
            self._partial.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:
            # What could not be written cannot be written now either.
            if self._is_published:
                raise


def packed_lines(path: Path) -> Iterator[bytes]:
    """
    Yield the lines of a file, each with its end.

    :raise OSError: it cannot be read
    :raise DumpDamaged: it is no gzip, or ends too soon, or goes on behind its end
    """
    unpacker = zlib.decompressobj(_GZIP)
    rest = b""
    with path.open("rb") as file:
        while not unpacker.eof:
            packed = unpacker.unconsumed_tail or file.read(CHUNK_BYTES)
            try:
                text = unpacker.decompress(packed, CHUNK_BYTES)
            except zlib.error as error:
                raise DumpDamaged(f"the file is not gzip, or was altered: {error}") from None
            if not packed and not text and not unpacker.eof:
                raise DumpDamaged("the file ends too soon")
            lines = (rest + text).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_MAX_BYTES:
                raise DumpDamaged(f"a line has more than {LINE_MAX_BYTES} bytes")
            for line in lines:
                yield line + b"\n"
        if rest:
            raise DumpDamaged("the last line has no end")
        if unpacker.unused_data or file.read(1):
            raise DumpDamaged("there is something behind the end")

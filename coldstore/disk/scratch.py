"""Files of our own that last no longer than a run: never made durable, and dropped at the next start with whatever was arriving."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from coldstore.disk.filesystem import FileSystem, sorted_error
from coldstore.interfaces.staging import Scratch
from coldstore.util.checksums import crc64nvme

_T = TypeVar("_T")

CHUNK_BYTES = 1024 * 1024


class _Writer:
    """Bytes on their way into the file, in large steps."""

    def __init__(self, system: FileSystem, descriptor: int) -> None:
        self._system = system
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size_bytes = 0
        self.crc64nvme = 0

    def put(self, content: bytes) -> None:
        """Take bytes."""
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if self._waiting_bytes >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        chunk = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self.crc64nvme = crc64nvme(chunk, self.crc64nvme)
        self._system.write(self._descriptor, [chunk], self.size_bytes)
        self.size_bytes += len(chunk)


def make(
    system: FileSystem, path: Path, write: Callable[[Callable[[bytes], object]], _T]
) -> tuple[Scratch, _T]:
    """
    Make a file of what ``write`` gives to the function that it is called with. Blocks.

    :raise StagingFull: there is no room
    :raise DiskFault: the disk failed
    """
    try:
        descriptor = system.create(path)
        try:
            writer = _Writer(system, descriptor)
            result = write(writer.put)
            writer.flush()
        except BaseException:
            system.unlink(path)
            raise
        finally:
            system.close(descriptor)
    except OSError as error:
        raise sorted_error(error, f"writing {path}") from error
    made = Scratch(path=str(path), size_bytes=writer.size_bytes, crc64nvme=writer.crc64nvme)
    return made, result

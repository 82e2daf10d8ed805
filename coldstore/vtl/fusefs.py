"""
The volume as a FUSE file system, by mfusepy on libfuse 3.

Data goes between the kernel's buffer and the partition's file without a copy in between. Attributes are never cached by the kernel, so that a
file that is shorter than what was written shows at once; data is (``keep_cache``), so that only a read past the page cache (O_DIRECT)
sees the medium, as on the real thing.
"""

import ctypes
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

from coldstore.vtl import fuse
from coldstore.vtl.attributes import Attributes
from coldstore.vtl.index import Node
from coldstore.vtl.medium import BLOCK_BYTES
from coldstore.vtl.tree import NAME_CHARACTERS, refused
from coldstore.vtl.volume import Volume

os.environ["FUSE_LIBRARY_PATH"] = fuse.LIBRARY_NAME
import mfusepy

REQUEST_BYTES = 1024 * 1024
"""Largest read or write request: 256 pages, the kernel's limit."""


class Files(mfusepy.Operations):  # type: ignore[misc]  # mfusepy ships no types
    """FUSE operations over a volume. Open files are numbered; ``fi.fh`` is the number."""

    use_ns = True

    def __init__(
        self,
        volume: Volume,
        *,
        uid: int,
        gid: int,
        file_mask: int,
        directory_mask: int,
        mounted: Callable[[], None],
    ) -> None:
        """``mounted`` is called once the kernel has the file system."""
        self._volume = volume
        self._tree = volume.tree
        self._attributes = Attributes(volume)
        self._owner = (uid, gid)
        self._file_mode = stat.S_IFREG | (0o777 & ~file_mask)
        self._directory_mode = stat.S_IFDIR | (0o777 & ~directory_mask)
        self._mounted = mounted
        self._open: dict[int, Node] = {}
        self._next = 1

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Set what libfuse lets a file system choose."""
        connection.max_write = REQUEST_BYTES
        connection.max_background = 16
        config.use_ino = 1
        config.hard_remove = 1
        config.nullpath_ok = 1
        config.attr_timeout = 0.0
        config.entry_timeout = 1.0
        config.negative_timeout = 0.0
        self._mounted()

    # -- names --------------------------------------------------------------------------------------------------------

    def _node(self, path: str | None, fi: Any = None) -> Node:
        if fi is not None and fi.fh in self._open:
            return self._open[fi.fh]
        if path is None:
            raise refused(errno.ENOENT)
        return self._tree.find(path)

    def getattr(self, path: str | None, fi: Any = None) -> dict[str, Any]:
        """stat(2)."""
        node = self._node(path, fi)
        mode = {"file": self._file_mode, "directory": self._directory_mode}.get(
            node.kind, stat.S_IFLNK | 0o777
        )
        if node.read_only:
            mode &= ~0o222
        return {
            "st_mode": mode,
            "st_nlink": 2 if node.kind == "directory" else int(node.linked),
            "st_ino": node.uid,
            "st_uid": self._owner[0],
            "st_gid": self._owner[1],
            "st_size": len(node.target.encode()) if node.kind == "symlink" else node.size,
            "st_blocks": -(-node.size // 512),
            "st_blksize": BLOCK_BYTES,
            "st_mtime": node.times[1],
            "st_atime": node.times[2],
            "st_ctime": node.times[3],
        }

    def readdir(self, path: str | None, fh: int) -> Iterable[Any]:
        """List a directory."""
        node = self._open.get(fh) or self._node(path)
        yield ".", {"st_ino": node.uid, "st_mode": stat.S_IFDIR}, 0
        yield "..", {"st_ino": node.parent.uid if node.parent else node.uid, "st_mode": stat.S_IFDIR}, 0
        kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
        for name, child in list(node.children.items()):
            yield name, {"st_ino": child.uid, "st_mode": kinds[child.kind]}, 0

    def opendir(self, path: str) -> int:
        """Open a directory."""
        return self._opened(self._tree.find(path))

    def releasedir(self, path: str | None, fh: int) -> int:
        """Close a directory."""
        self._open.pop(fh, None)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """Make a directory."""
        self._add(path, "directory")
        return 0

    def mknod(self, path: str, mode: int, device: int) -> int:
        """Make a plain file; nothing else can be made."""
        if not stat.S_ISREG(mode):
            raise refused(errno.ENOSYS)
        self._add(path, "file")
        return 0

    def symlink(self, target: str, source: str) -> int:
        """Make a symbolic link ``target`` that says ``source``."""
        self._add(target, "symlink", source)
        return 0

    def readlink(self, path: str) -> str:
        """Read a symbolic link."""
        return self._tree.find(path).target

    def link(self, target: str, source: str) -> int:
        """LTFS has no hard links."""
        raise refused(errno.EPERM)

    def unlink(self, path: str) -> int:
        """Take a file away; its blocks stay on the tape."""
        with self._volume.lock:
            self._volume.check_writable()
            self._tree.remove(path, directory=False)
        return 0

    def rmdir(self, path: str) -> int:
        """Take an empty directory away."""
        with self._volume.lock:
            self._volume.check_writable()
            self._tree.remove(path, directory=True)
        return 0

    def rename(self, old: str, new: str) -> int:
        """Give another name."""
        with self._volume.lock:
            self._volume.check_writable()
            self._tree.rename(old, new)
        return 0

    def chmod(self, path: str | None, mode: int) -> int:
        """Only read-only or not is kept."""
        with self._volume.lock:
            self._volume.check_writable()
            node = self._node(path)
            node.read_only = not mode & 0o222
            node.times[3] = time.time_ns()
            self._tree.dirty = True
        return 0

    def chown(self, path: str | None, uid: int, gid: int) -> int:
        """Accepted, and without effect."""
        return 0

    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> int:
        """Set access and modification time, in nanoseconds."""
        now = time.time_ns()
        accessed, modified = times or (now, now)
        with self._volume.lock:
            self._volume.check_writable()
            node = self._node(path)
            node.times[1], node.times[2], node.times[3] = modified, accessed, now
            self._tree.dirty = True
        return 0

    def _add(self, path: str, kind: str, target: str = "") -> Node:
        with self._volume.lock:
            self._volume.check_writable(needs_space=True)
            return self._tree.add(path, kind, target)

    # -- open files ---------------------------------------------------------------------------------------------------

    def _opened(self, node: Node) -> int:
        with self._volume.lock:
            number, self._next = self._next, self._next + 1
            self._open[number] = node
            node.open_count += 1
        return number

    def create(self, path: str, mode: int, fi: Any) -> int:
        """Make and open a file."""
        fi.fh = self._opened(self._add(path, "file"))
        fi.keep_cache = 1
        return 0

    def open(self, path: str, fi: Any) -> int:
        """Open a file; the kernel keeps what it has cached of it."""
        node = self._tree.find(path)
        if fi.flags & os.O_ACCMODE != os.O_RDONLY:
            self._volume.check_writable()
            if node.read_only:
                raise refused(errno.EACCES)
            if fi.flags & os.O_TRUNC:
                self._volume.truncate(node, 0)
        fi.fh = self._opened(node)
        fi.keep_cache = 1
        return 0

    def truncate(self, path: str | None, length: int, fi: Any = None) -> int:
        """Cut or lengthen a file."""
        self._volume.truncate(self._node(path, fi), length)
        return 0

    def fsync(self, path: str | None, datasync: int, fi: Any) -> int:
        """Flush a file."""
        self._volume.fsync(self._node(path, fi))
        return 0

    def flush(self, path: str | None, fi: Any) -> int:
        """close(2) by any process: never fails."""
        return 0

    def release(self, path: str | None, fi: Any) -> int:
        """Last close."""
        node = self._open.pop(fi.fh, None)
        if node is not None:
            node.open_count -= 1
            self._volume.released(node)
        return 0

    def read_into(self, fi: Any, view: memoryview, offset: int) -> int:
        """Read into the kernel's buffer."""
        return self._volume.read(self._open[fi.fh], view, offset)

    def write_from(self, fi: Any, view: memoryview, offset: int) -> int:
        """Write from the kernel's buffer."""
        return self._volume.write(self._open[fi.fh], view, offset)

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        """Replaced by :meth:`read_into`; here so that libfuse is told of it."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(fi, memoryview(buffer), offset)])

    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        """Replaced by :meth:`write_from`; here so that libfuse is told of it."""
        return self.write_from(fi, memoryview(data), offset)

    # -- attributes and space -----------------------------------------------------------------------------------------

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Read an extended attribute."""
        return self._attributes.get(self._tree.find(path), name)

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        """Set an extended attribute; ``user.ltfs.sync`` writes an index and waits for it."""
        self._attributes.set(self._tree.find(path), name, value, options)
        return 0

    def listxattr(self, path: str) -> list[str]:
        """List the real attributes."""
        return self._attributes.names(self._tree.find(path))

    def removexattr(self, path: str, name: str) -> int:
        """Take an attribute away."""
        self._attributes.remove(self._tree.find(path), name)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """Space of the data partition without the reserve."""
        free = self._volume.free_blocks()
        return {
            "f_bsize": BLOCK_BYTES,
            "f_frsize": BLOCK_BYTES,
            "f_blocks": self._volume.data_blocks(),
            "f_bfree": free,
            "f_bavail": free,
            "f_files": self._tree.index.highest_uid,
            "f_ffree": 2**32 - 1,
            "f_namemax": NAME_CHARACTERS,
        }


class _Session(mfusepy.FUSE):  # type: ignore[misc]  # mfusepy ships no types
    """libfuse's loop, with reads and writes that take the kernel's buffer as it is."""

    def read(self, path: bytes | None, buffer: Any, size: int, offset: int, fip: Any) -> int:
        view = memoryview((ctypes.c_ubyte * size).from_address(ctypes.addressof(buffer.contents))).cast("B")
        return int(self.operations.read_into(fip.contents, view, offset))

    def write(self, path: bytes | None, buffer: Any, size: int, offset: int, fip: Any) -> int:
        view = memoryview((ctypes.c_ubyte * size).from_address(ctypes.addressof(buffer.contents))).cast("B")
        return int(self.operations.write_from(fip.contents, view, offset))


def serve(files: Files, mountpoint: str, *, source: str, options: dict[str, Any]) -> bool:
    """
    Mount and serve until the file system is unmounted or the process is told to end. Returns whether it ever was mounted.

    libfuse has its signal handlers meanwhile: SIGTERM, SIGINT and SIGHUP unmount, SIGPIPE is ignored; afterwards the defaults hold again,
    so that a second SIGTERM, or a broken stderr pipe, kills before the index is written.
    """
    if mfusepy.fuse_version_minor >= 12:  # without a number libfuse 3.14 warns of its own default
        options = options | {"max_threads": 10, "max_idle_threads": 10}
    escaped = source.replace("\\", "\\\\").replace(",", "\\,")
    try:
        _Session(files, mountpoint, raw_fi=True, foreground=True, fsname=escaped, **options)
    except RuntimeError:
        return False
    return True

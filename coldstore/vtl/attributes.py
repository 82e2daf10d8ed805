"""
Extended attributes of a mounted volume, ``user.ltfs.*`` and real ones.

Virtual attributes are answered from the state of the volume and never listed. Real ones (``user.<name>``, ``user.ltfs.hash.*`` and the few
that LTFS stores) lie in the index and hold at most 4096 bytes.
"""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime

from coldstore.vtl.index import FORMAT_VERSION, SOFTWARE_VERSION, Node
from coldstore.vtl.medium import BLOCK_BYTES, blocks_of
from coldstore.vtl.tree import refused
from coldstore.vtl.volume import Volume

VALUE_BYTES = 4096
"""Longest value of a real attribute; more is ENOSPC."""

_STORED = ("hash.", "permissions.", "spannedFileOffset", "mediaPool.")
_PREFIX = "user.ltfs."
_TIMES = ("createTime", "modifyTime", "accessTime", "changeTime", "backupTime")
_NOT_SUPPLIED = frozenset(
    str.split(
        "mediaRecoveredWriteErrors mediaPermanentWriteErrors mediaRecoveredReadErrors mediaPermanentReadErrors"
        " mediaPreviousPermanentWriteErrors mediaPreviousPermanentReadErrors mediaBeginningMediumPasses mediaMiddleMediumPasses"
        " mediaEfficiency mediaDatasetsWritten mediaDatasetsRead"
    )
)
_MIB = 1024**2


def time_text(nanoseconds: int) -> str:
    """Return a time as LTFS writes it: ``2026-11-23T07:45:48.194334764Z``."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class Attributes:
    """The attributes of one volume's files."""

    def __init__(self, volume: Volume) -> None:
        """Serve a mounted volume."""
        self._volume = volume
        self._everywhere = self._of_every_object()
        self._root = self._of_the_root()

    def get(self, node: Node, name: str) -> bytes:
        """Return a value. Raises ``OSError``: ENODATA."""
        if name.startswith(_PREFIX):
            value = self._virtual(node, name[len(_PREFIX) :])
            if value is not None:
                return value.encode()
        if not name.startswith("user."):
            raise refused(errno.ENODATA)
        try:
            return node.attributes[name[len("user.") :]]
        except KeyError:
            raise refused(errno.ENODATA) from None

    def set(self, node: Node, name: str, value: bytes, flags: int) -> None:
        """Set a value, or make the effect that a virtual attribute stands for. Raises ``OSError``: EACCES, EOPNOTSUPP, ENOSPC, EROFS."""
        if not name.startswith("user."):
            raise refused(errno.EOPNOTSUPP)
        if name.startswith(_PREFIX) and not name[len(_PREFIX) :].startswith(_STORED):
            self._set_virtual(node, name[len(_PREFIX) :], value)
            return
        with self._volume.lock:
            self._volume.check_writable()
            key = name[len("user.") :]
            if flags & os.XATTR_CREATE and key in node.attributes:
                raise refused(errno.EEXIST)
            if flags & os.XATTR_REPLACE and key not in node.attributes:
                raise refused(errno.ENODATA)
            if len(value) > VALUE_BYTES:
                raise refused(errno.ENOSPC)
            node.attributes[key] = value
            self._volume.tree.touched(node)

    def names(self, node: Node) -> list[str]:
        """Return the names of the real attributes."""
        return [f"user.{name}" for name in node.attributes]

    def remove(self, node: Node, name: str) -> None:
        """Take a real attribute away. Raises ``OSError``: ENODATA, EROFS."""
        with self._volume.lock:
            self._volume.check_writable()
            if node.attributes.pop(name.removeprefix("user."), None) is None:
                raise refused(errno.ENODATA)
            self._volume.tree.touched(node)

    def _virtual(self, node: Node, name: str) -> str | None:
        if node.kind == "file" and node.extents:
            if name == "partition":
                return node.extents[0].partition
            if name == "startblock":
                return str(node.extents[0].block)
        if name == "fileUID":
            return str(node.uid)
        if name in _TIMES:
            return time_text(node.times[_TIMES.index(name)])
        if name in self._everywhere:
            return self._everywhere[name]()
        if node.parent is not None or not node.linked:
            return None
        if name == "sync":
            self._volume.sync()
            return "0"
        if name in _NOT_SUPPLIED:
            return "-1"
        return self._root[name]() if name in self._root else None

    def _set_virtual(self, node: Node, name: str, value: bytes) -> None:
        volume = self._volume
        is_root = node is volume.tree.root
        if name == "sync" and is_root:
            volume.sync()
        elif name == "driveCaptureDump":
            return
        elif name == "commitMessage" and is_root:
            volume.check_writable()
            if len(value) > 65536:
                raise refused(errno.E2BIG)
            volume.comment = value.decode("utf-8", "replace")
            volume.tree.dirty = True
        elif name in _TIMES:
            volume.check_writable()
            text = value.decode("ascii", "replace")
            try:
                whole = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
                node.times[_TIMES.index(name)] = int(whole.timestamp()) * 10**9 + int(
                    text[20:].rstrip("Z") or 0
                )
            except ValueError:
                raise refused(errno.EINVAL) from None
            volume.tree.dirty = True
        elif name == "mediaStorageAlert" and is_root:
            volume.cartridge.memory.alerts &= ~int(value, 16)
            volume.cartridge.remember()
        elif name == "volumeName":
            volume.check_writable()
            label = volume.cartridge.memory.volume
            if label is not None:
                label["name"] = value.decode("utf-8", "replace")
                volume.cartridge.remember()
            volume.tree.dirty = True
        elif name == "vendor.IBM.logLevel" and is_root:
            return
        else:
            raise refused(errno.EACCES)

    def _label(self, key: str) -> str:
        return str((self._volume.cartridge.memory.volume or {}).get(key, ""))

    def _of_every_object(self) -> dict[str, Callable[[], str]]:
        volume = self._volume
        return {
            "volumeUUID": lambda: volume.index.volume_uuid,
            "volumeName": lambda: self._label("name"),
            "softwareVersion": lambda: SOFTWARE_VERSION,
            "softwareFormatSpec": lambda: FORMAT_VERSION,
            "softwareVendor": lambda: "IBM",
            "softwareProduct": lambda: "LTFS LE",
            "mamBarcode": lambda: f"{volume.cartridge.barcode[:6]:<32}",
            "mamApplicationVendor": lambda: f"{'IBM':<8}",
            "mamApplicationVersion": lambda: f"{SOFTWARE_VERSION[:8]:<8}",
            "mamApplicationFormatVersion": lambda: f"{FORMAT_VERSION:<16}",
            "volumeLockState": lambda: f"0x{volume.cartridge.memory.lock_state:08x}",
            "driveCaptureDump": lambda: "0",
        }

    def _of_the_root(self) -> dict[str, Callable[[], str]]:
        volume = self._volume
        index = volume.index
        policy = volume.policy
        memory = volume.cartridge.memory

        def previous() -> str:
            return f"{index.previous[0]}:{index.previous[1]}" if index.previous else "b:0"

        def referenced() -> str:
            nodes = volume.tree.root.walk()
            return str(sum(blocks_of(e.count) for node in nodes for e in node.extents if e.partition == "b"))

        return {
            "indexGeneration": lambda: str(index.generation),
            "indexTime": lambda: time_text(index.updated_at),
            "indexLocation": lambda: f"{index.partition}:{index.block}",
            "indexPrevious": previous,
            "commitMessage": lambda: volume.comment or index.comment,
            "volumeSerial": lambda: volume.serial,
            "volumeBlocksize": lambda: str(BLOCK_BYTES),
            "volumeCompression": lambda: "true",
            "volumeFormatTime": lambda: self._label("formatted_at"),
            "labelVersion": lambda: FORMAT_VERSION,
            "indexVersion": lambda: FORMAT_VERSION,
            "labelCreator": lambda: f"IBM LTFS {SOFTWARE_VERSION} - Linux - mkltfs",
            "indexCreator": lambda: f"IBM LTFS {SOFTWARE_VERSION} - Linux - ltfs",
            "partitionMap": lambda: "I:a,D:b",
            "policyExists": lambda: "true" if policy else "false",
            "policyAllowUpdate": lambda: "true",
            "policyMaxFileSize": lambda: str(policy.size_bytes if policy else 0),
            "mediaDataPartitionTotalCapacity": lambda: str(volume.data_blocks() * BLOCK_BYTES // _MIB),
            "mediaDataPartitionAvailableSpace": lambda: str(volume.free_blocks() * BLOCK_BYTES // _MIB),
            "mediaIndexPartitionTotalCapacity": lambda: str(volume.a.capacity_blocks * BLOCK_BYTES // _MIB),
            "mediaIndexPartitionAvailableSpace": lambda: str(
                volume.index_free_blocks() * BLOCK_BYTES // _MIB
            ),
            "mediaLoads": lambda: str(memory.loads),
            "mediaMBWritten": lambda: str(memory.bytes_written // _MIB),
            "mediaMBRead": lambda: str(memory.bytes_read // _MIB),
            "mediaStorageAlert": lambda: f"0x{memory.alerts:016x}",
            "mediaEncrypted": lambda: "false",
            "driveEncryptionState": lambda: "off",
            "driveEncryptionMethod": lambda: "No Method",
            "vendor.IBM.referencedBlocks": referenced,
            "vendor.IBM.totalBlocks": lambda: str(volume.written_blocks()),
            "vendor.IBM.logLevel": lambda: "2",
            "vendor.IBM.syslogLevel": lambda: "2",
            "vendor.IBM.seekLatency": lambda: str(round(volume.located_seconds)),
        }

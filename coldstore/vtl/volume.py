"""
A mounted volume: the tree in memory, data appended to partition b, indexes written when asked.

What is on the medium is the data blocks and the indexes. The tree is memory: when the process is killed, everything since the last index is
gone, though its blocks lie on the tape. Errors follow what was measured on the reference implementation; the comments name the case.
"""

import errno
import os
import signal
import threading
import time

from coldstore.vtl.devices import displaced_marker
from coldstore.vtl.faults import Fault, Faults, Moment
from coldstore.vtl.index import Extent, Index, Node, PlacementPolicy
from coldstore.vtl.latency import charge
from coldstore.vtl.library import Drive, Library
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge, Mark, Partition, blocks_of
from coldstore.vtl.messages import Reporter
from coldstore.vtl.tree import Tree, refused

WRITE_ERROR_ON_DATA_PARTITION = 0x60
"""volumeLockState after a permanent write error on b whose index went to a."""
WRITE_ERROR_ON_BOTH = 0xE0
"""volumeLockState after write errors on both partitions."""

UNMOUNT_SECONDS = 0.05
"""Least time between the end of the mount and the end of the process: who takes umount's return for the end is caught."""


class Volume:
    """One volume between mount and unmount. Methods that work on files raise ``OSError`` as their system calls do."""

    def __init__(
        self,
        *,
        library: Library,
        drive: Drive,
        cartridge: Cartridge,
        index: Index,
        reporter: Reporter,
        read_only: bool,
        policy: PlacementPolicy | None = None,
        pool_bytes: int = 50 * 1024**2,
    ) -> None:
        """Serve an index that was read from the cartridge. ``pool_bytes`` is the write cache that holds files for the index partition."""
        self.cartridge = cartridge
        self.drive = drive
        self.index = index
        self.tree = Tree(index)
        self.reporter = reporter
        self.read_only = read_only
        self.lock = threading.RLock()
        self.full = False
        self.comment = ""
        self.located_seconds = 0.0
        self.serial: str = (cartridge.memory.volume or {}).get("serial", "")
        self.policy = policy or index.policy
        self.a: Partition = cartridge.partition("a", writable=not read_only)
        self.b: Partition = cartridge.partition("b", writable=not read_only)
        self._a_generation = next((mark.generation for mark in reversed(self.a.marks())), 0)
        self._previous = next((["b", mark.block] for mark in reversed(self.b.marks())), None)
        self._a_tail = self._index_tail()
        self._b_tail = self.b.end_block * BLOCK_BYTES
        self._limit_blocks = self.b.capacity_blocks - cartridge.reserve_bytes // BLOCK_BYTES
        self._displaced_marker = displaced_marker(library, drive)
        self._faults = Faults(library.directory)
        self._latency = library.latency()
        self._device = threading.Lock()
        self._head = ("b", 0)
        self._pool_bytes = pool_bytes
        self._pool_used = 0
        self._session_bytes = 0
        self._warned_low = False
        self._failure = ""
        if self.free_blocks() <= 0:
            self.full = True

    # -- space --------------------------------------------------------------------------------------------------------

    def data_blocks(self) -> int:
        """Return the blocks of the data partition without the reserve."""
        return max(0, self._limit_blocks)

    def free_blocks(self) -> int:
        """Return the blocks still free for data; nothing frees any but a format."""
        return 0 if self.full else max(0, self._limit_blocks - blocks_of(self._b_tail))

    def index_free_blocks(self) -> int:
        """Return the free blocks of the index partition."""
        return max(0, self.a.capacity_blocks - self.a.end_block)

    def written_blocks(self) -> int:
        """Return the end of data of partition b."""
        return blocks_of(self._b_tail)

    # -- files --------------------------------------------------------------------------------------------------------

    def check_writable(self, *, needs_space: bool = False) -> None:
        """Raise ``OSError`` EROFS, or ENOSPC for what needs new space on a full tape."""
        if self.read_only or self._failure:
            raise refused(errno.EROFS)
        if needs_space and self.full:
            raise refused(errno.ENOSPC)

    def write(self, node: Node, view: memoryview, offset: int) -> int:
        """Write at an offset; returns how many bytes were accepted, which may be more than will stay (see :meth:`fsync`)."""
        fault = self.meet("write", node)
        with self.lock:
            self.check_writable()
            if node.read_only:
                raise refused(errno.EACCES)
            if fault is not None:
                return self._failing_write(fault, node, view, offset)
            if node.swallows:
                return len(view)
            if self.full:
                raise refused(errno.ENOSPC)
            return self._write(node, view, offset)

    def _write(self, node: Node, view: memoryview, offset: int) -> int:
        continued = self._continues(node, offset)
        start = self._b_tail if continued else blocks_of(self._b_tail) * BLOCK_BYTES
        room = self._limit_blocks * BLOCK_BYTES - start
        fitting = min(len(view), max(0, room))
        if fitting:
            self._append(node, view[:fitting], offset, start, continued=continued)
        if fitting == len(view):
            node.accepted = max(node.accepted, offset + fitting)
            return fitting
        # The write cache takes some of what the tape will not: a short count now, ENOSPC later, and a file shorter than was accepted.
        self._run_full()
        node.failed_write = errno.ENOSPC
        return fitting + max(1, (len(view) - fitting) // 2)

    def _continues(self, node: Node, offset: int) -> bool:
        """Tell whether a write goes on right behind the last thing on the tape, which is the end of this file."""
        if not node.extents or node.size != offset:
            return False
        last = node.extents[-1]
        end = last.block * BLOCK_BYTES + last.byte + last.count
        return last.partition == "b" and last.end == offset and end == self._b_tail

    def _append(self, node: Node, view: memoryview, offset: int, start: int, *, continued: bool) -> None:
        if not continued:
            self._locate("b", start // BLOCK_BYTES)
            if os.path.exists(self._displaced_marker):
                self._lose_position()
        written = 0
        while written < len(view):
            written += os.pwrite(self.b.descriptor, view[written:], start + written)
        self.b.written(start, written)
        charge(self._latency.stream_seconds(written))
        self._b_tail = start + written
        self._head = ("b", blocks_of(self._b_tail))
        self._session_bytes += written
        if continued:
            node.extents[-1].count += written
        else:
            self._splice(
                node, Extent(offset=offset, partition="b", block=start // BLOCK_BYTES, byte=0, count=written)
            )
        node.size = max(node.size, offset + written)
        node.synced = False
        self.tree.touched(node)

    @staticmethod
    def _splice(node: Node, new: Extent) -> None:
        """Put an extent into a file, cutting away what it covers: old blocks stay on the tape as garbage."""
        kept: list[Extent] = []
        for old in node.extents:
            if old.end <= new.offset or old.offset >= new.end:
                kept.append(old)
                continue
            if old.offset < new.offset:
                kept.append(Extent(old.offset, old.partition, old.block, old.byte, new.offset - old.offset))
            if old.end > new.end:
                start = old.block * BLOCK_BYTES + old.byte + (new.end - old.offset)
                kept.append(
                    Extent(
                        new.end, old.partition, start // BLOCK_BYTES, start % BLOCK_BYTES, old.end - new.end
                    )
                )
        kept.append(new)
        kept.sort(key=lambda extent: extent.offset)
        node.extents = kept

    def read(self, node: Node, view: memoryview, offset: int) -> int:
        """Read into a buffer straight from the medium; returns the number of bytes, 0 at the end."""
        fault = self.meet("read", node)
        if fault is not None:
            self.reporter.say("12049E", code=-20308)
            self.reporter.say("11088E")
            raise refused(errno.EIO)
        with self.lock:
            count = max(0, min(len(view), node.size - offset))
            extents = [e for e in node.extents if e.end > offset and e.offset < offset + count]
        done = 0
        for extent in extents:
            start = max(extent.offset, offset)
            if start - offset > done:
                view[done : start - offset] = bytes(start - offset - done)
            end = min(extent.end, offset + count)
            self._read_extent(extent, start - extent.offset, view[start - offset : end - offset])
            done = end - offset
        if done < count:
            view[done:count] = bytes(count - done)
        return count

    def _read_extent(self, extent: Extent, skipped: int, view: memoryview) -> None:
        partition = self.a if extent.partition == "a" else self.b
        position = extent.block * BLOCK_BYTES + extent.byte + skipped
        with self._device:
            self._locate(extent.partition, position // BLOCK_BYTES)
            if os.path.exists(self._displaced_marker):
                self.reporter.say("11086E")
                raise refused(errno.ESPIPE)
            done = 0
            while done < len(view):
                count = os.preadv(partition.descriptor, [view[done:]], position + done)
                if not count:
                    self.reporter.say("12049E", code=-20308)
                    self.reporter.say("11088E")
                    raise refused(errno.EIO)
                done += count
            charge(self._latency.stream_seconds(done))
            self.cartridge.memory.bytes_read += done
            self._head = (extent.partition, (position + done) // BLOCK_BYTES)

    def _locate(self, partition: str, block: int) -> None:
        here, head = self._head
        blocks = (self.a if partition == "a" else self.b).capacity_blocks
        distance = block - head if here == partition else block
        if abs(distance) > 1 or here != partition:
            seconds = self._latency.locate_seconds(distance or 1, blocks)
            self.located_seconds += seconds
            charge(seconds)
        self._head = (partition, block)

    def truncate(self, node: Node, size: int) -> None:
        """Cut or lengthen (with a hole) a file."""
        with self.lock:
            self.check_writable(needs_space=size > node.size)
            if size < node.size:
                node.extents = [e for e in node.extents if e.offset < size]
                if node.extents and node.extents[-1].end > size:
                    last = node.extents[-1]
                    node.extents[-1] = Extent(
                        last.offset, last.partition, last.block, last.byte, size - last.offset
                    )
            node.size = node.accepted = size
            node.failed_write, node.swallows = 0, False
            self.tree.touched(node)

    def fsync(self, node: Node) -> None:
        """Flush a file to the tape. A failed write is reported once; then all looks well."""
        fault = self.meet("fsync", node)
        with self.lock:
            code, node.failed_write = node.failed_write, 0
            if fault is not None and fault.name == "eio":
                code = errno.EIO
            if code:
                self.reporter.say("14022E", where="ltfs_fuse_fsync")
                raise refused(code)

    def released(self, node: Node) -> None:
        """Note that a file was closed. Files for the index partition fill the write cache."""
        with self.lock:
            if (
                self.policy is None
                or node.synced
                or not self.policy.wants(node)
                or self.read_only
                or self._failure
            ):
                return
            self._pool_used += blocks_of(node.size) * BLOCK_BYTES
            if self._pool_used > self._pool_bytes:
                self._place()
                self._write_index(self.a, "Cache Pressure", new=True)

    # -- errors while writing -----------------------------------------------------------------------------------------

    def _failing_write(self, fault: Fault, node: Node, view: memoryview, offset: int) -> int:
        name = fault.name
        if name == "sense":
            name = "eio" if fault.sense_code[0] == 0x4 else "erofs"
        if name == "power-lost":
            self._lose_power()
        if name == "unit-attention":
            self.reporter.say("12029E", command="WRITE", code=-20601)
            self.reporter.say("11312I")
            self.reporter.say("11340I")
            return self._write(node, view, offset)
        if name == "enospc":
            self._run_full()
            node.failed_write = errno.ENOSPC
            return max(1, len(view) // 2)
        if name == "silently-short":
            # The rest of the file goes the same way: accepted, and not on the tape.
            self._run_full()
            node.swallows = True
            return len(view)
        if name == "position-lost":
            self._lose_position()
            return self._write(node, view, offset)
        self._drop(node)
        if name == "eio":  # 4/44/00: write EIO, fsync ok, size 0, unmount 11033E
            self._failure = "hardware"
            self.reporter.say("12045E", code=-20400)
            self.reporter.say("13014W", code=-20400)
            raise refused(errno.EIO)
        self.reporter.say("12045E", code=-20309)
        self.reporter.say("13014W", code=-20309)
        self.reporter.say("13024I", code=-20309)
        self.reporter.say("13025I", partition="b", block=self.b.end_block)
        node.failed_write = errno.EIO
        if name == "double-write-error":
            self._lose_both()
        else:  # 3/0c/00: a short write, then EROFS; the index goes to a
            self._save_on_a("Write error")
        return len(view) // 2 or len(view)

    def _drop(self, node: Node) -> None:
        node.extents, node.size, node.accepted = [], 0, 0

    def _run_full(self) -> None:
        self.full = True
        if not self._warned_low:
            self._warned_low = True
            self.reporter.say("30223W")
            self.reporter.say("11072E", partition="b")
            self.reporter.say("11077E")
            self.reporter.say("13014W", code=-1124)

    def _lose_both(self) -> None:
        """No partition takes an index any more: what was not synced is gone (its files show size 0)."""
        self.reporter.say("11345E")
        self.reporter.say("11346E")
        for node in self.tree.root.walk():
            if node.kind == "file" and not node.synced:
                self._drop(node)
        self._failure = "both"
        self._set_lock_state(WRITE_ERROR_ON_BOTH)

    def _save_on_a(self, reason: str) -> None:
        """Save the index on partition a after b refused; the volume is read-only for good."""
        self.reporter.say("11343I")
        self._write_index(self.a, reason, new=True)
        self._failure = "frozen"
        self._set_lock_state(WRITE_ERROR_ON_DATA_PARTITION)

    def _lose_position(self) -> None:
        """The tape stands elsewhere than ltfs thinks: what is written now destroys the volume, and nobody notices before a sync."""
        if self.cartridge.memory.content != "destroyed":
            self.cartridge.memory.content = "destroyed"
            self.cartridge.remember()

    def _lose_power(self) -> None:
        """The power fails: partition b gets no end-of-data mark, and the process is gone."""
        self.cartridge.memory.eod_missing = True
        self.cartridge.remember()
        os.kill(os.getpid(), signal.SIGKILL)

    def stand_still(self) -> None:
        """Never let go again of what every operation needs: a deadlock."""
        self.lock.acquire()
        threading.Event().wait()

    def _set_lock_state(self, state: int) -> None:
        self.index.lock_state = self.cartridge.memory.lock_state = state
        self.cartridge.remember()

    # -- indexes ------------------------------------------------------------------------------------------------------

    def sync(self, reason: str = "Sync by EA") -> None:
        """Write an index to partition b and wait for it. Raises ``OSError``: EIO at the first failure, EROFS afterwards, EPERM."""
        fault = self.meet("sync")
        with self.lock:
            self.check_writable()
            if fault is not None and fault.name == "power-lost":
                self._lose_power()
            self.reporter.say("11338I", serial=self.serial, drive=self.drive.serial)
            self.reporter.say("17068I", serial=self.serial, reason=reason, drive=self.drive.serial)
            if (fault is not None and fault.name == "position-lost") or os.path.exists(
                self._displaced_marker
            ):
                self._lose_position()
            if self.cartridge.memory.content == "destroyed":
                self.index.generation += 1
                self._failure = "position"
                self.reporter.say("17293E", cached=self.b.end_block, current=4)
                self._sync_failed(-1, errno.EPERM)
            if fault is not None and fault.name == "eio":
                self.reporter.say("12047E", code=-20309)
                self.reporter.say("11082E")
                self._save_on_a(reason)
                self.reporter.say("11344I", serial=self.serial)
                self._sync_failed(-1205, errno.EIO)
            if fault is not None and fault.name == "eio-lost":
                self.reporter.say("12045E", code=-20309)
                self.reporter.say("11083E", partition="b")
                self._lose_both()
                self._sync_failed(-20309, errno.EIO)
            if self.tree.dirty:
                try:
                    self._write_index(self.b, reason, new=True)
                except OSError as error:
                    self.reporter.say("11072E", partition="b")
                    self.reporter.say("11083E", partition="b")
                    self._sync_failed(-1051, error.errno or errno.EIO)
            self.reporter.say("17070I", serial=self.serial, code=0, drive=self.drive.serial)

    def _sync_failed(self, code: int, number: int) -> None:
        self.reporter.say("17069E", serial=self.serial, code=code, drive=self.drive.serial)
        self.reporter.say("17070I", serial=self.serial, code=code, drive=self.drive.serial)
        raise refused(number)

    def _write_index(self, partition: Partition, reason: str, *, new: bool) -> Mark:
        index = self.index
        files = sum(node.kind == "file" for node in self.tree.root.walk())
        self.reporter.say(
            "17235I",
            serial=self.serial,
            partition=partition.letter,
            reason=reason,
            files=files,
            drive=self.drive.serial,
        )
        charge(self._latency.seconds("index"))
        if partition is self.a:
            self.a.cut(self._a_tail)
        else:
            os.ftruncate(self.b.descriptor, blocks_of(self._b_tail) * BLOCK_BYTES)
        index.generation += new
        index.updated_at = time.time_ns()
        index.partition, index.block = partition.letter, partition.end_block + 1
        index.previous = self._previous
        index.policy, index.comment = self.policy, self.comment
        mark = partition.append_index(index.encoded(), index.generation)
        self._head = (partition.letter, mark.end_block)
        if partition is self.a:
            self._a_generation = mark.generation
        else:
            self._previous = ["b", mark.block]
            self._b_tail = mark.end_block * BLOCK_BYTES
            self.tree.dirty = False
            self.comment = ""
        for node in self.tree.root.walk():
            node.synced = True
        self.cartridge.memory.coherency[partition.letter] = [mark.generation, mark.block]
        self.cartridge.remember()
        self.reporter.say(
            "17236I",
            serial=self.serial,
            generation=mark.generation,
            partition=mark and partition.letter,
            block=mark.block,
            drive=self.drive.serial,
        )
        return mark

    def _index_tail(self) -> int:
        """Return the block of partition a where data goes: the filemark before its last index."""
        marks = self.a.marks()
        return marks[-1].block - 1 if marks else self.a.end_block

    def _place(self) -> None:
        """Move files that the placement policy wants on the index partition there."""
        policy = self.policy
        wanted = [node for node in self.tree.root.walk() if policy is not None and policy.wants(node)]
        wanted = [node for node in wanted if any(extent.partition != "a" for extent in node.extents)]
        self._pool_used = 0
        if not wanted:
            return
        reserve = blocks_of(len(self.index.encoded())) * 2 + 4
        self.a.cut(self._a_tail)
        for node in wanted:
            if self._a_tail + blocks_of(node.size) + reserve > self.a.capacity_blocks:
                self.reporter.say("13013W")
                self.reporter.say("11072E", partition="a")
                break
            content = bytearray(node.size)
            self.read(node, memoryview(content), 0)
            written = 0
            while written < len(content):
                written += os.pwrite(
                    self.a.descriptor, memoryview(content)[written:], self._a_tail * BLOCK_BYTES + written
                )
            node.extents = [Extent(offset=0, partition="a", block=self._a_tail, byte=0, count=node.size)]
            self._a_tail += blocks_of(node.size)
            os.ftruncate(self.a.descriptor, self._a_tail * BLOCK_BYTES)
            self.tree.dirty = True

    # -- the end ------------------------------------------------------------------------------------------------------

    def unmount(self) -> None:
        """Write what is due and say how it went; the messages are the only verdict, the exit status is 0 whatever happens."""
        charge(UNMOUNT_SECONDS)
        fault = self.meet("unmount")
        with self.lock:
            if fault is not None and fault.name == "power-lost":
                self._lose_power()
            still_open = sum(node.open_count > 0 for node in self.tree.root.walk())
            if still_open:
                self.reporter.say("11998W", count=still_open)
            if self._close(fault):
                self.reporter.say("11034I")
            else:
                self.reporter.say("11033E")
            if not self.read_only:
                self.cartridge.memory.bytes_written += self._session_bytes
                self.cartridge.remember()
        self.a.close()
        self.b.close()

    def _close(self, fault: Fault | None) -> bool:
        """Write the indexes; returns whether the unmount calls itself successful."""
        if self.cartridge.memory.content == "destroyed":
            for code in ("12033E", "11080E", "11082E"):
                self.reporter.say(code)
            return False
        if self._failure == "hardware":
            self.reporter.say("11083E", partition="b")
            return False
        if self._failure == "both":
            self.reporter.say("17265I", why="mam lock field is both partitions")
            return True
        if self._failure or self.read_only:
            self._skip_clean()
            return True
        if fault is not None:
            return self._close_failing(fault)
        if not self.tree.dirty and self._a_generation == self.index.generation:
            self._skip_clean()
            return True
        try:
            self._place()
            if self.tree.dirty:
                self._write_index(self.b, "Unmount", new=True)
            self._write_index(self.a, "Unmount", new=False)
        except OSError:
            self.reporter.say("12045E", code=-1051)
            self.reporter.say("11083E", partition="b")
            return False
        return True

    def _close_failing(self, fault: Fault) -> bool:
        if fault.name == "index-does-not-fit":
            self.reporter.say("11072E", partition="b")
            self.reporter.say("12045E", code=-1051)
            self.reporter.say("11083E", partition="b")
            return False
        self.reporter.say("12045E", code=-20309)
        if fault.name == "double-write-error":
            self._lose_both()
            self.reporter.say("17265I", why="mam lock field is both partitions")
            return True
        if fault.name == "index-on-a":
            self.reporter.say("17061E", serial=self.serial)
            self.reporter.say("11083E", partition="b")
            self._save_on_a("Unmount")
            return True
        self.reporter.say("11083E", partition="b")
        self._set_lock_state(WRITE_ERROR_ON_BOTH)
        return False

    def _skip_clean(self) -> None:
        self.reporter.say("17265I", why="the volume is not dirty and current self pointer points IP")

    def meet(self, at: str, node: Node | None = None) -> Fault | None:
        """Return the fault to act out at a point; hangs and slow steps are waited out here, without any lock."""
        fault = self._faults.take(
            Moment(
                program="ltfs",
                at=at,
                barcode=self.cartridge.barcode,
                drive=self.drive.number,
                path=self.tree.path_of(node) if node is not None else None,
                bytes_written=self._session_bytes,
            )
        )
        return None if fault is None or self._faults.endure(fault) else fault

"""
A tape drive as the child uses it: one block, one file mark, one movement at a time.

``KernelTape`` is the Linux driver ``st`` by its system calls. Sources: st(4), linux/mtio.h for structures and operations, linux/major.h for the
device numbers, Documentation/scsi/st.rst for the end of the tape. The virtual library has a tape of its own with the same methods; one contract
(``tests/contract/tape_device_contract.py``) is kept by both.
"""

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from typing import Protocol

from coldstore.tape.raw.memory import read_room

__all__ = ["KernelTape", "RewindingNode", "TapeDevice", "TapeStatus"]

# linux/ioctl.h as asm-generic defines it: number, type and size of the argument, and its direction. (MIPS, PowerPC, SPARC and Alpha number otherwise.)
_WRITE, _READ = 1, 2


def _ioctl_number(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("m") << 8 | number


_OPERATION = struct.Struct("@hi")
"""``struct mtop``: mt_op, mt_count."""
_STATUS = struct.Struct("@lllllii")
"""``struct mtget``: mt_type, mt_resid, mt_dsreg, mt_gstat, mt_erreg, mt_fileno, mt_blkno."""
_POSITION = struct.Struct("@l")
"""``struct mtpos``: mt_blkno."""

MTIOCTOP = _ioctl_number(_WRITE, 1, _OPERATION.size)
MTIOCGET = _ioctl_number(_READ, 2, _STATUS.size)
MTIOCPOS = _ioctl_number(_READ, 3, _POSITION.size)

# linux/mtio.h: operations of MTIOCTOP.
MTFSF, MTBSF, MTFSR, MTBSR, MTWEOF, MTREW, MTEOM, MTSETBLK, MTSEEK = 1, 2, 3, 4, 5, 6, 12, 20, 22

# linux/mtio.h: bits of mt_gstat.
_GMT_EOD, _GMT_WR_PROT, _GMT_ONLINE = 0x08000000, 0x04000000, 0x01000000

_UNFIT = {0x20: "fast-eod", 0x2000: "no-wait", 0x8000: "no-wait-eof"}
"""linux/mtio.h: MT_ST_FAST_MTEOM, MT_ST_NOWAIT, MT_ST_NOWAIT_EOF, and the names that mt-st gives them."""

_SCSI_TAPE_MAJOR = 9
"""linux/major.h."""
_NO_REWIND_BIT = 0x80
"""Documentation/scsi/st.rst, minor numbers."""


class RewindingNode(ValueError):
    """The device is no tape, or its node rewinds the tape when it is closed."""


class TapeStatus(Protocol):
    """What the driver says without moving the tape."""

    @property
    def is_online(self) -> bool:
        """A tape is loaded, as the driver found at the opening of the drive."""

    @property
    def is_write_protected(self) -> bool:
        """The cartridge's tab forbids writing."""

    @property
    def is_at_end_of_data(self) -> bool:
        """The last movement met the end of data."""

    @property
    def file_number(self) -> int | None:
        """How many file marks lie before; None when the driver lost count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelStatus:
    """What ``st`` says: a ``TapeStatus``."""

    is_online: bool
    is_write_protected: bool
    is_at_end_of_data: bool
    file_number: int | None


class TapeDevice(Protocol):
    """
    An open drive in variable block mode. Blocks and file marks are counted together, from 0, as ``mt tell`` does.

    Every method raises ``OSError``: ENOMEDIUM without a tape, EIO for what the drive cannot do, and what is said below.
    """

    def status(self) -> TapeStatus:
        """Ask the driver; the tape does not move."""

    def unfitness(self) -> str:
        """Why the driver of this drive can prove nothing, in words; empty when it can."""

    def room(self) -> tuple[int, int] | None:
        """What the cartridge holds and how much of that is free, in bytes; None when the drive does not tell."""

    def read(self, buffer: memoryview) -> int:
        """
        Read the next block.

        :return: its size; 0 when a file mark was passed, and (once) at the end of data behind one: ``status`` tells them apart.
        :raise OSError: ENOMEM when the block is larger than the buffer, EIO at the end of data and for unreadable blocks.
        """

    def write(self, block: memoryview) -> None:
        """
        Write one block; what lay behind is gone.

        :raise OSError: ENOSPC once when the end of the tape is near, nothing was written then; the same write again may go
            through, as long as there is room. EACCES when the tape is write protected.
        """

    def write_filemarks(self, count: int) -> None:
        """Write file marks and wait until they and all before them are on the medium. 0 only waits."""

    def position(self) -> int:
        """The number of the block or file mark that is next."""

    def locate(self, block: int) -> None:
        """Move to a block or file mark by its number."""

    def rewind(self) -> None:
        """Move to the beginning."""

    def to_end(self) -> None:
        """Move to the end of data."""

    def space_files(self, count: int) -> None:
        """Move over file marks, backwards if negative: then to the side of the beginning of the last one."""

    def space_blocks(self, count: int) -> None:
        """Move over blocks, backwards if negative. EIO at a file mark, which is passed, and at the end of data."""

    def close(self) -> None:
        """Let go of the drive; the tape stays where it is."""


class KernelTape:
    """
    A drive of the Linux driver ``st``.

    :param path: the non-rewinding node.
    :raise RewindingNode: it is none; nothing was opened.
    :raise OSError: it cannot be opened: EBUSY when another process has it.
    """

    def __init__(self, path: str) -> None:
        kind = os.stat(path)
        major, minor = os.major(kind.st_rdev), os.minor(kind.st_rdev)
        if not stat.S_ISCHR(kind.st_mode) or major != _SCSI_TAPE_MAJOR or not minor & _NO_REWIND_BIT:
            raise RewindingNode(f"{path} is no tape device that leaves the tape where it is")
        self._sysfs = f"/sys/dev/char/{major}:{minor}"
        # Without O_NONBLOCK the kernel waits up to two minutes for a tape, and cannot be interrupted meanwhile.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if self.status().is_online:
                self._operate(MTSETBLK, 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _operate(self, operation: int, count: int = 1) -> None:
        fcntl.ioctl(self._descriptor, MTIOCTOP, _OPERATION.pack(operation, count))

    def status(self) -> TapeStatus:
        """See ``TapeDevice``."""
        answer = fcntl.ioctl(self._descriptor, MTIOCGET, bytes(_STATUS.size))
        _, _, _, bits, _, file_number, _ = _STATUS.unpack(answer)
        return KernelStatus(
            is_online=bool(bits & _GMT_ONLINE),
            is_write_protected=bool(bits & _GMT_WR_PROT),
            is_at_end_of_data=bool(bits & _GMT_EOD),
            file_number=file_number if file_number >= 0 else None,
        )

    def unfitness(self) -> str:
        """See ``TapeDevice``."""
        with open(f"{self._sysfs}/options", encoding="ascii") as file:
            options = int(file.read(), 16)
        wrong = [name for bit, name in _UNFIT.items() if options & bit]
        if not wrong:
            return ""
        return f"the tape driver was told not to wait for the drive, or not to count file marks (options {', '.join(wrong)})"

    def room(self) -> tuple[int, int] | None:
        """See ``TapeDevice``."""
        try:
            (name,) = os.listdir(f"{self._sysfs}/device/scsi_generic")
            found = read_room(f"/dev/{name}")
        except (OSError, ValueError):
            # Nobody may ask, or there is no such node.
            return None
        return None if found is None else (found.total_bytes, found.free_bytes)

    def read(self, buffer: memoryview) -> int:
        """See ``TapeDevice``."""
        return os.readv(self._descriptor, [buffer])

    def write(self, block: memoryview) -> None:
        """See ``TapeDevice``."""
        if os.write(self._descriptor, block) != len(block):
            raise OSError(errno.EIO, "the driver took a part of a block")

    def write_filemarks(self, count: int) -> None:
        """See ``TapeDevice``."""
        self._operate(MTWEOF, count)

    def position(self) -> int:
        """See ``TapeDevice``."""
        answer = fcntl.ioctl(self._descriptor, MTIOCPOS, bytes(_POSITION.size))
        (block,) = _POSITION.unpack(answer)
        return int(block)

    def locate(self, block: int) -> None:
        """See ``TapeDevice``."""
        self._operate(MTSEEK, block)

    def rewind(self) -> None:
        """See ``TapeDevice``."""
        self._operate(MTREW)

    def to_end(self) -> None:
        """See ``TapeDevice``."""
        self._operate(MTEOM)

    def space_files(self, count: int) -> None:
        """See ``TapeDevice``."""
        self._operate(MTFSF if count >= 0 else MTBSF, abs(count))

    def space_blocks(self, count: int) -> None:
        """See ``TapeDevice``."""
        self._operate(MTFSR if count >= 0 else MTBSR, abs(count))

    def close(self) -> None:
        """See ``TapeDevice``."""
        os.close(self._descriptor)

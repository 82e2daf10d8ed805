"""fallocate(2), of which Python has only the part that lets a file grow."""

import ctypes
import errno
import os

# linux/falloc.h
KEEP_SIZE = 0x01
PUNCH_HOLE = 0x02

NOT_OFFERED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system answers that cannot do it."""

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int


def fallocate(descriptor: int, mode: int, offset_bytes: int, length_bytes: int) -> None:
    """
    Allocate or free blocks of a file.

    :raise OSError: there is no room (``ENOSPC``, ``EDQUOT``), or the file system cannot (``NOT_OFFERED``)
    """
    while _fallocate(descriptor, mode, offset_bytes, length_bytes) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def allocate_ahead(descriptor: int, length_bytes: int) -> None:
    """
    Have room for the first bytes of a file, whose length stays; where the file system cannot, nothing is done.

    :raise OSError: there is no room
    """
    try:
        fallocate(descriptor, KEEP_SIZE, 0, length_bytes)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise

"""Whether a FUSE file system can be had here, and how libfuse 3 is loaded."""

import ctypes.util
import os
import shutil
import stat

LIBRARY_NAME = "libfuse3.so.3"
"""Soname of libfuse 3; mfusepy alone would take libfuse 2 where both are installed."""

_CAP_SYS_ADMIN = 1 << 21


def fuse_available() -> tuple[bool, str]:
    """
    Tell whether FUSE works here for this user, and why not.

    Looks only: the device, the library, ``mfusepy``, and either the right to mount (root with CAP_SYS_ADMIN) or a set-uid ``fusermount3``.
    ``COLDSTORE_VTL_DIRECTORY=1`` says no.
    """
    if os.environ.get("COLDSTORE_VTL_DIRECTORY") == "1":
        return False, "COLDSTORE_VTL_DIRECTORY is set"
    try:
        ctypes.CDLL(LIBRARY_NAME)
    except OSError:
        return False, f"{LIBRARY_NAME} is not installed (package libfuse3-3)"
    from importlib.util import find_spec

    if find_spec("mfusepy") is None:
        return False, "the Python package mfusepy is not installed"
    if not os.path.exists("/dev/fuse"):
        return False, "/dev/fuse is missing (kernel module fuse)"
    if os.geteuid() == 0:
        return _as_root()
    return _as_user()


def _as_root() -> tuple[bool, str]:
    with open("/proc/self/status", encoding="ascii") as stream:
        effective = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    if not effective & _CAP_SYS_ADMIN:
        return False, "root without CAP_SYS_ADMIN may not mount (a container?)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return False, f"/dev/fuse: {error.strerror}"
    return True, "root with /dev/fuse"


def _as_user() -> tuple[bool, str]:
    helper = shutil.which("fusermount3", path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/bin")
    if helper is None:
        return False, "fusermount3 is not installed (package fuse3)"
    found = os.stat(helper)
    if found.st_uid != 0 or not found.st_mode & stat.S_ISUID:
        return False, f"{helper} is not set-uid root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return False, "/dev/fuse may not be opened by this user (mode 0666 is usual)"
    with open("/proc/self/status", encoding="ascii") as stream:
        if any(line.split() == ["NoNewPrivs:", "1"] for line in stream):
            return False, "this process may gain no privileges, so fusermount3 cannot mount"
    return True, f"through {helper}"

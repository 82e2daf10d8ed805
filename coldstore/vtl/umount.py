"""
The program ``umount``: end a mount of ``ltfs``, whoever runs it.

As root it is umount(8). An ordinary user's FUSE mount is ended by ``fusermount3 -u``, whose answers are put into umount's words and exit
statuses (32: busy, or not mounted). A mount of the directory fallback is told to end.
"""

import os
import shutil
import subprocess
import sys

FAILED = 32


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    if found is None:
        sys.stderr.write(f"umount: {name} is not installed\n")
        raise SystemExit(FAILED)
    return found


def _as_user(words: list[str], mountpoint: str) -> int:
    lazy = ["-z"] if {"-l", "--lazy"} & set(words) else []
    done = subprocess.run(
        [_program("fusermount3"), "-u", *lazy, "--", mountpoint], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return 0
    if "busy" in done.stderr:
        sys.stderr.write(f"umount: {mountpoint}: target is busy.\n")
    elif "not found in" in done.stderr:
        sys.stderr.write(f"umount: {mountpoint}: not mounted.\n")
    else:
        sys.stderr.write(done.stderr)
    return FAILED


def main(words: list[str], directory: str | None = None) -> int:
    """Run ``umount``; returns its exit status."""
    from coldstore.vtl.plain import end_serving, is_served

    operands = [word for word in words if not word.startswith("-")]
    if len(operands) == 1 and is_served(operands[0]):
        return end_serving(operands[0])
    if os.geteuid() == 0 or len(operands) != 1:
        program = _program("umount")
        os.execv(program, [program, *words])
    return _as_user(words, operands[0])

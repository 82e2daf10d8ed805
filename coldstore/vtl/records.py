"""Small JSON files that change as a whole or not at all."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def read_json(path: str) -> Any:
    """Return what the file says. Raises ``OSError`` when it is not there."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def write_json(path: str, value: Any) -> None:
    """Replace the file: write beside it, fsync, rename. A kill at any moment leaves the old or the new text."""
    beside = f"{path}.{os.getpid()}.new"
    with open(beside, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(beside, path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the exclusive lock of a file (made when absent) for the body; others wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

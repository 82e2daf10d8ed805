"""Names of files, on the disk."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """
    Have what a folder names survive a power failure: fsync(2) of a file does not see to its name.

    :raise OSError: the disk failed
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

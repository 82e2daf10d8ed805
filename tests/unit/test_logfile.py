"""A log on a disk that runs full."""

import errno
import io
import json
from functools import partial
from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.logfile import LogFile, log_file
from coldstore.appliance.logs import StreamObserver


class _SmallDisk(io.RawIOBase):
    """A file on a disk with room for so many bytes; what fits of a write is written."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.content = b""

    def write(self, data: Any) -> int:
        """Take what there is room for."""
        taken = bytes(data)[: self.room_bytes]
        if not taken:
            raise OSError(errno.ENOSPC, "full")
        self.room_bytes -= len(taken)
        self.content += taken
        return len(taken)


class FullDiskTests(SynchronousTestCase):
    """``LogFile``."""

    def log_file(self, room_bytes: int) -> tuple[LogFile, _SmallDisk]:
        """Return one on a small disk."""
        disk = _SmallDisk(room_bytes)
        return LogFile(disk, lambda count: f"{count} missing"), disk

    def test_whole_lines(self) -> None:
        """However much room there is when and later: each line is there as a whole or counted as missing, in order."""
        for first in range(25):
            for second in range(25):
                file, disk = self.log_file(first)
                for number in range(3):
                    file.write(f"line {number}\n")
                disk.room_bytes = second
                for number in range(3, 6):
                    file.write(f"line {number}\n")
                disk.room_bytes = 1000
                for number in range(6, 8):
                    file.write(f"line {number}\n")
                expected = 0
                for line in disk.content.decode().splitlines():
                    word, _, rest = line.partition(" ")
                    if rest == "missing":
                        expected += int(word)
                    else:
                        self.assertEqual(line, f"line {expected}", (first, second, disk.content))
                        expected += 1
                self.assertEqual(expected, 8, (first, second, disk.content))

    def test_nothing_fits(self) -> None:
        """Nothing is raised, and lines that cannot be encoded are written all the same."""
        file, disk = self.log_file(0)
        self.assertEqual(file.write("one\n"), 4)
        disk.room_bytes = 1000
        file.write("\ud800\n")
        self.assertEqual(disk.content, b"1 missing\n\\ud800\n")

    def test_other_faults(self) -> None:
        """A disk that fails is none that is full."""

        class Failing(io.RawIOBase):
            def write(self, data: Any) -> int:
                raise OSError(errno.EIO, "broken")

        self.assertRaises(OSError, LogFile(Failing(), str).write, "x\n")

    def test_forms(self) -> None:
        """What tells of missing lines has the form of the others."""
        for is_json in (True, False):
            disk = _SmallDisk(0)
            form_of = partial(StreamObserver, is_json=is_json)
            chosen = form_of(log_file(disk, form_of))
            log = Logger(namespace="coldstore.s3", observer=chosen)
            log.info("one")
            log.info("two")
            disk.room_bytes = 1000
            log.info("three")
            first, second = disk.content.decode().splitlines()
            sentence = "the disk was full: 2 lines before this one could not be written"
            if is_json:
                told = json.loads(first)
                self.assertEqual((told["level"], told["message"], told["count"]), ("error", sentence, 2))
                self.assertEqual(json.loads(second)["message"], "three")
            else:
                self.assertTrue(first.endswith(f"[coldstore.appliance.logfile#error] {sentence}"), first)
                self.assertTrue(second.endswith("three"))

"""The log: lines for people, JSON for programs."""

import errno
import io
import json
from functools import partial
from typing import Any

from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from coldstore.appliance.logfile import LogFile, log_file
from coldstore.appliance.logs import StreamObserver, observer


class _Closed(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, text: str) -> int:
        """Fail as a broken pipe does."""
        raise BrokenPipeError(32, "Broken pipe")


class StreamTests(SynchronousTestCase):
    """``StreamObserver``."""

    def log(self, *, is_json: bool, namespace: str = "coldstore.work.bay") -> tuple[Logger, io.StringIO]:
        """Return a logger and what it writes to."""
        stream = io.StringIO()
        written = StreamObserver(stream, is_json=is_json)
        verifyObject(ILogObserver, written)
        return Logger(namespace=namespace, observer=written), stream

    def test_text_is_a_line_with_time_and_origin(self) -> None:
        """Level, part and sentence stand on one line."""
        log, stream = self.log(is_json=False)
        log.info("{barcode} loaded", barcode="A00001L8")
        self.assertRegex(stream.getvalue(), r"^\d{4}-.*\[coldstore.work.bay#info\] A00001L8 loaded\n$")

    def test_json_is_an_object_per_line(self) -> None:
        """Each event is one line with its message and its own fields, whatever they hold."""
        log, stream = self.log(is_json=True)
        log.warn("{key} is odd", key="a\nb\u2028ü", size_bytes=5, part=None, thing=object())
        log.info("second")
        first, second = (json.loads(line) for line in stream.getvalue().rstrip("\n").split("\n"))
        self.assertEqual(first["message"], "a\nb\u2028ü is odd")
        self.assertEqual((first["level"], first["system"]), ("warn", "coldstore.work.bay"))
        self.assertEqual((first["key"], first["size_bytes"], first["part"]), ("a\nb\u2028ü", 5, None))
        self.assertNotIn("thing", first)
        self.assertIsInstance(first["at"], float)
        self.assertEqual(second["message"], "second")

    def test_a_field_cannot_pose_as_ours(self) -> None:
        """An event's field named like one of the log's own does not replace it."""
        log, stream = self.log(is_json=True)
        log.info("true message", message="false", system="none", at=0)
        written = json.loads(stream.getvalue())
        self.assertEqual((written["message"], written["system"]), ("true message", "coldstore.work.bay"))
        self.assertGreater(written["at"], 0)

    def test_a_failure_carries_its_traceback(self) -> None:
        """JSON has it in one field, text below the line."""
        for is_json in (True, False):
            log, stream = self.log(is_json=is_json)
            log.failure("it failed", Failure(ZeroDivisionError("oh")))
            text = json.loads(stream.getvalue())["traceback"] if is_json else stream.getvalue()
            self.assertIn("ZeroDivisionError", text)

    def test_fields_of_others_are_left_out(self) -> None:
        """Only our own events bring their fields into the JSON."""
        log, stream = self.log(is_json=True, namespace="twisted.web")
        log.info("x", secret="s")
        self.assertNotIn("secret", json.loads(stream.getvalue()))

    def test_nobody_reads(self) -> None:
        """A broken pipe does not take the service with it."""
        Logger(namespace="coldstore", observer=StreamObserver(_Closed(), is_json=True)).info("x")


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


class ObserverTests(SynchronousTestCase):
    """``observer``."""

    def lines(self, level: str) -> list[str]:
        """Return what passes at a level, of ours and of Twisted's."""
        path = self.mktemp()
        chosen = observer(level, "json", path)
        for namespace in ("coldstore.s3", "twisted.web"):
            log = Logger(namespace=namespace, observer=chosen)
            log.debug("debug")
            log.info("info")
            log.warn("warn")
            log.error("error")
        with open(path) as written:
            return [f"{entry['system']} {entry['message']}" for entry in map(json.loads, written)]

    def test_levels(self) -> None:
        """Ours from the level on; Twisted's own from warnings on, or from the level when that is higher."""
        self.assertEqual(
            self.lines("info"),
            [
                "coldstore.s3 info",
                "coldstore.s3 warn",
                "coldstore.s3 error",
                "twisted.web warn",
                "twisted.web error",
            ],
        )
        self.assertEqual(self.lines("error"), ["coldstore.s3 error", "twisted.web error"])

    def test_a_file_is_appended_to(self) -> None:
        """A restart keeps what was logged; a file that cannot be opened is an ``OSError``."""
        path = self.mktemp()
        for _ in range(2):
            Logger(namespace="coldstore", observer=observer("info", "text", path)).info("x")
        with open(path) as written:
            self.assertEqual(len(written.readlines()), 2)
        self.assertRaises(OSError, observer, "info", "text", self.mktemp() + "/missing/log")

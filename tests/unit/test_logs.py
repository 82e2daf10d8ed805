"""The log: lines for people, JSON for programs."""

import errno
import io
import json
import sys
from typing import Any
from unittest.mock import Mock

from twisted.logger import ILogObserver, Logger, eventAsText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from coldstore.appliance import logs
from coldstore.appliance.logfile import log_file
from coldstore.appliance.logs import StreamObserver, observer


class _Closed(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, text: str) -> int:
        """Fail as a broken pipe does."""
        raise BrokenPipeError(32, "Broken pipe")


class RedirectedTests(SynchronousTestCase):
    """Standard output that a shell has redirected."""

    def test_into_a_file(self) -> None:
        """What finds no room there is counted, and told of in a whole line, as in a file of the log's own."""
        with open(self.mktemp(), "w+") as stream:
            self.patch(sys, "stdout", stream)
            made: list[io.RawIOBase] = []
            self.patch(logs, "log_file", lambda raw, form: (made.append(raw), log_file(raw, form))[1])
            log = Logger(namespace="coldstore", observer=observer("info", "text"))
            log.info("first")
            write, lost = made[0].write, OSError(errno.ENOSPC, "full")
            made[0].write = Mock(side_effect=lost)  # type: ignore[method-assign]
            log.info("second")
            made[0].write = write  # type: ignore[method-assign]
            log.info("third")
            stream.seek(0)
            lines = stream.read().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertIn("1 lines before this one could not be written", lines[1])

    def test_into_a_pipe(self) -> None:
        """A pipe, or whatever else is no file, is written as it comes."""
        stream = io.StringIO()
        self.patch(sys, "stdout", stream)
        Logger(namespace="coldstore", observer=observer("info", "text")).info("first")
        self.assertIn("first", stream.getvalue())

    def test_closed(self) -> None:
        """Where there is none, nobody reads."""
        self.patch(sys, "stdout", None)
        Logger(namespace="coldstore", observer=observer("info", "text")).info("first")
        self.assertEqual(self.flushLoggedErrors(), [])


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

    def test_text_is_what_twisted_would_write(self) -> None:
        """Formats with conversions, attributes, calls and mistakes, and events with a system: the same lines."""
        events: list[dict[str, Any]] = []
        log = Logger(namespace="coldstore.s3", observer=events.append)
        log.info("{seconds:.3f} s, {key!r}, {point.real}", seconds=0.12345, key="a", point=2 + 1j)
        log.info("{made()} and {absent}", made=lambda: 3)
        log.warn("{absent}")
        log.info("")
        log.error("{x}", x=1, log_system="elsewhere")
        log.failure("oh", Failure(ZeroDivisionError("oh")))
        for event in events:
            stream = io.StringIO()
            StreamObserver(stream, is_json=False)(event)
            self.assertEqual(stream.getvalue(), eventAsText(event) + "\n")

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

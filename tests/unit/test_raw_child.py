"""What the mover of a raw tape says of drives that it cannot use at all."""

import errno
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.filesystem import CannotStart, FormatFailed
from coldstore.tape.mover import fault_of
from coldstore.tape.raw.child import RawMover
from coldstore.tape.raw.device import RewindingNode, TapeDevice
from coldstore.work.trouble import TapeTrouble, as_trouble


class BlankTape:
    """A drive with a blank tape, whose driver was told not to wait for it."""

    def status(self) -> SimpleNamespace:
        """See ``TapeDevice``."""
        return SimpleNamespace(
            is_online=True, is_write_protected=False, is_at_end_of_data=True, file_number=0
        )

    def unfitness(self) -> str:
        """See ``TapeDevice``."""
        return "it does not wait"

    def rewind(self) -> None:
        """See ``TapeDevice``."""

    to_end = close = rewind

    def position(self) -> int:
        """See ``TapeDevice``."""
        return 0

    def read(self, buffer: memoryview) -> int:
        """See ``TapeDevice``."""
        raise OSError(errno.EIO, "blank")


class UnusableDriveTests(SynchronousTestCase):
    """A drive that cannot be used as things are set up is to blame, never the cartridge that happens to be in it."""

    def _fault(self, open_device: Callable[[str], Any], operation: str) -> Exception:
        def opened(path: str) -> TapeDevice:
            device: TapeDevice = open_device(path)
            return device

        answer = RawMover("/dev/nst0", opened).obey(
            {
                "op": operation,
                "at": 1.0,
                "working_copy": os.devnull,
                "barcode": "A00001L4",
                "volume_uuid": "uuid",
                "volume_name": "name",
                "read_only": False,
            },
            lambda line: None,
        )
        return fault_of(answer["fault"])

    def _assert_drive_is_to_blame(self, fault: Exception) -> None:
        self.assertIsInstance(fault, CannotStart)
        with self.assertRaises(TapeTrouble) as raised, as_trouble("working"):
            raise fault
        self.assertTrue(raised.exception.is_drive_wrong)

    def test_driver_that_does_not_wait(self) -> None:
        """Every cartridge fails in a drive whose driver proves nothing: none of them is suspect for that."""
        fault = self._fault(lambda path: BlankTape(), "format")
        self._assert_drive_is_to_blame(fault)
        self.assertIn("it does not wait", str(fault))

    def test_node_that_cannot_be_opened(self) -> None:
        """So it is with a node that is missing, forbidden, dead, or rewinds the tape."""

        def failing(error: Exception) -> Callable[[str], Any]:
            def open_device(path: str) -> Any:
                raise error

            return open_device

        for error in (
            *(OSError(number, os.strerror(number)) for number in (errno.ENOENT, errno.EACCES, errno.ENXIO)),
            RewindingNode("it rewinds"),
        ):
            for operation in ("format", "check", "mount"):
                fault = self._fault(failing(error), operation)
                self._assert_drive_is_to_blame(fault)

    def test_error_that_the_tape_may_have_caused(self) -> None:
        """An error of the drive says nothing yet: it is tried with another partner."""

        def open_device(path: str) -> Any:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        fault = self._fault(open_device, "format")
        self.assertIsInstance(fault, FormatFailed)

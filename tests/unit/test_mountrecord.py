"""The files of a mount, the process table, and the shim's reading of a log."""

import errno
import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from coldstore.tape import shim
from coldstore.tape.mountrecord import (
    HEAD_BYTES,
    KEPT_MOUNTS,
    LAUNCH,
    ROOM_BYTES,
    TAIL_BYTES,
    Ended,
    Launch,
    MountFolder,
    MountFolders,
    ProcessMark,
    VolumeFound,
)
from coldstore.tape.processtable import is_alive, mark_of
from coldstore.tape.shim import NOTABLE_PER_CODE, Log, own_mark, run


class Case(SynchronousTestCase):
    """Folders in a temporary place."""

    def setUp(self) -> None:
        """Make a folder."""
        self.state = os.path.abspath(self.mktemp())
        os.mkdir(self.state)
        self.folders = MountFolders(self.state)

    def launch(self, *argv: str) -> Launch:
        """A wish."""
        return Launch(
            barcode="A00001L8",
            volume_uuid=None,
            device="/dev/sg0",
            guard=None,
            mountpoint="/m",
            read_only=False,
            argv=argv,
            lock_path=os.path.join(self.state, "mount.lock"),
            log_limit_bytes=1024,
        )


class MountFolderTests(Case):
    """One mount."""

    def test_values_come_back(self) -> None:
        """What is written is read again; what is missing is None."""
        folder = self.folders.new()
        for ask in (folder.launch, folder.shim, folder.ltfs, folder.volume, folder.ended):
            self.assertIsNone(ask())
        shim = ProcessMark(process_id=1, start_ticks=2, boot_id="3")
        ltfs = ProcessMark(process_id=4, start_ticks=5, boot_id="3")
        volume = VolumeFound(volume_uuid="u", volume_name="n", is_plain=False)
        ended = Ended(exit_status=0, signal=None, failure=None, is_busy=False, notable=("a", "b"))
        launch = self.launch("ltfs", "-f")
        folder.request(launch)
        folder.claim(shim)
        folder.write_ltfs(ltfs)
        folder.write_volume(volume)
        folder.write_ended(ended)
        again = MountFolder(folder.path)
        self.assertEqual(
            (again.launch(), again.shim(), again.ltfs(), again.volume(), again.ended()),
            (launch, shim, ltfs, volume, ended),
        )

    def test_claimed_once(self) -> None:
        """One shim takes a wish; afterwards it cannot be withdrawn."""
        folder = self.folders.new()
        folder.request(self.launch())
        self.assertEqual(folder.claim(own_mark()), self.launch())
        self.assertIsNone(folder.claim(own_mark()))
        self.assertFalse(folder.withdraw())
        self.assertEqual(folder.shim(), own_mark())

    def test_withdrawn(self) -> None:
        """A withdrawn wish is not fulfilled."""
        folder = self.folders.new()
        folder.request(self.launch())
        self.assertTrue(folder.withdraw())
        self.assertIsNone(folder.claim(own_mark()))
        self.assertTrue(folder.withdraw())
        names = sorted(name for name in os.listdir(folder.path) if name.endswith(".json"))
        self.assertEqual(names, ["claimed.json", "launch.json"])

    def test_room_in_advance(self) -> None:
        """What is written once a mount is wished for has its blocks by then, and holds nothing else than what is written into it."""
        folder = self.folders.new()
        folder.request(self.launch())
        taken = {
            name: os.stat(os.path.join(folder.path, name)).st_blocks * 512
            for name in os.listdir(folder.path)
            if name != LAUNCH
        }
        self.assertGreaterEqual(taken.pop("ltfs.log"), HEAD_BYTES)
        self.assertGreaterEqual(taken.pop("shim.log"), 1)
        for name, length_bytes in ROOM_BYTES.items():
            temporary = [found for found in taken if found.startswith(name)]
            self.assertEqual(len(temporary), 1, taken)
            self.assertGreaterEqual(taken[temporary[0]], length_bytes)
        self.assertEqual(folder.log(), b"")
        for notable in (("x" * 100_000,), ("short",)):
            ended = Ended(exit_status=0, signal=None, failure=None, is_busy=False, notable=notable)
            folder.write_ended(ended)
            self.assertEqual(folder.ended(), ended)

    def test_longer_remainder(self) -> None:
        """What an earlier writer left half-written is no part of what is written in its place."""
        folder = self.folders.new()
        with open(os.path.join(folder.path, "volume.json.new"), "wb") as file:
            file.write(b"{" * 5000)
        found = VolumeFound(volume_uuid="u", volume_name="n", is_plain=False)
        folder.write_volume(found)
        self.assertEqual(folder.volume(), found)

    def test_no_room(self) -> None:
        """Where nothing can be written there is no wish that a shim could take."""
        folder = self.folders.new()
        os.mkdir(folder.log_path)
        self.assertRaises(OSError, folder.request, self.launch())
        self.assertIsNone(folder.claim(own_mark()))
        folder.remove()
        self.assertFalse(os.path.exists(folder.path))

    def test_settled(self) -> None:
        """What was dealt with stays so."""
        folder = self.folders.new()
        self.assertFalse(folder.is_settled())
        folder.settle()
        written = os.stat(os.path.join(folder.path, "settled")).st_ino
        folder.settle()
        self.assertEqual(
            os.stat(os.path.join(folder.path, "settled")).st_ino, written, "it takes no room twice"
        )
        self.assertTrue(MountFolder(folder.path).is_settled())

    def test_old_ones_go(self) -> None:
        """Numbers go up, the newest is found by its number, and only some are kept."""
        self.assertIsNone(self.folders.newest())
        paths = [self.folders.new().path for _ in range(KEPT_MOUNTS + 4)]
        newest = self.folders.newest()
        assert newest is not None
        self.assertEqual(newest.path, paths[-1])
        self.assertEqual(len(os.listdir(os.path.dirname(paths[0]))), KEPT_MOUNTS)

    def test_long_log(self) -> None:
        """Of a long log the beginning and the end are read."""
        folder = self.folders.new()
        self.assertEqual(folder.log(), b"")
        with open(folder.log_path, "wb") as file:
            file.write(b"first\n" + b"x" * (HEAD_BYTES + TAIL_BYTES) + b"\nlast\n")
        log = folder.log()
        self.assertTrue(log.startswith(b"first\n") and log.endswith(b"\nlast\n"))
        self.assertEqual(len(log), HEAD_BYTES + 1 + TAIL_BYTES)


class ProcessTableTests(SynchronousTestCase):
    """Telling processes apart."""

    def test_alive_and_dead(self) -> None:
        """A process is alive until it ends, reaped or not; another one with its number is not it."""
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        mark = mark_of(child.pid)
        assert mark is not None
        self.assertTrue(is_alive(mark))
        other = ProcessMark(
            process_id=mark.process_id, start_ticks=mark.start_ticks + 1, boot_id=mark.boot_id
        )
        self.assertFalse(is_alive(other))
        earlier = ProcessMark(process_id=mark.process_id, start_ticks=mark.start_ticks, boot_id="another")
        self.assertFalse(is_alive(earlier))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(is_alive(mark))
        child.communicate()
        self.assertFalse(is_alive(mark))
        self.assertIsNone(mark_of(child.pid))


def process_id(folder: MountFolder) -> int:
    """The recorded process of ltfs."""
    ltfs = folder.ltfs()
    assert ltfs is not None
    return ltfs.process_id


class ShimTests(Case):
    """Running a program in the place of ltfs."""

    def run_script(self, script: str) -> tuple[Ended, MountFolder]:
        """Run a Python script as ltfs."""
        folder = self.folders.new()
        return run(folder, self.launch(sys.executable, "-c", script)), folder

    def test_exit_status(self) -> None:
        """The exit status and the lines that matter are kept, from both streams, with or without a last newline."""
        ended, folder = self.run_script(
            "import sys, os; os.write(2, b'1a LTFS14029I Ready\\nnoise\\npid %d\\n' % os.getpid()); os.write(1, b'LTFS11034I bye'); sys.exit(3)"
        )
        self.assertEqual((ended.exit_status, ended.signal, ended.failure), (3, None, None))
        self.assertEqual(ended.notable, ("1a LTFS14029I Ready", "LTFS11034I bye"))
        self.assertIn(f"pid {process_id(folder)}".encode(), folder.log())
        self.assertIn(b"noise", folder.log())

    def test_signal(self) -> None:
        """A signal is kept as such."""
        ended, _ = self.run_script("import os; os.kill(os.getpid(), 9)")
        self.assertEqual((ended.exit_status, ended.signal), (None, 9))

    def test_recorded_before_it_runs(self) -> None:
        """What becomes ltfs has written itself down before, whatever happens to the shim."""
        folder = self.folders.new()
        script = f"import os; print(os.path.exists({folder.path!r} + '/mount.json'))"
        run(folder, self.launch(sys.executable, "-c", script))
        self.assertIn(b"True", folder.log())

    def test_not_found(self) -> None:
        """A program that does not exist is a failure, not an exit status."""
        ended = run(self.folders.new(), self.launch("/none/ltfs"))
        self.assertIn("/none/ltfs", ended.failure or "")
        self.assertEqual((ended.exit_status, ended.signal, ended.is_busy), (None, None, False))

    def test_lock_held(self) -> None:
        """A second ltfs of the same drive is not started."""
        script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); input()"
        lock_path = self.launch().lock_path
        holder = subprocess.Popen(
            [sys.executable, "-c", script, lock_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        ended, _ = self.run_script("raise SystemExit(0)")
        holder.communicate(b"\n")
        self.assertTrue(ended.is_busy)
        again, _ = self.run_script("raise SystemExit(0)")
        self.assertEqual(again.exit_status, 0)

    def test_flood(self) -> None:
        """A flood is cut out of the log without losing a line that matters, and takes no space."""
        ended, folder = self.run_script(
            "import os\n"
            "os.write(2, b'LTFS14029I Ready\\n')\n"
            "line = b'LTFS17188I Device is becoming ready\\n' * 30000\n"
            "for _ in range(40): os.write(2, line)\n"
            "for _ in range(100): os.write(2, b'LTFS12045E Cannot write block\\n')\n"
            "os.write(2, b'LTFS11034I end\\n')\n"
        )
        self.assertEqual(ended.notable[0], "LTFS14029I Ready")
        self.assertEqual(ended.notable[-1], "LTFS11034I end")
        self.assertEqual(len(ended.notable), NOTABLE_PER_CODE + 2)
        status = os.stat(folder.log_path)
        self.assertGreater(status.st_size, 40_000_000)
        self.assertLess(status.st_blocks * 512, 4_000_000)
        self.assertIn(b"LTFS11034I end", folder.log())

    def test_blocks_that_cannot_be_given_back(self) -> None:
        """Stay until they can, which on a full disk may be later: what ltfs says is read on."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"noise\n" * 200_000 + b"LTFS11034I bye\n")
        refusals = [OSError(errno.ENOSPC, "full"), OSError(errno.EOPNOTSUPP, "not offered")]
        given: list[tuple[int, int]] = []

        def fallocate(descriptor: int, mode: int, offset_bytes: int, length_bytes: int) -> None:
            if refusals:
                raise refusals.pop()
            given.append((offset_bytes, length_bytes))

        self.patch(shim, "fallocate", fallocate)
        log = Log(path, 1024)
        log.look()
        self.assertEqual((log.notable, given), (["LTFS11034I bye"], []))
        with open(path, "ab") as file:
            file.write(b"noise\n")
        log.finish()
        self.assertEqual(given, [(HEAD_BYTES, os.stat(path).st_size - TAIL_BYTES - HEAD_BYTES)])

    def test_line_in_two_looks(self) -> None:
        """A line that is being written while the log is read is read once, when it is whole."""
        path = self.mktemp()
        with open(path, "wb") as file:
            log = Log(path, 1 << 20)
            file.write(b"LTFS1103")
            file.flush()
            log.look()
            self.assertEqual(log.notable, [])
            file.write(b"4I bye\n")
            file.flush()
            log.look()
            log.finish()
        self.assertEqual(log.notable, ["LTFS11034I bye"])

    def test_only_whole_messages_count(self) -> None:
        """A number inside another message is none, and after enough of one kind the others are still found."""
        path = self.mktemp()
        with open(path, "wb") as file:
            log = Log(path, 1 << 20)
            file.write(b"1a LTFS11031I named LTFS11034I\n\n")
            file.write(b"1a LTFS12045E x\n" * (NOTABLE_PER_CODE + 5))
            file.write(b"1a LTFS11033E y\nLTFS12045E z\n1a LTFS11034I")
            file.flush()
            log.look()
            log.finish()
        self.assertEqual(
            log.notable[NOTABLE_PER_CODE - 1 :], ["1a LTFS12045E x", "1a LTFS11033E y", "1a LTFS11034I"]
        )
        self.assertEqual(len(log.notable), NOTABLE_PER_CODE + 2)

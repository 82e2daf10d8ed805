"""The virtual library's ``ltfs``, ``mkltfs`` and ``ltfsck`` as real processes over FUSE."""

import errno
import mmap
import os
import re
import signal
import stat
import subprocess
import time

from coldstore.vtl.faults import Faults
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import LibrarySpec
from coldstore.vtl.main import main
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge
from tests.contract.vtl_harness import MIB, FuseCase, wait_for

LINE = re.compile(r"^(?:[0-9a-f]+ )?LTFS(\d{4,5})([IWED]) (.*)$")


def read_direct(path: str, size: int) -> bytes:
    """Read the first bytes of a file past the page cache."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, max(size, 4096))
    try:
        count = os.readv(descriptor, [buffer])
        return buffer[:count]
    finally:
        os.close(descriptor)


class LifeTests(FuseCase):
    """A cartridge from the shop to the shelf."""

    def test_life(self) -> None:
        """Load, format, mount, write, sync, unmount, set offline, unload, load elsewhere, read."""
        content = os.urandom(3 * MIB + 17)
        process = self.mounted()
        self.assertEqual(self.attribute("indexGeneration"), "1")
        self.write("bundle.tar", content)
        os.setxattr(self.path("bundle.tar"), "user.ltfs.hash.sha256sum", b"ab" * 32)
        self.sync()
        self.assertEqual(self.attribute("indexGeneration"), "2")
        self.assertEqual(
            (self.attribute("partition", "bundle.tar"), self.attribute("startblock", "bundle.tar")),
            ("b", "7"),
        )
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS11034I Volume unmounted successfully.", said)
        self.assertTrue(all(LINE.match(line) for line in said.splitlines()), said)
        self.assertEqual(self.mt("offline")[0], 0)
        self.assertEqual(self.mtx("unload", "7", "0")[0], 0)
        self.load(7, 1)
        again = self.mount(drive=1)
        self.assertEqual(self.read("bundle.tar"), content)
        self.assertEqual(os.getxattr(self.path("bundle.tar"), "user.ltfs.hash.sha256sum"), b"ab" * 32)
        self.assertEqual(self.unmount(again)[0], 0)
        self.assertIn("LTFS17265I Skip writing the index because of the volume is not dirty", self.messages())

    def test_mount_table(self) -> None:
        """The mount table says ``fuse`` and ``ltfs:DEV``; statfs speaks of the data partition in blocks of 512 KiB."""
        self.mounted()
        with open("/proc/self/mountinfo") as stream:
            line = next(line.split() for line in stream if line.split()[4] == self.mountpoint)
        after = line[line.index("-") + 1 :]
        self.assertEqual(after[:2], ["fuse", f"ltfs:{self.sg()}"])
        space = os.statvfs(self.mountpoint)
        self.assertEqual(
            (space.f_bsize, space.f_frsize, space.f_namemax, space.f_bavail),
            (524288, 524288, 255, space.f_bfree),
        )
        self.assertNotEqual(os.stat(self.mountpoint).st_dev, os.stat(self.folder).st_dev)

    def test_umount_returns_early(self) -> None:
        """``umount`` returns and the mount is gone while the process still writes its index."""
        self.library.set_latency(Latency(index=0.4))
        process = self.mounted()
        self.write("x", b"1")
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.assertFalse(os.path.ismount(self.mountpoint))
        self.assertIsNone(process.poll())
        self.assertNotIn("11034I", self.messages())
        self.assertEqual(process.wait(20), 0)
        self.assertIn("11034I", self.messages())

    def test_unmount_never_instant(self) -> None:
        """Even with nothing to write, the process outlives the mount a little."""
        process = self.mounted()
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.assertIsNone(process.poll())
        self.assertEqual(process.wait(20), 0)

    def test_busy(self) -> None:
        """With an open file ``umount`` exits 32 and ltfs stays."""
        process = self.mounted()
        with open(self.path("x"), "wb"):
            status, _, err = self.run_program("umount", self.mountpoint)
            self.assertEqual(status, 32)
            self.assertIn("target is busy", err)
        self.assertIsNone(process.poll())

    def test_background(self) -> None:
        """Without ``-f`` the parent exits 0 once the volume is mounted, 1 when it cannot be."""
        words = ("-o", f"devname={self.sg()}", "-o", "sync_type=unmount", self.mountpoint)
        self.assertEqual(self.run_program("ltfs", *words)[0], 1)
        self.load()
        self.format()
        status, _, err = self.run_program("ltfs", *words)
        self.assertEqual(status, 0, err)
        self.write("x", b"x")
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        wait_for(lambda: not self.library.elements().drives[0].locked)
        self.assertEqual(Cartridge(self.library.cartridge_directory("A00001L8")).memory.coherency["b"][0], 2)

    def test_two_drives(self) -> None:
        """Two mounts at once do not disturb each other; an owned drive is missing from the device list, exit 1."""
        self.mounted()
        self.load(2, 1)
        self.assertEqual(self.run_program("mkltfs", "-d", self.sg(1), "-s", "A00002")[0], 0)
        status, out, err = self.run_program("ltfs", "-o", "device_list")
        self.assertEqual((status, out), (1, ""))
        self.assertNotIn(f"Device Name = {self.sg(0)}", err)
        self.assertIn(f"Device Name = {self.sg(1)} ", err)

    def test_serial_number(self) -> None:
        """A drive can be named by its serial number."""
        self.load()
        serial = self.library.elements().drives[0].serial
        self.assertEqual(self.run_program("mkltfs", "-d", serial, "-s", "A00001")[0], 0)


class ExclusionTests(FuseCase):
    """Who may touch a drive while ltfs has it."""

    def test_second_opener(self) -> None:
        """``sg`` is exclusive: each program says so in its own way."""
        self.mounted()
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        status, _, err = self.run_program("ltfs", "-f", "-o", f"devname={self.sg()}", other)
        self.assertEqual(status, 1)
        for text in (
            f"LTFS30210I Cannot open device: failed to open {self.sg()} (16).",
            "LTFS12012E",
            "LTFS10004E",
        ):
            self.assertIn(text, err)
        status, _, err = self.run_program("mkltfs", "-d", self.sg())
        self.assertEqual(status, 8)
        self.assertIn("LTFS15009E", err)
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 8)
        self.assertIn("LTFS16011E", err)

    def test_cartridge_locked(self) -> None:
        """A mounted cartridge cannot leave; after the unmount it can."""
        process = self.mounted()
        status, _, err = self.mtx("unload", "1", "0")
        self.assertEqual(status, 1)
        self.assertIn("Additional Sense Code = 53", err)
        self.assertEqual(self.mt("offline")[::2], (2, f"{self.library.node('nst0')}: Input/output error\n"))
        self.unmount(process)
        self.assertEqual(self.mt("offline")[0], 0)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)

    def test_guard(self) -> None:
        """Holding ``nst`` open keeps ``mt`` away and does not disturb ltfs."""
        self.load()
        self.format()
        guard = os.open(self.library.node("nst0"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, guard)
        self.mount()
        self.assertEqual(self.mt("rewind")[0], 1)
        self.write("x", b"x" * MIB)
        self.sync()

    def test_rewind_under_ltfs(self) -> None:
        """Without the guard a rewind destroys the volume: writes and fsync answer ok, sync EPERM, unmount 11033E, then nothing mounts."""
        process = self.mounted()
        self.assertEqual(self.mt("rewind")[0], 0)
        self.write("x", b"x" * MIB)
        self.assertEqual(os.stat(self.path("x")).st_size, MIB)
        self.assertEqual(self.failing(self.sync), errno.EPERM)
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS11033E", said)
        self.assertNotIn("LTFS11034I", said)
        process = self.mount_process()
        self.assertEqual(process.wait(10), 1)
        self.assertIn("LTFS11174E", self.messages())
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 4)

    def failing(self, step) -> int:
        """Return the errno of a step that must fail."""
        with self.assertRaises(OSError) as caught:
            step()
        return caught.exception.errno


class KillTests(FuseCase):
    """What a killed ltfs leaves."""

    def test_killed_after_data(self) -> None:
        """Data after the last index: the mount is refused until ltfsck ran, which restores the synced state."""
        process = self.mounted()
        self.write("synced", b"s" * MIB)
        self.sync()
        self.write("lost", b"l" * MIB)
        process.kill()
        process.wait()
        with self.assertRaises(OSError) as caught:
            os.stat(self.mountpoint)
        self.assertEqual(caught.exception.errno, errno.ENOTCONN)
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        process = self.mount_process()
        self.assertEqual(process.wait(10), 1)
        for code in ("LTFS11220E", "LTFS11027E", "LTFS14013E"):
            self.assertIn(code, self.messages())
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 1)
        for code in ("LTFS11227I", "LTFS17259I", "LTFS16022I Volume is consistent."):
            self.assertIn(code, err)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["synced"])
        self.assertEqual(self.read("synced"), b"s" * MIB)

    def test_killed_after_sync(self) -> None:
        """Nothing after the last index: it is restored without ltfsck; on the dead mountpoint ltfs exits 0 without a mount."""
        process = self.mounted()
        self.write("synced", b"s" * MIB)
        self.sync()
        process.kill()
        process.wait()
        process = self.mount_process()
        self.assertEqual(process.wait(10), 0)
        self.assertIn("LTFS11022I", self.messages())
        self.assertIn("failed to access mountpoint", self.messages())
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.mount()
        self.assertEqual(self.read("synced"), b"s" * MIB)

    def test_stays_locked(self) -> None:
        """The drive of a killed ltfs stays locked until the next ltfs or ltfsck ends on it, even by failing."""
        process = self.mounted()
        self.write("lost", b"l" * MIB)
        self.kill(process)
        self.assertEqual(self.mt("offline")[0], 2)
        self.assertIn("Additional Sense Code = 53", self.mtx("unload", "1", "0")[2])
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertEqual(self.mt("offline")[0], 0)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)

    def test_lost_and_found(self) -> None:
        """``ltfsck -f`` makes each unreferenced block a read-only file."""
        process = self.mounted()
        content = os.urandom(2 * BLOCK_BYTES)
        self.write("lost", content)
        self.kill(process)
        self.assertEqual(self.run_program("ltfsck", "-f", self.sg())[0], 1)
        self.mount()
        names = sorted(os.listdir(self.path("_ltfs_lostandfound")))
        self.assertEqual(names, ["partition1_block7_524288bytes", "partition1_block8_524288bytes"])
        self.assertEqual(b"".join(self.read(f"_ltfs_lostandfound/{name}") for name in names), content)

    def test_terminated(self) -> None:
        """SIGTERM unmounts and writes the index, exit 0."""
        process = self.mounted()
        self.write("x", b"x")
        process.terminate()
        self.assertEqual(process.wait(20), 0)
        self.assertIn("LTFS11034I", self.messages())
        self.assertFalse(os.path.ismount(self.mountpoint))

    def test_terminated_while_mounting(self) -> None:
        """SIGTERM before the mount is up: 17159I, exit 1, the drive is free again."""
        self.load()
        self.format()
        self.arm(program="ltfs", at="mount", kind="hang")
        process = self.mount_process()
        wait_for(lambda: os.path.exists(self.library.path("faults", "taken.log")))
        process.terminate()
        self.assertEqual(process.wait(10), 1)
        self.assertIn("LTFS17159I Process was interrupted by user.", self.messages())
        Faults(self.directory).clear()
        self.mount()

    def test_terminated_twice(self) -> None:
        """A second SIGTERM while the index is written kills; what was not synced is gone."""
        self.library.set_latency(Latency(index=2))
        process = self.mounted()
        self.write("x", b"x" * MIB)
        process.terminate()
        wait_for(lambda: "Reason: Unmount" in self.messages())
        process.terminate()
        self.assertEqual(process.wait(20), -signal.SIGTERM)
        self.library.set_latency(Latency())
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 1)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), [])

    def test_broken_stderr(self) -> None:
        """A reader of stderr that goes away kills ltfs at the unmount, before the index."""
        self.load()
        self.format()
        readable, writable = os.pipe()
        words = ("-f", "-o", f"devname={self.sg()}", self.mountpoint)
        process = self.start("ltfs", *words, stderr=writable)
        os.close(writable)
        with os.fdopen(readable, "rb") as stream:
            for line in stream:
                if b"14029I" in line:
                    break
        self.write("x", b"x" * MIB)
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.assertEqual(process.wait(20), -signal.SIGPIPE)


class FileTests(FuseCase):
    """What LTFS does with files."""

    def failing(self, step, *words) -> int:
        """Return the errno of a step that must fail."""
        with self.assertRaises(OSError) as caught:
            step(*words)
        return caught.exception.errno

    def test_modes_and_links(self) -> None:
        """Modes are fixed but for read-only; symbolic links exist, hard links do not; chown does nothing."""
        self.mounted()
        self.write("x", b"x")
        os.mkdir(self.path("d"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path("x")).st_mode), 0o777)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("d")).st_mode), 0o777)
        os.chmod(self.path("x"), 0o444)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("x")).st_mode), 0o555)
        os.symlink("x", self.path("s"))
        self.assertEqual(os.readlink(self.path("s")), "x")
        self.assertEqual(self.failing(os.link, self.path("x"), self.path("h")), errno.EPERM)
        os.utime(self.path("d"), ns=(123456789_000000001, 987654321_000000002))
        self.assertEqual(os.stat(self.path("d")).st_mtime_ns, 987654321_000000002)

    def test_names(self) -> None:
        """Names are NFC, at most 255 characters of any script, and survive a remount."""
        process = self.mounted()
        self.write("e\u0301", b"1")
        self.assertEqual(os.listdir(self.mountpoint), ["\u00e9"])
        self.assertEqual(self.read("\u00e9"), b"1")
        odd = ["a:b", "tab\there", "new\nline", "\u6f22" * 255, "100%"]
        for name in odd:
            self.write(name, name.encode())
        self.assertEqual(self.failing(self.write, "\u6f22" * 256, b""), errno.ENAMETOOLONG)
        self.assertEqual(self.failing(os.mkdir, self.path("").encode() + b"\xff\xfe"), errno.EINVAL)
        self.unmount(process)
        self.mount()
        self.assertEqual(set(os.listdir(self.mountpoint)), {*odd, "\u00e9"})
        for name in odd:
            self.assertEqual(self.read(name), name.encode())

    def test_places(self) -> None:
        """Each file begins on a new block; two written by turns are read back right; unlink frees nothing."""
        self.mounted()
        pieces = [os.urandom(100_000) for _ in range(20)]
        with (
            open(self.path("one"), "wb", buffering=0) as one,
            open(self.path("two"), "wb", buffering=0) as two,
        ):
            for number, piece in enumerate(pieces):
                (two if number % 2 else one).write(piece)
        self.assertEqual(self.read("one"), b"".join(pieces[::2]))
        self.assertEqual(self.read("two"), b"".join(pieces[1::2]))
        free = os.statvfs(self.mountpoint).f_bfree
        os.unlink(self.path("one"))
        self.assertEqual(os.statvfs(self.mountpoint).f_bfree, free)
        for name in ("p", "q"):
            self.write(name, b"small")
        self.assertEqual(int(self.attribute("startblock", "q")), int(self.attribute("startblock", "p")) + 1)

    def test_overwriting(self) -> None:
        """Writing inside a file, cutting and lengthening it work; old blocks become garbage."""
        process = self.mounted()
        self.write("x", b"a" * 1000)
        with open(self.path("x"), "r+b") as stream:
            stream.seek(500)
            stream.write(b"b" * 100)
            stream.seek(2000)
            stream.write(b"c")
        wanted = b"a" * 500 + b"b" * 100 + b"a" * 400 + bytes(1000) + b"c"
        self.assertEqual(self.read("x"), wanted)
        os.truncate(self.path("x"), 550)
        self.unmount(process)
        self.mount()
        self.assertEqual(self.read("x"), wanted[:550])

    def test_open_and_unlinked(self) -> None:
        """A file that was unlinked while open can be read and written on."""
        self.mounted()
        with open(self.path("x"), "w+b", buffering=0) as stream:
            stream.write(b"before")
            os.unlink(self.path("x"))
            stream.write(b" after")
            stream.seek(0)
            self.assertEqual(stream.read(), b"before after")
        self.assertEqual(os.listdir(self.mountpoint), [])

    def test_rename(self) -> None:
        """Rename replaces a file, moves directories, and not into themselves."""
        self.mounted()
        self.write("a", b"a")
        self.write("b", b"b")
        os.rename(self.path("a"), self.path("b"))
        self.assertEqual(self.read("b"), b"a")
        os.makedirs(self.path("d/e"))
        os.rename(self.path("b"), self.path("d/e/f"))
        os.rename(self.path("d/e"), self.path("g"))
        self.assertEqual(self.read("g/f"), b"a")
        self.assertEqual(self.failing(os.rmdir, self.path("g")), errno.ENOTEMPTY)

    def test_attributes(self) -> None:
        """Virtual attributes are answered and never listed; own ones hold 4096 bytes; the rest is refused as measured."""
        process = self.mounted()
        self.write("x", b"x")
        open(self.path("empty"), "wb").close()
        always = "volumeUUID volumeName volumeSerial volumeLockState volumeBlocksize softwareVersion indexGeneration indexLocation"
        media = "mediaStorageAlert mediaLoads mediaDataPartitionTotalCapacity mediaDataPartitionAvailableSpace commitMessage"
        for name in f"{always} {media}".split():
            self.attribute(name)
        self.assertEqual(self.attribute("volumeSerial"), "A00001")
        self.assertEqual(self.attribute("volumeName"), "A00001L8")
        self.assertEqual(self.attribute("volumeLockState"), "0x00000000")
        self.assertEqual(self.attribute("mediaStorageAlert"), "0x0000000000000000")
        self.assertEqual(self.attribute("mediaEfficiency"), "-1")
        self.assertEqual(self.attribute("fileUID"), "1")
        self.assertEqual(self.attribute("mediaLoads"), "1")
        self.assertEqual(int(self.attribute("fileUID", "x")), os.stat(self.path("x")).st_ino)
        self.assertEqual(os.listxattr(self.path("x")), [])
        os.setxattr(self.path("x"), "user.mine", bytes(range(256)) * 16)
        self.assertEqual(self.failing(os.setxattr, self.path("x"), "user.mine", b"x" * 4097), errno.ENOSPC)
        self.assertEqual(self.failing(os.setxattr, self.path("x"), "user.ltfs.nonsense", b"1"), errno.EACCES)
        self.assertEqual(
            self.failing(os.setxattr, self.path("x"), "user.ltfs.startblock", b"1"), errno.EACCES
        )
        self.assertEqual(self.failing(os.setxattr, self.path("x"), "trusted.x", b"1"), errno.EOPNOTSUPP)
        self.assertEqual(self.failing(os.getxattr, self.path("empty"), "user.ltfs.startblock"), errno.ENODATA)
        self.assertEqual(self.failing(os.getxattr, self.path("x"), "user.none"), errno.ENODATA)
        os.setxattr(self.mountpoint, "user.ltfs.commitMessage", b"bundle 7")
        self.unmount(process)
        self.mount()
        self.assertEqual(os.getxattr(self.path("x"), "user.mine"), bytes(range(256)) * 16)
        self.assertEqual(os.listxattr(self.path("x")), ["user.mine"])

    def test_generations(self) -> None:
        """``ltfsck -l`` lists the indexes with their messages on stdout; an older one can be mounted read-only, or rolled back to."""
        process = self.mounted()
        for number in (1, 2):
            self.write(f"f{number}", b"x")
            os.setxattr(self.mountpoint, "user.ltfs.commitMessage", f"bundle {number}".encode())
            self.sync()
        self.unmount(process)
        status, out, _ = self.run_program("ltfsck", "-l", self.sg())
        self.assertEqual(status, 0)
        self.assertRegex(
            out, r"^ +1: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} UTC +\(1, 5\)->\(0, 0\)\n +<<Initial Index>>\n"
        )
        self.assertIn("           bundle 2\n", out)
        process = self.mount("rollback_mount=2")
        self.assertEqual(os.listdir(self.mountpoint), ["f1"])
        self.assertEqual(self.failing(self.write, "y", b""), errno.EROFS)
        self.unmount(process)
        self.assertEqual(self.run_program("ltfsck", "-g", "99", self.sg())[0], 8)
        status, _, err = self.run_program("ltfsck", "-r", "-g", "2", self.sg())
        self.assertIn("LTFS16086I", err)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["f1"])

    def test_placement(self) -> None:
        """Files that the rule names lie on b until the unmount, and on a after it; others stay."""
        process = self.mounted(format_words=("--rules", "size=1M/name=*.manifest:*.txt"))
        content = os.urandom(700_000)
        self.write("s.manifest", content)
        self.write("big.manifest", os.urandom(2 * MIB))
        self.write("x.tar", b"x")
        self.sync()
        self.assertEqual(self.attribute("partition", "s.manifest"), "b")
        self.unmount(process)
        process = self.mount()
        found = {name: self.attribute("partition", name) for name in os.listdir(self.mountpoint)}
        self.assertEqual(found, {"s.manifest": "a", "big.manifest": "b", "x.tar": "b"})
        self.assertEqual(self.read("s.manifest"), content)
        self.write("second.manifest", content)
        self.unmount(process)
        self.mount()
        self.assertEqual(
            [self.read(name) == content for name in ("s.manifest", "second.manifest")], [True, True]
        )

    def test_cache_pressure(self) -> None:
        """When such files fill the write cache, an index goes to partition a in mid-session."""
        self.mounted("max_pool_size=2", format_words=("--rules", "size=1M/name=*.manifest"))
        for number in range(4):
            self.write(f"{number}.manifest", b"m" * 600_000)
        self.assertIn("to a (Reason: Cache Pressure", self.messages())
        self.assertEqual(self.attribute("partition", "0.manifest"), "a")

    def test_index_partition_full(self) -> None:
        """When the index partition is full, the unmount says so, succeeds, and the files are still on b."""
        process = self.mounted(format_words=("--rules", "size=4M/name=*.manifest"))
        for number in range(6):
            self.write(f"{number}.manifest", b"m" * 3 * MIB)
        _, said = self.unmount(process)
        for code in ("LTFS13013W", "LTFS11072E", "LTFS11034I"):
            self.assertIn(code, said)
        self.mount()
        self.assertEqual(
            {self.attribute("partition", f"{number}.manifest") for number in range(6)}, {"a", "b"}
        )


class MediumTests(FuseCase):
    """Damaged, full, protected, blank and foreign media."""

    spec = LibrarySpec(drives=2, slots=10, mail_slots=1, cartridges=6, cleaning=1, capacity_bytes=64 * MIB)

    def test_flip(self) -> None:
        """A byte damaged behind the file system is seen past the page cache only."""
        self.mounted()
        content = os.urandom(MIB)
        self.write("x", content)
        self.sync()
        self.assertEqual(self.read("x"), content)
        offset = int(self.attribute("startblock", "x")) * BLOCK_BYTES + 12345
        main(["flip", self.directory, "A00001L8", "--partition", "b", "--offset", str(offset)])
        self.assertEqual(self.read("x"), content)
        direct = read_direct(self.path("x"), MIB)
        self.assertEqual([at for at in range(MIB) if direct[at] != content[at]], [12345])
        with open(self.path("x"), "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.assertNotEqual(self.read("x"), content)

    def test_end_of_tape(self) -> None:
        """At the end writes come up short, fsync says ENOSPC once, the file is shorter than accepted, and metadata still works."""
        process = self.mounted()
        self.write("first", b"f" * MIB)
        accepted = 0
        descriptor = os.open(self.path("last"), os.O_CREAT | os.O_WRONLY)
        piece = b"l" * (700 * 1024)
        with self.assertRaises(OSError) as caught:
            short = 0
            while True:
                count = os.write(descriptor, piece)
                short += count < len(piece)
                accepted += count
        self.assertEqual((caught.exception.errno, short), (errno.ENOSPC, 1))
        with self.assertRaises(OSError) as caught:
            os.fsync(descriptor)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        os.fsync(descriptor)
        os.close(descriptor)
        self.assertLess(os.stat(self.path("last")).st_size, accepted)
        self.assertEqual(os.statvfs(self.mountpoint).f_bfree, 0)
        self.assertEqual(self.attribute("mediaDataPartitionAvailableSpace"), "0")
        with self.assertRaises(OSError) as caught:
            os.mkdir(self.path("new"))
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        os.setxattr(self.path("first"), "user.a", b"1")
        os.unlink(self.path("last"))
        self.sync()
        _, said = self.unmount(process)
        self.assertIn("LTFS11034I", said)
        for code in ("LTFS30223W", "LTFS11072E", "LTFS13014W", "LTFS14022E"):
            self.assertIn(code, said)
        self.mount()
        self.assertIn("LTFS14071I", self.messages())
        self.assertEqual(self.read("first"), b"f" * MIB)

    def test_write_protected(self) -> None:
        """A protected volume mounts read-only; mkltfs refuses it."""
        process = self.mounted()
        self.write("x", b"x")
        self.unmount(process)
        main(["protect", self.directory, "A00001L8", "on"])
        process = self.mount()
        self.assertIn("LTFS14019I", self.messages())
        for step in (lambda: self.write("y", b""), self.sync):
            with self.assertRaises(OSError) as caught:
                step()
            self.assertEqual(caught.exception.errno, errno.EROFS)
        self.assertEqual(self.read("x"), b"x")
        self.assertEqual(self.unmount(process)[0], 0)
        status, _, err = self.run_program("mkltfs", "-f", "-d", self.sg(), "-s", "A00001")
        self.assertEqual(status, 16)
        self.assertIn("LTFS11095E", err)

    def test_blank_and_foreign(self) -> None:
        """Blank and foreign media are told by their messages; mkltfs overwrites foreign data without a question."""
        self.load()
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertIn("LTFS17168E Cannot read volume: medium is not partitioned.", self.messages())
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 4)
        main(["foreign", self.directory, "A00001L8", "--partitioned"])
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertIn("LTFS11175E", self.messages())
        self.format()
        self.mount()

    def test_damaged_indexes(self) -> None:
        """An index damaged on a is repaired from b; on both, the generation before is restored and its later files are lost."""
        process = self.mounted()
        self.write("early", b"e")
        self.sync()
        self.write("late", b"l")
        self.unmount(process)
        memory = Cartridge(self.library.cartridge_directory("A00001L8")).memory
        main(
            [
                "flip",
                self.directory,
                "A00001L8",
                "--partition",
                "a",
                "--offset",
                str(memory.coherency["a"][1] * BLOCK_BYTES + 9),
            ]
        )
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertIn("LTFS11024E", self.messages())
        main(
            [
                "flip",
                self.directory,
                "A00001L8",
                "--partition",
                "b",
                "--offset",
                str(memory.coherency["b"][1] * BLOCK_BYTES + 9),
            ]
        )
        self.assertEqual(main(["fsck", self.directory]), 1)
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 1)
        self.assertIn("LTFS17259I", err)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["early"])

    def test_empty_drive(self) -> None:
        """Each program has its own exit status for an empty drive."""
        self.assertEqual(self.mount_process().wait(10), 1)
        for code in ("LTFS12016E", "LTFS11331E", "LTFS17188I", "LTFS14075E"):
            self.assertIn(code, self.messages())
        self.assertEqual(self.run_program("mkltfs", "-d", self.sg())[0], 8)
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 15)

    def test_cleaning_cartridge(self) -> None:
        """With a cleaning cartridge mkltfs never ends."""
        self.load(10)
        process = self.start("mkltfs", "-d", self.sg(), stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        self.assertIsNone(process.poll())

    def test_offline_cartridge(self) -> None:
        """A cartridge that was set offline is loaded again by ltfs itself."""
        self.load()
        self.format()
        self.assertEqual(self.mt("offline")[0], 0)
        self.mount()

    def test_eject(self) -> None:
        """With ``-o eject`` the cartridge is unloaded at the end and the robot takes it at once."""
        process = self.mounted("eject")
        self.write("x", b"x")
        _, said = self.unmount(process)
        for code in ("LTFS11289I", "LTFS12022I", "LTFS11291I"):
            self.assertIn(code, said)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)


class CommandLineTests(FuseCase):
    """What the programs say to a wrong command line, and the statuses that mislead."""

    def test_mkltfs(self) -> None:
        """Usage 16, refusal 16, failure 8, unformatted 1."""
        self.load()
        for words, status, code in (
            (("-s", "TOOLONG"), 16, "15029E"),
            (("-s", "abc123"), 16, "15030E"),
            (("-n", "a/b"), 16, "15031E"),
            (("-b", "1000"), 8, "15028E"),
            (("-b", "8388608"), 8, "11096E"),
            (("-r", "nonsense"), 8, "15015E"),
            (("-e", "none"), 8, "15008E"),
            (("--no-such",), 16, "15002E"),
        ):
            done = self.run_program("mkltfs", "-d", self.sg(), *words)
            self.assertEqual(done[0], status, words)
            self.assertIn(f"LTFS{code}", done[2])
        self.assertEqual(self.run_program("mkltfs")[0], 16)
        self.assertEqual(self.run_program("mkltfs", "-d", "/dev/sg99")[0], 8)
        self.format()
        status, _, err = self.run_program("mkltfs", "-d", self.sg(), "-s", "A00001")
        self.assertEqual(status, 16)
        self.assertIn("LTFS15047E Medium is already formatted (0).", err)
        self.format("-f")
        status, _, err = self.run_program("mkltfs", "-w", "-d", self.sg())
        self.assertEqual(status, 1)
        self.assertIn("LTFS15040I", err)

    def test_ltfs(self) -> None:
        """A mountpoint that is not empty or an unknown option: exit 0 all the same; a missing one or a bad sync type: 1."""
        self.load()
        self.format()
        self.assertEqual(self.mount_process("sync_type=foo").wait(10), 1)
        self.assertIn("LTFS14061E", self.messages())
        self.assertEqual(self.mount_process("no_such_option").wait(10), 0)
        self.assertIn("fuse: unknown option", self.messages())
        os.mkdir(self.path("inside"))
        self.assertEqual(self.mount_process().wait(10), 0)
        self.assertIn("LTFS14123W", self.messages())
        status, _, err = self.run_program("ltfs", "-f", "-o", f"devname={self.sg()}", "/no/such/place")
        self.assertEqual(status, 1)
        self.assertIn("LTFS14094E", err)
        status, _, err = self.run_program("ltfs", "-f", "-o", "devname=/dev/sg99", self.mountpoint)
        self.assertEqual(status, 1)
        self.assertIn("LTFS10004E Cannot open device '/dev/sg99'.", err)
        self.assertEqual(self.run_program("ltfs", "-V")[0], 0)

    def test_ltfsck(self) -> None:
        """Exit 1 for a clean volume, 16 for usage, 8 for a missing device."""
        self.load()
        self.format()
        for _ in range(2):
            status, _, err = self.run_program("ltfsck", self.sg())
            self.assertEqual(status, 1)
            self.assertIn("LTFS16022I Volume is consistent.", err)
        self.assertEqual(self.run_program("ltfsck")[0], 16)
        self.assertEqual(self.run_program("ltfsck", "/dev/sg99")[0], 8)

    def test_release(self) -> None:
        """``release_device`` unlocks and unloads."""
        process = self.mounted()
        self.kill(process)
        self.assertEqual(self.run_program("ltfs", "-o", f"devname={self.sg()}", "-o", "release_device")[0], 0)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)


class FaultTests(FuseCase):
    """Injected failures look as they were measured."""

    def failing(self, step, *words) -> int:
        """Return the errno of a step that must fail."""
        with self.assertRaises(OSError) as caught:
            step(*words)
        return caught.exception.errno

    def test_permanent_write_error(self) -> None:
        """3/0C/00: short write, EROFS, fsync EIO once, size 0; the index goes to a; later mounts are read-only with the earlier files."""
        process = self.mounted()
        self.write("good", b"g" * MIB)
        self.sync()
        self.arm(program="ltfs", at="write", kind="sense:3/0C/00", after_bytes=3 * MIB)
        descriptor = os.open(self.path("bad"), os.O_CREAT | os.O_WRONLY)
        with self.assertRaises(OSError) as caught:
            while True:
                os.write(descriptor, b"b" * MIB)
        self.assertEqual(caught.exception.errno, errno.EROFS)
        self.assertEqual(self.failing(os.fsync, descriptor), errno.EIO)
        os.fsync(descriptor)
        os.close(descriptor)
        self.assertEqual(os.stat(self.path("bad")).st_size, 0)
        self.assertEqual(self.failing(self.sync), errno.EROFS)
        self.assertEqual(self.attribute("volumeLockState"), "0x00000060")
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        for code in ("12045E", "13024I", "13025I", "11343I", "11034I"):
            self.assertIn(f"LTFS{code}", said)
        self.mount()
        self.assertIn("LTFS14019I", self.messages())
        self.assertEqual(self.read("good"), b"g" * MIB)
        self.assertEqual(self.failing(self.write, "more", b""), errno.EROFS)

    def test_hardware_write_error(self) -> None:
        """4/44/00: write EIO, fsync ok, size 0, then EROFS; the unmount is 11033E with exit 0; ltfsck repairs, synced files intact."""
        process = self.mounted()
        self.write("good", b"g" * MIB)
        self.sync()
        self.write("unsynced", b"u" * MIB)
        self.arm(program="ltfs", at="write", kind="eio")
        descriptor = os.open(self.path("bad"), os.O_CREAT | os.O_WRONLY)
        self.assertEqual(self.failing(os.write, descriptor, b"b" * MIB), errno.EIO)
        os.fsync(descriptor)
        os.close(descriptor)
        self.assertEqual(self.failing(self.write, "more", b""), errno.EROFS)
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS11033E", said)
        self.assertNotIn("LTFS11034I", said)
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 1)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["good"])

    def test_double_write_error(self) -> None:
        """Both partitions refuse: the unmount says 17265I and 11034I, exit 0, and what was not synced is gone."""
        process = self.mounted()
        self.write("good", b"g" * MIB)
        self.sync()
        self.write("unsynced", b"u" * MIB)
        self.arm(program="ltfs", at="write", kind="double-write-error")
        with self.assertRaises(OSError):
            self.write("bad", b"b" * 4 * MIB)
        self.assertEqual(os.stat(self.path("unsynced")).st_size, 0)
        self.assertEqual(self.attribute("volumeLockState"), "0x000000e0")
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS17265I Skip writing the index because of mam lock field is both partitions.", said)
        self.assertIn("LTFS11034I", said)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["good"])

    def test_sync_fails(self) -> None:
        """sync: EIO, then EROFS; the index was saved on a all the same, so the file is there."""
        process = self.mounted()
        self.write("x", b"x" * MIB)
        self.arm(program="ltfs", at="sync", kind="eio")
        self.assertEqual(self.failing(self.sync), errno.EIO)
        self.assertEqual(self.failing(self.sync), errno.EROFS)
        _, said = self.unmount(process)
        for code in ("12047E", "11082E", "11343I", "11344I", "17069E"):
            self.assertIn(f"LTFS{code}", said)
        self.assertRegex(said, r"LTFS17070I Synced index of A00001 \(-1205\)")
        self.mount()
        self.assertEqual(self.read("x"), b"x" * MIB)

    def test_sync_fails_and_loses(self) -> None:
        """sync: EIO with no index anywhere: the file is gone at the next mount."""
        process = self.mounted()
        self.write("x", b"x" * MIB)
        self.arm(program="ltfs", at="sync", kind="eio-lost")
        self.assertEqual(self.failing(self.sync), errno.EIO)
        self.unmount(process)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), [])

    def test_index_lost_at_unmount(self) -> None:
        """The unmount fails to write the index: 11083E, 11033E, exit 0; the file is gone, the next mount read-only."""
        process = self.mounted()
        self.write("x", b"x")
        self.arm(program="ltfs", at="unmount", kind="index-write-lost")
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        for code in ("12045E", "11083E", "11033E"):
            self.assertIn(f"LTFS{code}", said)
        self.assertNotIn("LTFS11034I", said)
        self.mount()
        self.assertIn("LTFS14019I", self.messages())
        self.assertEqual(os.listdir(self.mountpoint), [])

    def test_index_on_a(self) -> None:
        """The unmount finds only partition a: 11083E and 11034I; the file is there."""
        process = self.mounted()
        self.write("x", b"x")
        self.arm(program="ltfs", at="unmount", kind="index-on-a")
        _, said = self.unmount(process)
        self.assertIn("LTFS11083E", said)
        self.assertIn("LTFS11034I", said)
        self.mount()
        self.assertEqual(self.read("x"), b"x")

    def test_read_error(self) -> None:
        """A file that cannot be read gives EIO; the mount survives, and other files can be read."""
        process = self.mounted()
        self.write("bad", b"b" * MIB)
        self.write("good", b"g" * MIB)
        self.unmount(process)
        self.mount()
        self.arm(program="ltfs", at="read", kind="eio", path="/bad", count=0)
        self.assertEqual(self.failing(read_direct, self.path("bad"), MIB), errno.EIO)
        self.assertEqual(self.read("good"), b"g" * MIB)
        self.assertIn("LTFS11088E", self.messages())
        Faults(self.directory).clear()
        self.assertEqual(read_direct(self.path("bad"), MIB), b"b" * MIB)

    def test_no_space_early(self) -> None:
        """A tape may be full wherever one says."""
        self.mounted()
        self.arm(program="ltfs", at="write", kind="enospc", after_bytes=MIB)
        with self.assertRaises(OSError) as caught:
            self.write("x", b"x" * 8 * MIB)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.sync()

    def test_hangs(self) -> None:
        """write, read, sync and the unmount may stand still; names stay visible meanwhile."""
        process = self.mounted()
        self.write("x", b"x" * MIB)
        for at, step in (
            ("read", ["dd", f"if={self.path('x')}", "of=/dev/null", "bs=1M", "iflag=direct"]),
            ("write", ["dd", "if=/dev/zero", f"of={self.path('y')}", "bs=1M", "count=1"]),
            ("sync", ["setfattr", "-n", "user.ltfs.sync", "-v", "1", self.mountpoint]),
        ):
            self.arm(program="ltfs", at=at, kind="hang")
            child = subprocess.Popen(step, stderr=subprocess.DEVNULL)
            self.processes.append(child)
            time.sleep(0.3)
            self.assertIsNone(child.poll(), at)
            if (
                at != "sync"
            ):  # the kernel itself holds the root directory while an attribute of it is being set
                self.assertIn("x", os.listdir(self.mountpoint))
            Faults(self.directory).clear()
            self.assertEqual(child.wait(10), 0, at)
        self.arm(program="ltfs", at="unmount", kind="slow", seconds=0.5)
        began = time.monotonic()
        self.unmount(process)
        self.assertGreater(time.monotonic() - began, 0.5)

    def test_mount_fails(self) -> None:
        """The mount may fail once, and work then."""
        self.load()
        self.format()
        self.arm(program="ltfs", at="mount", kind="fail")
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertIn("LTFS14013E", self.messages())
        self.mount()

    def test_format_fails(self) -> None:
        """mkltfs may fail with exit 8, and leave the cartridge as it was."""
        self.load()
        self.arm(program="mkltfs", at="format", kind="fail")
        status, _, err = self.run_program("mkltfs", "-d", self.sg(), "-s", "A00001")
        self.assertEqual(status, 8)
        self.assertIn("LTFS15023I Formatting failed.", err)
        self.format()

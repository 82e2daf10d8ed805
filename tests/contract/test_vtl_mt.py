"""The virtual library's ``mt`` against recorded output of the real one."""

import os

from tests.contract.vtl_harness import VtlCase, golden


class MtGoldenTests(VtlCase):
    """Each recorded output comes back byte for byte, exit status included."""

    def same(self, name: str, words: str, drive: int = 0, recorded: str = "/dev/nst0") -> None:
        """Compare one run with its record."""
        node = self.library.node(f"nst{drive}")
        status, out, err = golden(f"mt/{name}.txt")
        run = self.run_program("mt", "-f", node, *words.split())
        self.assertEqual(run, (status, out.replace(recorded, node), err.replace(recorded, node)), name)

    def test_status(self) -> None:
        """Status shows an empty drive, a loaded one, one that was set offline, a protected and a cleaning cartridge."""
        self.same("status-no-tape", "status")
        self.load()
        self.same("status-just-loaded", "status")
        self.same("offline", "offline")
        self.same("status-after-offline", "status")
        self.same("load-after-offline", "load")
        self.same("status-after-load", "status")
        self.load(10, 1)
        self.same("status-cleaning", "status", drive=1)

    def test_write_protected(self) -> None:
        """The tab shows in status; commands that write are refused at open."""
        from coldstore.vtl.main import main

        self.load()
        main(["protect", self.directory, "A00001L8", "on"])
        self.same("status-write-protected", "status")
        self.same("weof-write-protected", "weof 1")
        self.same("erase-write-protected", "erase")
        self.same("rewind-write-protected", "rewind")

    def test_positions(self) -> None:
        """Filemarks are counted forth and back."""
        self.load()
        for _ in range(4):
            self.assertEqual(self.mt("weof", "1")[0], 0)
        self.same("rewind", "rewind")
        self.same("status-bot", "status")
        self.same("tell-bot", "tell")
        self.same("fsf-1", "fsf 1")
        self.same("status-after-fsf-1", "status")
        self.same("bsf-99-before-start", "bsf 99")
        self.same("seek-2", "seek 2")
        self.same("status-after-seek-2", "status")
        self.same("tell-after-seek-2", "tell")
        self.same("fsf-9-past-end", "fsf 9")
        self.same("status-after-fsf-past-end", "status")
        self.same("eod", "eod")
        self.same("status-eod", "status")
        self.same("tell-after-write", "tell")
        self.same("asf-1", "asf 1")
        self.same("status-after-fsf-1", "status")
        self.same("seek-99999-past-end", "seek 99999")

    def test_settings(self) -> None:
        """Settings print nothing and last."""
        self.same("setblk-no-tape", "setblk 0")
        self.load()
        self.same("setblk-65536", "setblk 65536")
        self.same("status-setblk-65536", "status")
        self.same("setblk-0", "setblk 0")
        self.same("setpartition-1", "setpartition 1")
        self.same("status-partition-1", "status")
        self.same("setpartition-7", "setpartition 7")
        for name, words in (
            ("compression-1", "compression 1"),
            ("drvbuffer-1", "drvbuffer 1"),
            ("sttimeout", "sttimeout 900"),
        ):
            self.same(name, words)
        self.mt("stsetoptions", "scsi2logical", "can-partitions", "can-bsr")
        self.assertIn("can-partitions", self.mt("stshowoptions")[1])
        self.same("lock", "lock")
        self.same("offline-failed", "offline")
        self.same("unlock", "unlock")
        self.same("rewoffl", "rewoffl")

    def test_no_tape(self) -> None:
        """A blocking command waits for a tape, then fails with exit 1."""
        self.same("rewind-no-tape", "rewind")

    def test_errors(self) -> None:
        """Input/output errors exit 2 and say no more."""
        self.load()
        self.arm(program="mt", at="offline", kind="eio")
        self.same("offline-failed", "offline")
        self.arm(program="mt", at="rewind", kind="eio")
        self.same("rewind-hardware-error", "rewind")
        self.arm(program="mt", at="status", kind="never-ready", count=2)
        for _ in range(2):
            self.same("status-while-loading", "status")
        self.same("status-bot", "status")

    def test_single_opener(self) -> None:
        """Whoever holds the node open keeps ``mt`` out, status included; nothing is needed but an open descriptor."""
        self.load()
        holder = os.open(self.library.node("nst0"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            self.same("status-busy", "status")
            self.same("rewind-busy", "rewind")
            self.assertEqual(self.mt("status", drive=1)[0], 0)
        finally:
            os.close(holder)
        self.same("status-bot", "status")

    def test_usage(self) -> None:
        """Usage, versions, abbreviations and the default device."""
        self.same("usage-unknown", "frobnicate")
        self.same("eom-is-not-a-command", "eom")
        self.same("status-missing-device", "status", drive=9, recorded="/dev/nst9")
        self.assertEqual(self.run_program("mt"), golden("mt/usage-none.txt"))
        self.assertEqual(self.run_program("mt", "--version"), golden("mt/version.txt"))
        self.assertEqual(self.mt("stat"), self.mt("status"))
        self.assertEqual(self.run_program("mt", "-f", "/dev/null", "status")[0], 2)

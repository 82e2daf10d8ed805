"""The ``coldstore`` command over an interface in memory: what it prints, and its exit status."""

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from coldstore.admin import main as command
from coldstore.admin.client import NotRunning
from coldstore.admin.overview import alert_text
from coldstore.model.activity import DriveActivity
from coldstore.model.cartridges import CartridgeState
from coldstore.model.events import Severity
from coldstore.model.objects import StorageClass, Versioning
from coldstore.util import accounts
from coldstore.util.tables import cell, duration, page, size, table
from tests.unit.admin_rig import GIB, HEALTHY, NOW, AdminRig, cartridge

IDLE = DriveActivity(
    drive=0,
    barcode=None,
    is_mounted=False,
    job="idle",
    step="idle",
    detail="",
    done_bytes=0,
    total_bytes=0,
    since=NOW,
)


class _Away:
    """An appliance that nobody can reach."""

    def get(self, question: str, **arguments: str) -> object:
        """Refuse."""
        raise NotRunning("there is no appliance at /x")

    def post(self, order: str, document: object = None) -> object:
        """Refuse."""
        raise NotRunning("there is no appliance at /x")


class CommandCase(SynchronousTestCase):
    """Runs the command against a rig."""

    def setUp(self) -> None:
        """Make the rig, and a clock that moves when the command sleeps."""
        self.rig = AdminRig()
        self.addCleanup(self.rig.close)
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        self.sockets: list[str] = []
        self.patch(command, "Client", self._client)
        self.patch(command, "time", SimpleNamespace(sleep=self._sleep, monotonic=lambda: self.now))

    def _client(self, path: str) -> AdminRig:
        self.sockets.append(path)
        return self.rig

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()

    def run_command(self, *words: str) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            status = command.main(words)
        except SystemExit as ended:
            status = int(str(ended.code))
        return status, out.getvalue(), err.getvalue()

    def output(self, *words: str) -> str:
        """Return what a command prints that must succeed."""
        status, out, err = self.run_command(*words)
        self.assertEqual((status, err), (0, ""), out)
        return out


class UsageTests(CommandCase):
    """Wrong usage, and an appliance that cannot be asked."""

    def test_wrong_usage_is_2(self) -> None:
        """A missing or unknown word ends with 2 and says on standard error what is missing."""
        for words, expected in (
            ((), "required: COMMAND"),
            (("nonsense",), "invalid choice"),
            (("archive",), "--now"),
            (("cartridges", "admit"), "say --all"),
            (("cartridges", "admit", "A00001L8", "--all"), "say --all"),
            (("cartridges", "trust"), "name the barcodes to trust"),
            (("drives", "up"), "name the drive"),
            (("drives", "up", "zero"), "invalid int"),
            (("user", "create"), "name the user"),
            (("user", "create", "bob", "--staging", "1GiB"), "--staging goes with quota"),
            (("bucket", "list", "--staging", "1GiB"), "--staging goes with quota"),
            (("bucket", "quota", "b", "--most", "1"), "--most goes with restore-days"),
            (("bucket", "restore-days", "b"), "say how many"),
            (("bucket", "restore-days", "--most", "1"), "name the bucket"),
            (("bucket", "restore-days", "b", "--most", "a week"), "neither a number of days"),
            (("user", "disable"), "name the user"),
            (("keys", "create"), "name the user"),
            (("keys", "disable"), "name the access key"),
            (("keys", "rotate-master", "KEY1"), "name nothing"),
            (("alerts", "close"), "name the numbers"),
            (("alerts", "close", "x"), "invalid"),
            (("wait", "photos", "--restored"), "needs BUCKET and KEY"),
        ):
            with self.subTest(" ".join(words)):
                status, out, err = self.run_command(*words)
                self.assertEqual((status, out), (2, ""))
                self.assertIn(expected, err)
        self.assertEqual(self.rig.control.orders, [])

    def test_help_names_every_command(self) -> None:
        """``--help`` ends with 0 and has a line for each command."""
        status, out, _ = self.run_command("--help")
        self.assertEqual(status, 0)
        for name in (
            "status", "objects", "cartridges", "drives", "jobs", "wait", "archive", "drain", "resume", "inventory",
            "user", "policy", "keys", "reload", "alerts", "audit",
        ):  # fmt: skip
            self.assertRegex(out, rf"(?m)^    {name}\b")

    def test_an_appliance_that_is_away_is_1(self) -> None:
        """Every command that asks ends with 1 and one sentence, without a traceback."""
        self.patch(command, "Client", lambda path: _Away())
        for words in (("status",), ("alerts",), ("wait",), ("archive", "--now"), ("drain",), ("inventory",)):
            with self.subTest(words[0]):
                self.assertEqual(
                    self.run_command(*words), (1, "", "coldstore: there is no appliance at /x\n")
                )

    def test_a_refusal_is_1(self) -> None:
        """What the appliance refuses is told in its words."""
        self.rig.add_bucket("photos")
        status, _, err = self.run_command("objects", "photos", "nope")
        self.assertEqual(status, 1)
        self.assertIn("there is no object nope in photos", err)

    def test_the_socket_is_found(self) -> None:
        """``--socket`` wins over the environment, the socket's variable over the state directory's."""
        for variables, words, expected in (
            ({}, (), "/var/lib/coldstore/admin.sock"),
            ({"COLDSTORE_STATE_DIRECTORY": "/s"}, (), "/s/admin.sock"),
            ({"COLDSTORE_STATE_DIRECTORY": "/s", "COLDSTORE_ADMIN_SOCKET": "/a"}, (), "/a"),
            ({"COLDSTORE_ADMIN_SOCKET": "/a"}, ("--socket", "/b"), "/b"),
        ):
            with self.subTest(expected):
                self.patch(os, "environ", variables)
                self.output(*words, "jobs")
                self.assertEqual(self.sockets[-1], expected)


class ShowingTests(CommandCase):
    """What is printed."""

    def test_status_of_a_healthy_appliance(self) -> None:
        """Without trouble the page says so, then what is safe, and each drive on a line."""
        self.rig.add_drive(0)
        lines = self.output("status").splitlines()
        self.assertEqual(lines[0], "ColdStore 1.2.3 serves S3 (run 4 on here, since 2027-01-15T07:59:00Z)")
        self.assertEqual(lines[2], "No problem is known, no alert is open.")
        self.assertIn("tape copies  nothing waits to be written to tape", lines)
        self.assertIn("disk         2.0 GiB of 8.0 GiB used (25 %), 1.0 GiB more promised", lines)
        self.assertIn("drive 0      content unknown: not looked at yet", lines)
        self.rig.control.at_work = [IDLE]
        self.assertIn("drive 0      empty: idle", self.output("status").splitlines())

    def test_status_shows_trouble_first(self) -> None:
        """Problems and alerts stand above everything else, the worst first, with what to do."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        self.rig.add_drive(0)
        self.rig.add_alert("tape-failure", "drive 0 with A00001L8", Severity.WARNING, "it failed once")
        self.rig.add_alert(
            "drive-down", "drive 0", Severity.CRITICAL, "drive 0 is down: " + "smoke and " * 20
        )
        self.rig.post("/drives/change", {"by": "a", "drive": 0, "state": "down", "reason": "smoke"})
        self.rig.control.state = replace(
            HEALTHY, is_serving=False, is_library_reconciled=False, problems=("draining: wait",)
        )
        text = self.output("status")
        self.assertIn("DOES NOT SERVE S3 YET; tapes wait for the library", text.splitlines()[0])
        order = [
            "PROBLEM   draining: wait",
            "CRITICAL  #",
            "WARNING   #",
            "1 object (1000 B) not yet on every tape",
        ]
        places = [text.index(words) for words in order]
        self.assertEqual(places, sorted(places))
        self.assertIn("the oldest for 5 min", text)
        self.assertIn("drive 0      DOWN: smoke", text)
        self.assertLessEqual(max(map(len, text.splitlines())), 110)

    def test_status_does_not_hide_lost_copies(self) -> None:
        """With copies lost since they were written, the line about tape copies says so."""
        for barcode in ("A00001L8", "A00002L8"):
            self.rig.add_alert(
                "copy-damaged", f"cartridge {barcode}", Severity.CRITICAL, "cannot be read back"
            )
        self.assertIn(
            "nothing waits to be written to tape; COPIES WERE LOST on 2 cartridges, see above",
            self.output("status"),
        )

    def test_status_shows_work(self) -> None:
        """A drive at work tells its cartridge, step and share."""
        self.rig.add_drive(1)
        self.rig.control.at_work = [
            DriveActivity(
                drive=1,
                barcode="A00001L8",
                is_mounted=True,
                job="archive",
                step="writing",
                detail="b1",
                done_bytes=GIB,
                total_bytes=4 * GIB,
                since=NOW,
            )
        ]
        self.assertIn("drive 1      A00001L8: writing b1 (25 % of 4.0 GiB)", self.output("status"))
        self.assertIn("25 % of 4.0 GiB", self.output("drives"))

    def test_json_is_what_the_interface_says(self) -> None:
        """``--json`` prints the interface's own answer, for each command that shows something."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        self.rig.add_cartridges(cartridge("A00001L8"))
        for words, question in (
            (("status",), "/status"),
            (("objects",), "/objects"),
            (("objects", "photos"), "/objects?bucket=photos"),
            (("cartridges",), "/cartridges"),
            (("drives",), "/drives"),
            (("jobs",), "/jobs"),
            (("user", "list"), "/users"),
            (("keys",), "/keys"),
            (("bucket", "list"), "/buckets"),
            (("alerts",), "/alerts"),
            (("audit",), "/audit"),
        ):
            with self.subTest(question):
                self.assertEqual(json.loads(self.output(*words, "--json")), self.rig.json("GET", question)[1])

    def test_objects_show_verified_copies_only(self) -> None:
        """A copy counts when it is verified; the table names its cartridge and pool."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "pending")
        uid = self.rig.add_object("photos", "half")
        self.rig.freeze("bundle1", uid)
        self.rig.verify("bundle1", "main", "A00001L8")
        text = self.output("objects", "photos")
        self.assertRegex(text, r"half +1000 B  GLACIER +claimed +yes  1/2 A00001L8\(main\)")
        self.assertRegex(text, r"pending +1000 B  GLACIER +pending +yes  0/2")

    def test_versions_of_a_key(self) -> None:
        """Versions of a key are shown with their ids; a delete marker is called one."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "k")
        self.rig.store.set_versioning(name="photos", versioning=Versioning.ENABLED)
        self.rig.store.delete_current("photos", [b"k"], at=1.0, messages={}, owner_id="o", marker_ids=["abc"])
        text = self.output("objects", "photos", "k", "--versions")
        self.assertRegex(text, r"k +abc +yes +0 B +STANDARD +delete marker")
        self.assertRegex(text, r"k +null +no +1000 B +GLACIER +pending")

    def test_orders_are_signed_with_the_login_name(self) -> None:
        """Admissions and decisions carry who gave them."""
        self.patch(accounts, "getpass", SimpleNamespace(getuser=lambda: "alice"))
        self.rig.add_cartridges(cartridge("A00001L8"), cartridge("A00002L8", state=CartridgeState.SUSPECT))
        self.rig.add_drive(0)
        self.output("cartridges", "admit", "A00001L8", "--pool", "main")
        self.output("cartridges", "condemn", "A00002L8", "--reason", "crushed")
        self.output("drives", "down", "0")
        ordered = [row["what"] for row in self.rig.json("GET", "/audit")[1] if row["who"] == "alice"]
        self.assertEqual(ordered, ["drive down", "condemn", "admit"])
        self.assertIn("crushed", self.output("cartridges"))

    def test_a_login_without_a_name_is_its_number(self) -> None:
        """A user id that no name belongs to (as in a container) can give orders as well."""

        def nobody() -> str:
            raise KeyError("uid not found")

        self.patch(accounts, "getpass", SimpleNamespace(getuser=nobody))
        self.rig.add_cartridges(cartridge("A00001L8"))
        self.output("cartridges", "admit", "--all")
        self.assertTrue(self.rig.json("GET", "/audit")[1][0]["who"].startswith("uid "))

    def test_alerts_are_shown_whole_and_closed_by_number(self) -> None:
        """The sentence is not cut; closing says which; the number may carry its #."""
        number = self.rig.add_alert("copy-damaged", "cartridge A00001L8", Severity.CRITICAL, "gone " * 40)
        text = self.output("alerts")
        self.assertTrue(
            text.startswith(f"CRITICAL  #{number}  cartridge A00001L8, since 2027-01-15T08:00:00Z\n")
        )
        self.assertEqual(text.count("gone"), 40)
        self.assertIn("closed at", self.output("alerts", "close", f"#{number}"))
        self.assertEqual(self.output("alerts"), "No alert is open.\n")
        self.assertIn("closed at", self.output("alerts", "--all"))
        self.assertEqual(self.run_command("alerts", "close", "99")[0], 1)

    def test_a_repeated_alert_tells_how_often(self) -> None:
        """Count and time of the last one stand in the head line."""
        for _ in range(3):
            self.rig.add_alert("tape-failure", "drive 0", Severity.WARNING, "again")
        self.assertIn("seen 3 times, last at", alert_text(self.rig.json("GET", "/alerts")[1][0]))

    def test_quotas(self) -> None:
        """Sizes have units; unlimited and default are words; what is missing or no size is told."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        self.output("user", "create", "backup")
        self.assertRegex(self.output("user", "list"), r"backup .* 0 B +1\.0 GiB \(default\)")
        self.assertRegex(self.output("user", "quota", "backup", "--staging", "100GiB"), r"0 B +100\.0 GiB\n")
        self.assertIn("unlimited\n", self.output("user", "quota", "backup", "--staging", "unlimited"))
        self.assertIn("(default)", self.output("user", "quota", "backup", "--staging", "default"))
        self.assertRegex(self.output("bucket", "quota", "photos", "--staging", "2MB"), r"1000 B +1\.9 MiB")
        self.assertRegex(self.output("bucket", "list"), r"photos +owner +- +- +1000 B +1\.9 MiB")
        self.assertRegex(self.output("bucket", "restore-days", "photos", "--most", "30"), r"owner +- +30 ")
        self.assertRegex(
            self.output("bucket", "restore-days", "photos", "--most", "default"), r"owner +- +- "
        )
        shown = self.output("bucket", "quota", "photos", "--kept", "1TiB", "--objects", "3")
        self.assertRegex(shown, r"^photos\n")
        self.assertRegex(shown, r"kept +1000 B +1\.0 TiB\n")
        self.assertRegex(shown, r"objects +1 +3\n")
        self.assertRegex(
            self.output("quota"), r"bucket +photos +33% +1000 B of 1\.0 TiB +1 of 3 +0 B of unlimited"
        )
        self.assertNotIn("bare", self.output("quota"))
        self.rig.add_bucket("bare")
        self.assertRegex(self.output("quota", "--all"), r"bucket +bare +- +0 B of unlimited \(default\)")
        for words in (
            ("bucket", "quota", "photos", "--objects", "1k"),
            ("bucket", "list", "--kept", "1GiB"),
            ("user", "quota", "--staging", "1GiB"),
            ("user", "quota", "backup"),
            ("bucket", "quota", "photos"),
            ("bucket", "quota"),
            ("bucket", "quota", "photos", "--staging", "many"),
            ("bucket", "quota", "photos", "--staging", "100"),
        ):
            status, _, err = self.run_command(*words)
            self.assertEqual(status, 2, words)
            self.assertTrue(err)
        self.assertEqual(self.run_command("bucket", "quota", "none", "--staging", "1GiB")[0], 1)

    def test_a_new_user_gets_the_secret_once(self) -> None:
        """Creation prints both keys, the list no secret."""
        self.assertIn("secret-1", self.output("user", "create", "backup"))
        self.assertNotIn("secret-1", self.output("user", "list"))

    def test_keys(self) -> None:
        """Keys are made, shown, disabled and deleted; a user shows how many there are."""
        self.output("user", "create", "ann")
        self.assertIn("secret-2", self.output("keys", "create", "ann"))
        self.assertRegex(self.output("user", "list"), r"ann +enabled +2 ")
        table = self.output("keys", "list", "ann")
        self.assertRegex(table, r"ann +KEY1 +enabled .*\n.*ann +KEY2 +enabled")
        self.assertNotIn("secret", table)
        self.assertRegex(self.output("keys", "disable", "KEY1"), r"KEY1 +disabled")
        self.assertRegex(self.output("keys", "enable", "KEY1"), r"KEY1 +enabled")
        self.output("keys", "disable", "KEY1")
        self.assertEqual(self.output("keys", "delete", "KEY1"), "KEY1 of ann is deleted.\n")
        self.assertEqual(json.loads(self.output("keys", "list", "ann", "--json"))[0]["access_key"], "KEY2")
        self.assertRegex(self.output("user", "disable", "ann"), r"ann +disabled +1 ")
        self.assertRegex(self.output("user", "enable", "ann"), r"ann +enabled +1 ")
        said = self.output("keys", "rotate-master")
        self.assertIn("1 secrets", said)
        self.assertIn(self.rig.keyring.key_id, said)
        self.assertEqual(self.output("reload"), "tls.pem: ends in 2030\n")
        self.assertIn("is deleted", self.output("user", "delete", "ann"))
        self.assertEqual(self.run_command("user", "delete", "ann")[0], 1)


class WaitingTests(CommandCase):
    """``wait`` and ``drain``: 0 when it came true, 3 when the time is over."""

    def archive(self, key: str) -> None:
        """Bring an object to both pools."""
        uid = self.rig.add_object("photos", key)
        self.rig.freeze(f"bundle-{key}", uid)
        for pool, barcode in (("main", "A00001L8"), ("vault", "A00002L8")):
            self.rig.verify(f"bundle-{key}", pool, barcode)
        self.rig.done(self.rig.store.settle_members(f"bundle-{key}", after_position=-1, at=NOW))

    def test_waiting_for_copies(self) -> None:
        """One object, a bucket, or everything: done at once when nothing is left."""
        self.rig.add_bucket("photos")
        self.archive("a")
        self.rig.add_object("photos", "hot", storage_class=StorageClass.STANDARD)
        for words in (("wait",), ("wait", "photos"), ("wait", "photos", "a"), ("wait", "photos", "hot")):
            with self.subTest(words):
                self.assertEqual(self.output(*words), "")
        self.assertEqual(json.loads(self.output("wait", "--json")), {"done": True})
        self.assertEqual(self.now, 0.0)

    def test_waiting_in_vain_is_3(self) -> None:
        """When the time is over the command names what it waited for."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        for words, left in (
            (("wait",), "1 objects and 0 restores"),
            (("wait", "photos"), "the tape copies of photos/a"),
            (("wait", "photos", "a"), "the tape copies of photos/a"),
        ):
            with self.subTest(words):
                status, _, err = self.run_command(*words, "--timeout", "3")
                self.assertEqual((status, err), (3, f"coldstore: still waiting for {left}\n"))

    def test_waiting_ends_when_it_comes_true(self) -> None:
        """The command looks again and again."""
        self.rig.add_bucket("photos")
        uid = self.rig.add_object("photos", "a")

        def work() -> None:
            if self.now == 2.0:
                self.rig.freeze("bundle1", uid)
                self.rig.verify("bundle1", "main", "A00001L8")
                self.rig.verify("bundle1", "vault", "A00002L8")
                self.rig.done(self.rig.store.settle_members("bundle1", after_position=-1, at=NOW))

        self.on_sleep = work
        self.output("wait", "photos", "a", "--timeout", "10")
        self.assertEqual(self.now, 2.0)

    def test_waiting_for_a_restore(self) -> None:
        """A restore under way is waited for; one that nobody asked for, or that failed, is a refusal."""
        self.rig.add_bucket("photos")
        uid = self.rig.add_object("photos", "a")
        words = ("wait", "photos", "a", "--restored", "--timeout", "1")
        status, _, err = self.run_command(*words)
        self.assertEqual(status, 1)
        self.assertIn("no restore of photos/a was asked for, or it failed", err)
        self.rig.freeze("bundle1", uid)
        self.rig.verify("bundle1", "main", "A00001L8")
        self.rig.verify("bundle1", "vault", "A00002L8")
        self.rig.ask_restore(uid)
        self.assertEqual(self.run_command(*words)[0], 3)

    def test_waiting_for_what_does_not_exist_is_1(self) -> None:
        """A bucket or object that is not there is refused, not waited for."""
        self.rig.add_bucket("photos")
        for words in (("wait", "nope"), ("wait", "photos", "nope")):
            with self.subTest(words):
                self.assertEqual(self.run_command(*words)[0], 1)

    def test_draining_waits_for_empty_drives(self) -> None:
        """A drive that holds or fetches a cartridge is waited for; one that is down is named at the end."""
        self.rig.add_drive(0)
        self.rig.add_drive(1)
        busy = replace(IDLE, job="recall", step="loading")
        stuck = replace(busy, drive=1, barcode="A00009L8", job="idle", step="idle")
        self.rig.control.at_work = [busy, stuck]
        self.rig.post("/drives/change", {"by": "a", "drive": 1, "state": "down", "reason": "stuck"})
        status, _, err = self.run_command("drain", "--timeout", "1")
        self.assertEqual((status, err), (3, "coldstore: not empty yet: drive 0 (recall)\n"))
        self.rig.control.at_work = [replace(busy, job="look"), stuck]
        status, _, err = self.run_command("drain", "--timeout", "1")
        self.assertEqual((status, err), (3, "coldstore: not empty yet: drive 0 (look)\n"))
        self.on_sleep = lambda: setattr(self.rig.control, "at_work", [replace(busy, job="idle"), stuck])
        self.assertIn("A00009L8 in drive 1", self.output("drain"))
        self.output("resume")
        self.assertEqual(self.rig.control.orders[-1], "drain False")


class TableTests(SynchronousTestCase):
    """Tables and quantities."""

    def test_sizes(self) -> None:
        """Bytes are shown whole, larger amounts with one digit in the unit that reads best."""
        for value, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 * 1024**3, "5.0 GiB"),
            (3 * 1024**6, "3072.0 PiB"),
            (None, "-"),
        ):
            self.assertEqual(size(value), text)

    def test_durations(self) -> None:
        """Seconds, minutes, hours and days, each as far as a person counts in them."""
        for value, text in (
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2.0 h"),
            (172_800, "2.0 days"),
            (None, "-"),
        ):
            self.assertEqual(duration(value), text)

    def test_a_table_aligns_its_columns(self) -> None:
        """Numbers stand right, text left; nothing is cut; lines have no blanks at their ends."""
        rows = [
            {"name": "a", "free_bytes": 5, "note": None},
            {"name": "long name", "free_bytes": 2048, "note": "x"},
        ]
        self.assertEqual(
            table(rows, ["name", "free_bytes", "note"]),
            "NAME          FREE  NOTE\na              5 B  -\nlong name  2.0 KiB  x",
        )
        self.assertEqual(table([], ["name"]), "(none)")

    def test_a_line_break_in_a_key_breaks_no_table(self) -> None:
        """Control characters that would break the line are shown, not obeyed."""
        self.assertEqual(cell("key", "a\nb"), "a\\nb")
        self.assertNotIn("\x1b", cell("key", "a\x1b[31mb"))
        self.assertEqual(len(table([{"key": "a\r\nb\x85c\u2028d"}], ["key"]).splitlines()), 2)

    def test_cells(self) -> None:
        """Truth is yes or no, nothing is a dash, units come from the column's name."""
        for name, value, text in (
            ("on_disk", True, "yes"),
            ("on_disk", False, "no"),
            ("age_seconds", 180, "3 min"),
            ("x", "", "-"),
            ("x", 0, "0"),
        ):
            self.assertEqual(cell(name, value), text)

    def test_a_page_has_a_line_per_value(self) -> None:
        """Lists are joined."""
        self.assertEqual(
            page({"name": "a", "used_bytes": 1024, "problems": ["x", "y"], "none": []}),
            "name        a\nused        1.0 KiB\nproblems    x; y\nnone        -",
        )

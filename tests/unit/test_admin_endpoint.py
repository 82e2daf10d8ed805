"""What the operator may ask and order: every question, every order, and a sentence for whatever cannot be."""

import json
import re
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.control import LifecycleStanding
from coldstore.interfaces.library import LibraryUnreachable
from coldstore.interfaces.process import CommandNotFound
from coldstore.model.activity import DriveActivity
from coldstore.model.cartridges import CartridgeState
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.events import Severity
from coldstore.model.lifecycle import Filter, NoncurrentExpiration, Rule, Transition
from coldstore.model.objects import StorageClass, Versioning
from tests.unit.admin_rig import GIB, HEALTHY, NOW, AdminRig, cartridge


class EndpointCase(SynchronousTestCase):
    """A rig per test."""

    def setUp(self) -> None:
        """Make the rig."""
        self.rig = AdminRig()
        self.addCleanup(self.rig.close)

    def refusal(self, status: int, method: str, target: str, document: object = None) -> str:
        """Return the sentence of an answer that must have this status."""
        found, answer = self.rig.json(method, target, document)
        self.assertEqual(found, status, answer)
        self.assertEqual(set(answer), {"error"})
        return str(answer["error"])


class QuestionTests(EndpointCase):
    """Questions answer from the record and change nothing."""

    def test_status_counts_what_is_not_on_every_tape(self) -> None:
        """An object that wants tape copies and has none is counted, with the age of the oldest."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        self.rig.add_object("photos", "b", storage_class=StorageClass.STANDARD)
        status, answer = self.rig.json("GET", "/status")
        self.assertEqual(status, 200)
        self.assertEqual(answer["objects"], 2)
        self.assertEqual(answer["not_yet_on_every_tape_objects"], 1)
        self.assertEqual(answer["not_yet_on_every_tape_bytes"], 1000)
        self.assertEqual(answer["not_yet_on_every_tape_oldest_seconds"], 300)
        self.assertEqual(answer["staging_capacity_bytes"], 8 * GIB)
        self.assertEqual(answer["started_at"], "2027-01-15T07:59:00Z")

    def test_lifecycle_shows_ranges_and_what_waits(self) -> None:
        """Each action of each rule has a line with how far it is, and what waits has its reason and its number."""
        uid = self.rig.govern(
            "photos",
            Rule(
                rule_id="r",
                is_enabled=True,
                filter=Filter(prefix="a/"),
                transitions=(Transition(days=1, storage_class=StorageClass.GLACIER),),
                noncurrent_expiration=NoncurrentExpiration(days=30_000),
                abort_days=1,
            ),
        )
        _, answer = self.rig.json("GET", "/lifecycle")
        self.assertEqual(
            [(row["action"], row["of"], row["when"], row["state"]) for row in answer["ranges"]],
            [
                ("move to GLACIER", "current", "1 days after creation", "not begun"),
                ("delete", "noncurrent", "30000 days after replacement", "not begun"),
                ("abort upload", "uploads", "1 days after beginning", "not begun"),
            ],
        )
        self.rig.go_through(uid, NOW - 10)
        _, answer = self.rig.json("GET", "/lifecycle?bucket=photos")
        self.assertEqual({row["state"] for row in answer["ranges"]}, {"done"})
        self.rig.go_through(uid, 5.0)
        self.rig.wait_for_tape(uid, 3)
        _, answer = self.rig.json("GET", "/lifecycle?bucket=photos")
        self.assertEqual([row["state"] for row in answer["ranges"]], ["behind", "done", "behind"])
        (waiting,) = answer["waiting"]
        self.assertEqual((waiting["bucket"], waiting["versions"]), ("photos", 3))
        self.assertIn("not yet on every tape", waiting["reason"])
        self.rig.add_bucket("free")
        self.assertEqual(self.rig.json("GET", "/lifecycle?bucket=free")[1]["ranges"], [])
        self.assertIn("no bucket nobody", self.refusal(404, "GET", "/lifecycle?bucket=nobody"))

    def test_objects_without_a_bucket_are_the_buckets(self) -> None:
        """Without arguments the buckets of all users are listed."""
        self.rig.add_bucket("one")
        self.rig.add_bucket("two")
        _, answer = self.rig.json("GET", "/objects")
        self.assertEqual([row["bucket"] for row in answer], ["one", "two"])

    def test_objects_are_listed_by_prefix_and_page(self) -> None:
        """``prefix``, ``after`` and ``limit`` cut the list, in the order of keys."""
        self.rig.add_bucket("photos")
        for key in ("a/1", "a/2", "a/3", "b/1"):
            self.rig.add_object("photos", key)
        for query, keys in (
            ("bucket=photos", ["a/1", "a/2", "a/3", "b/1"]),
            ("bucket=photos&prefix=a/", ["a/1", "a/2", "a/3"]),
            ("bucket=photos&prefix=a/&after=a/1", ["a/2", "a/3"]),
            ("bucket=photos&limit=2", ["a/1", "a/2"]),
            ("bucket=photos&after=a/3", ["b/1"]),
            ("bucket=photos&prefix=z", []),
        ):
            with self.subTest(query):
                _, answer = self.rig.json("GET", f"/objects?{query}")
                self.assertEqual([row["key"] for row in answer], keys)

    def test_an_object_tells_where_its_copies_lie(self) -> None:
        """One object answers with its class, its restore, and each copy with cartridge and place."""
        self.rig.add_bucket("photos")
        uid = self.rig.add_object("photos", "ä b")
        self.rig.freeze("bundle1", uid)
        self.rig.verify("bundle1", "main", "A00001L8")
        self.rig.ask_restore(uid)
        _, (row,) = self.rig.json("GET", "/objects?bucket=photos&key=%C3%A4%20b")
        self.assertEqual((row["key"], row["state"], row["copies_wanted"]), ("ä b", "claimed", 2))
        self.assertEqual(row["restore"]["phase"], "ongoing")
        self.assertEqual(
            [(copy["pool"], copy["barcode"], copy["state"], copy["start_block"]) for copy in row["copies"]],
            [("main", "A00001L8", "verified", 9), ("vault", None, "planned", 0)],
        )

    def test_versions_of_a_key(self) -> None:
        """Asked for, all versions and delete markers of a key are told, newest first, with what tells them apart."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "k")
        self.rig.add_object("photos", "k2")
        store = self.rig.store
        store.set_versioning(name="photos", versioning=Versioning.ENABLED)
        store.delete_current("photos", [b"k"], at=1.0, messages={}, owner_id="o", marker_ids=["marker"])
        _, rows = self.rig.json("GET", "/objects?bucket=photos&key=k&versions=1")
        self.assertEqual(
            [(row["version_id"], row["is_current"], row["is_delete_marker"]) for row in rows],
            [("marker", True, True), ("null", False, False)],
        )
        self.assertEqual([row["copies_wanted"] for row in rows], [0, 2])
        self.assertIn("no object k in photos", self.refusal(404, "GET", "/objects?bucket=photos&key=k"))
        missing = self.refusal(404, "GET", "/objects?bucket=photos&key=nope&versions=1")
        self.assertIn("no object nope in photos", missing)

    def test_what_does_not_exist_is_named(self) -> None:
        """A missing bucket or object answers 404 with its name and how to see what there is."""
        self.rig.add_bucket("photos")
        self.assertIn("no bucket nope", self.refusal(404, "GET", "/objects?bucket=nope"))
        self.assertIn("no bucket nope", self.refusal(404, "GET", "/objects?bucket=nope&key=k"))
        self.assertIn("no object k in photos", self.refusal(404, "GET", "/objects?bucket=photos&key=k"))

    def test_a_limit_must_be_a_number(self) -> None:
        """Text, signs and digits of other scripts are refused; a large number is cut to the most."""
        self.rig.add_bucket("photos")
        for limit in ("x", "-1", "%C2%B2", "1.5"):
            with self.subTest(limit):
                sentence = self.refusal(400, "GET", f"/objects?bucket=photos&limit={limit}")
                self.assertIn("limit is not a number", sentence)
        self.assertEqual(self.rig.json("GET", "/objects?bucket=photos&limit=999999999")[0], 200)

    def test_drives_tell_what_they_do(self) -> None:
        """A drive's row joins its record with what it does at the moment; one without activity was not looked at yet."""
        self.rig.add_drive(0)
        self.rig.add_drive(1)
        self.rig.control.at_work = [
            DriveActivity(
                drive=1,
                barcode="A00001L8",
                is_mounted=True,
                job="recall",
                step="reading",
                detail="3 extents",
                done_bytes=5,
                total_bytes=10,
                since=NOW,
            )
        ]
        _, rows = self.rig.json("GET", "/drives")
        self.assertEqual([row["job"] for row in rows], ["look", "recall"])
        self.assertEqual((rows[1]["barcode"], rows[1]["done_bytes"], rows[1]["state"]), ("A00001L8", 5, "up"))

    def test_jobs_hold_open_bundles_and_restores(self) -> None:
        """Jobs are bundles that are not archived, restores under way, and the drives."""
        self.rig.add_bucket("photos")
        uid = self.rig.add_object("photos", "a")
        self.rig.freeze("bundle1", uid)
        self.rig.verify("bundle1", "main", "A00001L8")
        self.rig.add_drive(0)
        _, jobs = self.rig.json("GET", "/jobs")
        self.assertEqual([row["bundle"] for row in jobs["bundles"]], ["bundle1"])
        self.assertEqual([copy["state"] for copy in jobs["bundles"][0]["copies"]], ["verified", "planned"])
        self.assertEqual(len(jobs["drives"]), 1)
        self.rig.verify("bundle1", "vault", "A00002L8")
        self.assertEqual(self.rig.json("GET", "/jobs")[1]["bundles"], [])

    def test_alerts_come_worst_first(self) -> None:
        """Critical alerts come before warnings, closed ones last and only when asked for."""
        warning = self.rig.add_alert("tape-failure", "drive 0", Severity.WARNING, "w")
        critical = self.rig.add_alert("drive-down", "drive 1", Severity.CRITICAL, "c")
        closed = self.rig.add_alert("library", "library", Severity.CRITICAL, "l")
        self.rig.json("POST", "/alerts/close", {"by": "alice", "id": closed})
        newer = self.rig.add_alert("tape-failure", "drive 2", Severity.WARNING, "n")
        self.assertEqual(
            [row["id"] for row in self.rig.json("GET", "/alerts")[1]], [critical, newer, warning]
        )
        every = self.rig.json("GET", "/alerts?all=1")[1]
        self.assertEqual([row["id"] for row in every], [critical, newer, warning, closed])
        self.assertEqual([bool(row["cleared_at"]) for row in every], [False, False, False, True])

    def test_audit_is_paged_backwards(self) -> None:
        """The audit trail comes newest first; ``before`` goes on where a page ended."""
        for name in ("one", "two", "three"):
            self.rig.post("/users", {"name": name})
        _, page = self.rig.json("GET", "/audit?limit=2")
        self.assertEqual([row["subject"] for row in page], ["user three", "user two"])
        _, rest = self.rig.json("GET", f"/audit?before={page[-1]['id']}")
        self.assertEqual([row["subject"] for row in rest], ["user one"])
        self.assertIn("before is not a number", self.refusal(400, "GET", "/audit?before=yesterday"))


class CartridgeTests(EndpointCase):
    """Orders about cartridges."""

    def test_admission_makes_a_cartridge_ours(self) -> None:
        """Only the named ones are admitted, with who and when, and drives look for work again."""
        self.rig.add_cartridges(cartridge("A00001L8"), cartridge("A00002L8"))
        order = {"by": "alice", "pool": "vault", "barcodes": ["A00001L8"]}
        status, (row,) = self.rig.json("POST", "/cartridges/admit", order)
        self.assertEqual((status, row["state"], row["pool"]), (200, "scratch", "vault"))
        self.assertEqual(
            [row["state"] for row in self.rig.json("GET", "/cartridges")[1]], ["scratch", "unadmitted"]
        )
        self.assertEqual(self.rig.control.orders, ["drives changed"])
        (event,) = self.rig.json("GET", "/audit")[1]
        self.assertEqual((event["who"], event["what"]), ("alice", "admit"))
        self.assertIn("A00001L8", event["subject"])

    def test_admitting_all_leaves_absent_ones_out(self) -> None:
        """Without barcodes, every unadmitted cartridge in the library is admitted, and no other."""
        self.rig.add_cartridges(
            cartridge("A00001L8"),
            cartridge("A00002L8", is_present=False),
            cartridge("A00003L8", state=CartridgeState.FOREIGN),
            cartridge("A00004L8", state=CartridgeState.FILLING),
        )
        _, rows = self.rig.json("POST", "/cartridges/admit", {"by": "alice"})
        self.assertEqual([row["barcode"] for row in rows], ["A00001L8"])

    def test_admission_is_all_or_nothing(self) -> None:
        """When one of several cannot be admitted, none is, and the sentence names it."""
        self.rig.add_cartridges(cartridge("A00001L8"), cartridge("A00002L8", state=CartridgeState.FILLING))
        order = {"by": "alice", "barcodes": ["A00001L8", "A00002L8"]}
        sentence = self.refusal(409, "POST", "/cartridges/admit", order)
        self.assertEqual(
            sentence, "A00002L8 is filling and cannot be admitted: only an unadmitted cartridge can"
        )
        order["barcodes"] = ["A00001L8", "NOTHERE1"]
        self.assertIn("never seen: NOTHERE1", self.refusal(400, "POST", "/cartridges/admit", order))
        self.assertEqual(
            [row["state"] for row in self.rig.json("GET", "/cartridges")[1]], ["unadmitted", "filling"]
        )
        self.assertEqual(self.rig.control.orders, [])

    def test_admission_needs_good_words(self) -> None:
        """Who admits must be said; pools must exist; barcodes are a list of text."""
        for order, words in (
            ({"barcodes": []}, "by must be text"),
            ({"by": "a", "pool": "attic"}, "the pools are main, vault"),
            ({"by": "a", "barcodes": "A00001L8"}, "list of barcodes"),
            ({"by": "a", "barcodes": [1]}, "list of barcodes"),
            ({"by": "a" * 129}, "at most 128"),
        ):
            with self.subTest(order):
                self.assertIn(words, self.refusal(400, "POST", "/cartridges/admit", order))

    def test_decisions_follow_the_table(self) -> None:
        """A suspect cartridge can be trusted, and its alert closes; one that is filling cannot be withdrawn."""
        self.rig.add_cartridges(
            cartridge("A00001L8", state=CartridgeState.SUSPECT),
            cartridge("A00002L8", state=CartridgeState.FILLING),
        )
        self.rig.add_alert("cartridge-suspect", "cartridge A00001L8", Severity.WARNING, "s")
        other = self.rig.add_alert("cartridge-suspect", "cartridge A00002L8", Severity.WARNING, "s")
        order = {"by": "alice", "barcode": "A00001L8", "action": "trust", "reason": "drive was dirty"}
        _, row = self.rig.json("POST", "/cartridges/change", order)
        self.assertEqual(
            (row["state"], row["reason"], row["changed_by"]), ("full", "drive was dirty", "alice")
        )
        self.assertEqual([row["id"] for row in self.rig.json("GET", "/alerts")[1]], [other])
        order |= {"barcode": "A00002L8", "action": "withdraw"}
        self.assertIn("A00002L8 is filling", self.refusal(409, "POST", "/cartridges/change", order))
        order |= {"action": "condemn"}
        self.assertEqual(self.rig.json("POST", "/cartridges/change", order)[1]["state"], "broken")

    def test_decisions_name_what_is_unknown(self) -> None:
        """An unknown cartridge or action is refused with the choices."""
        order = {"by": "a", "barcode": "A00001L8", "action": "trust", "reason": ""}
        self.assertIn("A00001L8 was ever seen", self.refusal(400, "POST", "/cartridges/change", order))
        order |= {"action": "burn"}
        self.assertIn("withdraw, trust, condemn", self.refusal(400, "POST", "/cartridges/change", order))


class DriveTests(EndpointCase):
    """Orders about drives and the library."""

    def test_a_drive_goes_down_and_up(self) -> None:
        """The record changes with who and why, and a drive that comes up closes its alert."""
        self.rig.add_drive(0)
        self.rig.add_alert("drive-down", "drive 0", Severity.CRITICAL, "drive 0 is down: x")
        order = {"by": "alice", "drive": 0, "state": "down", "reason": "smells"}
        _, row = self.rig.json("POST", "/drives/change", order)
        self.assertEqual((row["state"], row["reason"]), ("down", "smells"))
        self.assertEqual(len(self.rig.json("GET", "/alerts")[1]), 1)
        _, row = self.rig.json("POST", "/drives/change", order | {"state": "up"})
        self.assertEqual(row["state"], "up")
        self.assertEqual(self.rig.json("GET", "/alerts")[1], [])
        self.assertEqual(self.rig.control.orders, ["drives changed", "drives changed"])

    def test_a_drive_must_exist(self) -> None:
        """Unknown numbers, text, and true (which Python counts as 1) are no drives."""
        self.rig.add_drive(0)
        self.rig.add_drive(1)
        for drive in (7, -1, "0", None, True, 0.0):
            with self.subTest(drive):
                order = {"by": "a", "drive": drive, "state": "up", "reason": ""}
                self.assertIn("there is no drive", self.refusal(400, "POST", "/drives/change", order))
        order = {"by": "a", "drive": 0, "state": "sideways", "reason": ""}
        self.assertIn("up or down", self.refusal(400, "POST", "/drives/change", order))

    def test_archive_drain_and_inventory_reach_the_appliance(self) -> None:
        """Orders to the running appliance are passed on."""
        self.assertEqual(self.rig.json("POST", "/archive")[1], {"accepted": True})
        self.assertEqual(self.rig.json("POST", "/drain", {"on": True})[1], {"draining": True})
        self.assertEqual(self.rig.json("POST", "/drain", {"on": False})[1], {"draining": False})
        self.rig.add_cartridges(cartridge("A00001L8"))
        _, rows = self.rig.json("POST", "/inventory")
        self.assertEqual([row["barcode"] for row in rows], ["A00001L8"])
        self.assertEqual(self.rig.control.orders, ["archive", "drain True", "drain False", "inventory"])
        for wrong in ({}, {"on": 1}, {"on": "true"}):
            self.assertIn("true or false", self.refusal(400, "POST", "/drain", wrong))

    def test_a_library_that_cannot_be_used_says_why(self) -> None:
        """A fault of the library or of its program is a 409 with the fault's own sentence."""
        self.rig.control.library_fault = LibraryUnreachable(
            attempted="reading the inventory", reason="no answer", advice="Check the cables."
        )
        self.assertIn("Check the cables.", self.refusal(409, "POST", "/inventory"))
        self.rig.control.library_fault = CommandNotFound(("mtx",), "mtx is not installed")
        self.assertIn("mtx is not installed", self.refusal(409, "POST", "/inventory"))


class PeopleTests(EndpointCase):
    """Users and alerts."""

    def test_a_secret_is_shown_once(self) -> None:
        """Creating a user shows both keys; the list shows no secret; the audit trail names neither secret."""
        _, made = self.rig.json("POST", "/users", {"name": "backup"})
        self.assertEqual((made["access_key"], made["secret_key"]), ("KEY1", "secret-1"))
        _, (listed,) = self.rig.json("GET", "/users")
        self.assertNotIn("secret_key", listed)
        self.assertNotIn("secret-1", json.dumps(self.rig.json("GET", "/audit")[1]))

    def test_a_user_needs_a_printable_name(self) -> None:
        """Empty, invisible and overlong names, and names that are no text, are refused."""
        for name in ("", "a\nb", "x" * 129, 7, None):
            with self.subTest(name):
                self.assertIn("name must", self.refusal(400, "POST", "/users", {"name": name}))
        self.assertEqual(self.rig.json("GET", "/users")[1], [])

    def test_users_are_disabled_and_deleted(self) -> None:
        """A disabled user is shown as one; one who owns a bucket is not deleted; who did it is written down."""
        _, made = self.rig.json("POST", "/users", {"name": "ann", "by": "olga"})
        _, changed = self.rig.json(
            "POST", "/users/change", {"by": "olga", "name": "ann", "action": "disable"}
        )
        self.assertEqual((changed["state"], changed["access_keys"]), ("disabled", ["KEY1"]))
        _, changed = self.rig.json("POST", "/users/change", {"by": "olga", "name": "ann", "action": "enable"})
        self.assertEqual(changed["state"], "enabled")
        self.refusal(409, "POST", "/users/change", {"by": "o", "name": "bob", "action": "disable"})
        self.assertIn(
            "no such action",
            self.refusal(400, "POST", "/users/change", {"by": "o", "name": "ann", "action": "kill"}),
        )
        self.rig.done(
            self.rig.store.create_bucket(
                name="photos", owner_id=made["user_id"], region="r", created_at=1.0, default_class=None
            )
        )
        deletion = {"by": "olga", "name": "ann", "action": "delete"}
        self.assertIn("photos", self.refusal(409, "POST", "/users/change", deletion))
        self.rig.done(self.rig.store.delete_bucket("photos"))
        self.assertEqual(self.rig.json("POST", "/users/change", deletion)[0], 200)
        self.assertEqual(self.rig.json("GET", "/users")[1], [])
        _, trail = self.rig.json("GET", "/audit")
        self.assertEqual(
            [(row["who"], row["what"], row["subject"]) for row in reversed(trail)],
            [("olga", f"{what} user", "user ann") for what in ("create", "disable", "enable", "delete")],
        )

    def test_keys(self) -> None:
        """Keys are made, each with its secret shown once, listed for one user or all, disabled and deleted."""
        self.rig.post("/users", {"name": "ann"})
        self.rig.post("/users", {"name": "bob"})
        _, made = self.rig.json("POST", "/keys", {"by": "olga", "user": "ann"})
        self.assertEqual((made["name"], made["access_key"], made["secret_key"]), ("ann", "KEY3", "secret-3"))
        signer = self.rig.done(self.rig.keyring.look_up("KEY3"))
        self.assertEqual((signer.name, signer.secret_key), ("ann", "secret-3"))
        _, listed = self.rig.json("GET", "/keys")
        self.assertEqual(
            [(row["user"], row["access_key"], row["state"], row["last_used_at"]) for row in listed],
            [
                ("ann", "KEY1", "enabled", None),
                ("ann", "KEY3", "enabled", None),
                ("bob", "KEY2", "enabled", None),
            ],
        )
        self.assertNotIn("secret", json.dumps(listed))
        self.rig.done(self.rig.store.note_key_uses({"KEY1": NOW}))
        _, (first, _) = self.rig.json("GET", "/keys?user=ann")
        self.assertEqual(first["last_used_at"], "2027-01-15T08:00:00Z")
        self.refusal(400, "GET", "/keys?user=eve")
        self.refusal(400, "POST", "/keys", {"by": "o", "user": "eve"})
        change = {"by": "olga", "access_key": "KEY1"}
        self.assertIn("disable it", self.refusal(409, "POST", "/keys/change", {**change, "action": "delete"}))
        _, changed = self.rig.json("POST", "/keys/change", {**change, "action": "disable"})
        self.assertEqual((changed["user"], changed["state"]), ("ann", "disabled"))
        self.assertEqual(self.rig.json("POST", "/keys/change", {**change, "action": "delete"})[0], 200)
        self.refusal(409, "POST", "/keys/change", {**change, "action": "enable"})
        for _ in range(9):
            self.rig.post("/keys", {"by": "olga", "user": "ann"})
        self.assertIn("10 access keys", self.refusal(409, "POST", "/keys", {"by": "olga", "user": "ann"}))
        self.assertNotIn("secret-", json.dumps(self.rig.json("GET", "/audit")[1]))

    def test_another_master_key(self) -> None:
        """The answer names the keys by their ids, and the files; nothing in it, or in the trail, is a key."""
        self.rig.post("/users", {"name": "ann"})
        before = self.rig.keyring.key_id
        _, changed = self.rig.json("POST", "/keys/rotate-master", {"by": "olga"})
        self.assertEqual((changed["secrets"], changed["master_key_before"]), (1, before))
        self.assertEqual(changed["master_key"], self.rig.keyring.key_id)
        self.assertTrue(Path(changed["kept_before"]).exists())
        _, (last, *_) = self.rig.json("GET", "/audit")
        self.assertEqual((last["who"], last["what"], last["subject"]), ("olga", "change master key", before))
        self.assertEqual(self.rig.done(self.rig.keyring.look_up("KEY1")).secret_key, "secret-1")

    def test_keys_of_data(self) -> None:
        """They are listed by their ids, changed, exported and taken back; a key is in the export alone, and never in the trail."""
        self.assertEqual(self.rig.json("GET", "/data-keys")[1], [])
        self.assertIn("no keys of data yet", self.refusal(409, "POST", "/data-keys/export", {"by": "olga"}))
        self.rig.done(self.rig.data_keys.ready())
        first = self.rig.data_keys.in_use()
        _, changed = self.rig.json("POST", "/data-keys/rotate", {"by": "olga"})
        second = changed["key"]
        self.assertEqual((changed["key_before"], changed["key_file"]), (first, "/state/data.keys"))
        _, exported = self.rig.json("POST", "/data-keys/export", {"by": "olga"})
        self.assertEqual(exported["keys"], [first, second])
        _, rows = self.rig.json("GET", "/data-keys")
        self.assertEqual(
            [(row["key"], row["state"]) for row in rows], [(first, "retired"), (second, "in use")]
        )
        self.assertEqual([row["exported_at"] for row in rows], [None, None])
        self.rig.json("POST", "/data-keys/exported", {"by": "olga", "keys": exported["keys"]})
        _, rows = self.rig.json("GET", "/data-keys")
        self.assertNotIn(None, [row["exported_at"] for row in rows])
        for wrong in ("x", ["x"], [["x"]], None):
            self.refusal(400, "POST", "/data-keys/exported", {"keys": wrong})
        self.assertEqual(
            self.rig.json("POST", "/data-keys/import", {"by": "olga", "text": exported["text"]})[1]["keys"],
            [],
        )
        for wrong in (None, "", exported["text"].replace("retired", "in-use")):
            self.assertIn("export", self.refusal(400, "POST", "/data-keys/import", {"text": wrong}))
        trail = self.rig.json("GET", "/audit")[1]
        self.assertEqual(
            [(row["who"], row["what"], row["subject"]) for row in trail],
            [
                ("olga", "import keys of data", f"key of data {second}"),
                ("olga", "export keys of data", f"key of data {second}"),
                ("olga", "change key of data", f"key of data {first}"),
            ],
        )
        secrets = [line.split()[4] for line in exported["text"].splitlines() if line.startswith("key ")]
        self.assertEqual(len(secrets), 2)
        for secret in secrets:
            self.assertNotIn(secret, json.dumps([trail, rows]))

    def test_certificates(self) -> None:
        """They are read when an operator says so."""
        self.assertEqual(self.rig.json("POST", "/reload")[1], {"reloaded": ["tls.pem: ends in 2030"]})
        self.assertEqual(self.rig.control.orders, ["reload"])

    def test_quotas_are_set_shown_and_audited(self) -> None:
        """What a user or a bucket has on the disk stands beside what it may have; null means the default again."""
        self.rig.post("/users", {"name": "ann"})
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        _, (listed,) = self.rig.json("GET", "/users")
        self.assertEqual((listed["staging_used_bytes"], listed["staging_quota_bytes"]), (0, 1 << 30))
        self.assertEqual(listed["staging_quota"], "1.0 GiB (default)")
        _, (listed,) = self.rig.json("GET", "/buckets")
        self.assertEqual(
            (listed["bucket"], listed["owner"], listed["staging_used_bytes"]), ("photos", "owner", 1000)
        )
        self.assertEqual(
            (listed["staging_quota_bytes"], listed["staging_quota"]), (None, "unlimited (default)")
        )
        for path, name in (("/users/quota", "ann"), ("/buckets/quota", "photos")):
            for sent, shown, text in (
                (5, 5, "5 B"),
                ("unlimited", None, "unlimited"),
                (0, 0, "0 B"),
            ):
                row = self.rig.post(path, {"by": "alice", "name": name, "staging_bytes": sent})
                self.assertEqual((row["staging_quota_bytes"], row["staging_quota"]), (shown, text))
            row = self.rig.post(path, {"by": "alice", "name": name, "staging_bytes": None})
            self.assertIn("(default)", row["staging_quota"])
            for wrong in (-1, 2**63, True, 1.5, "100", "", []):
                order = {"by": "alice", "name": name, "staging_bytes": wrong}
                self.assertIn("staging_bytes must be", self.refusal(400, "POST", path, order))
        trail = self.rig.json("GET", "/audit")[1]
        self.assertEqual(
            [(event["who"], event["subject"], event["detail"]) for event in trail[:4]],
            [
                ("alice", "bucket photos", f"staging {detail}")
                for detail in ("default", "0 B", "unlimited", "5 B")
            ],
        )

    def test_quotas_of_every_kind(self) -> None:
        """Several are set at once, the others stay; all are listed, the fullest first, or all users and buckets."""
        self.rig.post("/users", {"name": "ann"})
        self.rig.add_bucket("photos")
        self.rig.add_bucket("bare")
        self.rig.add_object("photos", "a")
        wanted = {"kept_bytes": 2000, "objects_count": 1, "restores_bytes": "unlimited"}
        row = self.rig.post("/buckets/quota", {"by": "alice", "name": "photos", **wanted})
        self.rig.post("/buckets/quota", {"by": "alice", "name": "photos", "restores_bytes": None})
        self.assertEqual(
            {name: row[name] for name in row if name.startswith(("kept", "objects", "restores"))},
            {
                "kept_used_bytes": 1000,
                "kept_quota_bytes": 2000,
                "kept_quota": "2.0 KiB",
                "objects_used_count": 1,
                "objects_quota_count": 1,
                "objects_quota": "1",
                "restores_used_bytes": 0,
                "restores_quota_bytes": None,
                "restores_quota": "unlimited",
            },
        )
        found = self.rig.json("GET", "/quotas")[1]
        self.assertEqual(
            [(one["of"], one["name"], one["fullest"]) for one in found["standings"]],
            [("bucket", "photos", 1.0), ("user", "ann", 0.0)],
        )
        self.assertEqual(found["left_out"], 0)
        found = self.rig.json("GET", "/quotas?all=1")[1]["standings"]
        self.assertEqual([(one["name"], one["fullest"]) for one in found][1], ("bare", None))
        last, before = self.rig.json("GET", "/audit")[1][:2]
        self.assertEqual((last["what"], last["detail"]), ("set quota", "restores default"))
        self.assertEqual(before["detail"], "kept 2.0 KiB, restores unlimited, objects 1")
        order = {"by": "alice", "name": "photos"}
        self.assertIn("say which quota", self.refusal(400, "POST", "/buckets/quota", order))
        self.assertIn(
            "objects_count must be",
            self.refusal(400, "POST", "/users/quota", {**order, "objects_count": "many"}),
        )

    def test_limit_of_restores(self) -> None:
        """A bucket's limit is set, shown, taken back and audited; what is no number of days is refused."""
        self.rig.add_bucket("photos")
        self.assertIsNone(self.rig.json("GET", "/buckets")[1][0]["restore_days_max"])
        for days_max in (30, 36_500, None):
            order = {"by": "alice", "name": "photos", "days_max": days_max}
            self.assertEqual(self.rig.post("/buckets/restore-days", order)["restore_days_max"], days_max)
            self.assertEqual(self.rig.json("GET", "/buckets")[1][0]["restore_days_max"], days_max)
        for wrong in (0, -1, 36_501, True, 1.5, "30", ""):
            order = {"by": "alice", "name": "photos", "days_max": wrong}
            self.assertIn("days_max must be", self.refusal(400, "POST", "/buckets/restore-days", order))
        order = {"by": "alice", "name": "none", "days_max": 1}
        self.assertIn("no bucket none", self.refusal(404, "POST", "/buckets/restore-days", order))
        trail = self.rig.json("GET", "/audit")[1]
        self.assertEqual(
            [(event["who"], event["what"], event["subject"], event["detail"]) for event in trail],
            [
                ("alice", "set limit of restores", "bucket photos", detail)
                for detail in ("default", "36500 days", "30 days")
            ],
        )

    def test_quotas_of_nobody(self) -> None:
        """An unknown user or bucket is named."""
        order = {"by": "alice", "name": "none", "staging_bytes": 5}
        self.assertIn("no user none", self.refusal(409, "POST", "/users/quota", order))
        self.assertIn("no bucket none", self.refusal(404, "POST", "/buckets/quota", order))
        self.assertEqual(self.rig.json("GET", "/audit")[1], [])

    def test_an_alert_is_closed_by_its_number(self) -> None:
        """Closing is audited with the sentence; a closed or unknown number is refused."""
        number = self.rig.add_alert(
            "copy-damaged", "cartridge A00001L8", Severity.CRITICAL, "bundle x is gone"
        )
        _, row = self.rig.json("POST", "/alerts/close", {"by": "alice", "id": number})
        self.assertEqual((row["id"], row["cleared_at"]), (number, "2027-01-15T08:00:00Z"))
        (event,) = self.rig.json("GET", "/audit")[1]
        self.assertEqual(
            (event["who"], event["what"], event["detail"]), ("alice", "close alert", "bundle x is gone")
        )
        for wrong in (number, 99, True, "1", None):
            with self.subTest(wrong):
                sentence = self.refusal(400, "POST", "/alerts/close", {"by": "alice", "id": wrong})
                self.assertIn("is open", sentence)


class BoundaryTests(EndpointCase):
    """What is no proper request, and what fails behind the interface."""

    def test_unknown_questions_are_json_too(self) -> None:
        """A path or method that does not exist answers in JSON, naming it."""
        self.assertIn("GET /nope", self.refusal(404, "GET", "/nope"))
        self.assertIn("DELETE /status", self.refusal(405, "DELETE", "/status"))

    def test_bodies_must_be_json_objects(self) -> None:
        """Broken JSON, other values, and more than 1 MB are refused."""
        for body in (b"{", b"[1]", b"1", b'"x"', b"\xff", b'{"name": "' + b"x" * 1_000_001 + b'"}'):
            with self.subTest(body[:10]):
                status, answer = self.rig.ask("POST", "/users", body)
                self.assertEqual(status, 400, answer[:200])
                self.assertIn("the body is not", json.loads(answer)["error"])

    def test_a_store_that_is_away_is_a_503(self) -> None:
        """While the metadata cannot be reached, questions answer 503 with the reason."""
        self.patch(self.rig.store, "cartridges", lambda: fail(MetadataUnavailable("disk is gone")))
        self.assertEqual(self.refusal(503, "GET", "/cartridges"), "disk is gone")
        status, answer = self.rig.ask("GET", "/metrics", public=True)
        self.assertEqual((status, json.loads(answer)["error"]), (503, "disk is gone"))

    def test_a_mistake_of_ours_is_told_and_logged(self) -> None:
        """A bug answers 500 with a sentence in JSON, and the log has the traceback."""
        self.patch(self.rig.store, "users", lambda: fail(ZeroDivisionError("oh")))
        self.assertIn("mistake in ColdStore", self.refusal(500, "GET", "/users"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class PublicTests(EndpointCase):
    """Health and metrics."""

    def test_health_follows_serving(self) -> None:
        """200 while S3 is served, 503 otherwise, with the problems."""
        self.assertEqual(self.rig.ask("GET", "/healthz", public=True)[0], 200)
        self.rig.control.state = replace(HEALTHY, is_serving=False, problems=("the library is away",))
        status, answer = self.rig.ask("GET", "/healthz", public=True)
        self.assertEqual((status, json.loads(answer)["problems"]), (503, ["the library is away"]))

    def test_the_public_port_takes_no_orders(self) -> None:
        """Nothing of the private interface is reachable there."""
        for method, path in (("GET", "/users"), ("POST", "/users"), ("POST", "/healthz"), ("GET", "/status")):
            with self.subTest(path):
                self.assertIn(self.rig.ask(method, path, public=True)[0], (404, 405))

    def test_lifecycle_is_counted(self) -> None:
        """What rules did is counted by kind, and for how long they are behind is told, in metrics and in the status."""
        self.rig.control.standing = LifecycleStanding(acted={"move": 7}, behind_since=NOW - 90)
        _, answer = self.rig.ask("GET", "/metrics", public=True)
        text = answer.decode() if isinstance(answer, bytes) else str(answer)
        self.assertIn('coldstore_lifecycle_acts_total{kind="move"} 7\n', text)
        self.assertIn('coldstore_lifecycle_acts_total{kind="abort"} 0\n', text)
        self.assertIn("coldstore_lifecycle_behind_seconds 90\n", text)
        self.assertEqual(self.rig.json("GET", "/status")[1]["lifecycle_behind_seconds"], 90)
        self.rig.control.standing = LifecycleStanding(acted={}, behind_since=None)
        self.assertIsNone(self.rig.json("GET", "/status")[1]["lifecycle_behind_seconds"])

    def test_metrics_are_valid_text_of_version_0_0_4(self) -> None:
        """Every sample has HELP and TYPE above it, every name and number is well-formed, and no sample comes twice."""
        self.rig.add_bucket("photos")
        self.rig.add_object("photos", "a")
        self.rig.post("/users", {"name": 'o"hara\\'})
        self.rig.post("/buckets/quota", {"name": "photos", "kept_bytes": 5000, "objects_count": 3})
        self.rig.add_drive(0)
        self.rig.add_cartridges(cartridge("A00001L8"))
        status, answer = self.rig.ask("GET", "/metrics", public=True)
        self.assertEqual(status, 200)
        text = answer.decode()
        self.assertTrue(text.endswith("\n"))
        sample = re.compile(r'^([a-z_]+)(\{(?:,?[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")+\})? (-?[0-9.e+-]+)$')
        described: set[str] = set()
        values: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ")[2]
                self.assertNotIn(name, described)
                described.add(name)
            elif line.startswith("# TYPE "):
                kind = "counter" if name.endswith("_total") else "gauge"
                self.assertEqual(line.split(" ")[2:], [name, kind])
            else:
                found = sample.match(line)
                assert found is not None, line
                self.assertEqual(found[1], name)
                self.assertNotIn(found[1] + (found[2] or ""), values)
                values[found[1] + (found[2] or "")] = float(found[3])
        self.assertEqual(values["coldstore_up"], 1)
        self.assertEqual(values['coldstore_not_on_every_tape_bytes{class="GLACIER"}'], 1000)
        self.assertEqual(values["coldstore_not_on_every_tape_oldest_seconds"], 300)
        self.assertEqual(values['coldstore_cartridges{state="unadmitted"}'], 1)
        self.assertEqual(values['coldstore_drive_up{drive="0"}'], 1)
        self.assertEqual(values["coldstore_staging_used_bytes"], 2 * GIB)
        photos = 'of="bucket",name="photos"'
        self.assertEqual(values[f'coldstore_quota_bytes{{{photos},kind="kept"}}'], 5000)
        self.assertEqual(values[f'coldstore_quota_used_bytes{{{photos},kind="kept"}}'], 1000)
        self.assertEqual(values[f'coldstore_quota_objects{{{photos},kind="objects"}}'], 3)
        self.assertEqual(values[f'coldstore_quota_used_objects{{{photos},kind="objects"}}'], 1)
        ohara = 'of="user",name="o\\"hara\\\\",kind="staging"'
        self.assertEqual(values[f"coldstore_quota_bytes{{{ohara}}}"], GIB)
        self.assertEqual(sum(name.startswith("coldstore_quota_") for name in values), 6)


class ProblemTests(EndpointCase):
    """What is so now and no alert tells."""

    def problems(self) -> list[str]:
        """Return the problems of the status."""
        return list(self.rig.json("GET", "/status")[1]["problems"])

    def test_no_drive_that_is_up_is_a_problem(self) -> None:
        """One drive that is up suffices; an appliance without drives has no such problem."""
        self.assertEqual(self.problems(), [])
        for index in (0, 1):
            self.rig.add_drive(index)
        down = {"by": "a", "reason": "", "state": "down"}
        self.rig.post("/drives/change", {**down, "drive": 0})
        self.assertEqual(self.problems(), [])
        self.rig.post("/drives/change", {**down, "drive": 1})
        self.assertEqual(self.problems(), ["every drive is down: nothing is written to tape or read from it"])

    def test_problems_of_the_process_come_too(self) -> None:
        """What the appliance itself reports is kept."""
        self.rig.control.state = replace(HEALTHY, problems=("dispatcher cannot do its work: x",))
        self.assertEqual(self.problems(), ["dispatcher cannot do its work: x"])
